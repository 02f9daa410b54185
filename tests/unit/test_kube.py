"""What the target of pods decides without a pod."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    ClusterRefused,
    InvalidInput,
    ObjectNotFound,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import is_passing, refusal
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.detached import exit_status
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.pod import Pod, ProcessTree
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.shell import _Marked, exports, quoted
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes_files import _RENAME, _escaped

TREE = """1 (postgres) S 0 1 1
10 (sh) S 1 10 1
11 (gunzip) R 10 10 1
12 (psql) S 10 10 1
20 (pg dump) (x) S 1 20 1
21 (pg_dump) S 20 20 1
22 (pg_dump) Z 20 20 1
30 (sh) S 1 30 1
"""


def test_only_what_has_a_living_parent_and_no_child_is_a_leaf() -> None:
    tree = ProcessTree(TREE)
    assert tree.leaves([10]) == [11, 12]
    assert tree.leaves([20]) == [21]  # the dead one is its parent's to bury, before that may go
    assert tree.leaves([30, 99]) == [30]
    assert tree.leaves([22]) == []


def test_who_has_only_a_dead_child_runs_all_the_same() -> None:
    looks = [
        "40 (sh) S 1 40 1\n41 (sleep) Z 40 40 1\n",  # between two children: nobody is a leaf
        "40 (sh) S 1 40 1\n42 (sleep) S 40 40 1\n",
        "40 (sh) S 1 40 1\n",
        "40 (sh) Z 1 40 1\n",
    ]

    class Watched(Pod):
        killed: ClassVar[list[int]] = []

        def __init__(self) -> None:
            pass

        def _tree(self) -> ProcessTree:
            return ProcessTree(looks.pop(0))

        def _signal(self, signum: int, pids: Sequence[int]) -> None:
            self.killed.extend(pids)

    Watched().end([40])
    assert (Watched.killed, looks) == ([42, 40], [])


def test_of_a_shell_its_programs_are_asked_to_end() -> None:
    tree = ProcessTree(TREE)
    assert tree.programs_below(10) == [11, 12]
    assert tree.programs_below(30) == [30]
    assert tree.programs_below(20) == [20]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_word_means_itself(word: str) -> None:
    script = f"{exports({'X': word})}printf '%s|%s|' {quoted(word) or repr('')} \"$X\""
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout == f"{word}|{word}|".encode()


@given(st.binary())
def test_escaped_bytes_are_printed_as_they_were(data: bytes) -> None:
    done = subprocess.run(["sh", "-c", f"printf '%b' '{_escaped(data)}'"], capture_output=True, check=True)
    assert done.stdout == data


def test_what_no_shell_can_carry_is_refused() -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        quoted("a\0b")
    with pytest.raises(InvalidInput, match="environment"):
        exports({"a; rm": "x"})


@given(st.binary(max_size=200), st.integers(1, 40))
def test_a_mark_is_found_wherever_it_is_cut(data: bytes, size: int) -> None:
    mark = "0123456789abcdef" * 2
    taken = bytearray()
    stream = _Marked(mark, 2, taken.extend)
    whole = data + f"{mark} 17\n".encode() + b"between" + f"{mark} 255\n".encode()
    for at in range(0, len(whole), size):
        assert not stream.is_complete
        stream.take(whole[at : at + size])
    assert (stream.is_complete, stream.numbers, bytes(taken)) == (True, [17, 255], data + b"between")


def test_a_status_above_128_is_a_signal_if_there_is_such_a_one() -> None:
    assert [exit_status(code) for code in (0, 1, 128, 137, 143, 255)] == [0, 1, 128, -9, -15, 255]


def test_refusals_are_told_apart() -> None:
    body = b'{"kind":"Status","message":"pods \\"x\\" is forbidden"}'
    forbidden = refusal(403, body, "GET /x")
    assert isinstance(forbidden, ClusterRefused)
    assert 'pods "x" is forbidden' in forbidden.message
    assert "docs/kubernetes.md" in forbidden.message
    assert isinstance(refusal(404, body, "GET /x"), ObjectNotFound)
    assert "HTTP status 500" in refusal(500, b"", "GET /x").message
    assert [is_passing(refusal(status, b"", "")) for status in (401, 403, 404, 410, 429, 500, 503)] == [
        False, False, False, False, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("first", ["stat", "mv"])
@pytest.mark.parametrize("again", ["again", ""])
def test_a_repeated_rename_may_be_overtaken_by_the_one_that_was_cut_off(tmp_path: Path, first: str, again: str) -> None:
    source, destination = tmp_path / "one", tmp_path / "two"
    source.write_text("1")
    overtaken = f'{first}() {{ [ ! -e "{source}" ] || command mv "{source}" "{destination}"; command {first} "$@"; }}\n'
    script = ["sh", "-c", overtaken + _RENAME, "sh", source, destination, again]
    done = subprocess.run(script, capture_output=True, check=False)
    assert (done.returncode == 0) == bool(again)
    assert destination.read_text() == "1"
