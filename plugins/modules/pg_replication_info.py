#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_replication_info
short_description: Judge replication as seen from a PostgreSQL primary or standby
version_added: 0.1.0
description:
  - On a primary, shows and judges each replica with its lag in bytes and seconds at each stage, the slots and what they hold, and whether
    commits wait for a synchronous standby that is not there.
  - On a standby, shows and judges the WAL receiver, how far replay is behind what was received, paused and delayed replay, and queries that
    replay has cancelled. A standby that others follow shows them as a primary does.
  - On both, logical subscriptions of the whole server and publications of the database. Four statements in all.
  - Lag in bytes is exact. Lag in seconds is what the server measured last, and stays the same while a replica replays nothing.
  - A standby cannot know what its primary has not sent yet. So both should be looked at.
  - C(primary_conninfo) is never read, because it may have a password.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  lag_bytes_warning:
    description:
      - From which lag of a replica on a finding is a V(warning). On a primary it counts from the position of its WAL to what is replayed, on
        a standby from what it has received.
      - A standby with C(recovery_min_apply_delay) is judged by the time beyond the delay only, when it is looked at itself.
    type: str
    default: 64MB
  lag_bytes_critical:
    description: From which lag on it is V(critical).
    type: str
    default: 1GB
  lag_warning:
    description: The same as O(lag_bytes_warning), in time.
    type: str
    default: 30s
  lag_critical:
    description:
      - The same as O(lag_bytes_critical), in time.
      - On a standby the time is an upper bound. So it is V(critical) only if the bytes are O(lag_bytes_warning), too.
    type: str
    default: 5m
  archive_lag_warning:
    description:
      - For a standby that lives on an archive, with C(restore_command) and without C(primary_conninfo), in place of O(lag_warning). From which
        age of the last transaction that was replayed on a finding is a V(warning). It is never V(critical), for the primary may be idle.
      - It should be longer than C(archive_timeout) of the primary.
    type: str
    default: 1h
  slot_bytes_warning:
    description: From which amount of WAL that a slot holds on a finding is a V(warning).
    type: str
    default: 1GB
  slot_bytes_critical:
    description: From which amount on it is V(critical).
    type: str
    default: 10GB
  inactive_warning:
    description:
      - How long a slot may be without its consumer before that is a V(warning), on PostgreSQL 17 and later.
      - Earlier ones do not tell since when, so that it is one at once.
    type: str
    default: 15m
  expected_replicas:
    description: How many replicas have to be connected to this server. Fewer are V(critical). Any number will do when it is left out.
    type: int
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
  - It needs the role C(pg_monitor). Without it the names of replicas, the slots and the subscriptions are shown, and RV(notes) says what is hidden.
seealso:
  - name: Monitoring statistics
    description: What the server's own views mean.
    link: https://www.postgresql.org/docs/current/monitoring-stats.html
"""

EXAMPLES = r"""
- name: See whether both replicas follow
  godel.postgres_runbook.pg_replication_info:
    db: godel_production
    expected_replicas: 2
    lag_warning: 10s
  register: replication

- name: Stop when anything is critical
  ansible.builtin.assert:
    that: replication.severity != 'critical'
    fail_msg: "{{ replication.msg }}"
"""

RETURN = r"""
role:
  description: V(primary) or V(standby); V(unknown) when the server did not even tell that.
  returned: success
  type: str
  sample: primary
lsn:
  description: The position of the WAL that this server has written, or has received.
  returned: success
  type: str
  sample: 0/3000148
replica_count:
  description: How many replicas are connected to this server.
  returned: success
  type: int
