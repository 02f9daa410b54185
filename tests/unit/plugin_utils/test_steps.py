"""Steps that are undone in reverse order when one fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._steps import (
    ProcedureFailed,
    Step,
    StepFailed,
    run,
)


class Recorder:
    """Makes steps that write down what is done and undone; those in `fails` fail."""

    def __init__(self, *fails: str, error: type[BaseException] = StepFailed) -> None:
        self.fails = fails
        self.error = error
        self.log: list[str] = []

    def step(self, name: str, *, keeps_earlier: bool = False) -> Step:
        def do() -> None:
            self._act(name)

        def undo() -> Iterator[str]:
            yield f"about to undo {name}."
            self._act(f"undo {name}")
            yield f"{name} is undone."

        return Step(do, undo, f"{name} is not undone", keeps_earlier)

    def _act(self, what: str) -> None:
        self.log.append(what)
        if what in self.fails:
            raise self.error(f"{what} failed")

    def run(self, names: str, kept_from: str = "") -> str:
        """Run the steps; the message of the failure, empty for none."""
        try:
            run(self.step(name, keeps_earlier=name == kept_from) for name in names)
        except ProcedureFailed as exc:
            return str(exc)
        return ""


def test_without_a_failure_nothing_is_undone() -> None:
    recorder = Recorder()
    assert (recorder.run("abc"), recorder.log) == ("", ["a", "b", "c"])


@pytest.mark.parametrize("failing", list("abcd"))
def test_a_failure_undoes_its_own_step_and_all_before_in_reverse_order(failing: str) -> None:
    recorder = Recorder(failing)
    message = recorder.run("abcd")
    done = "abcd"[: "abcd".index(failing) + 1]
    assert recorder.log == [*done, *(f"undo {name}" for name in reversed(done))]
    undone = (f"about to undo {name}. {name} is undone." for name in reversed(done))
    assert message == " ".join([f"{failing} failed.", *undone])


@pytest.mark.parametrize("failing", list("abcd"))
def test_an_undo_that_fails_is_reported_and_stops_no_other(failing: str) -> None:
    recorder = Recorder("d", f"undo {failing}")
    message = recorder.run("abcd")
    assert recorder.log == [*"abcd", *(f"undo {name}" for name in "dcba")]
    assert f"about to undo {failing}. {failing} is not undone: undo {failing} failed." in message
    assert [name for name in "dcba" if f"{name} is undone." in message] == [name for name in "dcba" if name != failing]


@pytest.mark.parametrize("failing", list("abcd"))
def test_what_came_before_a_step_that_keeps_it_is_not_undone(failing: str) -> None:
    recorder = Recorder(failing)
    recorder.run("abcd", kept_from="c")
    expected = {"a": ["undo a"], "b": ["undo b", "undo a"], "c": ["undo c"], "d": ["undo d", "undo c"]}[failing]
    assert [each for each in recorder.log if each.startswith("undo")] == expected


def test_a_defect_undoes_as_much_as_a_failure() -> None:
    recorder = Recorder("b", "undo b", error=KeyError)
    assert recorder.run("ab").startswith("KeyError: 'b failed'. about to undo b. b is not undone: KeyError: ")
    assert recorder.log == ["a", "b", "undo b", "undo a"]


def test_an_interrupt_undoes_nothing() -> None:
    recorder = Recorder("b", error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        recorder.run("abc")
    assert recorder.log == ["a", "b"]


def test_an_iterator_decides_by_what_the_steps_before_did() -> None:
    recorder = Recorder()

    def steps() -> Iterator[Step]:
        yield recorder.step("a")
        yield recorder.step("b" if recorder.log == ["a"] else "c")

    run(steps())
    assert recorder.log == ["a", "b"]
