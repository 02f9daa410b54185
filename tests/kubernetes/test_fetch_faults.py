"""Backups brought from a pod to the controller through all that the way there was seen to do wrong."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes import place as places
from tests.kubernetes.fetching import (
    FILES,
    MB,
    OPERATOR,
    SENDER,
    SIZE,
    backup_in,
    in_the_middle,
    is_whole,
    names,
    params,
    senders,
    start_slowly,
)
from tests.kubernetes.place import DATABASE, Place
from tests.kubernetes.sites import entries
from tests.standin import Standin
from tests.support.catalogs import catalog_at
from tests.support.modules import expect_success

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("fef") as prepared:
        yield prepared


@pytest.fixture
def catalog(place: Place) -> Iterator[str]:
    with backup_in(place) as folder:
        yield folder


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "fetched"


# --- what goes wrong on the way


def test_a_way_that_is_cut_again_and_again(place: Place, catalog: str, dest: Path) -> None:
    chance = random.Random()
    with place.link() as link:
        running = start_slowly(link, params(place, catalog, dest), dest)
        for dummy in range(4):
            before = link.connections
            link.cut_after(chance.randrange(1, MB // 2))
            place.until(lambda before=before: link.connections > before)  # type: ignore[misc]
        link.bytes_per_s = None
        result = running.finish()
    assert not result["failed"], result
    assert (result["fetched_bytes"], result["resumed_bytes"]) == (SIZE, 0)
    is_whole(place.digests(catalog), dest)


def test_a_stream_that_is_cut_goes_on_with_the_next_byte(
    place: Place, catalog: str, dest: Path, standin: Standin
) -> None:
    chance = random.Random()
    for after in (0, 1, 3_000, *(chance.randrange(2 * MB) for dummy in range(4))):
        standin.faults.cut(after, argv=SENDER)
    result = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert (result["fetched_bytes"], result["resumed_bytes"]) == (SIZE, 0)
    is_whole(place.digests(catalog), dest)


def test_a_false_success_is_no_end(place: Place, catalog: str, dest: Path, standin: Standin) -> None:
    for after in (0, 2_999, 1_234_567):
        standin.faults.false_success(after, argv=SENDER)
    assert expect_success("pg_backup_fetch", params(place, catalog, dest))["fetched_bytes"] == SIZE
    is_whole(place.digests(catalog), dest)


@pytest.mark.parametrize("event", ["connections", "away"])
def test_a_fetch_survives_what_the_connection_does_not(place: Place, catalog: str, dest: Path, event: str) -> None:
    with place.link() as link:
        running = start_slowly(link, params(place, catalog, dest), dest)
        before = link.connections
        if event == "connections":
            link.drop()
        else:
            link.away(3)
        link.bytes_per_s = None
        result = running.finish()
        assert link.connections > before
    assert not result["failed"], result
    assert result["fetched_bytes"] == SIZE
    is_whole(place.digests(catalog), dest)


@pytest.mark.parametrize("event", ["kubelet", "overload"])
def test_a_fetch_survives_a_node_or_a_server_with_troubles(
    place: Place, catalog: str, dest: Path, event: str, standin: Standin
) -> None:
    standin.faults.slow(bytes_per_s=2 * MB, times=None, argv=SENDER)
    running = in_the_middle(params(place, catalog, dest), dest)
    standin.faults.clear()
    if event == "kubelet":
        standin.restart_kubelet()
    else:
        standin.faults.answer(503, times=2, path="/exec$")
        standin.drop_connections()
    place.forget()  # its own connection has ended as well
    result = running.finish()
    assert not result["failed"], result
    assert result["fetched_bytes"] == SIZE
    is_whole(place.digests(catalog), dest)


@contextlib.contextmanager
def impatience(place: Place) -> Iterator[None]:
    """Let the stand-in wait for a slow reader for half a second only."""
    if place.standin is None:
        yield
        return
    settings = place.standin.exec
    settings.drain_s, before = 0.5, settings.drain_s
    try:
        yield
    finally:
        settings.drain_s = before


def test_a_slow_reader_gets_all(place: Place, catalog: str, dest: Path) -> None:
    """A node keeps what was not read for ten seconds after the end of a process; the stand-in can be less patient."""
    with place.link() as link, impatience(place):
        running = start_slowly(link, params(place, catalog, dest), dest)
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(3 * place.pace.factor)
        running.process.send_signal(signal.SIGCONT)
        link.bytes_per_s = None
        result = running.finish()
    assert not result["failed"], result
    is_whole(place.digests(catalog), dest)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.leaves("the lock of the killed run ends with its lease")),
        signal.SIGTERM,
    ],
)
def test_a_fetch_that_is_killed_leaves_no_backup_and_the_next_one_goes_on(
    place: Place, catalog: str, dest: Path, number: signal.Signals
) -> None:
    with place.link() as link:
        running = start_slowly(link, params(place, catalog, dest), dest)
        running.process.send_signal(number)
        running.process.communicate()
    assert [name[-8:] for name in names(dest)] == [".partial"]
    assert list(catalog_at(dest).entries(DATABASE)) == []
    if number == signal.SIGKILL:  # what it left in the pod ends by itself, and the lock with it
        place.until(lambda: not senders(place), 10 * place.pace.factor)
        unlock(place, catalog)
    result = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert result["resumed_bytes"] > MB
    assert result["fetched_bytes"] + result["resumed_bytes"] == SIZE
    is_whole(place.digests(catalog), dest)


def test_what_a_dead_run_left_is_proven_and_what_is_no_use_removed(place: Place, catalog: str, dest: Path) -> None:
    [entry] = entries(place, catalog)
    partial = dest / DATABASE / f"{entry}.partial"
    (partial / "data").mkdir(parents=True, mode=0o700)
    (dest / DATABASE / "godel_production_20200101T000000Z.partial").mkdir()
    (partial / "toc.dat").write_bytes(b"\0" * 3_000)  # as after a power failure
    (partial / "data" / "1.dat").write_bytes(FILES["data/1.dat"][: 2 * MB] + b"\0" * MB)
    (partial / "globals.sql").write_bytes(FILES["globals.sql"] + b"more")
    (partial / "data" / "foreign").write_bytes(b"foreign")
    (partial / "manifest.json").write_bytes(b"{}")
    for path in (dest, dest / DATABASE, partial):
        path.chmod(0o700)
    result = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert [Path(path).name for path in result["removed"]] == ["godel_production_20200101T000000Z.partial"]
    is_whole(place.digests(catalog), dest)


def test_a_prefix_that_is_wrong_is_fetched_anew(place: Place, catalog: str, dest: Path) -> None:
    [entry] = entries(place, catalog)
    partial = dest / DATABASE / f"{entry}.partial"
    (partial / "data").mkdir(parents=True)
    (partial / "toc.dat").write_bytes(FILES["toc.dat"])
    (partial / "data" / "1.dat").write_bytes(b"\0" * MB)
    for path in (dest, dest / DATABASE, partial):
        path.chmod(0o700)
    expect_success("pg_backup_fetch", params(place, catalog, dest))
    is_whole(place.digests(catalog), dest)


# --- the login


@pytest.mark.parametrize(
    "renewed",
    [True, pytest.param(False, marks=pytest.mark.leaves("without a token, the lock ends with its lease"))],
)
def test_a_token_that_ends_in_the_middle(place: Place, catalog: str, dest: Path, renewed: bool) -> None:
    user = place.user(*OPERATOR)
    options = params(place, catalog, dest, kubernetes=place.options(kubeconfig=user.kubeconfig))
    with place.link(user.kubeconfig) as link:
        running = start_slowly(link, options, dest)
        with link.silent():  # what it does must not be done before
            user.end_token()
            if renewed:
                user.renew()
        link.bytes_per_s = None
        result = running.finish()
    assert result["failed"] is not renewed, result
    if not renewed:
        assert "renew them, then run again" in result["msg"]
        assert [name[-8:] for name in names(dest)] == [".partial"]
        user.renew()
        unlock(place, catalog)
        result = expect_success("pg_backup_fetch", options)
        assert result["resumed_bytes"] > 0
    is_whole(place.digests(catalog), dest)


def unlock(place: Place, catalog: str) -> None:
    """Remove the lock in the pod of a run that could not let it go; it would last for minutes."""
    place.here.run(["sh", "-c", 'rm -f -- "$1"/*/.*.lock', "sh", catalog])
