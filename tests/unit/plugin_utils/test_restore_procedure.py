"""A restore and its rollback with a fault at every module and every undo: what is in production, and of the application.

The host is simulated, because no real one fails at each call in each way. tests/integration and tests/kubernetes run the
same procedures on real servers and on a cluster.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._application import Application, ApplicationOptions
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._restore_procedure import (
    ModuleOptions,
    Restore,
    Rollback,
)
from tests.support.restore_world import (
    DIED_AFTER,
    FAULTS,
    FORMER,
    INTERRUPTS,
    LOST_AFTER,
    LOST_BEFORE,
    REFUSED,
    RESTORED,
    World,
)

COMMANDED = ApplicationOptions(stop_command=["stop"], start_command=["start"])
SCALED = ApplicationOptions(scale={"kubernetes": {"workload": "deployment/shop"}})
HEALTH = {"health_url": "http://shop/health", "health_retries": 2, "health_delay_s": 0.0}


def restore(world: World, options: ApplicationOptions, *, safe: bool = True) -> dict[str, Any]:
    modules = ModuleOptions("shop", {"db": "shop"}, {"db": "shop"}, {} if safe else None)
    return Restore(world, Application(world, options), modules).run()


def roll_back(world: World, options: ApplicationOptions) -> dict[str, Any]:
    return Rollback(world, Application(world, options), ModuleOptions("shop", {"db": "shop"})).run()


APPLICATIONS = {
    "scaled": replace(SCALED, **HEALTH),
    "commanded": replace(COMMANDED, **HEALTH),
    "scaled, no URL": SCALED,
    "commanded, no URL": COMMANDED,
    "URL only": ApplicationOptions(**HEALTH),  # type: ignore[arg-type]
    "none": ApplicationOptions(),
}
each_application = pytest.mark.parametrize("options", APPLICATIONS.values(), ids=APPLICATIONS.keys())


def restored() -> World:
    """A world after a restore."""
    return World(databases={"shop": RESTORED, "shop_replaced": FORMER})


def faulty(
    run: Callable[[World], dict[str, Any]], make: Callable[[], World], number: int, kinds: tuple[str, ...]
) -> Iterator[tuple[World, dict[str, Any], dict[int, str]]]:
    """Worlds after a run with each choice of so many faults that come to be."""
    seen = {(): len(ran(run, make, {}).calls)}
    for count in range(1, number + 1):
        reached: dict[tuple[tuple[int, str], ...], int] = {}
        for before, calls in seen.items():
            first = before[-1][0] + 1 if before else 0
            for at, kind in itertools.product(range(first, calls), kinds):
                faults = dict([*before, (at, kind)])
                world = make()
                world.faults = faults
                result = run(world)
                reached[(*before, (at, kind))] = len(world.calls)
                if count == number:
                    yield world, result, faults
        seen = reached


def ran(run: Callable[[World], dict[str, Any]], make: Callable[[], World], faults: dict[int, str]) -> World:
    world = make()
    world.faults = faults
    run(world)
    return world


def assert_the_message_is_true(world: World, result: Mapping[str, Any], before: str = FORMER) -> None:
    message = result["msg"]
    if "production is unchanged" in message or "production is as it was before" in message:
        assert world.production == before
    if "neither stopped nor started" in message:
        assert not {"command stop", "command start"} & set(world.calls)
    if "is still in production" in message or "The restored database stays in production" in message:
        assert world.production == RESTORED
    if "started again and is healthy" in message:
        assert world.is_healthy
    if "it was started again" in message:
        assert world.runs
    assert sorted(world.databases.values()).count(FORMER) == 1  # it is never lost


@each_application
def test_a_restore_swaps_while_the_application_is_stopped(options: ApplicationOptions) -> None:
    world = World()
    result = restore(world, options)
    assert (result["failed"], result["changed"], world.production, world.replicas) == (False, True, RESTORED, 3)
    swap = {"downtime_s": 0.1, "replaced": "shop_replaced", "attempts": 1, "ended_sessions": 2}
    assert (result["swap"], result["msg"]) == (swap, "It is staged. restored is in production.")
    calls = [call for call in world.calls if not call.startswith("uri")]
    stop, start = stop_and_start(options)
    look = ["workload_scale stopped"] if options.scale else []
    expected = [*look, "pg_restore", "pg_backup", stop, "pg_database_swap shop_staged", start]
    assert calls == [call for call in expected if call]
    assert [call for call in world.calls if call.startswith("uri")] == ["uri", "uri"] * options_have_url(options)

    again = restore(world, options)
    # Without a URL it is not known whether an application with commands runs: it is started, which is no change.
    assert (again["failed"], again["changed"], world.production, world.replicas) == (False, False, RESTORED, 3)


def stop_and_start(options: ApplicationOptions) -> tuple[str, str]:
    """The calls that stop and start such an application; empty for one that neither does."""
    if options.scale is not None:
        return "workload_scale stopped", "workload_scale running"
    return ("command stop", "command start") if options.stop_command else ("", "")


def options_have_url(options: ApplicationOptions) -> int:
    return int(bool(options.health_url))


@each_application
@pytest.mark.parametrize("run", [restore, roll_back])
def test_check_mode_changes_nothing(run: Callable[..., dict[str, Any]], options: ApplicationOptions) -> None:
    world = replace(restored() if run is roll_back else World(), check_mode=True)
    before = dict(world.databases)
    result = run(world, options)
    assert (result["failed"], result["changed"], world.databases, world.replicas) == (False, True, before, 3)
    assert not [call for call in world.calls if call.startswith("command")]


@each_application
@pytest.mark.parametrize("kind", FAULTS)
def test_after_one_fault_the_application_runs_with_a_whole_database(kind: str, options: ApplicationOptions) -> None:
    count = 0
    for world, result, faults in faulty(lambda world: restore(world, options), World, 1, (kind,)):
        count += 1
        assert world.runs, (faults, world.calls, result["msg"])
        assert_the_message_is_true(world, result)
        [at] = faults
        if not result.get("failed") and not result.get("unreachable"):
            assert world.calls[at] == "uri"  # it was asked again
            assert world.production == RESTORED
        elif (
            "pg_database_swap shop_staged" in world.calls
            and kind in (DIED_AFTER, LOST_AFTER)
            and at == world.calls.index("pg_database_swap shop_staged")
        ):
            assert "It is unknown whether the databases were swapped" in result["msg"]
        else:
            assert world.production == FORMER, (faults, world.calls, result["msg"])
        # A host that is unreachable before anything was stopped or swapped counts as one; later it is a failure.
        if kind in (LOST_BEFORE, LOST_AFTER) and result.get("unreachable"):
            assert world.calls[at] in ("workload_scale stopped", "uri", "pg_restore", "pg_backup")
    assert count >= 2


@each_application
def test_after_two_faults_every_undo_was_tried_and_the_message_is_true(options: ApplicationOptions) -> None:
    for healthy_with in ((FORMER, RESTORED), (FORMER,)):
        make = functools.partial(World, healthy_with=healthy_with)
        for world, result, faults in faulty(lambda world: restore(world, options, safe=False), make, 2, FAULTS):
            assert_the_message_is_true(world, result)
            if not result.get("failed"):
                continue
            if result["swap"]["downtime_s"]:
                assert "pg_database_swap shop_replaced" in world.calls, (faults, world.calls)
            if world.runs or options is APPLICATIONS["none"]:
                continue
            # It could not be started: the message says so, and the next run starts it.
            assert (
                "failed, too" in result["msg"]
                or "could not be started again" in result["msg"]
                or "not known" in result["msg"]
            ), (faults, world.calls, result["msg"])
            assert world.remembered == (3 if options.scale else None)


@each_application
def test_an_unhealthy_application_gets_its_former_database_back(options: ApplicationOptions) -> None:
    world = World(healthy_with=(FORMER,))
    result = restore(world, options)
    if not options.health_url:
        assert (result["failed"], world.production) == (False, RESTORED)
        return
    assert (result["failed"], world.production, world.is_healthy) == (True, FORMER, True)
    assert result["swap"]["replaced"] is None
    stop, start = stop_and_start(options)
    around = [call for call in world.calls if call in (stop, start) or call.startswith("pg_database_swap")]
    expected = [stop, "pg_database_swap shop_staged", start, stop, "pg_database_swap shop_replaced", start]
    assert around[-len([call for call in expected if call]) :] == [call for call in expected if call]
    for text in (
        "The application is unhealthy: http://shop/health answers with status 503.",
        "The previous database was swapped back: production is as it was before the restore.",
        "The restored database is kept as shop_replaced.",
        "The application was started again and is healthy.",
    ):
        assert text in result["msg"]


def test_one_that_is_unhealthy_with_either_database_is_reported() -> None:
    world = World(healthy_with=())
    result = restore(world, APPLICATIONS["scaled"])
    assert (result["failed"], world.production, world.runs) == (True, FORMER, True)
    assert "Starting the application again failed, too: The application is unhealthy" in result["msg"]


def test_without_a_former_database_the_restored_one_stays() -> None:
    world = World(databases={}, healthy_with=())
    result = restore(world, APPLICATIONS["scaled"])
    assert (result["failed"], world.production, world.runs) == (True, RESTORED, True)
    assert "there is no previous database to swap back" in result["msg"]
    assert world.calls.count("workload_scale stopped") == 2  # to look, and to stop; it is not stopped again


@each_application
@pytest.mark.parametrize("kind", INTERRUPTS)
@pytest.mark.parametrize("healthy_with", [(FORMER, RESTORED), (FORMER,)])
def test_the_next_run_goes_on_from_what_an_interrupted_one_left(
    healthy_with: tuple[str, ...], kind: str, options: ApplicationOptions
) -> None:
    total = len(ran(lambda world: restore(world, options), lambda: World(healthy_with=healthy_with), {}).calls)
    for at in range(total):
        world = World(healthy_with=healthy_with, faults={at: kind})
        with pytest.raises(KeyboardInterrupt):
            restore(world, options)
        calls = len(world.calls)
        assert calls == at + 1  # nothing was undone
        world.faults = {}
        world.healthy_with = (FORMER, RESTORED)
        if not world.runs and options.scale is None and options.health_url:
            # Nothing remembers that a command has stopped it. It has to answer, or be known to be down.
            assert "application_down" in restore(world, options)["msg"]
            world.replicas = 3
        result = restore(world, options)
        assert (result["failed"], world.production, world.replicas, world.remembered) == (False, RESTORED, 3, None)


@each_application
@pytest.mark.parametrize("kind", FAULTS)
def test_a_rollback_with_one_fault(kind: str, options: ApplicationOptions) -> None:
    for world, result, faults in faulty(lambda world: roll_back(world, options), restored, 1, (kind,)):
        [at] = faults
        assert sorted(world.databases.values()) == [FORMER, RESTORED]
        assert_the_message_is_true(world, result, RESTORED)
        if not world.runs:  # the swap is done, and the application could not be started
            assert world.production == FORMER
            assert world.calls[at] in ("workload_scale running", "command start")
            assert result["failed"]
            assert result["msg"].startswith("former is in production.")
        swaps = [number for number, call in enumerate(world.calls) if call.startswith("pg_database_swap")]
        if result.get("failed") and len(swaps) == 2 and at > swaps[1]:
            assert world.production == FORMER
        elif result.get("failed") or result.get("unreachable"):
            assert world.production == RESTORED or kind in (DIED_AFTER, LOST_AFTER)


@each_application
def test_a_rollback_swaps_once(options: ApplicationOptions) -> None:
    world = restored()
    for changed in (True, False):
        result = roll_back(world, options)
        assert (result["failed"], result["changed"], world.production, world.replicas) == (False, changed, FORMER, 3)
    assert world.calls.count("pg_database_swap replaced") == 3  # two looks, and one swap


@pytest.mark.parametrize("run", [restore, roll_back])
def test_a_run_that_is_refused_starts_what_an_earlier_one_has_stopped(run: Callable[..., dict[str, Any]]) -> None:
    world = World(replicas=0, remembered=3, faults={1: REFUSED})
    result = run(world, APPLICATIONS["scaled"])
    assert (result["failed"], world.replicas, world.remembered) == (True, 3, None)
    assert result["msg"] == "It is refused. An earlier run had stopped the application: it was started again."
    world = World(faults={1: REFUSED})
    result = run(world, APPLICATIONS["commanded"])
    assert "The application was neither stopped nor started" in result["msg"]
    assert "command start" not in world.calls


@pytest.mark.parametrize("run", [restore, roll_back])
def test_what_an_interrupted_run_stopped_is_started_when_there_is_nothing_to_swap(
    run: Callable[..., dict[str, Any]],
) -> None:
    databases = {"shop": RESTORED} if run is restore else {"shop": FORMER}
    world = World(databases=databases, replicas=0, remembered=3)
    result = run(world, APPLICATIONS["scaled"])
    assert (result["failed"], result["changed"], world.replicas, world.remembered) == (False, True, 3, None)


def test_an_application_that_is_unhealthy_with_what_an_earlier_run_restored_is_left_with_it() -> None:
    world = World(databases={"shop": RESTORED, "shop_replaced": FORMER}, healthy_with=(FORMER,))
    result = restore(world, APPLICATIONS["scaled"])
    assert (result["failed"], world.production) == (True, RESTORED)
    assert "restore_rollback to swap the previous database back" in result["msg"]


@pytest.mark.parametrize(("why", "down", "refused"), [
    ("<urlopen error [Errno -2] Name or service not known>", True, True),
    ("<urlopen error [Errno 111] Connection refused>", False, True),
    ("<urlopen error [Errno 111] Connection refused>", True, False),
])  # fmt: skip
def test_a_url_that_nothing_answers_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, why: str, down: bool, refused: bool
) -> None:
    world = World()
    monkeypatch.setattr(world, "_uri", lambda *dummy: {"failed": True, "status": -1, "msg": why})
    modules = ModuleOptions("shop", {}, application_down=down)
    result = Restore(world, Application(world, APPLICATIONS["commanded"]), modules).run()
    assert result["failed"]
    assert ("Invalid health_url" in result["msg"]) is refused
    assert ("pg_restore" not in world.calls) is refused
    assert ("application_down" in result["msg"]) is (refused and not down)


def test_a_body_that_does_not_match_is_unhealthy() -> None:
    options = replace(APPLICATIONS["scaled"], health_body="^great$")
    result = restore(World(), options)
    assert "the answer of http://shop/health does not contain ^great$" in result["msg"]
    assert not restore(World(), replace(options, health_body="fi+ne"))["failed"]


def test_each_step_and_what_the_database_will_lack_are_said_before_the_swap() -> None:
    world = World()
    stage = {"name": "shop_staged", "backup": "b", "lost": ["view v is missing"]}
    preflight = {"change_count": 1, "backup_taken": "2026-01-01"}
    findings = [
        {"check": "lost_rows", "severity": "warning", "message": "rows of v are not in it"},
        {"check": "unread_x", "severity": "info", "message": "never mind"},
    ]
    staged = {"changed": True, "stage": stage, "preflight": preflight, "findings": findings, "msg": "It is staged."}
    world.databases["shop_staged"] = RESTORED
    world._pg_restore = lambda *dummy: staged  # type: ignore[method-assign]
    assert not restore(world, SCALED)["failed"]
    assert world.lines == [
        "Check that the application can be stopped and started",
        "Restore the backup next to production and verify it",
        "It is staged. The backup is of 2026-01-01.",
        "rows of v are not in it",
        "b is restored although it lacks definitions (option accept): view v is missing",
        "Take a safety backup of the current database",
        "Stop the application",
        "Swap the staged database into production",
        "Start the application",
    ]
