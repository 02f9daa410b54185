#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_replication_info
short_description: Check replication as seen from a PostgreSQL primary or standby
version_added: 0.1.0
description:
  - On a primary, shows and checks each replica with its lag in bytes and seconds at each stage, and the slots with the WAL that they hold.
    Reports whether commits wait for a synchronous standby that is not connected.
  - On a standby, shows and checks the WAL receiver, how far replay is behind the received WAL, paused and delayed replay, and queries that
    replay has cancelled. If other standbys replicate from it, they are shown as on a primary.
  - On both, shows logical subscriptions of the whole server and publications of the database. The module sends four statements to the
    server.
  - Lag in bytes is exact. Lag in seconds is the last measurement of the server, and does not change while a replica replays nothing.
  - A standby does not know about WAL that its primary has not sent yet. Examine both servers.
  - C(primary_conninfo) is never read, because it may contain a password.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  lag_bytes_warning:
    description:
      - The lag of a replica in bytes from which a finding is a V(warning), for example V(64MB). On a primary, it is the WAL that the
        replica has not replayed. On a standby, it is the received WAL that is not replayed.
      - When the module examines a standby with C(recovery_min_apply_delay), only time beyond that delay counts.
    type: str
    default: 64MB
  lag_bytes_critical:
    description: The lag of a replica in bytes from which a finding is V(critical), for example V(1GB).
    type: str
    default: 1GB
  lag_warning:
    description: The lag of a replica in time from which a finding is a V(warning), for example V(30s). See O(lag_bytes_warning).
    type: str
    default: 30s
  lag_critical:
    description:
      - The lag of a replica in time from which a finding is V(critical), for example V(5m).
      - On a standby the time is an upper bound. There the finding is V(critical) only if the lag in bytes reaches O(lag_bytes_warning) as
        well.
    type: str
    default: 5m
  archive_lag_warning:
    description:
      - The age of the last replayed transaction from which a finding is a V(warning), on a standby that replays only from an archive (with
        C(restore_command) and without C(primary_conninfo)). It replaces O(lag_warning) there. The finding is never V(critical), because the
        primary may be idle.
      - It should be longer than C(archive_timeout) of the primary.
    type: str
    default: 1h
  slot_bytes_warning:
    description: How much WAL a slot may hold before that is a V(warning), for example V(1GB).
    type: str
    default: 1GB
  slot_bytes_critical:
    description: How much WAL a slot may hold before that is V(critical), for example V(10GB).
    type: str
    default: 10GB
  inactive_warning:
    description:
      - How long a slot may be inactive before that is a V(warning), on PostgreSQL 17 and later.
      - Earlier versions do not report since when a slot is inactive, so that any inactive slot is a V(warning).
    type: str
    default: 15m
  expected_replicas:
    description: The number of replicas that must be connected to this server, for example V(2). Fewer are V(critical). By default the
      number is not checked.
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
  - The login needs the role C(pg_monitor). Without it only the names of replicas, the slots and the subscriptions are shown, and RV(notes)
    says what is hidden.
seealso:
  - name: Monitoring statistics
    description: The meaning of the server's statistics views.
    link: https://www.postgresql.org/docs/current/monitoring-stats.html
"""

EXAMPLES = r"""
- name: Check that both replicas keep up
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
  description: V(primary) or V(standby); V(unknown) when it could not be read.
  returned: success
  type: str
  sample: primary
lsn:
  description: The position in the WAL up to which this server has written it, or received it if it is a standby.
  returned: success
  type: str
  sample: 0/3000148
replica_count:
  description: The number of replicas that are connected to this server.
  returned: success
  type: int
