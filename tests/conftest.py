"""Fixtures: real PostgreSQL servers of every major at hand, and databases on them.

``server`` is one default server, ``any_server`` each of several majors in turn (``tests.support.majors``). Each
has its ``database`` (empty, a new one per test), ``zoo`` (every hostile feature, shared: do not write) and
``zoo_copy`` (a copy to write to); with ``any_`` in front they are on ``any_server``. Nothing is ever skipped:
a major that is not there is no parameter, and the header of the run says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".venv" / "collections"

for folder in (str(ROOT), str(COLLECTIONS)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from tests.support.databases import Database, new_database, unique_name
from tests.support.majors import per_major
from tests.support.programs import Installation, describe, problems
from tests.support.servers import Server, default_installation
from tests.support.workspace import workspace
from tests.support.zoo import build_zoo

ServerPool = Callable[[Installation], Server]
ZooPool = Callable[[Server], Database]


def pytest_configure() -> None:
    """Make the collection importable under its real name, from any checkout folder."""
    hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
    hypothesis.settings.load_profile("untimed")
    link = COLLECTIONS / "ansible_collections" / "godel" / "postgres_runbook"
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # there already, or another worker was quicker
        link.symlink_to(os.path.relpath(ROOT, link.parent))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with one at the end."""

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT / "tests").as_posix() if item.path.is_relative_to(ROOT / "tests") else ""
        if name.startswith(("unit", "benchmarks")):
            return 2
        return 0 if name.startswith(("faults", "kubernetes", "integration")) else 1

    items.sort(key=rank)  # stable: files stay together


def pytest_report_header() -> str:
    """Say which majors run, and which are absent and why."""
    return describe()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it once more at the end, where even a quiet run shows it."""
    for problem in problems():
        terminalreporter.write_line(f"WARNING: {problem}", yellow=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with ``any_server`` once for every major; ``majors`` says when."""
    if "any_server" in metafunc.fixturenames:
        metafunc.parametrize("any_server", per_major(), indirect=True, scope="session")


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerPool]:
    """Start the server of an installation when it is first wanted, and keep it for the session."""
    running: dict[int, Server] = {}

    def get(installation: Installation) -> Server:
        if installation.major not in running:
            running[installation.major] = Server(installation)
        return running[installation.major].start()

    yield get
    for server in running.values():
        server.remove()


@pytest.fixture(scope="session")
def zoos() -> ZooPool:
    """Build the zoo of a server when it is first wanted."""
    built: dict[Server, Database] = {}

    def get(server: Server) -> Database:
        if server not in built:
            zoo = new_database(server, unique_name("zoo"))
            with contextlib.closing(zoo.connect()) as connection:
                build_zoo(connection)
            built[server] = zoo
        return built[server]

    return get


@pytest.fixture(scope="session")
def server(servers: ServerPool) -> Server:
    """One server: the oldest major with its own client programs. Shared: restore what you change."""
    return servers(default_installation())


@pytest.fixture(scope="session")
def any_server(request: pytest.FixtureRequest, servers: ServerPool) -> Server:
    """Every major in turn."""
    return servers(request.param)


@pytest.fixture
def new_server() -> Iterator[Callable[..., Server]]:
    """Start servers that belong to one test alone: ``new_server(settings={...})``."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Server(*arguments, **options))


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """An empty database on ``server``."""
    fresh = new_database(server)
    yield fresh
    fresh.drop()


@pytest.fixture
def any_database(any_server: Server) -> Iterator[Database]:
    """An empty database on ``any_server``."""
    fresh = new_database(any_server)
    yield fresh
    fresh.drop()


@pytest.fixture(scope="session")
def zoo(server: Server, zoos: ZooPool) -> Database:
    """The zoo on ``server``. Shared: do not write to it."""
    return zoos(server)


@pytest.fixture(scope="session")
def any_zoo(any_server: Server, zoos: ZooPool) -> Database:
    """The zoo on ``any_server``. Shared: do not write to it."""
    return zoos(any_server)


@pytest.fixture
def zoo_copy(zoo: Database) -> Iterator[Database]:
    """A copy of the zoo on ``server`` to write to."""
    copy = new_database(zoo.server, template=zoo.name)
    yield copy
    copy.drop()


@pytest.fixture
def any_zoo_copy(any_zoo: Database) -> Iterator[Database]:
    """A copy of the zoo on ``any_server`` to write to."""
    copy = new_database(any_zoo.server, template=any_zoo.name)
    yield copy
    copy.drop()


@pytest.fixture
def backup_dir() -> Iterator[Path]:
    """An empty private folder of ours, at a short path that every user may walk to."""
    folder = Path(tempfile.mkdtemp(prefix="backups-", dir=workspace()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
