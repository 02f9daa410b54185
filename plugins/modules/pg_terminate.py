#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_terminate
short_description: Terminate sessions of a PostgreSQL server that are named or that match a rule
version_added: 0.1.0
description:
  - Terminates the sessions that O(sessions) lists or that match O(rule). The module cancels the query of an active session first. After
    O(grace) it terminates the listed sessions and those that still match, and waits until they have ended.
  - A session is identified by its process ID and its start time, because process IDs are reused. Another session with the same process ID
    is not touched.
  - The statement that sends the signal checks O(rule) again. A session that no longer matches is not touched. If O(rule) is about queries
    or blocking, cancelling the query is therefore enough, and the session stays.
  - The module never terminates its own session. It terminates sessions of a running backup, restore or other procedure, of this collection
    or of programs such as C(pg_dump), only with O(include_procedures).
  - A rule never matches an autovacuum that prevents wraparound. It matches sessions of superusers, replicas and background processes only
    with O(include_superusers), O(include_replication) and O(include_background).
  - A second run finds no session, and changes nothing.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  sessions:
    description: The sessions to terminate, whatever they do and whichever role they belong to, except for procedures (see
      O(include_procedures)). Either this or O(rule) is required.
    type: list
    elements: dict
    default: []
    suboptions:
      pid:
        description: The process ID of the session.
        type: int
        required: true
      backend_start:
        description:
          - When the session was started, as M(godel.postgres_runbook.pg_activity_info) returns it or C(psql) shows it, for example
            V(2026-02-06T03:04:05.678901Z). A time without a time zone is in UTC.
          - A time without fractions of a second matches the whole second.
        type: str
        required: true
  rule:
    description: The conditions of the sessions to terminate. A session must meet all of them. At least one is required, and none may be
      empty.
    type: dict
    default: {}
    suboptions:
      idle_in_transaction_over:
        description: Sessions that have been idle in a transaction for longer than this, for example V(10m).
        type: str
      blocking_over:
        description:
          - Sessions for whose locks another session has waited for longer than this, for example V(5m).
          - Only sessions that wait for no session themselves match.
        type: str
      query_over:
        description: Sessions that have been running one query for longer than this, for example V(1h).
        type: str
      application:
        description: Sessions with exactly this C(application_name).
        type: str
      user:
        description: Sessions of this role.
        type: str
      database:
        description: Sessions in this database.
        type: str
      client_addr:
        description: Sessions from this address or network, for example V(192.0.2.0/24). V(local) matches Unix sockets.
        type: str
  include_superusers:
    description: Whether O(rule) may match sessions of superusers. The login must then be a superuser.
    type: bool
    default: false
  include_replication:
    description: Whether O(rule) may match replicas and base backups.
    type: bool
    default: false
  include_background:
    description: Whether O(rule) may match background workers and autovacuum. An autovacuum that prevents wraparound is never terminated.
    type: bool
    default: false
  include_procedures:
    description:
      - Whether sessions of running procedures may be terminated, also those that O(sessions) lists. These are the sessions of this
        collection, and those of C(pg_dump), C(pg_dumpall), C(pg_restore), C(pg_basebackup), C(pg_repack), pgBackRest and Barman.
      - With V(false), O(rule) spares them. If O(sessions) lists one, the task fails after the other sessions were terminated.
      - Prefer to stop a procedure where it was started, because it then cleans up.
    type: bool
    default: false
  grace:
    description: How long to wait for a cancelled query to end before its session is terminated, for example V(5s). V(0) terminates at once.
    type: str
    default: 5s
  timeout:
    description: How long to wait for terminated sessions to end, for example V(10s). If one is still running then, the task fails.
    type: str
    default: 10s
  max_sessions:
    description: The maximum number of sessions. If more are listed or match, none is terminated, and the task fails.
    type: int
    default: 100
  query_length:
    description: The number of bytes of a query to read and show. With V(0) no query text is read.
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
  - The login needs the role C(pg_signal_backend) for sessions of other roles, and C(pg_monitor) to see them. If the login may not signal a
    session, the task fails after the other sessions were terminated.
  - O(db) is the database that the module logs in to. Sessions in all databases can match, unless O(rule.database) is set.
seealso:
  - module: godel.postgres_runbook.pg_activity_info
  - name: Server signaling functions
    description: The functions that cancel queries and terminate sessions.
    link: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
"""

EXAMPLES = r"""
- name: Terminate one session
  godel.postgres_runbook.pg_terminate:
    db: godel_production
    sessions:
      - pid: 4711
        backend_start: "2026-02-06T03:04:05.678901Z"

- name: Terminate the sessions of one application that are idle in a transaction
  godel.postgres_runbook.pg_terminate:
    db: godel_production
    rule:
      idle_in_transaction_over: 10m
      application: reports

- name: List sessions that have blocked others for five minutes
  godel.postgres_runbook.pg_terminate:
    db: godel_production
    rule:
      blocking_over: 5m
  check_mode: true
"""

RETURN = r"""
sessions:
  description: The sessions that are listed or match, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Its process ID.
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
      description: Its state when it was found. C(transaction_age_s), C(state_age_s) and C(query_age_s) are ages in seconds at that time.
      type: str
    wait_event:
      description: Its wait event as C(type:event); empty when it did not wait.
      type: str
    query:
      description: The beginning of its query, without passwords of roles and passwords in connection strings.
      type: str
    kind:
      description: V(client), V(walsender), V(autovacuum worker) or another; empty when it is hidden.
      type: str
    procedure:
      description: The procedure that it belongs to, for example V(backup); empty for all other sessions.
      type: str
    outcome:
      description:
        - V(terminated); V(cancelled) if its query was cancelled and the session stays; V(gone) if it had ended before, or was not found;
          V(stayed) if it did not end; or V(spared).
        - In check mode, the expected outcome.
      type: str
    why:
      description: The reason for the outcome; empty when there is nothing to explain.
      type: str
terminated_count:
  description: The number of terminated sessions. C(cancelled_count), C(stayed_count) and C(spared_count) are returned in the same way.
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
  description: Remarks, for example on data that the login has no privilege to see.
  returned: success
  type: list
  elements: str
msg:
  description: A summary in one or two sentences.
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
