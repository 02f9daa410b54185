#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_activity_info
short_description: Report the sessions of a PostgreSQL server, their activity, and lock waits
version_added: 0.1.0
description:
  - Reports first whether the server can be reached, with the states of C(pg_isready), and if not, why.
  - Then counts the client sessions by state, role, application, client and database, and computes their share of the connections that
    ordinary roles may have, which is C(max_connections) minus the reserved ones.
  - Lists the sessions that are idle in a transaction, the oldest transactions, the longest queries, prepared transactions, and wait events.
    Shows lock waits as trees, with the blocking session at the root.
  - Recommends the size of a connection pool, and reports whether a pooler such as PgBouncer is already in use.
  - The module sends four statements to the server.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  must_connect:
    description:
      - Whether the task fails when the server cannot be reached. With V(false) the task succeeds and returns the finding
        C(server_unreachable).
    type: bool
    default: true
  connections_ratio_warning:
    description: The share of the usable connections, 0 to 1, from which a finding is a V(warning).
    type: float
    default: 0.8
  connections_ratio_critical:
    description: The share of the usable connections, 0 to 1, from which a finding is V(critical).
    type: float
    default: 0.95
  idle_in_transaction_warning:
    description: How long a session may be idle in a transaction before that is a V(warning).
    type: str
    default: 10m
  idle_in_transaction_critical:
    description: How long a session may be idle in a transaction before that is V(critical), for example V(1h). By default it never is.
    type: str
  blocking_warning:
    description: How long a session may wait for a lock before that is a V(warning).
    type: str
    default: 5m
  waiters_critical:
    description: How many sessions one session may block, directly or through others, before that is V(critical). Waits of less than 5 s do
      not count.
    type: int
    default: 10
  query_warning:
    description: How long a query may run before that is a V(warning).
    type: str
    default: 1h
  query_critical:
    description: How long a query may run before that is V(critical), for example V(6h). By default it never is.
    type: str
  transaction_warning:
    description:
      - How long a transaction may be open before that is a V(warning), even if its session is neither idle nor in one long query.
    type: str
    default: 6h
  transaction_critical:
    description: How long a transaction may be open before that is V(critical), for example V(1d). By default it never is.
    type: str
  prepared_warning:
    description: How old a prepared transaction may be before that is a V(warning).
    type: str
    default: 1h
  prepared_critical:
    description: How old a prepared transaction may be before that is V(critical), for example V(1d). By default it never is.
    type: str
  procedure_warning:
    description:
      - How long a backup or another procedure may run before that is a V(warning). Until then it is V(info), even if its sessions are idle
        in a transaction.
    type: str
    default: 1d
  cores:
    description:
      - The number of CPU cores of the server, for the recommended pool size.
      - When it is left out, the module counts the cores where it runs, if the server runs there, too.
    type: int
  spindles:
    description: The number of disks in the formula for the pool size. Use V(0) when the data in use fits into memory.
    type: int
    default: 1
  top:
    description: The maximum number of rows in each list. Totals always cover all rows.
    type: int
    default: 20
  query_length:
    description:
      - The number of bytes of a query to read and show. With V(0) no query text is read.
      - Passwords of roles and passwords in connection strings are hidden. A query may contain other secrets.
    type: int
    default: 500
  statement_timeout:
    description: How long each statement may take.
    type: str
    default: 10s
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - The login needs the role C(pg_monitor). Without it the sessions are still counted, and RV(notes) says what is hidden.
  - C(connect_timeout) in O(connect_params) limits how long connecting may take, in seconds.
  - In query texts, passwords in statements such as C(ALTER ROLE) and in connection strings are replaced by V(********). If a literal only
    contains the word C(password), the text is cut at that place. Other literals are shown, and may be secret, too. With O(query_length=0)
    no texts are read.
seealso:
  - module: godel.postgres_runbook.pg_terminate
  - name: Number Of Database Connections
    description: The source of the formula for the pool size.
    link: https://wiki.postgresql.org/wiki/Number_Of_Database_Connections
"""

EXAMPLES = r"""
- name: Show the sessions, and those that block others
  godel.postgres_runbook.pg_activity_info:
    db: godel_production
  register: activity

- name: Check within five seconds whether the server can be reached
  godel.postgres_runbook.pg_activity_info:
    db: godel_production
    must_connect: false
    connect_params:
      connect_timeout: 5
"""

RETURN = r"""
reachability:
  description: V(accepting), V(rejecting), V(no response) or V(no attempt), the states of C(pg_isready).
  returned: always
  type: str
  sample: accepting
