"""pg_storage_info on real servers: sizes as the server itself has them, growth and the day the disk is full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.storage import report as storage
from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import worst
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import Space
from tests.support.backups import our_server
from tests.support.databases import Database
from tests.support.modules import expect_failure, expect_success
from tests.support.processes import until
from tests.support.servers import Server
from tests.support.zoo import HOSTILE_NAMES

GIB = 1024**3
NOW = datetime(2026, 3, 1, tzinfo=UTC)
BIG = "SELECT number, repeat('x', 900) FROM generate_series(1, %s) AS number"


@pytest.fixture(name="reader")
def _reader(database: Database) -> Iterator[str]:
    """A role with no rights, that can log in."""
    name = f"reader_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    yield name
    database.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_sizes_are_those_of_the_server(any_database: Database) -> None:
    any_database.execute(
        'CREATE TABLE "Mixed Case" (id int PRIMARY KEY, body text)',
        f'INSERT INTO "Mixed Case" {BIG % 800}',
        "CREATE TABLE toasted (id int, body text); ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO toasted SELECT 1, repeat('x', 9000000)",
        "CREATE TABLE parted (id int, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1a PARTITION OF parted_1 FOR VALUES FROM (0) TO (500)",
        "CREATE TABLE parted_1b PARTITION OF parted_1 FOR VALUES FROM (500) TO (1000)",
        "CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1000) TO (9999)",
        "CREATE INDEX ON parted (id)",
        f"INSERT INTO parted {BIG % 3000}",
        "CREATE MATERIALIZED VIEW seen AS SELECT * FROM parted LIMIT 1000",
        "ANALYZE parted_2",
    )
    result = expect_success("pg_storage_info", {**any_database.login(), "top": 1000})
    assert result["changed"] is False
    tables = {each["identity"]: each for each in result["tables"]}
    for name in ('public."Mixed Case"', "public.toasted", "public.seen"):
        told = tables[name]
        assert told["total_bytes"] == any_database.query("SELECT pg_total_relation_size(%s::regclass)", name)[0][0]
        assert told["index_bytes"] == any_database.query("SELECT pg_indexes_size(%s::regclass)", name)[0][0]
        assert told["heap_bytes"] + told["toast_bytes"] + told["index_bytes"] == told["total_bytes"]
    assert tables["public.toasted"]["toast_bytes"] > 9_000_000
    [(whole,)] = any_database.query(
        "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('parted')"
    )
    parted = tables["public.parted"]
    assert (parted["kind"], parted["partitions"], parted["total_bytes"]) == ("partitioned table", 3, whole)
    assert parted["rows_estimate"] == 2001
    assert parted["index_bytes"] > 0
    assert not any(name.startswith("public.parted_") for name in tables)
    assert (tables["public.seen"]["kind"], tables["public.seen"]["rows_estimate"]) == ("materialized view", None)
    assert tables["pg_catalog.pg_class"]["system"] is True
    sizes = [each["total_bytes"] for each in result["tables"]]
    assert sizes == sorted(sizes, reverse=True)
    assert result["table_count"] == len(tables)
    largest = result["tables"][0]["identity"]
    database = next(each for each in result["databases"] if each["current"])
    assert database["name"] == any_database.name
    assert (
        database["size_bytes"] >= any_database.query("SELECT pg_database_size(current_database())")[0][0] - GIB // 100
    )
    assert {"pg_default", "pg_global"} <= {each["name"] for each in result["tablespaces"]}
    assert result["sample"]["databases"][any_database.name] == database["size_bytes"]
    assert 0 < result["free_bytes"] <= result["total_bytes"]
    assert "Samples so far: 1" in result["forecast"]["why"]
    first = expect_success("pg_storage_info", {**any_database.login(), "top": 1})
    assert [each["identity"] for each in first["tables"]] == [largest]
    assert first["table_count"] == result["table_count"]


def test_hostile_names_and_partitions_that_are_hidden_from_nobody(database: Database) -> None:
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        for name in HOSTILE_NAMES:
            quoted = '"' + name.replace('"', '""') + '"'
            cursor.execute(f"CREATE TABLE {quoted} AS SELECT 1 AS a")
    result = expect_success("pg_storage_info", {**database.login(), "top": 1000})
    assert set(HOSTILE_NAMES) <= {each["name"] for each in result["tables"]}


def test_a_locked_table_keeps_nobody_waiting(database: Database) -> None:
    database.execute(f"CREATE TABLE held AS {BIG % 500}", "VACUUM held", "CREATE INDEX ON held (number)")
    with contextlib.closing(database.connect(autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        result = expect_success("pg_storage_info", {**database.login(), "top": 1000})
        other.rollback()
    assert next(each for each in result["tables"] if each["name"] == "held")["total_bytes"] > 400_000
    assert "public.held" in " ".join(result["notes"])


def test_who_waits_for_a_lock_keeps_nobody_waiting_either(database: Database) -> None:
    database.execute("CREATE TABLE wanted AS SELECT 1 AS a")
    with contextlib.closing(database.connect(autocommit=False)) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT * FROM wanted")
        command = [str(database.server.program("psql")), "-c", "DROP TABLE wanted"]
        with subprocess.Popen(
            command,
            env=database.server.environment(database.name),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as dropper:
            waits = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
            assert until(lambda: database.query(waits) == [(1,)], 30)
            result = expect_success("pg_storage_info", {**database.login(), "top": 1000})
            reader.rollback()
            assert dropper.wait(30) == 0
    assert "public.wanted" in " ".join(result["notes"])


def test_a_prepared_transaction_keeps_nobody_waiting_either(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"max_prepared_transactions": 1})
    server.psql("CREATE TABLE held AS SELECT 1 AS a")
    server.psql("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'p'")
    result = expect_success("pg_storage_info", {**server.login(), "top": 1000})
    assert "public.held" in " ".join(result["notes"])
    assert "held" in {each["name"] for each in result["tables"]}


def test_what_a_plain_user_may_not_see_is_said(server: Server, database: Database, reader: str) -> None:
    database.execute(f'REVOKE CONNECT ON DATABASE "{database.name}" FROM PUBLIC')
    login = {**server.login(), "login_user": reader, "login_password": "x"}
    plain = expect_success("pg_storage_info", login)
    hidden = next(each for each in plain["databases"] if each["name"] == database.name)
    assert (hidden["size_bytes"], hidden["size_ratio"]) == (None, None)
    assert database.name not in plain["sample"]["databases"]
    notes = " ".join(plain["notes"])
    assert database.name in notes
    assert "pg_global" in notes
    assert "free space is unknown" in notes
    assert (plain["free_bytes"], plain["tables"] == []) == (None, False)
    database.execute(f"GRANT pg_monitor TO {reader}")
    monitor = expect_success("pg_storage_info", login)
    assert monitor["notes"] == []
    assert monitor["free_bytes"] > 0
    assert next(each for each in monitor["databases"] if each["name"] == database.name)["size_bytes"] > 0


def collected(database: Database, history: list[dict[str, Any]], **plan: Any) -> storage.StorageReport:
    with our_server(database).connect(database.name) as session:
        return storage.collect(session, storage.StoragePlan(history=history, **plan), NOW)


def history(*free: float, every: timedelta = timedelta(days=1)) -> list[dict[str, Any]]:
    """Samples of a disk of 100 GiB, the last one a distance before now, and none of them in order."""
    samples = [
        {
            "collected_at": f"{NOW - every * (len(free) - at):%Y-%m-%dT%H:%M:%SZ}",
            "databases": {"gone": 1, "postgres": 1000 * at},
            "free_bytes": int(each * GIB),
            "total_bytes": 100 * GIB,
        }
        for at, each in enumerate(free)
    ]
    return samples[::-1]


@pytest.mark.parametrize(
    ("free", "left", "severity"),
    [
        ((80, 70, 60), 50, "critical"),
        ((56, 54, 52), 50, "warning"),
        ((50.4, 50.3, 50.1), 50, "ok"),
        ((9, 8, 7), 50, ""),
    ],
)
def test_the_day_the_disk_is_full(database: Database, free: tuple[float, ...], left: int, severity: str) -> None:
    report = collected(database, history(*free), space=Space(left * GIB, 100 * GIB))
    found = [each for each in report.findings if each.check == "disk_forecast"]
    assert (found[0].severity if found else "") == severity
    assert report.basis == "disk"
    assert worst(report.findings) == (severity or "ok")
    if severity == "critical":
        assert f"{report.forecast.full_at:%Y-%m-%d}" == "2026-03-06"
        assert "will be full in 5 d" in storage.describe(report)
        assert "godel.postgres_runbook.disk_space" in found[0].remedy


def test_a_disk_that_was_made_larger_did_not_shrink(database: Database) -> None:
    samples = history(30, 20, 60, 50)
    for each in samples:
        each["total_bytes"] = (100 if each["free_bytes"] <= 30 * GIB else 150) * GIB
    report = collected(database, samples, space=Space(40 * GIB, 150 * GIB))
    assert report.forecast.trend is not None
    assert report.forecast.trend.per_day == pytest.approx(10 * GIB, rel=0.01)


def test_growth_of_databases_without_free_space_and_a_history_that_cannot_be_trusted(database: Database) -> None:
    samples: list[dict[str, Any]] = [{**each, "free_bytes": None} for each in history(0, 0, 0)]
    samples += [
        {"collected_at": "yesterday", "databases": {}},
        {"databases": {"postgres": 1}},
        {"collected_at": "2026-02-27T00:00:00Z", "databases": ["x"]},
        {"collected_at": "2027-01-01T00:00:00Z", "databases": {"postgres": 10**15}},
    ]
    report = collected(database, samples)
    assert report.basis == "databases"
    growth = {each.name: each.growth for each in report.databases}
    assert growth["postgres"] is not None
    assert growth[database.name] is None
    assert "unreadable or not from the past: 4" in " ".join(report.notes)
    assert "unknown" in report.forecast.why


def test_a_database_that_fills_the_disk_is_named(database: Database) -> None:
    report = collected(database, [], space=Space(1024, 8 * 1024 * 1024))
    assert {each.check for each in report.findings} == {"database_share"}
    assert database.name in {each.subject for each in report.findings}


def test_it_takes_three_statements(database: Database) -> None:
    with our_server(database).connect(database.name) as session:
        counted: list[object] = []
        plain = session._run

        def counting(statement: Any, params: Any) -> list[Any]:
            counted.append(statement)
            return plain(statement, params)

        session._run = counting  # type: ignore[method-assign]
        storage.collect(session, storage.StoragePlan(), NOW)
    assert len(counted) == 3


@pytest.mark.parametrize("top", [0, 1001])
def test_a_top_that_makes_no_sense_is_refused(database: Database, top: int) -> None:
    assert "Invalid top" in expect_failure("pg_storage_info", {**database.login(), "top": top})["msg"]
