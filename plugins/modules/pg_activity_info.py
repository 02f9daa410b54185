#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_activity_info
short_description: Report who is connected to a PostgreSQL server, what they do, and who waits for whom
version_added: 0.1.0
description:
  - Says first whether the server can be reached, in the words of C(pg_isready), and if not, why.
  - Then counts the sessions of clients by state, role, application, client and database, and their share of the connections that
    ordinary roles may have, which is C(max_connections) without the reserved ones.
  - Lists the sessions that are idle in a transaction, the oldest transactions, the longest queries, prepared transactions, and what
    sessions wait for. Shows who waits for whose locks as trees.
  - Advises on the size of a pool, and says whether a pooler such as PgBouncer is in between already.
  - It takes four statements.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  must_connect:
    description:
      - Whether a server that cannot be reached is a failure of the task. With V(false) it is a result, with the finding
        C(server_unreachable).
    type: bool
    default: true
  connections_ratio_warning:
    description: From which share of the usable connections on a finding is a V(warning), 0 to 1.
    type: float
    default: 0.8
  connections_ratio_critical:
    description: From which share on it is V(critical).
    type: float
    default: 0.95
  idle_in_transaction_warning:
    description: How long a session may be idle in a transaction before that is a V(warning).
    type: str
    default: 10m
  idle_in_transaction_critical:
    description: How long a session may be idle in a transaction before that is V(critical). Without it, nothing of that kind is.
    type: str
  blocking_warning:
    description: How long a session may wait for a lock before that is a V(warning).
    type: str
    default: 5m
  waiters_critical:
    description: How many sessions one may hold up, directly or not, before that is V(critical). Waits of less than 5 s do not count.
    type: int
    default: 10
  query_warning:
    description: How long a query may run before that is a V(warning).
    type: str
    default: 1h
  query_critical:
    description: How long a query may run before that is V(critical). Without it, nothing of that kind is.
    type: str
  transaction_warning:
    description:
      - How long a transaction may be open before that is a V(warning), even if its session is neither idle nor in one long query.
    type: str
    default: 6h
  transaction_critical:
    description: How long a transaction may be open before that is V(critical). Without it, nothing of that kind is.
    type: str
  prepared_warning:
    description: How old a prepared transaction may be before that is a V(warning).
    type: str
    default: 1h
  prepared_critical:
    description: How old a prepared transaction may be before that is V(critical). Without it, nothing of that kind is.
    type: str
  procedure_warning:
    description:
      - How long a backup or another procedure may run before that is a V(warning). Until then it is V(info), however long its
        sessions are idle in a transaction.
    type: str
    default: 1d
  cores:
    description:
      - How many cores the server has, for the size of a pool.
      - When it is left out, they are counted where the module works, if the server is there too.
    type: int
  spindles:
    description: How many disks count in the formula. V(0) when all that is used fits into memory.
    type: int
    default: 1
  top:
    description: How many rows each list may have. The sums are of all in any case.
    type: int
    default: 20
  query_length:
    description:
      - How many bytes of a query are read and shown. V(0) for none.
      - Passwords of roles and in connection strings are hidden. A query may contain other secrets.
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
  - It needs the role C(pg_monitor). Without it the sessions are counted, and RV(notes) says what is hidden.
  - How long a connection may take is C(connect_timeout) in O(connect_params), in seconds.
  - In texts of queries, passwords of statements such as C(ALTER ROLE) and in connection strings are replaced by V(********). If a literal only
    contains the word C(password), nothing of the text is shown from there on. Other literals of applications are shown, and may be secret,
    too. With O(query_length=0) no texts are read.
seealso:
  - module: godel.postgres_runbook.pg_terminate
  - name: Number Of Database Connections
    description: Where the formula for the size of a pool is from.
    link: https://wiki.postgresql.org/wiki/Number_Of_Database_Connections
"""

EXAMPLES = r"""
- name: See who is connected, and who holds up others
  godel.postgres_runbook.pg_activity_info:
    db: godel_production
  register: activity

- name: See whether the server can be reached at all, and answer within five seconds
  godel.postgres_runbook.pg_activity_info:
    db: godel_production
    must_connect: false
    connect_params:
      connect_timeout: 5
"""

RETURN = r"""
reachability:
  description: V(accepting), V(rejecting), V(no response) or V(no attempt), as C(pg_isready) says.
  returned: always
  type: str
  sample: accepting
connected:
  description: Whether the login had a session. A server that accepts connections may refuse a login. Without a session there is
    nothing of what follows but RV(findings), RV(severity) and RV(msg).
  returned: success
  type: bool
unreachable_cause:
  description: Empty, or V(starting_up) (or shutting down), V(login_refused), V(no_database), V(too_many_connections), V(refused),
    V(timeout), V(tls), V(pod) or V(other).
  returned: success
  type: str
unreachable_reason:
  description: The same in the words of the server or of libpq.
  returned: success
  type: str
connection_count:
  description: How many sessions of clients there are.
  returned: with a session
  type: int
usable_connections:
  description: How many ordinary roles may have, C(max_connections) without the reserved ones.
  returned: with a session
  type: int
  sample: 97
connections_ratio:
  description: The one as a share of the other.
  returned: with a session
  type: float
