"""pg_backup on real servers: every major, every format, idempotence, and the truth of what it writes."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.capture import Recorder
from tests.support.backups import (
    CONTENT,
    back_up,
    differences,
    entries,
    fingerprint,
    leftovers,
    manifest_of,
    our_server,
    params,
    restored,
    sha256sum,
)
from tests.support.databases import Database, new_database
from tests.support.modules import expect_failure, expect_success, start_module
from tests.support.servers import Server
from tests.support.zoo import build_many_tables

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "manifest.schema.json").read_text())


@pytest.fixture(name="filled")
def _filled(database: Database) -> Database:
    database.execute(CONTENT)
    return database


@pytest.fixture(name="any_filled")
def _any_filled(any_database: Database) -> Database:
    any_database.execute(CONTENT)
    return any_database


@contextlib.contextmanager
def dropped(database: Database) -> Iterator[Database]:
    """A database that goes when we have looked at it."""
    try:
        yield database
    finally:
        database.drop()


# --- every major --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_a_backup_restores_to_its_fingerprint(any_filled: Database, backup_dir: Path, format_: str) -> None:
    result = back_up(any_filled, backup_dir, format=format_)
    assert result["changed"]
    manifest = manifest_of(backup_dir, any_filled)
    assert manifest.format == format_
    assert manifest.server_major == any_filled.server.major
    assert manifest.fingerprint is not None
    assert manifest.fingerprint.rows == 1500
    assert manifest.fingerprint.algorithm == "record-3"
    method = manifest.compression.split(":")[0]
    assert method == "gzip" if format_ == "plain" or manifest.tool_major < 16 else method != "none"
    with dropped(restored(any_filled, result["backup"]["path"])) as copy:
        assert differences(manifest.fingerprint, copy) == []
        copy.execute("UPDATE users SET name = 'user 8' WHERE id = 7")
        assert len(differences(manifest.fingerprint, copy)) == 1


def test_the_zoo_is_backed_up_on_every_major(any_zoo: Database, backup_dir: Path) -> None:
    result = back_up(any_zoo, backup_dir)
    figures = result["backup"]["fingerprint"]
    assert figures["tables"] > 100
    assert figures["large_objects"] > 0
    jsonschema.Draft202012Validator(SCHEMA).validate(
        json.loads(Path(result["backup"]["path"], "manifest.json").read_text())
    )
    listing = any_zoo.run("pg_restore", "--list", Path(result["backup"]["path"], "data"))
    assert listing.count("TABLE DATA") > 100


def test_an_empty_database_is_backed_up(database: Database, backup_dir: Path) -> None:
    result = back_up(database, backup_dir)
    assert result["backup"]["fingerprint"] | {"objects": 0} == {
        "mode": "content", "tables": 0, "rows": 0, "sequences": 0, "objects": 0, "large_objects": 0,
    }  # fmt: skip
    with dropped(restored(database, result["backup"]["path"])) as copy:
        assert differences(manifest_of(backup_dir, database).fingerprint, copy) == []


@pytest.mark.slow
def test_five_thousand_tables_are_backed_up_in_little_memory(
    new_server: Callable[..., Server], backup_dir: Path
) -> None:
    database = new_database(new_server())  # with the lock table that PostgreSQL has by default
    with contextlib.closing(database.connect()) as connection:
        build_many_tables(connection, 5000)
    module = start_module("pg_backup", params(database, backup_dir))
    peak_kb = [0]

    def watch() -> None:
        status = Path(f"/proc/{module.pid}/status")
        with contextlib.suppress(OSError, IndexError):
            while True:
                peak_kb[0] = max(peak_kb[0], int(status.read_text().split("VmHWM:")[1].split()[0]))
                time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = module.finish()
    watcher.join()
    assert not result["failed"], result["msg"]
    figures = result["backup"]["fingerprint"]
    assert (figures["tables"], figures["sequences"], figures["rows"]) == (5000, 5000, 10000)
    assert len(result["backup"]) < 30
    assert 10_000 < peak_kb[0] < 100 * 1024


def test_a_table_emptied_meanwhile_is_noticed_where_the_locks_have_no_room(new_server: Callable[..., Server]) -> None:
    database = new_database(new_server(settings={"max_locks_per_transaction": 10, "max_connections": 20}))
    database.execute(*(f"CREATE TABLE t{n} AS SELECT 1 AS a" for n in range(70)))
    recorder = Recorder(our_server(database), database.name, mode="content", workers=1)
    with recorder.open():
        recorder.record()
        database.execute("TRUNCATE t7")  # nothing holds it off
        with pytest.raises(QueryFailed, match="emptied or rewritten"):
            recorder.finish()


# --- what it writes -----------------------------------------------------------------------------------


def test_the_manifest_tells_the_truth(filled: Database, backup_dir: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    size = filled.query("SELECT pg_database_size(current_database())")[0][0]
    result = back_up(filled, backup_dir, change_id="CHG0012345", compress="gzip:3")
    manifest, folder = manifest_of(backup_dir, filled), Path(result["backup"]["path"])
    assert folder == backup_dir / filled.name / manifest.id
    assert (manifest.database, manifest.method, manifest.format) == (filled.name, "dump", "directory")
    assert (manifest.compression, manifest.change_id) == ("gzip:3", "CHG0012345")
    assert before <= manifest.started_at <= datetime.now(UTC)
    assert manifest.started <= manifest.finished
    version = filled.query("SHOW server_version_num")[0][0]
    assert manifest.server_version == f"{int(version) // 10000}.{int(version) % 10000}"
    assert manifest.tool_major >= manifest.server_major
    assert manifest.system_identifier == str(filled.query("SELECT system_identifier FROM pg_control_system()")[0][0])
    assert manifest.timeline == 1
    assert filled.query("SELECT %s::pg_lsn <= pg_current_wal_lsn()", manifest.lsn) == [(True,)]
    assert manifest.database_size_bytes == pytest.approx(size, rel=0.2)
    assert manifest.source.owner == filled.server.user
    assert manifest.source.encoding == "UTF8"
    assert manifest.source.extensions == ["plpgsql"]
    # Every file, with its size and its digest, and no other
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert manifest.files.keys() == there.keys() - {"manifest.json"}
    assert "globals.sql" in manifest.files
    for name, record in manifest.files.items():
        assert (record.size_bytes, record.sha256) == (there[name].stat().st_size, sha256sum(there[name]))
    assert manifest.size_bytes == sum(record.size_bytes for record in manifest.files.values())
    assert result["backup"]["size_bytes"] == manifest.size_bytes
    assert manifest.fingerprint is not None
    assert manifest.fingerprint.tables["public.users"].rows == 1000
    assert manifest.fingerprint.tables == fingerprint(filled).tables


def test_files_are_private(filled: Database, backup_dir: Path) -> None:
    os.umask(0o022)
    for format_ in ("directory", "plain"):
        back_up(filled, backup_dir / "new" / "place", format=format_)
    modes = {(path.is_dir(), oct(path.stat().st_mode & 0o777)) for path in (backup_dir / "new").rglob("*")}
    assert modes == {(True, "0o700"), (False, "0o600")}
    assert (backup_dir / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("passwords", [False, True])
def test_globals_are_saved_and_hashes_only_on_request(filled: Database, backup_dir: Path, passwords: bool) -> None:
    filled.execute("DROP ROLE IF EXISTS globals_reader", "CREATE ROLE globals_reader LOGIN PASSWORD 'a-dummy'")
    path = Path(back_up(filled, backup_dir, globals_passwords=passwords)["backup"]["path"])
    text = (path / "globals.sql").read_text()
    filled.execute("DROP ROLE globals_reader")
    assert "CREATE ROLE globals_reader" in text
    assert ("SCRAM-SHA-256" in text) == passwords


def test_globals_can_be_left_out(filled: Database, backup_dir: Path) -> None:
    back_up(filled, backup_dir, globals=False)
    assert "globals.sql" not in manifest_of(backup_dir, filled).files


@pytest.mark.parametrize("mode", ["content", "counts", "none"])
def test_a_fingerprint_is_as_deep_as_asked(filled: Database, backup_dir: Path, mode: str) -> None:
    result = back_up(filled, backup_dir, fingerprint=mode)
    found = manifest_of(backup_dir, filled).fingerprint
    if mode == "none":
        assert found is None
        assert result["backup"]["fingerprint"] is None
        return
    assert found is not None
    assert found.mode == mode
    assert found.rows == 1500
    assert (found.tables["public.users"].digest is None) == (mode == "counts")
    assert (found.large_objects.objects, found.large_objects.digest is None) == (1, mode == "counts")
    with dropped(restored(filled, result["backup"]["path"])) as copy:
        assert differences(found, copy) == []


# --- compression --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["none", "gzip", "gzip:9"])
def test_a_wanted_compression_is_used(filled: Database, backup_dir: Path, compress: str) -> None:
    for format_ in ("directory", "plain"):
        result = back_up(filled, backup_dir, compress=compress, format=format_, fingerprint="none", globals=False)
        packed = [name for name in manifest_of(backup_dir, filled).files if name.endswith(".gz")]
        assert bool(packed) == (compress != "none")
        assert result["backup"]["compression"] == {"gzip": "gzip:6"}.get(compress, compress)


def test_a_compression_that_the_client_does_not_offer_is_refused(
    filled: Database, backup_dir: Path, tmp_path: Path
) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    for program in ("pg_dumpall", "pg_restore", "psql"):
        (fake / program).symlink_to(filled.server.client_dir / program)
    script = (
        '#!/bin/sh\ncase "$*" in *zstd*) echo "this build does not support compression with ZSTD" >&2; exit 1;; esac\n'
    )
    (fake / "pg_dump").write_text(script + f'exec "{filled.server.client_dir}/pg_dump" "$@"\n')
    (fake / "pg_dump").chmod(0o755)
    result = expect_failure("pg_backup", params(filled, backup_dir, compress="zstd", bin_dir=str(fake)))
    assert result["error"]["kind"] == "InvalidInput"
    assert "does not support the compression zstd" in result["msg"]
    assert entries(backup_dir, filled) == []
    assert leftovers(backup_dir, filled) == []


# --- the rest of the options --------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
def test_as_many_connections_dump_as_asked(filled: Database, backup_dir: Path, jobs: int) -> None:
    assert back_up(filled, backup_dir, jobs=jobs)["preflight"]["jobs"] == jobs


def test_jobs_are_the_cpus_at_most_eight(filled: Database, backup_dir: Path) -> None:
    result = expect_success("pg_backup", params(filled, backup_dir, jobs=None), check=True)
    assert result["preflight"]["jobs"] == min(8, len(os.sched_getaffinity(0)))


def test_a_unix_socket_will_do(filled: Database, backup_dir: Path) -> None:
    over = {"login_host": "", "login_unix_socket": str(filled.server.socket_dir)}
    assert back_up(filled, backup_dir, **over)["changed"]


def test_a_password_in_connect_params_will_do(filled: Database, backup_dir: Path) -> None:
    over = {"login_password": "", "connect_params": {"password": filled.server.password, "keepalives_idle": 30}}
    result = back_up(filled, backup_dir, **over)
    assert filled.server.password not in json.dumps(result)


def test_messages_are_for_people(filled: Database, backup_dir: Path) -> None:
    result = back_up(filled, backup_dir)
    assert result["msg"].startswith(f"Backup {result['backup']['id']}: ")
    assert result["removed"] == []


# --- one snapshot -------------------------------------------------------------------------------------


def test_dump_and_fingerprint_are_of_one_moment(any_filled: Database, backup_dir: Path) -> None:
    any_filled.execute(
        "CREATE TABLE ledger (id bigserial PRIMARY KEY, account int, amount int, note text DEFAULT repeat('x', 200))",
        "INSERT INTO ledger (account, amount) SELECT n % 100, 1 FROM generate_series(1, 60000) n",
        "CREATE SEQUENCE numbers INCREMENT 7",
    )
    stop, written = threading.Event(), []

    def write() -> None:
        with contextlib.closing(any_filled.connect()) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO ledger (account, amount) VALUES (1, -5), (2, 5); SELECT nextval('numbers')")
                cursor.execute("UPDATE users SET name = name || '.' WHERE id = %s", (len(written) % 1000,))
                cursor.execute("DELETE FROM ledger WHERE id IN (SELECT id FROM ledger LIMIT 5)")
                cursor.execute(
                    "CREATE TABLE other (n int); INSERT INTO other VALUES (1); TRUNCATE other; DROP TABLE other"
                )
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not written:
            time.sleep(0.01)
        before = len(written)
        path = back_up(any_filled, backup_dir)["backup"]["path"]
        during = len(written) - before
    finally:
        stop.set()
        writer.join()
    assert during > 5
    manifest = manifest_of(backup_dir, any_filled)
    with dropped(restored(any_filled, path)) as copy:
        assert differences(manifest.fingerprint, copy) == []
    assert differences(manifest.fingerprint, any_filled) != []


def test_the_source_is_only_read(filled: Database, backup_dir: Path) -> None:
    def state() -> object:
        counters = "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_user_tables"
        return fingerprint(filled), filled.query("SELECT count(*) FROM pg_class"), filled.query(counters)

    before = state()
    back_up(filled, backup_dir)
    assert state() == before