connected:
  description: Whether the login got a session. A server that accepts connections may still refuse a login. Without a session, the values
    marked "with a session" are not returned.
  returned: success
  type: bool
unreachable_cause:
  description: The kind of problem; empty when there is none. V(starting_up) (or shutting down), V(login_refused), V(no_database),
    V(too_many_connections), V(refused), V(timeout), V(tls), V(pod) or V(other).
  returned: success
  type: str
unreachable_why:
  description: The message of the server or of libpq.
  returned: success
  type: str
connection_count:
  description: The number of client sessions.
  returned: with a session
  type: int
usable_connections:
  description: The number of connections that ordinary roles may have, C(max_connections) minus the reserved ones.
  returned: with a session
  type: int
  sample: 97
connections_ratio:
  description: RV(connection_count) as a share of RV(usable_connections), 0 to 1.
  returned: with a session
  type: float
max_connections:
  description: The setting C(max_connections). C(superuser_reserved_connections) and C(reserved_connections) (PostgreSQL 16 and later) are
    returned in the same way.
  returned: with a session
  type: int
active_count:
  description: The number of active sessions. C(idle_count), C(idle_in_transaction_count), and C(waiting_count) (waiting for a lock) are
    returned in the same way.
  returned: with a session
  type: int
blockers:
  description: The sessions that block others and wait for no session themselves, the one that blocks most first. C(held_up) is the number
    of sessions that wait because of it, directly or through others, and C(longest_wait_s) the longest of these waits in seconds. The other
    columns are those of RV(blocking).
  returned: with a session
  type: list
  elements: dict
blocking:
  description: The lock waits as trees. Each blocking session is followed by the sessions that wait for it, one level deeper.
  returned: with a session
  type: list
  elements: dict
  contains:
    root_pid:
      description: The process ID of the session at the root. 0 stands for a prepared transaction, here and below.
      type: int
    depth:
      description: The level in the tree, 0 for the root, 1 for the sessions that wait for it, and so on.
      type: int
    pid:
      description: The process ID of the session.
      type: int
    backend_start:
      description: When it was started, RFC 3339 in UTC to the microsecond; null when it is hidden. Together with the process ID it
        identifies a session.
      type: str
      sample: "2026-02-06T03:04:05.678901Z"
    user:
      description: Its role.
      type: str
    application:
      description: Its C(application_name).
      type: str
    client:
      description: Its address, V(local) for a Unix socket, empty when it is hidden.
      type: str
    database:
      description: Its database.
      type: str
    state:
      description: Such as V(active) or V(idle in transaction); empty when it is hidden.
      type: str
    wait_event:
      description: Its wait event as C(type:event); empty when it does not wait.
      type: str
      sample: Lock:transactionid
    transaction_age_s:
      description: The age of its transaction in seconds. C(state_age_s) and C(query_age_s) are the ages of its state and of its query.
      type: float
    query:
      description: The beginning of its query, or of its last query if it is not active.
      type: str
    blocked_by:
      description: The process IDs of the sessions that it waits for.
      type: list
      elements: int
    held_up:
      description: The number of sessions that wait because of it.
      type: int
    wait_s:
      description: How long it has waited, in seconds; null for a root.
      type: float
    lock_type:
      description: The type of the lock that it waits for. V(transactionid) means a row.
      type: str
      sample: relation
    lock_mode:
      description: The lock mode that it requests.
      type: str
      sample: AccessExclusiveLock
    relation:
      description: The table or index if it belongs to this database; otherwise its OID. Empty when it is unknown.
      type: str
      sample: public.sessions
idle_in_transaction:
  description: The sessions that are idle in a transaction, the longest first. The columns are those of RV(blocking) from C(pid) to
    C(query), as in RV(oldest_transactions) and RV(longest_queries).
  returned: with a session
  type: list
  elements: dict
oldest_transactions:
  description: The sessions with the oldest transactions.
  returned: with a session
  type: list
  elements: dict
longest_queries:
  description: The sessions with the longest running queries.
  returned: with a session
  type: list
  elements: dict
prepared_transactions:
  description: Prepared transactions that have not ended, the oldest first, with C(gid), C(user), C(database) and C(age_s).
  returned: with a session
  type: list
  elements: dict