max_connections:
  description: The setting. C(superuser_reserved_connections) and C(reserved_connections) (16 and later) are returned likewise.
  returned: with a session
  type: int
active_count:
  description: How many of them are active. C(idle_count), C(idle_in_transaction_count), and C(waiting_count) (for a lock) are
    returned likewise.
  returned: with a session
  type: int
blockers:
  description: The sessions that hold others up and wait for nobody, the one with the most first. C(held_up) is how many wait
    because of it, directly or through others, C(longest_wait_s) for how long the longest. So a row of RV(blocking) otherwise.
  returned: with a session
  type: list
  elements: dict
blocking:
  description: Who waits for whom. Each blocker is followed by those that it holds up, one level deeper.
  returned: with a session
  type: list
  elements: dict
  contains:
    root_pid:
      description: The blocker at the root. 0 is a prepared transaction, here and below.
      type: int
    depth:
      description: 0 for the root, 1 for those that wait for it, and so on.
      type: int
    pid:
      description: The process of the session.
      type: int
    backend_start:
      description: When it was started, RFC 3339 in UTC to the microsecond; null when it is hidden. With the pid it names a session.
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
      description: What it waits for, as C(type:event); empty for nothing.
      type: str
      sample: Lock:transactionid
    transaction_age_s:
      description: The age of its transaction in seconds, C(state_age_s) and C(query_age_s) those of its state and its query.
      type: float
    query:
      description: The beginning of its query, the last one if it is not active.
      type: str
    blocked_by:
      description: The pids that it waits for.
      type: list
      elements: int
    held_up:
      description: How many sessions wait because of it.
      type: int
    wait_s:
      description: For how many seconds it has waited; null for a root.
      type: float
    lock_type:
      description: What kind of lock it waits for. V(transactionid) is a row.
      type: str
      sample: relation
    lock_mode:
      description: The mode that it wants.
      type: str
      sample: AccessExclusiveLock
    relation:
      description: The table or index, if it is one of this database; otherwise its OID. Empty when it is not known.
      type: str
      sample: public.sessions
idle_in_transaction:
  description: The sessions that are idle in a transaction, the longest first. RV(oldest_transactions) and RV(longest_queries) are
    lists of the same kind. The columns are those of RV(blocking), from C(pid) to C(query).
  returned: with a session
  type: list
  elements: dict
oldest_transactions:
  description: The sessions with the oldest transactions.
  returned: with a session
  type: list
  elements: dict
longest_queries:
  description: The sessions whose query runs longest.
  returned: with a session
  type: list
  elements: dict
prepared_transactions:
  description: Transactions that were prepared and not ended, the oldest first, with C(gid), C(user), C(database) and C(age_s).
  returned: with a session
  type: list
  elements: dict
procedures:
  description:
    - Procedures of this collection, and of programs such as C(pg_dump), that run now, the oldest first. Their sessions are in
      RV(blocking), and in none of the other lists. They are never a problem by their age, and M(godel.postgres_runbook.pg_terminate)
      does not end them.
  returned: with a session
  type: list
  elements: dict
  contains:
    procedure:
      description: What runs.
      type: str
      sample: backup
    database:
      description: The database that it works in; empty for a base backup.
      type: str
    since:
      description: When its first session was started, RFC 3339 in UTC; null when the login may not see it.
      type: str
    age_s:
      description: How long ago that was, in seconds; null when the login may not see it.
      type: float
    pids:
      description: The processes of its sessions.
      type: list
      elements: int
by_state:
  description: How many sessions there are of each state. V(hidden) are those that the login may not see.
  returned: with a session
  type: list
  elements: dict
  sample: [{"state": "idle", "sessions": 12}]
by_user:
  description: How many there are of each role, and how many of those are active, idle, and idle in a transaction. RV(by_application),
    RV(by_client) and RV(by_database) are lists of the same kind.
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
  description: What active sessions wait for. V(running) is nothing.
  returned: with a session
  type: list
  elements: dict
  sample: [{"wait_event": "Lock:transactionid", "sessions": 3}]
pool:
  description: The advice on the size of a pool. C(recommended_size) (null when the cores are not known), C(cores), C(cores_from),
    C(effective_spindle_count), the C(formula) and its C(source), C(busy_now) (sessions in a query or a transaction), C(connected_now),
    and C(advice) in a sentence.
  returned: with a session
  type: dict
pooler:
  description: Whether a pooler is in between. C(detected), C(this_connection) (surely), C(sessions) (that look like it), C(reason).
  returned: with a session
  type: dict
findings:
  description: What was judged, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: blocking
      severity: warning
      subject: pid 4711
      value: 412.5
      threshold: 300
      message: "Pid 4711 ('godel' in 'godel_production', application 'job') holds up 3 sessions, the one that waits longest for 6 min 52 s."
      remedy: Run the playbook godel.postgres_runbook.terminate_sessions with terminate_sessions_pid=4711 and
        terminate_sessions_backend_start=2026-02-06T03:04:05.678901Z.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
notes:
  description: What could not be seen, and what else is worth knowing.
  returned: with a session
  type: list
  elements: str
msg:
  description: A few sentences for people.
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
        "unreachable_reason": "",
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
