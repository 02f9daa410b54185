#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_terminate
short_description: End sessions of a PostgreSQL server, by their names or by a rule
version_added: 0.1.0
description:
  - Ends the sessions that O(sessions) names or O(rule) means. An active one has its query cancelled first; who still has to go after
    O(grace) is terminated, and the module waits until all of them are gone.
  - A session is a pid and the time of its start, because pids are used again. Another session with the same pid is left alone.
  - What a rule means is decided once more in the statement that sends the signal. A session that has moved on is left alone. So a rule
    about queries or blocking is satisfied by cancelling, and the session stays.
  - Never its own session, and never a session of a running backup, restore or other procedure, of this collection or of C(pg_dump) and
    its siblings, unless O(include_procedures) says so.
  - By a rule, never an autovacuum to prevent wraparound, and sessions of superusers, of replicas and of background
    processes only when that is asked for.
  - A second run finds nobody, and changes nothing.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  sessions:
    description: These sessions, whatever they do and whose they are, but for O(include_procedures). Either this or O(rule).
    type: list
    elements: dict
    default: []
    suboptions:
      pid:
        description: The process of the session.
        type: int
        required: true
      backend_start:
        description:
          - When it was started, as M(godel.postgres_runbook.pg_activity_info) returns it, or as C(psql) shows it. Without a time zone it is UTC.
          - Without fractions of a second it stands for the whole second.
        type: str
        required: true
  rule:
    description: Those that meet all conditions that are given. At least one is needed, and one that is given needs a value.
    type: dict
    default: {}
    suboptions:
      idle_in_transaction_over:
        description: Idle in a transaction for longer than this, for example V(10m).
        type: str
      blocking_over:
        description:
          - Somebody has waited for longer than this for a lock of theirs, for example V(5m).
          - Only those at the root, who wait for nobody themselves.
        type: str
      query_over:
        description: Busy with one query for longer than this, for example V(1h).
        type: str
      application:
        description: With exactly this C(application_name).
        type: str
      user:
        description: Of this role.
        type: str
      database:
        description: With this database.
        type: str
      client_addr:
        description: From this address or network, for example V(192.0.2.0/24). V(local) for Unix sockets.
        type: str
  include_superusers:
    description: Whether a rule may mean sessions of superusers. The login then has to be a superuser.
    type: bool
    default: false
  include_replication:
    description: Whether a rule may mean replicas and base backups.
    type: bool
    default: false
  include_background:
    description: Whether a rule may mean background workers and autovacuum. An autovacuum that prevents wraparound is never terminated.
    type: bool
    default: false
  include_procedures:
    description:
      - Whether sessions of running procedures may be ended, those that O(sessions) names as well. These are the sessions of this
        collection, and those of C(pg_dump), C(pg_dumpall), C(pg_restore), C(pg_basebackup), C(pg_repack), pgBackRest and Barman.
      - Without it, a rule spares them. A session that O(sessions) names makes the task fail, after the others were ended.
      - Stopping a procedure where it was started is better, since it then cleans up.
    type: bool
    default: false
  grace:
    description: How long a query may take to end after it was cancelled, before its session is terminated. V(0) to terminate at once.
    type: str
    default: 5s
  timeout:
    description: How long to wait until those who were terminated are gone. Who is still there then makes the task fail.
    type: str
    default: 10s
  max_sessions:
    description: If more than this are meant, nobody is ended, and the task fails.
    type: int
    default: 100
  query_length:
    description: How many bytes of a query are read and shown. V(0) for none.
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
  - godel.postgres_runbook.attributes
notes:
  - It needs the role C(pg_signal_backend) for sessions of other roles, and C(pg_monitor) to see them. A session that should be ended and
    that the login may not signal makes the task fail, after the others were ended.
  - O(db) is where the module logs in. Sessions of all databases are meant, unless O(rule.database) says otherwise.
seealso:
  - module: godel.postgres_runbook.pg_activity_info
  - name: Server signaling functions
    description: What cancels and terminates.
    link: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
"""

EXAMPLES = r"""
- name: End one session
  godel.postgres_runbook.pg_terminate:
    db: godel_production
    sessions:
      - pid: 4711
        backend_start: "2026-02-06T03:04:05.678901Z"

