"""pg_restore_verify on real servers: every verdict, and that it leaves nothing behind and changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now
from tests.support import pythons
from tests.support.backups import back_up, fingerprint, manifest_of
from tests.support.catalogs import add_verdict
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import expect_failure, expect_success, start_module
from tests.support.processes import until
from tests.support.programs import run_user
from tests.support.replicas import replica_of
from tests.support.servers import Server
from tests.support.verifications import (
    MODULE,
    forge,
    hand_made,
    leftovers,
    params,
    scratch_folder,
    tables_of,
    verdicts,
    verify,
)
from tests.support.workspace import can_enter, workspace

CONTENT = """
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT '2026-01-01 00:00:00+00');
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 300) n;
    CREATE TABLE "Or ders" (id int GENERATED ALWAYS AS IDENTITY, "user" int REFERENCES users, v numeric(10,2));
    INSERT INTO "Or ders" ("user", v) SELECT 1 + n % 300, n / 7.0 FROM generate_series(1, 50) n;
    CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE MATERIALIZED VIEW totals AS SELECT "user", sum(v) FROM "Or ders" GROUP BY 1;
    SELECT lo_from_bytea(0, 'a large object');
"""
ROLE = 'fp "Quo\'ted" Röle'


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(name="filled", scope="module")
def _filled(server: Server) -> Iterator[Database]:
    """A small database. Shared: do not write to it."""
    database = new_database(server, unique_name("filled"))
    database.execute(CONTENT)
    yield database
    database.drop()


# --- every major --------------------------------------------------------------------------------------


def test_a_backup_is_verified_on_every_major(any_database: Database, backup_dir: Path, scratch: Path) -> None:
    any_database.execute(CONTENT)
    entry = back_up(any_database, backup_dir)["backup"]["path"]
    databases = any_database.server.databases()
    result = verify(any_database, backup_dir, scratch)
    assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    assert (result["changed"], result["restored"]["rows"]) == (True, 350)
    assert verdicts(entry) == ["verified"]
    assert any_database.server.databases() == databases
    # The backup of a server without programs is restored on the next newer version, which prints definitions differently.
    same = any_database.server.client_dir == any_database.server.bin_dir
    assert ("their names, not their definitions" in result["why"]) is not same


def test_a_backup_of_a_standby_is_verified_without_what_a_standby_cannot_read(
    new_server: Callable[..., Server], backup_dir: Path, scratch: Path
) -> None:
    primary = new_server()
    database = new_database(primary)
    database.execute(
        CONTENT,
        "CREATE UNLOGGED TABLE passing (id serial PRIMARY KEY, a text); INSERT INTO passing (a) VALUES ('x'), ('y')",
        "CREATE UNLOGGED TABLE bare (); INSERT INTO bare DEFAULT VALUES",
    )
    with replica_of(primary) as standby:
        at = primary.query("SELECT pg_current_wal_lsn()::text")[0][0]
        assert until(lambda: standby.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", at) == [(True,)], 30)
        for mode in ("counts", "content"):
            back_up(Database(standby, database.name), backup_dir, fingerprint=mode)
            fingerprint = manifest_of(backup_dir, database).fingerprint
            assert fingerprint is not None
            assert {name: fingerprint.tables[name].rows for name in ("public.passing", "public.users")} == {
                "public.passing": 0,
                "public.users": 300,
            }
            result = verify(database, backup_dir, scratch)  # of the same cluster
            assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    assert not back_up(database, backup_dir, max_age="1h")["changed"]


def test_the_zoo_is_verified(zoo: Database, backup_dir: Path, scratch: Path) -> None:
    back_up(zoo, backup_dir)
    result = verify(zoo, backup_dir, scratch)
    assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    assert result["restored"]["rows"] > 20000
    assert result["restored"]["large_objects"] > 3


@pytest.mark.parametrize("over", [{"format": "custom"}, {"format": "plain"}, {"format": "plain", "compress": "none"}])
@pytest.mark.parametrize("place", ["instance", "database"])
def test_every_format_is_verified_in_every_place(
    filled: Database, backup_dir: Path, scratch: Path, place: str, over: dict[str, Any]
) -> None:
    back_up(filled, backup_dir, **over)
    result = verify(filled, backup_dir, scratch, verify_in=place)
    assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    assert result["restored"]["rows"] == 350


def test_a_verification_is_recorded_in_full(filled: Database, backup_dir: Path, scratch: Path) -> None:
    taken = back_up(filled, backup_dir)["backup"]
    result = verify(filled, backup_dir, scratch, backup=taken["id"])
    [record] = Path(taken["path"], "verifications").glob("*.json")
    written = json.loads(record.read_text())
    assert written["verdict"] == result["verdict"] == "verified"
    assert written["checked_at"] == result["checked_at"]
    assert written["why"] == result["why"]
    assert written["restored"] == result["restored"]
    assert set(result["steps"]) == {"files_s", "start_s", "restore_s", "compare_s"}
    assert result["backup"]["id"] == taken["id"]
    assert [each["severity"] for each in result["findings"]] == ["ok"]
    assert record.stat().st_mode & 0o777 == 0o600


# --- idempotence and check mode ----------------------------------------------------------------------


def test_check_mode_finds_damage_but_restores_and_records_nothing(
    filled: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = Path(back_up(filled, backup_dir)["backup"]["path"])
    result = verify(filled, backup_dir, scratch, check=True)
    assert (result["changed"], result["verdict"], result["restored"]) == (True, None, None)
    globals_ = entry / "globals.sql"
    globals_.write_bytes(globals_.read_bytes().replace(b"-", b"+", 1))
    result = verify(filled, backup_dir, scratch, check=True)
    assert (result["verdict"], result["differences"][0]["kind"]) == ("failed", "content of file")
    assert verdicts(entry) == []
    assert not (entry / "verifications").exists()


def test_a_proof_within_max_age_is_enough(filled: Database, backup_dir: Path, scratch: Path) -> None:
    entry = back_up(filled, backup_dir)["backup"]["path"]
    first = verify(filled, backup_dir, scratch, max_age="7d", verify_in="database")
    assert first["changed"]
    again = verify(filled, backup_dir, scratch, max_age="7d")
    assert (again["changed"], again["verdict"], again["checked_at"]) == (False, "verified", first["checked_at"])
    assert again["why"] == first["why"]
    assert not verify(filled, backup_dir, scratch, max_age="7d", check=True)["changed"]
    [record] = Path(entry, "verifications").glob("*.json")
    document = json.loads(record.read_text())
    for verdict, checked_at in (
        ("verified", "2026-01-01T00:00:00Z"),
        ("verified", "2999-01-01T00:00:00Z"),  # by a wrong clock: it would never become old
        ("failed", first["checked_at"]),
        ("inconclusive", first["checked_at"]),
    ):
        record.write_text(json.dumps({**document, "verdict": verdict, "checked_at": checked_at}))
        assert verify(filled, backup_dir, scratch, max_age="7d", check=True)["changed"], (verdict, checked_at)


def test_a_proof_does_not_cover_a_manifest_that_was_changed_since(
    filled: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = Path(back_up(filled, backup_dir)["backup"]["path"])
    assert verify(filled, backup_dir, scratch)["verdict"] == "verified"
    manifest = entry / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 300', '"rows": 301'))
    result = verify(filled, backup_dir, scratch, max_age="7d")
    assert (result["changed"], result["verdict"]) == (True, "failed")


# --- places ------------------------------------------------------------------------------------------


def test_a_proof_does_not_cover_files_that_are_gone(filled: Database, backup_dir: Path, scratch: Path) -> None:
    entry = Path(back_up(filled, backup_dir)["backup"]["path"])
    add_verdict(backup_dir, filled.name, entry.name, "verified", utc_now())
    assert not verify(filled, backup_dir, scratch, max_age="7d", check=True)["changed"]
    (entry / "data" / "toc.dat").unlink()
    result = verify(filled, backup_dir, scratch, max_age="7d", check=True)
    assert (result["verdict"], result["differences"][0]["subject"]) == ("failed", "data/toc.dat")


def test_latest_is_the_newest_of_this_cluster(filled: Database, backup_dir: Path, scratch: Path) -> None:
    ours, theirs = (back_up(filled, backup_dir)["backup"]["path"] for dummy in range(2))
    forge(theirs, lambda document: document.update(system_identifier="7"))

    def latest(**over: Any) -> dict[str, Any]:
        return {**params(filled, backup_dir, scratch, **over)}

    assert expect_success(MODULE, latest(), check=True)["backup"]["path"] == ours
    assert expect_success(MODULE, latest(backup=Path(theirs).name), check=True)["backup"]["path"] == theirs
    unknown = expect_failure(MODULE, latest(login_port=1), check=True)["msg"]
    assert Path(ours).name in unknown
    assert Path(theirs).name in unknown
    shutil.rmtree(ours)
    refused = expect_failure(MODULE, latest(), check=True)
    assert refused["error"]["kind"] == "BackupNotFound"
    assert f"{Path(theirs).name} is of cluster 7" in refused["msg"]
    alone = expect_success(MODULE, latest(login_port=1), check=True)
    assert alone["backup"]["path"] == theirs
    assert "did not report" in alone["notes"][0]


def test_an_instance_needs_no_running_production_server(
    new_server: Callable[..., Server], backup_dir: Path, scratch: Path
) -> None:
    server = new_server()
    database = new_database(server)
    database.execute(CONTENT)
    back_up(database, backup_dir)
    server.stop()
    assert verify(database, backup_dir, scratch)["verdict"] == "verified"
    result = expect_failure(MODULE, params(database, backup_dir, scratch, verify_in="database"))
    assert result["error"]["kind"] == "ConnectionFailed"


def test_in_a_database_nothing_is_left_and_what_others_use_stays(
    filled: Database, backup_dir: Path, scratch: Path
) -> None:
    server = filled.server
    back_up(filled, backup_dir)
    before = fingerprint(filled)
    for name in ("pg_runbook_verify_stale", "pg_runbook_verify_inuse", "pg_runbook_verify_locked"):
        server.create_database(name)
    try:
        with (
            contextlib.closing(server.connect("pg_runbook_verify_inuse")),
            contextlib.closing(server.connect()) as other,
        ):
            other.cursor().execute("SELECT pg_advisory_lock(hashtextextended('pg_runbook_verify_locked', 0))")
            others = server.databases() - {"pg_runbook_verify_stale"}
            assert verify(filled, backup_dir, scratch, verify_in="database")["verdict"] == "verified"
            assert server.databases() == others
    finally:
        for name in ("pg_runbook_verify_inuse", "pg_runbook_verify_locked"):
            server.drop_database(name)
    assert fingerprint(filled) == before


def test_two_backups_are_verified_at_once_and_one_by_one_run_only(
    filled: Database, backup_dir: Path, scratch: Path
) -> None:
    ids = [back_up(filled, backup_dir)["backup"]["id"] for dummy in range(2)]
    running = [
        start_module(MODULE, params(filled, backup_dir, scratch, backup=id_, verify_in=place))
        for id_, place in ((ids[0], "instance"), (ids[1], "database"), (ids[0], "database"), (ids[1], "instance"))
    ]
    results = [module.finish() for module in running]
    verified = [result["backup"]["id"] for result in results if not result["failed"]]
    assert [result["msg"] for result in results if not result["failed"] and result["verdict"] != "verified"] == []
    assert set(verified) == set(ids)
    assert {result["error"]["kind"] for result in results if result["failed"]} <= {"Locked"}
    assert leftovers(scratch) == []
    assert not [name for name in filled.server.databases() if name.startswith("pg_runbook_verify_")]


def as_ordinary_user(folder: Path) -> str:
    """A Python that runs as another account, if we are root. It may read our Python, which root may keep to itself."""
    user = run_user()
    assert user is not None
    setpriv = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if not can_enter(Path(sys.executable).resolve().parent):
        setpriv += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return pythons.started_by(folder / "python", *setpriv)


def test_an_ordinary_user_can_verify(filled: Database, backup_dir: Path, scratch: Path) -> None:
    back_up(filled, backup_dir)
    options: dict[str, Any] = {}
    if os.geteuid() == 0:  # else every test is this one
        user = run_user()
        assert user is not None
        subprocess.run(["chown", "-R", str(user.pw_uid), backup_dir, scratch], check=True)
        options["python"] = as_ordinary_user(Path(tempfile.mkdtemp(dir=workspace())))
        Path(options["python"]).parent.chmod(0o755)
    assert verify(filled, backup_dir, scratch, **options)["verdict"] == "verified"


# --- what cannot be proven ----------------------------------------------------------------------------


def test_without_a_fingerprint_it_is_inconclusive(filled: Database, backup_dir: Path, scratch: Path) -> None:
    entry = back_up(filled, backup_dir, fingerprint="none")["backup"]["path"]
    result = verify(filled, backup_dir, scratch, verify_in="database")
    assert result["verdict"] == "inconclusive"
    assert "no fingerprint" in result["why"]
    assert result["restored"]["rows"] == 350
    assert verdicts(entry) == ["inconclusive"]
    assert result["findings"][0]["severity"] == "warning"


def test_counts_alone_are_said_to_be_counts(filled: Database, backup_dir: Path, scratch: Path) -> None:
    entry = back_up(filled, backup_dir, fingerprint="counts")["backup"]["path"]
    result = verify(filled, backup_dir, scratch, verify_in="database")
    assert result["verdict"] == "verified"
    assert "content was not compared" in result["why"]
    forge(entry, lambda document: tables_of(document)["public.users"].update(rows=299))
    assert verify(filled, backup_dir, scratch, verify_in="database")["verdict"] == "failed"


@pytest.mark.parametrize("place", ["instance", "database"])
def test_an_extension_that_is_not_there_is_named(filled: Database, backup_dir: Path, scratch: Path, place: str) -> None:
    entry = back_up(filled, backup_dir)["backup"]["path"]
    forge(entry, lambda document: document["source"]["extensions"].append("time travel"))
    result = verify(filled, backup_dir, scratch, verify_in=place)
    assert result["verdict"] == "inconclusive"
    assert "time travel" in result["why"]
    assert verdicts(entry) == ["inconclusive"]


def test_roles_that_are_not_there_are_created_in_an_instance_and_named_in_a_database(
    server: Server, new_server: Callable[..., Server], backup_dir: Path, scratch: Path
) -> None:
    other = new_server()
    database = new_database(other)
    quoted = '"' + ROLE.replace('"', '""') + '"'
    database.execute(
        f"CREATE ROLE {quoted}; CREATE TABLE t (a int); ALTER TABLE t OWNER TO {quoted}; INSERT INTO t VALUES (1)",
        f"GRANT SELECT ON t TO {quoted} WITH GRANT OPTION; CREATE POLICY p ON t TO {quoted}",
    )
    back_up(database, backup_dir)
    assert verify(database, backup_dir, scratch)["verdict"] == "verified"
    elsewhere = {"login_host": server.host, "login_port": server.port}
    result = verify(database, backup_dir, scratch, verify_in="database", **elsewhere)
    assert result["verdict"] == "inconclusive"
    assert "Röle" in result["why"]
    script = hand_made(database, scratch.parent / "roles.sql")
    result = verify(database, backup_dir, scratch, backup=str(script))
    assert (result["verdict"], result["restored"]["rows_by_table"]) == ("inconclusive", {"public.t": 1}), result["why"]


def test_older_programs_than_the_backup_are_refused(filled: Database, backup_dir: Path, scratch: Path) -> None:
    entry = back_up(filled, backup_dir)["backup"]["path"]
    forge(entry, lambda document: document.update(tool="pg_dump 99.1"))
    result = expect_failure(MODULE, params(filled, backup_dir, scratch))
    assert result["error"]["kind"] == "ProgramMissing"
    assert "99" in result["msg"]
    assert verdicts(entry) == []


# --- encodings and locales ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "byte"),
    [
        ("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'", "E'\\xe9'"),
        ("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'", "E'\\xe9'"),
        ("ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true'", "'é'"),
    ],
)
def test_a_database_of_another_encoding_or_locale_is_verified(
    server: Server, backup_dir: Path, scratch: Path, options: str, byte: str
) -> None:
    database = Database(server, unique_name("enc"))
    server.query(f"CREATE DATABASE {database.name} TEMPLATE template0 {options}")
    try:
        database.execute(f"CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ({byte}), ('a10'), ('a9')")
        entry = back_up(database, backup_dir)["backup"]["path"]
        for place in ("instance", "database"):
            result = verify(database, backup_dir, scratch, verify_in=place)
            assert (result["verdict"], result["notes"]) == ("verified", []), result["why"]
        for format_ in ("custom", "plain"):
            made = hand_made(database, backup_dir / "made", f"--format={format_}")
            result = verify(database, backup_dir, scratch, backup=str(made), verify_in="database")
            assert (result["verdict"], result["restored"]["rows"]) == ("inconclusive", 3), result["why"]
        assert verdicts(entry)
    finally:
        database.drop()


def test_a_locale_that_is_not_there_is_replaced_and_not_held_against_the_backup(
    filled: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = back_up(filled, backup_dir)["backup"]["path"]
    forge(entry, lambda document: document["source"].update(collate="xx_XX.utf8", ctype="xx_XX.utf8"))
    result = verify(filled, backup_dir, scratch, verify_in="database")
    assert (result["verdict"], result["differences"]) == ("inconclusive", [])
    assert "xx_XX" in result["notes"][0]
    assert "equals the source" in result["why"]
    forge(entry, lambda document: tables_of(document)["public.users"].update(digest="7"))
    result = verify(filled, backup_dir, scratch, verify_in="database")
    assert result["verdict"] == "inconclusive"
    assert result["difference_count"] == 1
    assert "xx_XX" in result["why"]


def test_the_catalog_keeps_its_manifest_as_it_was(filled: Database, backup_dir: Path, scratch: Path) -> None:
    entry = Path(back_up(filled, backup_dir)["backup"]["path"])
    before = {path: path.read_bytes() for path in entry.rglob("*") if path.is_file()}
    assert expect_success(MODULE, params(filled, backup_dir, scratch))["verdict"] == "verified"
    after = {path: path.read_bytes() for path in entry.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.parent.name != "verifications"} == before
    assert manifest_of(backup_dir, filled).fingerprint is not None