replicas:
  description: Who is sent WAL, the one that is behind most first.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: The process that sends.
      type: int
    user:
      description: The role that it logged in as.
      type: str
    application:
      description: Its C(application_name), by which synchronous standbys are chosen.
      type: str
      sample: standby1
    client:
      description: Its address; empty for a Unix socket, and when the login may not see it.
      type: str
    kind:
      description: V(replica), V(logical) for a subscriber, V(archive) for C(pg_receivewal), or V(backup) for a base backup.
      type: str
      sample: replica
    state:
      description: V(startup), V(catchup), V(streaming), V(backup) or V(stopping); null when the login may not see it. So is all that follows.
      type: str
      sample: streaming
    sync_state:
      description: V(async), V(potential), V(sync) or V(quorum).
      type: str
      sample: async
    sync_priority:
      description: Its place in C(synchronous_standby_names), 0 for none.
      type: int
    slot:
      description: The slot that it uses; null for none.
      type: str
    sent_lsn:
      description: How far it was sent. C(written_lsn), C(flushed_lsn) and C(replayed_lsn) are how far it has written, flushed and replayed.
      type: str
    sent_lag_bytes:
      description: WAL of this server that was not sent to it.
      type: int
    written_lag_bytes:
      description: WAL of this server that it has not written.
      type: int
    flushed_lag_bytes:
      description: WAL of this server that is not safe on its disk.
      type: int
    replayed_lag_bytes:
      description: WAL of this server that its queries do not see.
      type: int
      sample: 0
    sent_lag_s:
      description: 0 when everything was sent, otherwise null, since nobody measures it.
      type: float
    written_lag_s:
      description: Seconds until it had written, as measured last; 0 when nothing is missing, null when it was not measured.
      type: float
    flushed_lag_s:
      description: The same until it had flushed.
      type: float
    replayed_lag_s:
      description: The same until it had replayed.
      type: float
      sample: 0.0
    reply_age_s:
      description: Since when it has said nothing, by the clocks of both servers.
      type: float
    connected_at:
      description: Since when it is connected, RFC 3339 in UTC.
      type: str
    xmin_age:
      description: The age, in transactions, of the oldest rows that it keeps C(VACUUM) from removing; null for none.
      type: int
synchronous:
  description: What commits wait for. Empty when nothing is synchronous, and on a standby.
  returned: success
  type: dict
  contains:
    names:
      description: The setting C(synchronous_standby_names).
      type: str
    required:
      description: How many replicas have to confirm.
      type: int
    present:
      description: How many of those that count are connected; null when the login may not see it.
      type: int
    waiting:
      description: How many sessions wait for them now; null when the login may not see it.
      type: int
    longest_wait_s:
      description: How long the first of them has been at it; null when nobody waits.
      type: float
slots:
  description: The replication slots, the one that holds most first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    type:
      description: V(physical) or V(logical).
      type: str
    plugin:
      description: The output plugin of a logical one.
      type: str
    database:
      description: The database of a logical one.
      type: str
    temporary:
      description: Whether it ends with its session.
      type: bool
    active:
      description: Whether somebody uses it now.
      type: bool
    active_pid:
      description: Who.
      type: int
    wal_status:
      description: V(reserved), V(extended), V(unreserved) or V(lost); null when it was never used.
      type: str
      sample: reserved
    safe_wal_size_bytes:
      description: How much WAL can be written until it loses some; null when nothing limits it, or when it is lost.
      type: int
    restart_lsn:
      description: The oldest WAL that it holds.
      type: str
    confirmed_flush_lsn:
      description: How far the consumer of a logical one has confirmed.
      type: str
    held_bytes:
      description: How much WAL it holds; null when it was never used.
      type: int
      sample: 16777216
    unconfirmed_bytes:
      description: How much WAL the consumer of a logical one has not confirmed.
      type: int
    xmin_age:
      description: The age, in transactions, of the oldest rows that it keeps C(VACUUM) from removing; null for none.
      type: int
    two_phase:
      description: Whether a logical one decodes prepared transactions.
      type: bool
    conflicting:
      description: Whether recovery made it useless. From PostgreSQL 16 on, as null before and for physical ones.
      type: bool
    inactive_since:
      description: Since when nobody uses it, RFC 3339 in UTC. From PostgreSQL 17 on, as are the next ones.
      type: str
    inactive_s:
      description: The same in seconds.
      type: float
    invalidation_reason:
      description: Why it cannot be used any more, for example V(wal_removed); null for one that can.
      type: str
    failover:
      description: Whether standbys keep it for a failover.
      type: bool
    synced:
      description: Whether it came from the primary.
      type: bool
receiver:
  description: The WAL receiver of a standby; empty on a primary. What the login may not see is null.
  returned: success
  type: dict
  contains:
    running:
      description: Whether there is one.
      type: bool
    status:
      description: V(starting), V(streaming), V(waiting), V(restarting) or V(stopping).
      type: str
    sender_host:
      description: Whom it receives from.
      type: str
    sender_port:
      description: On which port.
      type: int
    slot:
      description: The slot that it uses there.
      type: str
    timeline:
      description: The timeline of what was received last.
      type: int
    received_lsn:
      description: How far it has received and flushed since the last start; C(flushed_lsn) says the same by the process itself.
      type: str
    latest_end_lsn:
      description: The end of the sender's WAL, as it was told last.
      type: str
    latest_end_time:
      description: When that was, RFC 3339 in UTC.
      type: str
    last_message_at:
      description: When the sender said something last, RFC 3339 in UTC.
      type: str
    last_message_age_s:
      description: The same as an age.
      type: float
