"""Backups brought from a pod to the controller through all that the way there was seen to do wrong."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes import place as places
from tests.kubernetes.fetching import (
    FILES,
    MB,
    SENDER,
    SIZE,
    as_operator,
    backup_in,
    is_whole,
    names,
    params,
    senders,
    start_slowly,
)
from tests.kubernetes.place import DATABASE, NAMESPACE, StandinPlace
from tests.support.catalogs import catalog_at
from tests.support.modules import Result, expect_success
from tests.support.processes import until

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[StandinPlace]:
    with places.prepared("fef") as prepared:
        yield prepared


@pytest.fixture
def catalog(place: StandinPlace, tmp_path: Path) -> Iterator[Path]:
    with backup_in(place, tmp_path.name) as folder:
        yield folder


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "fetched"


# --- what goes wrong on the way


def test_a_stream_that_is_cut_goes_on_with_the_next_byte(place: StandinPlace, catalog: Path, dest: Path) -> None:
    chance = random.Random()
    for after in (0, 1, 3_000, *(chance.randrange(2 * MB) for dummy in range(4))):
        place.standin.faults.cut(after, argv=SENDER)
    result = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert (result["fetched_bytes"], result["resumed_bytes"]) == (SIZE, 0)
    is_whole(catalog, dest)


def test_a_false_success_is_no_end(place: StandinPlace, catalog: Path, dest: Path) -> None:
    for after in (0, 2_999, 1_234_567):
        place.standin.faults.false_success(after, argv=SENDER)
    assert expect_success("pg_backup_fetch", params(place, catalog, dest))["fetched_bytes"] == SIZE
    is_whole(catalog, dest)


@pytest.mark.parametrize("event", ["connections", "kubelet", "away", "overload"])
def test_a_fetch_survives_what_the_connection_does_not(
    place: StandinPlace, catalog: Path, dest: Path, event: str
) -> None:
    running = start_slowly(place, params(place, catalog, dest), dest)
    place.standin.faults.clear()
    if event == "kubelet":
        place.standin.restart_kubelet()
    elif event == "away":
        place.standin.leave(3)
    else:
        if event == "overload":
            place.standin.faults.answer(503, times=2, path="/exec$")
        place.standin.drop_connections()
    result = running.finish()
    assert not result["failed"], result
    assert result["fetched_bytes"] == SIZE
    is_whole(catalog, dest)


def test_a_slow_reader_gets_all(place: StandinPlace, catalog: Path, dest: Path) -> None:
    place.standin.exec.drain_s, before = 0.5, place.standin.exec.drain_s
    try:
        running = start_slowly(place, params(place, catalog, dest), dest)
        place.standin.faults.clear()
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        running.process.send_signal(signal.SIGCONT)
        result = running.finish()
    finally:
        place.standin.exec.drain_s = before
    assert not result["failed"], result
    is_whole(catalog, dest)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.leaves("the lock of the killed run ends with its lease")),
        signal.SIGTERM,
    ],
)
def test_a_fetch_that_is_killed_leaves_no_backup_and_the_next_one_goes_on(
    place: StandinPlace, catalog: Path, dest: Path, number: signal.Signals
) -> None:
    running = start_slowly(place, params(place, catalog, dest), dest)
    running.process.send_signal(number)
    running.process.communicate()
    assert [name[-8:] for name in names(dest)] == [".partial"]
    assert list(catalog_at(dest).entries(DATABASE)) == []
    place.standin.faults.clear()
    if number == signal.SIGKILL:  # what it left in the pod ends by itself, and the lock with it
        assert until(lambda: not senders(place), 10), senders(place)
        for lock in catalog.glob("*/.*.lock"):
            lock.unlink()
    result = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert result["resumed_bytes"] > MB
    assert result["fetched_bytes"] + result["resumed_bytes"] == SIZE
    is_whole(catalog, dest)


def test_what_a_dead_run_left_is_proven_and_what_is_no_use_removed(
    place: StandinPlace, catalog: Path, dest: Path
) -> None:
    [entry] = names(catalog)
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
    is_whole(catalog, dest)


def test_a_prefix_that_is_wrong_is_fetched_anew(place: StandinPlace, catalog: Path, dest: Path) -> None:
    [entry] = names(catalog)
    partial = dest / DATABASE / f"{entry}.partial"
    (partial / "data").mkdir(parents=True)
    (partial / "toc.dat").write_bytes(FILES["toc.dat"])
    (partial / "data" / "1.dat").write_bytes(b"\0" * MB)
    for path in (dest, dest / DATABASE, partial):
        path.chmod(0o700)
    expect_success("pg_backup_fetch", params(place, catalog, dest))
    is_whole(catalog, dest)


# --- the login


@pytest.mark.parametrize(
    "renewed",
    [True, pytest.param(False, marks=pytest.mark.leaves("the lock, which nobody may let go, ends with its lease"))],
)
def test_a_token_that_ends_in_the_middle(place: StandinPlace, catalog: Path, dest: Path, renewed: bool) -> None:
    options = params(place, catalog, dest, kubernetes=as_operator(place))
    running = start_slowly(place, options, dest)
    place.standin.expire_token("operator", NAMESPACE)
    if renewed:
        place.standin.kubeconfig("operator", NAMESPACE)  # the same file, with a new token
    place.standin.faults.clear()
    place.standin.drop_connections()
    result = running.finish()
    assert result["failed"] is not renewed, result
    if not renewed:
        assert "renew it, then run again" in result["msg"]
        assert [name[-8:] for name in names(dest)] == [".partial"]
        place.standin.kubeconfig("operator", NAMESPACE)
        result = unlocked(place, catalog, options)
        assert result["resumed_bytes"] > 0
    is_whole(catalog, dest)


def unlocked(place: StandinPlace, catalog: Path, options: dict[str, Any]) -> Result:
    """A fetch after one that could not let go of its lock in the pod, which would have to wait for minutes."""
    for lock in catalog.glob("*/.*.lock"):
        lock.unlink()
    return expect_success("pg_backup_fetch", options)
