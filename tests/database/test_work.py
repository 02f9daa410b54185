"""The loop of maintenance work on a real server, with a subject that is none of vacuum, analyze and reindex."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import Interrupted, RunbookError
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.limits import Limits
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.outcome import (
    RunReport,
    Words,
    conclude,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.work import (
    Item,
    Stop,
    Subject,
    WorkLoop,
    begin,
    timeouts,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.backups import our_server
from tests.support.databases import Database
from tests.support.processes import until

TIMEOUT_S = 30.0
WORDS = Words("COPYING", "copy", "city", "cities", "copied")
SLEEPING = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'SELECT pg_catalog.pg_sleep%%' AND state = 'active'"


@dataclass(frozen=True)
class Statement:
    """The facts of an item: what it runs."""

    text: str

    def as_dict(self) -> dict[str, object]:
        """For the row."""
        return {"text": self.text}


class Statements(Subject[Statement]):
    """Runs statements, and writes down what it is asked."""

    def __init__(
        self, work: WorkLoop, *, retries: int = 0, again: bool = False, timeout_s: float | None = None
    ) -> None:
        """Nothing is run yet; `again`: a refused statement may be tried again."""
        self.statement_timeout_s = timeout_s
        self.retries = retries
        self.asked: list[str] = []
        self._again = again
        self._session = work.session

    def look(self, item: Item[Statement]) -> Item[Statement]:
        """Skip what is called `none`."""
        self.asked.append(f"look {item.name}")
        if item.facts.text == "stop":
            raise Stop("No more.")
        return item.become("skipped", "it is not wanted") if item.facts.text == "none" else item

    def act(self, item: Item[Statement]) -> None:
        """Run it."""
        self.asked.append(f"act {item.name}")
        if item.facts.text == "interrupt":
            raise Interrupted("SIGTERM")
        self._session.execute(item.facts.text)

    def examine(self, item: Item[Statement]) -> Item[Statement]:
        """It is done."""
        return replace(item, state="done")

    def refused(self, item: Item[Statement], exc: RunbookError) -> Item[Statement]:
        """It failed."""
        return item.become("failed", exc.why.rstrip("."), "Correct it.", again=self._again)

    def clean(self, item: Item[Statement]) -> None:
        """Nothing is left of it."""
        self.asked.append(f"clean {item.name}")


def items(*texts: str) -> list[Item[Statement]]:
    return [Item(f"n{number}", Statement(text), "wanted", "it is wanted") for number, text in enumerate(texts)]


def states(found: list[Item[Statement]]) -> list[str]:
    return [each.state for each in found]


Start = Callable[..., WorkLoop]


@pytest.fixture(name="start")
def _start(database: Database) -> Iterator[Start]:
    """Begins a run in a database."""
    opened: list[Any] = []

    def start(
        limits: Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        check_mode: bool = False,
        timeout_s: float | None = None,
    ) -> WorkLoop:
        begun = begin(
            our_server(database), LocalTarget(), database.name, "COPYING", limits or Limits(), clock,
            settings=timeouts(1.0, timeout_s), check_mode=check_mode,
        )  # fmt: skip
        opened.append(begun)
        return begun.__enter__()

    yield start
    for each in opened:
        each.__exit__(None, None, None)


def test_each_item_ends_in_a_state_with_a_reason(start: Start) -> None:
    work = start()
    subject = Statements(work)
    found = work.do(subject, items("SELECT 1", "none", "SELECT nonsense"))
    assert [(each.state, each.why) for each in found] == [
        ("done", "it is wanted"),
        ("skipped", "it is not wanted"),
        ("failed", 'column "nonsense" does not exist'),
    ]
    assert subject.asked == ["look n0", "act n0", "look n1", "look n2", "act n2", "clean n2"]
    assert [each.duration_s is not None for each in found] == [True, False, True]
    outcome = conclude(work, WORDS, RunReport(found, examined=3))
    assert (outcome.changed, outcome.failure, outcome.values["left"]) == (True, None, ["n2"])
    assert outcome.message == "1 city copied, 1 skipped, 1 failed. Failed: n2. Skipped: n1."
    assert [each["check"] for each in outcome.values["findings"]] == ["copy_failed", "copy_skipped"]
    assert outcome.values["cities"][0]["text"] == "SELECT 1"
    explicit = conclude(work, WORDS, RunReport(found, explicit=True))
    assert explicit.failure == 'COPYING failed for 1 city: n2 (column "nonsense" does not exist). Correct it.'
    assert "msg" not in explicit.returned


def test_check_mode_looks_and_does_not_act(start: Start) -> None:
    work = start(check_mode=True)
    subject = Statements(work)
    found = work.do(subject, items("SELECT 1", "none"))
    assert (states(found), subject.asked) == (["due", "skipped"], ["look n0", "look n1"])
    outcome = conclude(work, WORDS, RunReport(found))
    assert (outcome.changed, outcome.message) == (True, "1 city would be copied, 1 skipped. Skipped: n1.")
    nothing = conclude(work, WORDS, RunReport((), examined=2))
    assert (nothing.changed, nothing.message) == (False, "No city needs COPYING (2 cities examined).")


def test_what_only_a_lock_prevents_is_tried_again_as_often_as_is_allowed(start: Start) -> None:
    work = start()
    [failed] = work.do(Statements(work, retries=1, again=True), items("SELECT nonsense"))
    assert (failed.state, failed.attempts) == ("failed", 2)
    [failed] = work.do(Statements(work, retries=1), items("SELECT nonsense"))
    assert (failed.state, failed.attempts) == ("failed", 1)


def test_a_limit_stops_a_statement_and_what_is_left_is_named(start: Start, database: Database) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)

    def clock() -> datetime:
        """The window ends as soon as the statement runs."""
        return end if database.query(SLEEPING, database.name) else datetime.now(UTC)

    work = start(Limits(until=end), clock)
    found = work.do(Statements(work), items("SELECT 1", "SELECT pg_catalog.pg_sleep(60)", "SELECT 1"))
    assert states(found) == ["done", "left", "left"]
    assert work.stopped_by is not None
    assert all(each.why == work.stopped_by.rstrip(".") for each in found[1:])
    outcome = conclude(work, WORDS, RunReport(found))
    assert (outcome.failure, outcome.values["left"]) == (None, ["n1", "n2"])
    assert [each["check"] for each in outcome.values["findings"]] == ["copy_left"]


def test_a_subject_can_end_the_run(start: Start) -> None:
    work = start()
    found = work.do(Statements(work), items("stop", "SELECT 1"))
    assert (states(found), work.stopped_by, work.failed) == (["left", "left"], "No more.", False)
    assert states(work.do(Statements(work), items("SELECT 1"))) == ["left"]


def test_a_cancelled_statement_ends_the_run_and_a_timeout_does_not(start: Start, database: Database) -> None:
    work = start()

    def cancel(function: str) -> None:
        assert until(lambda: len(database.query(SLEEPING, database.name)) == 1, TIMEOUT_S)
        database.query(f"SELECT {function}(%s)", database.query(SLEEPING, database.name)[0][0])

    other = threading.Thread(target=cancel, args=("pg_cancel_backend",))
    other.start()
    found = work.do(Statements(work), items("SELECT pg_catalog.pg_sleep(60)", "SELECT 1"))
    other.join()
    assert (states(found), work.failed) == (["left", "left"], True)
    outcome = conclude(work, WORDS, RunReport(found))
    assert str(outcome.failure).startswith("Another session cancelled the work on n0")
    timed = start(timeout_s=0.2)
    found = timed.do(Statements(timed, timeout_s=0.2), items("SELECT pg_catalog.pg_sleep(60)", "SELECT 1"))
    assert (states(found), timed.stopped_by) == (["failed", "done"], None)
    lost = start()
    subject = Statements(lost)
    other = threading.Thread(target=cancel, args=("pg_terminate_backend",))
    other.start()
    found = lost.do(subject, items("SELECT pg_catalog.pg_sleep(60)", "SELECT 1"))
    other.join()
    assert (states(found), lost.failed, lost.lost) == (["left", "left"], True, True)
    assert "clean n0" not in subject.asked


def test_a_signal_cleans_up_and_goes_through(start: Start) -> None:
    work = start()
    subject = Statements(work)
    with pytest.raises(Interrupted):
        work.do(subject, items("interrupt", "SELECT 1"))
    assert subject.asked == ["look n0", "act n0", "clean n0"]
