"""Running backups and other procedures: no module judges their sessions, advises to end them, or ends them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.vacuum import xmin_horizon
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_activity_info, pg_health_info, pg_terminate
from tests.support.databases import Database, new_database
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.processes import until
from tests.support.programs import client_for
from tests.support.servers import Server
from tests.support.sessions import Person, crowd

NOW = {"blocking_warning": "0", "idle_in_transaction_warning": "0", "query_warning": "0", "transaction_warning": "0"}
OURS = ["pg_runbook backup", "pg_runbook backup (pg_dump)", "pg_runbook restore (pg_restore), nightly", "pg_runbook"]
OF_OTHERS = [
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "pg_basebackup",
    "pg_repack",
    "pgBackRest [backup]",
    "barman_backup",
]
NONE_OF_IT = ["app", "my_pg_dump_viewer", "pg_dumpster", "pg_runbooks", "psql"]
JUDGED = {"idle_in_transaction", "long_query", "long_transaction", "blocking"}
PASSWORD = "dummy-of-the-tests-31c7"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"


@contextlib.contextmanager
def ordinary(database: Database, *grants: str) -> Iterator[dict[str, Any]]:
    """A role that is no superuser, as connection options."""
    role = f"dumper_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'", *(f"GRANT {each} TO {role}" for each in grants))
    try:
        yield {"login_user": role, "login_password": PASSWORD}
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@dataclass
class Dump:
    """A pg_dump that waits until its output is read."""

    process: subprocess.Popen[bytes]

    def finish(self) -> int:
        """Read all of it; its exit status."""
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextlib.contextmanager
def pg_dump(database: Database, user: str, **environ: str) -> Iterator[Dump]:
    """A real pg_dump in the middle of a large table."""
    database.execute("CREATE TABLE big AS SELECT repeat(md5(n::text), 32) AS text FROM generate_series(1, 40000) AS n")
    server = database.server
    program = client_for(server.major).bin_dir / "pg_dump"
    env = {**os.environ, "PGPASSWORD": PASSWORD, **environ}
    argv = [str(program), "-h", "127.0.0.1", "-p", str(server.port), "-U", user, "-d", database.name]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    copying = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY %%' AND wait_event = 'ClientWrite'"
    )
    try:
        assert until(lambda: bool(database.query(copying, database.name)), 60), process.poll()
        yield Dump(process)
    finally:
        process.kill()
        process.communicate()


def of(result: Result, check: str) -> list[dict[str, Any]]:
    """The findings of a check."""
    return [each for each in result["findings"] if each["check"] == check]


def outcomes(result: Result) -> dict[int, str]:
    """What became of each session."""
    return {row["pid"]: row["outcome"] for row in result["sessions"]}


def pids_of(database: Database) -> list[int]:
    """The sessions with a database but our own."""
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    return [pid for (pid,) in database.query(asked, database.name)]


@pytest.mark.parametrize("environ", [{}, {"PGAPPNAME": "nightly"}], ids=["its own name", "another name"])
def test_a_dump_of_an_ordinary_role_survives_every_remedy(database: Database, environ: dict[str, str]) -> None:
    with (
        ordinary(database, "pg_read_all_data") as login,
        pg_dump(database, login["login_user"], **environ) as dump,
        crowd(database) as people,
    ):
        [pid] = pids_of(database)
        ddl, behind = people.join("ddl"), people.join("behind")
        ddl.begin("ALTER TABLE big ADD COLUMN more int")
        people.waiting(ddl)
        behind.begin("SELECT count(*) FROM big")
        people.waiting(behind)

        seen = attempt(pg_activity_info, database, **NOW)
        [running] = of(seen, "backup_running")
        assert (running["severity"], running["subject"], running["remedy"]) == ("info", database.name, "")
        assert running["message"].startswith(f"A backup of '{database.name}' is running since 20")
        [blocked] = of(seen, "blocking")
        assert "A backup of" in blocked["message"]
        assert "blocks 2 sessions" in blocked["message"]
        assert f"pid {ddl.pid}" in blocked["message"]
        assert blocked["remedy"].startswith("Wait until it ends.")
        assert f"pg_cancel_backend({ddl.pid})" in blocked["remedy"]
        told = " ".join(f"{each['subject']} {each['message']} {each['remedy']}" for each in seen["findings"])
        assert str(pid) not in told.replace(str(ddl.pid), "")
        assert seen["blockers"] == []
        assert [each["pids"] for each in seen["procedures"] if each["database"] == database.name] == [[pid]]
        lists = ("idle_in_transaction", "oldest_transactions", "longest_queries")
        assert not [row for name in lists for row in seen[name] if row["pid"] == pid]

        [row] = [row for row in seen["blocking"] if row["pid"] == pid]
        for words in (
            {"sessions": [{"pid": pid, "backend_start": row["backend_start"]}]},
            {"rule": {"database": database.name, "user": login["login_user"]}},
            {"rule": {"database": database.name, "query_over": "0"}},
            {"rule": {"database": database.name, "blocking_over": "0"}},
            {"rule": {"application": row["application"]}},
        ):
            for check in (True, False):
                result = attempt(pg_terminate, database, check, **words)
                assert outcomes(result)[pid] == "spared", words
                assert (result["changed"], bool(result["failure"])) == (False, "sessions" in words)
                [kept] = of(result, "terminate_procedure")
                assert "backup" in kept["message"]
                assert kept["remedy"].startswith("Wait until it ends.")
        with_health = attempt(
            pg_health_info, database, sections=["activity"], thresholds={"activity": {"blocking_warning_s": 0}}
        )
        assert of(with_health, "backup_running")
        assert "terminate" not in " ".join(each["remedy"] for each in of(with_health, "blocking"))
        assert dump.finish() == 0


def test_it_is_ended_when_that_is_asked_for(database: Database) -> None:
    with crowd(database) as people:
        backup = people.join("pg_runbook backup")
        backup.run("BEGIN")
        for words in ({"sessions": [backup.name]}, {"rule": {"database": database.name}, "include_superusers": True}):
            asked = {**words, "include_procedures": True}
            # The session of the attempt before may take a moment to end.
            assert until(lambda: database.server.query(SESSIONS, database.name) == [(1,)], 60)
            expected = attempt(pg_terminate, database, True, **asked)
            assert outcomes(expected) == {backup.pid: "terminated"}
        result = attempt(pg_terminate, database, sessions=[backup.name], include_procedures=True)
        assert (result["changed"], result["failure"], outcomes(result)) == (True, None, {backup.pid: "terminated"})
        assert not backup.alive()


def idle(people: Any, application: str) -> Person:
    """A session that is idle in a transaction."""
    person: Person = people.join(application)
    person.run("BEGIN; SELECT 1")
    return person


def test_each_name_of_a_procedure_is_known_and_no_other(database: Database) -> None:
    with crowd(database) as people:
        procedures = [idle(people, each) for each in (*OURS, *OF_OTHERS)]
        looks = idle(people, "pg_runbook health")
        others = [idle(people, each) for each in NONE_OF_IT]
        seen = attempt(pg_activity_info, database, **NOW)
        mine = [each for each in seen["procedures"] if each["database"] == database.name]
        assert sorted(pid for each in mine for pid in each["pids"]) == sorted(each.pid for each in procedures)
        assert {each["procedure"] for each in mine} == {"backup", "restore", "procedure", "rewrite"}
        listed = {row["pid"] for row in seen["idle_in_transaction"]}
        assert listed >= {each.pid for each in others}
        assert not listed & {each.pid for each in (*procedures, looks)}
        result = attempt(
            pg_terminate,
            database,
            rule={"database": database.name, "idle_in_transaction_over": "0"},
            include_superusers=True,
        )
        ended = {pid for pid, outcome in outcomes(result).items() if outcome == "terminated"}
        assert ended == {each.pid for each in others}
        assert all(each.alive() for each in (*procedures, looks))


def test_a_login_that_sees_little_is_not_led_to_a_backup_either(database: Database) -> None:
    with crowd(database) as people, ordinary(database, "pg_signal_backend") as login:
        database.execute(f"CREATE ROLE other_{database.name} LOGIN PASSWORD '{PASSWORD}'")
        try:
            backup = people.join("pg_runbook backup", user=f"other_{database.name}", password=PASSWORD)
            backup.run("BEGIN")
            seen = attempt(pg_activity_info, database, **NOW, **login)
            [running] = [each for each in of(seen, "backup_running") if each["subject"] == database.name]
            assert "may not see since when" in running["message"]
            assert [each["severity"] for each in of(seen, "activity_rights")] == ["info"]
            result = attempt(pg_terminate, database, sessions=[backup.name], **login)
            assert outcomes(result) == {backup.pid: "spared"}
            assert backup.alive()
        finally:
            people.leave()
            database.execute(f"DROP ROLE other_{database.name}")


def test_a_backup_that_takes_too_long_is_a_warning_without_an_end(database: Database) -> None:
    with crowd(database) as people:
        idle(people, "pg_runbook backup")
        seen = attempt(pg_activity_info, database, procedure_warning="0")
        [finding] = [each for each in of(seen, "backup_running") if each["subject"] == database.name]
        assert finding["severity"] == "warning"
        assert finding["remedy"].startswith("Check on the host where it was started")
        assert not [each for each in seen["findings"] if each["check"] in JUDGED]


def test_a_long_transaction_that_never_idles_is_found(database: Database) -> None:
    with crowd(database) as people:
        job = idle(people, "job")
        seen = attempt(pg_activity_info, database, transaction_warning="0", transaction_critical="0")
        [finding] = of(seen, "long_transaction")
        assert (finding["severity"], finding["subject"]) == ("critical", f"pid {job.pid}")
        assert f"terminate_sessions_pid={job.pid}" in finding["remedy"]


def test_what_keeps_dead_rows_is_named_as_a_backup(database: Database) -> None:
    with crowd(database) as people, contextlib.closing(database.connect()):
        backup = people.join("pg_runbook backup (pg_dump)")
        backup.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        with _session(database) as session:
            [holder] = [each for each in xmin_horizon.holders(session) if each.subject == str(backup.pid)]
        assert str(holder).startswith("a backup (process ")
        assert "pg_terminate_backend" not in holder.remedy
        assert holder.remedy.startswith("Wait")


@contextlib.contextmanager
def _session(database: Database) -> Iterator[Any]:
    from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login, Server
    from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget

    params = {name: option.get("default") for name, option in pg_activity_info.SPEC.options.items()}
    login = Login.from_params({**params, **database.login()})
    with Server(LocalTarget(), login).connect(database.name) as session:
        yield session


def test_each_major_tells_a_backup(any_database: Database) -> None:
    with crowd(any_database) as people:
        backup = people.join("pg_runbook backup")
        backup.run("BEGIN; SELECT 1")
        seen = attempt(pg_activity_info, any_database, **NOW)
        assert [each["procedure"] for each in seen["procedures"] if backup.pid in each["pids"]] == ["backup"]
        result = attempt(pg_terminate, any_database, sessions=[backup.name])
        assert (outcomes(result), bool(result["failure"])) == ({backup.pid: "spared"}, True)


def test_a_base_backup_is_not_taken_for_a_replica(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"wal_level": "replica", "max_wal_senders": "4"})
    database = new_database(server)
    database.execute("CREATE TABLE big AS SELECT repeat(md5(n::text), 32) AS text FROM generate_series(1, 20000) AS n")
    program = client_for(server.major).bin_dir / "pg_basebackup"
    argv = [
        str(program),
        "-h",
        "127.0.0.1",
        "-p",
        str(server.port),
        "-U",
        "postgres",
        "-D",
        "-",
        "-Ft",
        "-Xnone",
        "-cfast",
    ]
    env = {**os.environ, "PGPASSWORD": database.login()["login_password"], "PGAPPNAME": "weekly"}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    try:
        started = "SELECT pid FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%%'"
        assert until(lambda: bool(database.query(started)), 60), process.poll()
        [(pid,)] = database.query(started)
        seen = attempt(pg_activity_info, database)
        [running] = of(seen, "backup_running")
        assert "A backup of the cluster is running since" in running["message"]
        [(start,)] = database.query("SELECT backend_start::text FROM pg_stat_activity WHERE pid = %s", pid)
        result = attempt(pg_terminate, database, sessions=[{"pid": pid, "backend_start": start}])
        assert outcomes(result) == {pid: "spared"}
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