replicas:
  description: The receivers of WAL, the one with the largest lag first.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: The process ID of the WAL sender.
      type: int
    user:
      description: The role that it logged in as.
      type: str
    application:
      description: Its C(application_name), which C(synchronous_standby_names) refers to.
      type: str
      sample: standby1
    client:
      description: Its address; empty for a Unix socket, or when the login may not see it.
      type: str
    kind:
      description: V(replica), V(logical) for a subscriber, V(archive) for C(pg_receivewal), or V(backup) for a base backup.
      type: str
      sample: replica
    state:
      description: V(startup), V(catchup), V(streaming), V(backup) or V(stopping); null when the login may not see it, like all values
        below.
      type: str
      sample: streaming
    sync_state:
      description: V(async), V(potential), V(sync) or V(quorum).
      type: str
      sample: async
    sync_priority:
      description: Its priority by C(synchronous_standby_names); 0 if it is asynchronous.
      type: int
    slot:
      description: The slot that it uses; null for none.
      type: str
    sent_lsn:
      description: The position up to which WAL was sent to it. C(written_lsn), C(flushed_lsn) and C(replayed_lsn) are the positions up to
        which it has written, flushed and replayed.
      type: str
    sent_lag_bytes:
      description: WAL of this server, in bytes, that was not sent to it.
      type: int
    written_lag_bytes:
      description: WAL of this server, in bytes, that it has not written.
      type: int
    flushed_lag_bytes:
      description: WAL of this server, in bytes, that it has not flushed to disk.
      type: int
    replayed_lag_bytes:
      description: WAL of this server, in bytes, that it has not replayed.
      type: int
      sample: 0
    sent_lag_s:
      description: 0 when everything was sent, otherwise null, because the server does not measure it.
      type: float
    written_lag_s:
      description: Seconds until it had written WAL, as last measured; 0 when it has written everything, null when it was not measured.
      type: float
    flushed_lag_s:
      description: The same for flushing.
      type: float
    replayed_lag_s:
      description: The same for replay.
      type: float
      sample: 0.0
    reply_age_s:
      description: Seconds since its last reply, computed from the clocks of both servers.
      type: float
    connected_at:
      description: When it connected, RFC 3339 in UTC.
      type: str
    xmin_age:
      description: The age, in transactions, of the oldest dead rows that it prevents C(VACUUM) from removing; null if there are none.
      type: int
synchronous:
  description: The state of synchronous replication. Empty when it is not configured, and on a standby.
  returned: success
  type: dict
  contains:
    names:
      description: The setting C(synchronous_standby_names).
      type: str
    required:
      description: The number of replicas that must confirm a commit.
      type: int
    present:
      description: The number of connected replicas that can confirm; null when the login may not see it.
      type: int
    waiting:
      description: The number of sessions that wait for a confirmation; null when the login may not see it.
      type: int
    longest_wait_s:
      description: How long the first of these has waited, in seconds; null when no session waits.
      type: float
slots:
  description: The replication slots, the one that holds most WAL first.
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
      description: The output plugin of a logical slot.
      type: str
    database:
      description: The database of a logical slot.
      type: str
    temporary:
      description: Whether it is dropped when its session ends.
      type: bool
    active:
      description: Whether a process is using it.
      type: bool
    active_pid:
      description: The process ID of the WAL sender that uses it; null for none.
      type: int
    wal_status:
      description: V(reserved), V(extended), V(unreserved) or V(lost); null when it was never used.
      type: str
      sample: reserved
    safe_wal_size_bytes:
      description: How much WAL can be written before the slot loses WAL that it needs; null when there is no limit, or when the slot is
        lost.
      type: int
    restart_lsn:
      description: The position of the oldest WAL that it holds.
      type: str
    confirmed_flush_lsn:
      description: The position up to which the consumer of a logical slot has confirmed.
      type: str
    held_bytes:
      description: How much WAL it holds; null if it was never used.
      type: int
      sample: 16777216
    unconfirmed_bytes:
      description: How much WAL the consumer of a logical slot has not confirmed.
      type: int
    xmin_age:
      description: The age, in transactions, of the oldest dead rows that it prevents C(VACUUM) from removing; null if there are none.
      type: int
    two_phase:
      description: Whether a logical slot decodes prepared transactions.
      type: bool
    conflicting:
      description: Whether a conflict with recovery has invalidated it. Null before PostgreSQL 16 and for physical slots.
      type: bool
    inactive_since:
      description: Since when it has been inactive, RFC 3339 in UTC. This value and the next four need PostgreSQL 17.
      type: str
    inactive_s:
      description: The same in seconds.
      type: float
    invalidation_reason:
      description: Why it was invalidated, for example V(wal_removed); null for a valid slot.
      type: str
    failover:
      description: Whether it is synchronized to standbys for a failover.
      type: bool
    synced:
      description: Whether it was synchronized from the primary.
      type: bool