procedures:
  description:
    - Procedures of this collection, and of programs such as C(pg_dump), that run now, the oldest first. Their sessions are listed in
      RV(blocking), and in none of the other lists. Their age alone is never critical, and M(godel.postgres_runbook.pg_terminate) terminates
      them only if asked to.
  returned: with a session
  type: list
  elements: dict
  contains:
    procedure:
      description: The kind of procedure.
      type: str
      sample: backup
    database:
      description: The database that it works in; empty for a base backup.
      type: str
    since:
      description: When its first session was started, RFC 3339 in UTC; null when it is hidden.
      type: str
    age_s:
      description: Its age in seconds; null when it is hidden.
      type: float
    pids:
      description: The process IDs of its sessions.
      type: list
      elements: int
by_state:
  description: The number of sessions in each state. V(hidden) counts those that the login may not see.
  returned: with a session
  type: list
  elements: dict
  sample: [{"state": "idle", "sessions": 12}]
by_user:
  description: The number of sessions of each role, and how many of these are active, idle, and idle in a transaction. RV(by_application),
    RV(by_client) and RV(by_database) have the same form.
  returned: with a session
  type: list
  elements: dict
  sample: [{"user": "godel", "sessions": 12, "active": 1, "idle": 10, "idle_in_transaction": 1}]
by_application:
  description: The same for each application.
  returned: with a session
  type: list
  elements: dict
by_client:
  description: The same for each client's address, V(local) for Unix sockets.
  returned: with a session
  type: list
  elements: dict
by_database:
  description: The same for each database.
  returned: with a session
  type: list
  elements: dict
wait_events:
  description: The wait events of active sessions. V(running) means that a session does not wait.
  returned: with a session
  type: list
  elements: dict
  sample: [{"wait_event": "Lock:transactionid", "sessions": 3}]
pool:
  description: The recommended size of a pool. C(recommended_size) (null when the number of cores is unknown), C(cores), C(cores_from),
    C(effective_spindle_count), the C(formula) and its C(source), C(busy_now) (sessions in a query or a transaction), C(connected_now), and
    the C(advice) as a sentence.
  returned: with a session
  type: dict
pooler:
  description: Whether a pooler is in use. C(detected) is the answer, C(this_connection) whether this connection certainly goes through one,
    C(sessions) the number of sessions that look like a pooler's, and C(why) says so in words.
  returned: with a session
  type: dict
findings:
  description: The findings, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: blocking
      severity: warning
      subject: pid 4711
      value: 412.5
      threshold: 300
      message: "Pid 4711 ('godel' in 'godel_production', application 'job') blocks 3 sessions; the longest wait is 6 min 52 s."
      remedy: Run the playbook godel.postgres_runbook.terminate_sessions with terminate_sessions_pid=4711 and
        terminate_sessions_backend_start=2026-02-06T03:04:05.678901Z.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
notes:
  description: Remarks, for example on data that the login has no privilege to see.
  returned: with a session
  type: list
  elements: str
msg:
  description: A summary in a few sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration, ratio
from ..module_utils._diagnostics.activity import report as activity
from ..module_utils._diagnostics.activity.cores import cores
from ..module_utils._findings import judged
from ..module_utils._health.reachability import Unreachable, pod_needed, reach
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._postgres.login_failure import ACCEPTING
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "must_connect": {"type": "bool", "default": True},
        "connections_ratio_warning": ratio(0.8),
        "connections_ratio_critical": ratio(0.95),
        "idle_in_transaction_warning": duration("10m"),
        "idle_in_transaction_critical": duration(),
        "blocking_warning": duration("5m"),
        "waiters_critical": between(1, None, 10),
        "query_warning": duration("1h"),
        "query_critical": duration(),
        "transaction_warning": duration("6h"),
        "transaction_critical": duration(),
        "prepared_warning": duration("1h"),
        "prepared_critical": duration(),
        "procedure_warning": duration("1d"),
        "cores": between(1, None),
        "spindles": between(0, None, 1),
        "top": between(1, None, 20),
        "query_length": between(0, None, 500),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Reach the server, and judge its sessions."""
    params = call.params
    try:
        with pod_needed():
            server = Server(
                create_target(params), Login.from_params(params, "activity info"), check_mode=call.check_mode
            )
        with reach(server, params["db"], params["statement_timeout"]) as session:
            found, source = cores(server, params["cores"])
            plan = activity.ActivityPlan.from_params(params, cores=found, cores_from=source)
            report = activity.collect(session, plan, utc_now())
    except Unreachable as error:
        if params["must_connect"]:
            raise
        return Result(False, error.as_values())
    values = {
        "reachability": ACCEPTING,
        "connected": True,
        "unreachable_cause": "",
        "unreachable_why": "",
        **report.values(),
        **judged(report.findings),
        "msg": activity.describe(report),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
