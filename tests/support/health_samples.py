"""Results of pg_health_info as samples: what a bad night looks like, with hostile names where names come from outside."""

from __future__ import annotations

from typing import Any

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>\u202e\x1b[31m"
LONG = "a_rather_long_name_without_any_blank_in_it_" * 6
NOW = "2026-02-06T03:04:05Z"
GIB = 1024**3


def finding(severity: str, check: str, section: str, subject: str, message: str, remedy: str = "") -> dict[str, Any]:
    """One finding, as the module returns it."""
    return {
        "check": check, "severity": severity, "subject": subject, "value": 1, "threshold": 2, "message": message,
        "remedy": remedy, "section": section,
    }  # fmt: skip


def section(severity: str, message: str, data: dict[str, Any], notes: list[str] | None = None) -> dict[str, Any]:
    """One section that was read."""
    return {
        "state": "read", "severity": severity, "message": message, "notes": notes or [], "duration_s": 0.02, "data": data,
    }  # fmt: skip


def bad_night(hostile: str = HOSTILE, when: str = NOW) -> dict[str, Any]:
    """Return the result of a server that has a lot of trouble."""
    findings = [
        finding("critical", "disk_used", "disk", "/var/lib/postgresql",
                "The file system with data, wal (/var/lib/postgresql) is 96% full: 4.0 GiB of 100.0 GiB are free.",
                "Run the playbook godel.postgres_runbook.disk_space."),
        finding("critical", "replication_slot_inactive", "replication", hostile,
                f"The slot {hostile} is not in use; it holds 41.2 GiB of WAL. Nothing limits it: max_slot_wal_keep_size is -1.",
                "Start its consumer. If there is none any more: SELECT pg_drop_replication_slot('standby2');"),
        finding("warning", "blocking", "activity", "4711",
                "Session 4711 (app, psql) blocks 12 sessions; the longest wait is 7 min 3 s.",
                "Run the playbook godel.postgres_runbook.terminate_sessions."),
        finding("warning", "maintenance_dead_rows", "maintenance", LONG,
                f"{LONG} has 1,250,000 dead rows (38% of its rows).",
                "Run the playbook godel.postgres_runbook.vacuum."),
        finding("info", "server_pending_restart", "server", "shared_buffers",
                "Changed settings that wait for a restart: shared_buffers.",
                "Restart the server in a maintenance window."),
        finding("ok", "connections", "activity", "max_connections",
                "87 of 97 connections available to ordinary roles are in use (90%)."),
    ]  # fmt: skip
    people = [("app", 61), ("reports", 14), (hostile, 9), ("postgres", 3)]
    by = [{"user": name, "sessions": count, "active": 2, "idle": 1, "idle_in_transaction": 0} for name, count in people]
    session = {
        "pid": 4711, "user": "app", "application": hostile, "database": "shop", "state": "idle in transaction",
        "held_up": 12, "longest_wait_s": 423.0, "query": "UPDATE orders SET state = 'paid' WHERE id = $1 -- " + hostile,
    }  # fmt: skip
    texts = [
        ("SELECT * FROM orders WHERE customer_id = $1 ORDER BY created DESC", 0.43),
        (f"SELECT '{hostile}'", 0.21),
        ("x" * 5000, 0.12),
    ]
    queries = [
        {"query": text, "calls": 120_000, "time_ratio": share, "total_time_s": 3600.5 * share, "mean_time_s": 0.03, "max_time_s": 4.2,
         "cache_hit_ratio": 0.97, "user": "app"}
        for text, share in texts
    ]  # fmt: skip
    tables = [
        ("public.orders", 31 * GIB),
        ("public.events", 22 * GIB),
        (hostile, 3 * GIB),
        (LONG, GIB),
        ("public.users", 120 * 1024),
    ]
    return {
        "changed": False,
        "failed": False,
        "collected_at": when,
        "reachable": True,
        "statements": 23,
        "duration_s": 0.31,
        "severity": "critical",
        "msg": "7 sections in 310 ms: 2 critical findings, 2 warnings.",
        "findings": findings,
        "sections": {
            "server": section("info", "PostgreSQL 17.2, primary, up for 41 d 3 h, 3 databases.", {
                "version": "17.2 (Debian 17.2-1)", "role": "primary", "database": "shop", "uptime_s": 3_553_200.0, "commits": 91_000_000,
                "rollbacks": 12_000, "rollback_ratio": 0.0001, "cache_hit_ratio": 0.981, "deadlocks": 3, "checksum_failures": 0,
                "pending_restart": ["shared_buffers"],
                "settings": {"fsync": "on", "autovacuum": "on", "max_connections": "100"},
                "databases": [
                    {"name": name, "freeze_age": age, "multixact_age": 1000, "commits": 5, "rollbacks": 1, "deadlocks": 0,
                     "checksum_failures": None}
                    for name, age in (("shop", 180_000_000), (hostile, 90_000_000), ("postgres", 4_000_000))
                ],
            }),
            "activity": section("warning", "87 of 97 connections in use (90%): 31 active, 40 idle.", {
                "connection_count": 87, "usable_connections": 97, "connections_ratio": 0.8969, "max_connections": 100,
                "blockers": [session],
                "by_state": [{"state": name, "sessions": count} for name, count in
                             (("idle", 40), ("active", 31), ("idle in transaction", 16))],
                "by_user": by,
            }, ["A pooler may be in between."]),
            "queries": section("ok", "3 statements take 76% of the time.", {"available": True, "queries": queries}),
            "storage": section("ok", "3 databases, 57.2 GiB.", {
                "databases": [{"name": name, "size_bytes": size, "size_ratio": 0.3, "growth_bytes_per_day": None}
                              for name, size in (("shop", 52 * GIB), (hostile, 5 * GIB), ("postgres", 9_000_000))],
                "databases_size_bytes": 57 * GIB + 9_000_000,
                "tables": [{"identity": name, "total_bytes": size, "heap_bytes": size // 2, "index_bytes": size // 3, "toast_bytes": 0,
                            "rows_estimate": 1_000_000} for name, size in tables],
                "table_count": 5,
            }),
            "disk": section("critical", "The fullest of 2 file systems (data, wal) is 96% full.", {
                "file_systems": [
                    {"holds": [{"kind": "data", "path": "/var/lib/postgresql"}, {"kind": "wal", "path": "/var/lib/postgresql/pg_wal"}],
                     "total_bytes": 100 * GIB, "free_bytes": 4 * GIB, "used_ratio": 0.96},
                    {"holds": [{"kind": "backup", "path": "/backups"}], "total_bytes": 500 * GIB, "free_bytes": 230 * GIB,
                     "used_ratio": 0.54},
                ],
                "wal": {"size_bytes": 42 * GIB, "files": 2688, "ready_files": 0, "max_wal_size_bytes": GIB,
                        "holders": [{"kind": "slot", "name": hostile, "held_bytes": 41 * GIB, "severity": "critical"}]},
            }),
            "replication": section("critical", "Primary: 2 replicas, 3 slots, 0 subscriptions.", {
                "role": "primary", "replica_count": 2,
                "replicas": [
                    {"application": name, "client": "10.0.0.7", "kind": "replica", "state": "streaming", "sync_state": "async",
                     "replayed_lag_bytes": size, "replayed_lag_s": age, "reply_age_s": 0.4, "slot": name}
                    for name, size, age in (("standby1", 16_384, 0.2), (hostile, 900 * 1024**2, 212.0))
                ],
                "slots": [{"name": name, "type": "physical", "active": active, "wal_status": "extended", "held_bytes": held,
                           "safe_wal_size_bytes": None, "inactive_s": None}
                          for name, active, held in ((hostile, False, 41 * GIB), ("standby1", True, 16_384))],
            }),
            "maintenance": section("warning", "812 tables with 1,390,000 dead rows.", {
                "tables": 812, "dead_rows": 1_390_000, "live_rows": 31_000_000, "never_analyzed": 0, "never_analyzed_tables": [],
                "invalid_indexes": 0, "invalid_index_names": [],
                "most_dead": [{"name": name, "dead_rows": dead, "dead_ratio": 0.38, "live_rows": 2_000_000, "modified_rows": 7,
                               "last_vacuum_age_s": 86_400.0 * 9, "last_analyze_age_s": None}
                              for name, dead in ((LONG, 1_250_000), ("public.users", 120_000), (hostile, 20_000))],
            }),
        },
    }  # fmt: skip


def history(count: int = 30) -> list[dict[str, Any]]:
    """Return samples of a month, in which everything grows."""
    return [
        {
            "collected_at": f"2026-01-{day + 1:02d}T03:04:05Z",
            "connections": 30 + day,
            "max_connections": 100,
            "databases_size_bytes": (40 + day // 2) * GIB,
            "disk_used_ratio": round(0.5 + day * 0.015, 3),
            "lag_bytes": day * day * 1024**2,
            "cache_hit_ratio": 0.98,
        }
        for day in range(count)
    ]