receiver:
  description: The WAL receiver of a standby; empty on a primary. Values that the login may not see are null.
  returned: success
  type: dict
  contains:
    running:
      description: Whether it is running.
      type: bool
    status:
      description: V(starting), V(streaming), V(waiting), V(restarting) or V(stopping).
      type: str
    sender_host:
      description: The host that it receives from.
      type: str
    sender_port:
      description: The port of that host.
      type: int
    slot:
      description: The slot on that host that it uses.
      type: str
    timeline:
      description: The timeline of the last received WAL.
      type: int
    received_lsn:
      description: The position up to which WAL was received and flushed since the last start. C(flushed_lsn) is the same as reported by the
        receiver itself.
      type: str
    latest_end_lsn:
      description: The end of the sender's WAL, as last reported.
      type: str
    latest_end_time:
      description: The time of that report, RFC 3339 in UTC.
      type: str
    last_message_at:
      description: The time of the last message from the sender, RFC 3339 in UTC.
      type: str
    last_message_age_s:
      description: The age of that message in seconds.
      type: float
replay:
  description: The replay on a standby; empty on a primary.
  returned: success
  type: dict
  contains:
    replayed_lsn:
      description: The position up to which WAL was replayed.
      type: str
    lag_bytes:
      description: The received WAL, in bytes, that is not replayed.
      type: int
    lag_s:
      description:
        - 0 when all received WAL is replayed. Otherwise the age of the last replayed transaction in seconds, which is an upper bound,
          because it also grows while the primary is idle. Null when no transaction was replayed since the start.
      type: float
    last_transaction_at:
      description: The commit time of the last replayed transaction, RFC 3339 in UTC.
      type: str
    state:
      description: V(not paused), V(pause requested) or V(paused).
      type: str
    delay_s:
      description: The setting C(recovery_min_apply_delay) in seconds.
      type: float
    hot_standby_feedback:
      description: The setting C(hot_standby_feedback), that is, whether the primary keeps rows that queries on this standby may still read.
      type: bool
    max_standby_streaming_delay_s:
      description: How long replay waits for conflicting queries, in seconds; null for no limit.
      type: float
    from_archive:
      description: Whether C(restore_command) is set, so that it can restore WAL from an archive; null when the login may not see it.
      type: bool
conflicts:
  description: The number of queries that replay has cancelled on a standby, by cause; empty on a primary.
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
      description: Its database.
      type: str
    owner:
      description: Its owner.
      type: str
    enabled:
      description: Whether it is enabled.
      type: bool
    slot:
      description: Its slot on the publisher.
      type: str
    publications:
      description: The publications that it subscribes to.
      type: list
      elements: str
    pid:
      description: The process ID of the worker that applies changes; null for none.
      type: int
    sync_workers:
      description: The number of workers that copy tables.
      type: int
    received_lsn:
      description: The position up to which changes were received.
      type: str
    reported_lsn:
      description: The position that it last reported to the publisher.
      type: str
    heard_age_s:
      description: Seconds since the last message from the publisher. C(reported_age_s) is the time since the last report to it.
      type: float
    apply_errors:
      description: How often applying changes failed. C(sync_errors) is how often copying tables failed. Both need PostgreSQL 15.
      type: int
    tables:
      description: The number of its tables; null in databases other than O(db).
      type: int
    tables_not_ready:
      description: The number of tables that are still being copied; null in databases other than O(db).
      type: int
publications:
  description: The publications of the database O(db), with C(name), C(owner), C(all_tables), C(tables), C(schemas) and C(operations).
  returned: success
  type: list
  elements: dict
notes:
  description: Remarks on data that the login has no privilege to see, and on the meaning of figures.
  returned: success
  type: list
  elements: str
findings:
  description: The findings, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: replication_slot_inactive
      severity: warning
      subject: standby2
      value: 83886080
      threshold:
      message: "The slot standby2 has had no consumer; it holds 80.0 MiB of WAL. Nothing limits it: max_slot_wal_keep_size is -1."
      remedy: >-
        Start its consumer. If the slot is no longer needed, run the playbook godel.postgres_runbook.disk_space with
        -e disk_space_drop_slot=standby2.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
msg:
  description: A summary in a few sentences.
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