- name: End what one application has left idle in a transaction
  godel.postgres_runbook.pg_terminate:
    db: godel_production
    rule:
      idle_in_transaction_over: 10m
      application: reports

- name: See who has held up others for five minutes
  godel.postgres_runbook.pg_terminate:
    db: godel_production
    rule:
      blocking_over: 5m
  check_mode: true
"""

RETURN = r"""
sessions:
  description: The sessions that are meant, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Its process.
      type: int
    backend_start:
      description: When it was started, RFC 3339 in UTC to the microsecond.
      type: str
    user:
      description: Its role.
      type: str
    application:
      description: Its C(application_name).
      type: str
    client:
      description: Its address, V(local) for a Unix socket.
      type: str
    database:
      description: Its database.
      type: str
    state:
      description: Its state when it was found. So are the ages, which are C(transaction_age_s), C(state_age_s) and C(query_age_s).
      type: str
    wait_event:
      description: What it waited for, as C(type:event).
      type: str
    query:
      description: The beginning of its query, without passwords of roles and in connection strings.
      type: str
    kind:
      description: V(client), V(walsender), V(autovacuum worker) or another; empty when it is hidden.
      type: str
    procedure:
      description: The procedure that it belongs to, as V(backup); empty for all other sessions.
      type: str
    outcome:
      description:
        - V(terminated), V(cancelled) (its query; the session stays), V(gone) (before that, or never there), V(stayed) (it does not end),
          or V(spared).
        - In check mode, what is to be expected.
      type: str
    why:
      description: Why that is its outcome; empty when the outcome says it all.
      type: str
terminated_count:
  description: How many were terminated. C(cancelled_count), C(stayed_count) and C(spared_count) are returned likewise.
  returned: success
  type: int
findings:
  description: Sessions that stayed, those that the login may not signal, and running procedures whose sessions were spared.
  returned: success
  type: list
  elements: dict
severity:
  description: The worst severity among the findings, V(ok), V(info) or V(warning).
  returned: success
  type: str
notes:
  description: What could not be seen.
  returned: success
  type: list
  elements: str
msg:
  description: One or two sentences for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import (
    CONNECTION,
    DATABASE,
    KUBERNETES,
    ArgumentSpec,
    Typed,
    between,
    duration,
    filled,
    text,
)
from ..module_utils._diagnostics.terminate.plan import Rule, TerminatePlan, read_client, read_sessions
from ..module_utils._diagnostics.terminate.run import terminate
from ..module_utils._health.reachability import reach
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target

_CONDITIONS = {
    "idle_in_transaction_over": duration(),
    "blocking_over": duration(),
    "query_over": duration(),
    "application": text(),
    "user": text(),
    "database": text(),
    "client_addr": Typed({"type": "str"}, read_client),
}
_SESSIONS = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "pid": {"type": "int", "required": True},
        "backend_start": {"type": "str", "required": True},
    },
}
_WIDER = "without a value the rule would mean more sessions"
SPEC = ArgumentSpec(
    {
        "sessions": Typed(_SESSIONS, read_sessions),
        "rule": {
            "type": "dict",
            "default": {},
            "options": {name: filled(condition, _WIDER) for name, condition in _CONDITIONS.items()},
        },
        "include_superusers": {"type": "bool", "default": False},
        "include_replication": {"type": "bool", "default": False},
        "include_background": {"type": "bool", "default": False},
        "include_procedures": {"type": "bool", "default": False},
        "grace": duration("5s"),
        "timeout": duration("10s"),
        "max_sessions": between(1, None, 100),
        "query_length": between(0, None, 500),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """End the sessions that are meant."""
    params = call.params
    plan = TerminatePlan.from_params(params, rule=Rule.from_params(params["rule"]))
    plan.check()
    server = Server(create_target(params), Login.from_params(params, "terminate"), check_mode=call.check_mode)
    with reach(server, params["db"], params["statement_timeout"]) as session:
        outcome = terminate(session, plan, check_mode=call.check_mode)
    return Result(outcome.changed, outcome.as_dict(), diff=outcome.diff, failure=outcome.failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