replay:
  description: The replay on a standby; empty on a primary.
  returned: success
  type: dict
  contains:
    replayed_lsn:
      description: How far it is.
      type: str
    lag_bytes:
      description: What was received and is not replayed.
      type: int
    lag_s:
      description:
        - 0 when all that was received is replayed. Otherwise the age of the last transaction that was replayed, which is an upper bound, since
          it also grows while the primary is idle. Null when no transaction was replayed since the start.
      type: float
    last_transaction_at:
      description: When the last transaction that was replayed was committed, RFC 3339 in UTC.
      type: str
    state:
      description: V(not paused), V(pause requested) or V(paused).
      type: str
    delay_s:
      description: The setting C(recovery_min_apply_delay).
      type: float
    hot_standby_feedback:
      description: Whether the primary keeps rows that queries here still read.
      type: bool
    max_standby_streaming_delay_s:
      description: How long replay waits for queries; null for as long as they take.
      type: float
    from_archive:
      description: Whether it can restore WAL from an archive; null when the login may not see it.
      type: bool
conflicts:
  description: How many queries replay has cancelled on a standby, by cause; empty on a primary.
  returned: success
  type: dict
  sample: {"lock": 0, "snapshot": 2}
subscriptions:
  description: The subscriptions of all databases of the server.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    database:
      description: Where it is.
      type: str
    owner:
      description: Its owner.
      type: str
    enabled:
      description: Whether it is to run.
      type: bool
    slot:
      description: Its slot on the publisher.
      type: str
    publications:
      description: What it subscribes to.
      type: list
      elements: str
    pid:
      description: The process that applies changes; null for none.
      type: int
    sync_workers:
      description: How many processes copy tables.
      type: int
    received_lsn:
      description: How far it was sent.
      type: str
    reported_lsn:
      description: How far it has reported to have come.
      type: str
    heard_age_s:
      description: Since when the publisher said nothing. C(reported_age_s) is since when nothing was reported to it.
      type: float
    apply_errors:
      description: How often applying failed; C(sync_errors), how often copying did. From PostgreSQL 15 on.
      type: int
    tables:
      description: How many tables it has; null in other databases than O(db).
      type: int
    tables_not_ready:
      description: How many of them are still being copied; null in other databases than O(db).
      type: int
publications:
  description: The publications of the database O(db), with C(name), C(owner), C(all_tables), C(tables), C(schemas) and C(operations).
  returned: success
  type: list
  elements: dict
notes:
  description: What cannot be seen, and how figures are to be read.
  returned: success
  type: list
  elements: str
findings:
  description: What needs somebody, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: replication_slot_inactive
      severity: warning
      subject: standby2
      value: 83886080
      threshold:
      message: "Nobody has used the slot standby2; it holds 80.0 MiB of WAL. Nothing limits it: max_slot_wal_keep_size is -1."
      remedy: >-
        Start its consumer. If there is none any more, run the playbook godel.postgres_runbook.disk_space with -e disk_space_drop_slot=standby2.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
msg:
  description: A few sentences for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration, size
from ..module_utils._diagnostics.replication.report import ReplicationPlan, collect, describe
from ..module_utils._findings import judged
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "lag_bytes_warning": size("64MB"),
        "lag_bytes_critical": size("1GB"),
        "lag_warning": duration("30s"),
        "lag_critical": duration("5m"),
        "archive_lag_warning": duration("1h"),
        "slot_bytes_warning": size("1GB"),
        "slot_bytes_critical": size("10GB"),
        "inactive_warning": duration("15m"),
        "expected_replicas": between(0, None),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Read what the server knows of replication, and judge it."""
    params = call.params
    plan = ReplicationPlan.from_params(params)
    server = Server(create_target(params), Login.from_params(params, "replication info"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        report = collect(session, plan, utc_now())
    values = {
        **report.values(),
        **judged(report.findings),
        "msg": describe(report),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
