"""The servers and databases that the other tests use."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psycopg2
import pytest

from tests.support.contents import contents, differences, large_objects
from tests.support.databases import Database, new_database
from tests.support.definitions import DEPARSED, Key, definitions
from tests.support.processes import alive, command_lines, until
from tests.support.programs import client_for, describe, installations
from tests.support.servers import PASSWORD, Server, ServerError
from tests.support.workspace import REPOSITORY, run_user
from tests.support.zoo import (
    CHAINED_GRANTS,
    FEATURES,
    HOSTILE_DATABASE_NAMES,
    READER,
    UNFAITHFUL,
    Unfaithful,
    build_app,
    build_many_tables,
    build_unfaithful,
    unfaithful_on,
)
from tests.support.zoo.unfaithful import CONTENT_DIFFERS, RESTORE_FAILS

MEGABYTE = 1024 * 1024

# --- programs --------------------------------------------------------------------------------------


def test_the_packaged_majors_are_there() -> None:
    majors = [installation.major for installation in installations()]
    assert {16, 18} <= set(majors)
    assert majors == sorted(set(majors))


def test_the_header_names_every_major() -> None:
    assert all(str(major) in describe() for major in (14, 15, 16, 17, 18))


def test_a_client_is_never_older_than_its_server() -> None:
    for installation in installations():
        client = client_for(installation.major)
        assert client.has_clients
        assert client.major >= installation.major
        assert client.major == installation.major or not installation.has_clients
    with pytest.raises(LookupError, match="99"):
        client_for(99)


# --- servers ---------------------------------------------------------------------------------------


def test_a_server_is_of_its_major_and_speaks_utf8(any_server: Server) -> None:
    assert int(any_server.psql("SHOW server_version_num")) // 10000 == any_server.major
    assert any_server.query("SHOW server_encoding") == [("UTF8",)]


@pytest.mark.parametrize("host", ["127.0.0.1", "the socket"])
def test_a_wrong_password_is_refused(any_server: Server, host: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        any_server.connect(host=str(any_server.socket_dir) if host == "the socket" else host, password="wrong")


def test_the_words_of_login_lead_to_the_server(database: Database) -> None:
    login = database.login(login_user="other_user")
    assert login == {
        "login_host": database.server.host,
        "login_port": database.server.port,
        "login_user": "other_user",
        "login_password": PASSWORD,
        "db": database.name,
    }


def test_settings_and_data_survive_a_restart(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"work_mem": "7MB", "application_name": "it's"})
    port = server.port
    server.query("CREATE TABLE kept ()")
    server.restart(settings={"work_mem": "8MB"})
    assert server.port == port
    assert server.query("SELECT current_setting('work_mem')") == [("8MB",)]
    assert server.query("SELECT * FROM kept") == []


def test_a_killed_server_is_gone_at_once_and_recovers(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.query("CREATE TABLE kept (v int)")
    server.kill()
    assert not server.running
    with pytest.raises(psycopg2.OperationalError):
        server.connect()
    server.start()
    assert "not properly shut down" in server.log()
    assert server.query("SELECT * FROM kept") == []


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ServerError, match="unrecognized configuration parameter"),
        Server(settings={"nonsense": 1}),
    ):
        pass


def test_a_server_can_have_an_identifier_of_its_own(server: Server, new_server: Callable[..., Server]) -> None:
    query = "SELECT system_identifier FROM pg_control_system()"
    assert new_server(own_identity=True).query(query) != server.query(query)


def test_a_tablespace_can_be_used(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.create_tablespace("it's fast")
    server.query('CREATE TABLE t TABLESPACE "it\'s fast" AS SELECT 1')


def test_hostile_names_of_databases(server: Server) -> None:
    for name in HOSTILE_DATABASE_NAMES:
        hostile = new_database(server, name)
        assert hostile.query("SELECT current_database()") == [(hostile.name,)]
        hostile.drop()


CHILD = """
import json, sys, time
from tests.support.servers import Server
server = Server().start()
print(json.dumps([server.pid, str(server.folder), str(server.folder.parent)]), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that starts a server, tells about it, and ends when it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


def _told_by(child: subprocess.Popen[str]) -> tuple[int, Path, Path]:
    output: IO[str] | None = child.stdout
    assert output is not None
    pid, folder, workspace = json.loads(output.readline())
    assert alive(pid)
    return pid, Path(folder), Path(workspace)


def test_nothing_stays_after_the_end(child: subprocess.Popen[str]) -> None:
    pid, folder, workspace = _told_by(child)
    child.communicate("end\n")
    assert not alive(pid)
    assert not folder.exists()
    assert not workspace.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_after_a_killed_run(child: subprocess.Popen[str], how: signal.Signals) -> None:
    pid, folder, workspace = _told_by(child)
    child.send_signal(how)
    child.wait()
    assert until(lambda: not alive(pid), 10)
    assert until(lambda: not any(str(folder) in line for line in command_lines().values()), 10)
    assert until(lambda: not workspace.exists(), 10)


def test_no_password_is_in_the_process_list(server: Server) -> None:
    assert server.running
    assert not any(PASSWORD in line for line in command_lines().values())


def test_root_does_not_run_postgresql(server: Server) -> None:
    user = run_user()
    expected = os.geteuid() if user is None else user.pw_uid
    assert Path(f"/proc/{server.pid}").stat().st_uid == expected


# --- databases -------------------------------------------------------------------------------------

PARTITIONED_BY_ENUM = {'"zoo"."by_enum_0"', '"zoo"."by_enum_1"'}
STALE = {'"zoo"."stale"', '"zoo"."a on stale"', '"zoo"."restless"'}

#: Definitions whose text is another one after a restore, though they mean the same.
RESTORED_TEXTS = {
    Key("constraint", "code_check on zoo.code"),
    Key("constraint", "in_lists_domain_check on zoo.in_lists_domain"),
    Key("constraint", "nested on zoo.statuses"),
    Key("constraint", "statuses_check on zoo.statuses"),
    Key("constraint", "statuses_level_check on zoo.statuses"),
    Key("constraint", "statuses_status_check on zoo.statuses"),
    Key("default or generated", "zoo.in_lists.is_done"),
    Key("default or generated", "zoo.in_lists.is_open"),
    Key("function", "zoo.in_lists_argument(boolean)"),
    Key("function", "zoo.in_lists_body(character varying)"),
    Key("index", "zoo.in_lists_expression"),
    Key("index", "zoo.in_lists_partial"),
    Key("index", "zoo.invalid_index"),  # not in the copy at all
    Key("partition key", "zoo.in_lists_partitioned"),
    Key("policy check", "in_lists_policy on zoo.in_lists"),
    Key("policy using", "in_lists_policy on zoo.in_lists"),
    Key("rule", "in_lists_rule on zoo.in_lists"),
    Key("statistics", "zoo.in_lists_statistics"),
    Key("trigger", "in_lists_trigger on zoo.in_lists"),
    Key("view", "zoo.in_lists_stored"),
    Key("view", "zoo.in_lists_view"),
}

KINDS_DEPARSED = {fact.kind for fact in DEPARSED}

#: Facts that a restore changes: kind, and part of the name ("" for any).
RESTORED_FACTS = (
    ("", "zoo.invalid_index"),
    ("constraint states", "_pkey on zoo."),  # of partitions: connoinherit
    ("numbers of enums' labels", "zoo.mood"),
    ("order of columns", "zoo.adopted"),
    ("order of columns", "zoo.order_child"),
    ("rights as stored, pg_class", "zoo.forbidden"),  # NULL means the same
)


def _restore(source: Database, target: Server, folder: Path) -> Database:
    """Dump with the bare programs, and restore with no error allowed."""
    dump = folder / "dump"
    source.run("pg_dump", "--format=directory", "--jobs=2", "--compress=1", f"--file={dump}")
    copy = new_database(target)
    copy.run("pg_restore", "--jobs=2", "--exit-on-error", f"--dbname={copy.name}", dump)
    return copy


@pytest.fixture(scope="module")
def restored_zoo(any_zoo: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The zoo, restored on another server of the same major."""
    with Server(any_zoo.server.installation) as other:
        other.query("CREATE TABLE shifts_object_ids ()")
        roles = any_zoo.server.run("pg_dumpall", "--roles-only").replace("CREATE ROLE postgres;", "")
        file = tmp_path_factory.mktemp("roles") / "roles.sql"
        file.write_text(roles)
        other.run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", file)
        yield _restore(any_zoo, other, tmp_path_factory.mktemp("zoo"))


def test_the_zoo_restores_to_the_same_content(any_zoo: Database, restored_zoo: Database) -> None:
    with contextlib.closing(any_zoo.connect()) as source, contextlib.closing(restored_zoo.connect()) as copy:
        different = set(differences(contents(source), contents(copy)))
        assert different <= STALE | PARTITIONED_BY_ENUM
        assert different >= STALE
        assert large_objects(source) == large_objects(copy)


def test_the_zoo_restores_to_the_same_definitions(any_zoo: Database, restored_zoo: Database) -> None:
    with contextlib.closing(any_zoo.connect()) as source, contextlib.closing(restored_zoo.connect()) as copy:
        different = set(differences(definitions(source, stored=True), definitions(copy, stored=True)))
    assert {key for key in different if key.kind in KINDS_DEPARSED} == RESTORED_TEXTS
    expected = {
        key for key in different for kind, part in RESTORED_FACTS if kind in ("", key.kind) and part in key.identity
    }
    assert different - RESTORED_TEXTS - expected == set()


def test_definitions_no_longer_change_with_a_second_restore(restored_zoo: Database, tmp_path: Path) -> None:
    second = _restore(restored_zoo, restored_zoo.server, tmp_path)
    with contextlib.closing(restored_zoo.connect()) as first, contextlib.closing(second.connect()) as copy:
        assert differences(definitions(first, stored=True), definitions(copy, stored=True)) == {}


def test_a_copy_of_the_zoo_is_the_same(zoo: Database, zoo_copy: Database) -> None:
    with contextlib.closing(zoo.connect()) as source, contextlib.closing(zoo_copy.connect()) as copy:
        assert differences(contents(source), contents(copy)) == {}


def test_names_of_features_are_unique() -> None:
    names = [feature.name for feature in FEATURES]
    assert [name for name in names if names.count(name) > 1] == ["type numeric", "type numeric"]


def test_the_reader_may_read_only_a_part(zoo: Database) -> None:
    user, password = READER
    with (
        contextlib.closing(zoo.connect(user=user, password=password)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM zoo.many")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT count(*) FROM zoo.forbidden")


@pytest.mark.parametrize("case", UNFAITHFUL, ids=lambda case: case.name)
def test_unfaithful_databases_do_not_come_back(case: Unfaithful, database: Database, tmp_path: Path) -> None:
    with contextlib.closing(database.connect()) as connection:
        build_unfaithful(connection, case)
    if case.outcome == RESTORE_FAILS:
        with pytest.raises(ServerError, match="error: "):
            _restore(database, database.server, tmp_path)
    else:
        assert case.outcome == CONTENT_DIFFERS
        copy = _restore(database, database.server, tmp_path)
        with contextlib.closing(database.connect()) as source, contextlib.closing(copy.connect()) as target:
            assert differences(contents(source), contents(target))


def test_unfaithful_databases_can_be_made_on_every_major(any_server: Server) -> None:
    for case in UNFAITHFUL:
        database = new_database(any_server)
        with contextlib.closing(database.connect()) as connection:
            if case in unfaithful_on(any_server.major):
                build_unfaithful(connection, case)
            else:
                with pytest.raises(psycopg2.Error):
                    build_unfaithful(connection, case)


def test_chained_grants_come_back_section_by_section(database: Database, tmp_path: Path) -> None:
    with contextlib.closing(database.connect()) as connection:
        build_unfaithful(connection, CHAINED_GRANTS)
    dump = tmp_path / "dump"
    database.run("pg_dump", "--format=directory", f"--file={dump}")
    copy = new_database(database.server)
    for section in ("pre-data", "data", "post-data"):
        jobs = 1 if section == "pre-data" else 2
        copy.run(
            "pg_restore", f"--section={section}", f"--jobs={jobs}", "--exit-on-error", f"--dbname={copy.name}", dump
        )
    rights = "SELECT count(*) FROM pg_class WHERE relacl::text LIKE '%zoo_granted=r/zoo_granter%'"
    assert copy.query(rights) == [(20,)]


def test_the_application_has_about_the_size_it_should(database: Database) -> None:
    with contextlib.closing(database.connect()) as connection:
        build_app(connection, 30)
    [(size,)] = database.query("SELECT pg_database_size(current_database())")
    assert 25 * MEGABYTE < size < 50 * MEGABYTE


def test_many_tables(database: Database) -> None:
    with contextlib.closing(database.connect()) as connection:
        build_many_tables(connection, 501)
    assert database.query("SELECT count(*), sum(seqincrement) FROM pg_sequence") == [(501, 501)]
