"""What the target of pods decides without a pod."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    ClusterRefused,
    InvalidInput,
    ObjectNotFound,
    ProgramMissing,
    RunbookError,
    WorkloadProblem,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import is_passing, refusal
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.detached import exit_status
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.processes import FUNCTIONS
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.shell import (
    Shell,
    StreamCut,
    _Marked,
    exports,
    quoted,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.workload import read_workload
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import _CPUS, _MEMORY
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes_files import _RENAME, _escaped

LIVES_WITH_CHILDREN = "while :; do sleep 0.03 & sleep 0.02; done"
# The real messages have a container's id in them, and one or two such prefixes.
EXEC = "error executing command in container: failed to exec in container: "
START = f'{EXEC}failed to start exec "04084e": OCI runtime exec failed: exec failed: '


@pytest.fixture(params=["sh", "bash"])
def functions(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Call one of the functions that a container gets, in a shell."""

    def call(script: str, *words: object) -> str:
        argv = [request.param, "-c", f"{FUNCTIONS}\n{script}", "sh", *map(str, words)]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout

    return call


def _heed() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed a line."""
    # A shell cannot catch what was ignored before it began, as it is in jobs of a shell that go on in the background.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, preexec_fn=_heed) as process:  # noqa: PLW1509
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_only_what_runs_and_has_no_child_is_a_leaf(functions: Callable[..., str]) -> None:
    look = 'through=$1; shift; runbook_look "$@"; echo $living / $dead / $leaves'
    # A program that has two children, of which one has ended and was not buried.
    program = (
        "import subprocess, time; children = [subprocess.Popen(argv) for argv in (['true'], ['sleep', '30'])]; "
        "print(flush=True); time.sleep(30)"
    )
    with running("sh", "-c", '"$@"; exit', "sh", sys.executable, "-c", program) as shell:
        [python] = _children(shell.pid)
        dead, sleep = _children(python)
        while f"{dead} (true) Z" not in Path(f"/proc/{dead}/stat").read_text():
            time.sleep(0.01)
        assert functions(look, "all", shell.pid).split("/") == [
            f"{shell.pid} {python} {sleep} ",
            f" {dead} ",
            f" {sleep}\n",
        ]
        assert functions(look, "shells", shell.pid).split("/") == [f"{shell.pid} {python} ", " ", f" {python}\n"]
        assert functions(look, "all", 2**22 + 1).split() == ["/", "/"]
        os.kill(sleep, signal.SIGKILL)
        os.kill(python, signal.SIGKILL)


def test_of_a_pipeline_the_programs_are_asked_and_the_shell_ends_with_them(functions: Callable[..., str]) -> None:
    with running("sh", "-c", "sleep 30 | { echo; sleep 30; exit 5; }") as shell:
        while " sleep sleep " not in f" {' '.join(sorted(_names_below(shell.pid)))} ":
            time.sleep(0.01)
        functions('runbook_ask TERM "$1"', shell.pid)
        assert shell.wait(10) == 5


@pytest.mark.parametrize(("name", "status"), [("TERM", 7), ("USR1", 8), ("QUIT", 9)])
def test_a_shell_that_catches_the_signal_is_asked_too(functions: Callable[..., str], name: str, status: int) -> None:
    script = f"trap 'exit {status}' {name}; echo; {LIVES_WITH_CHILDREN}"
    with running("sh", "-c", script) as shell:
        functions('runbook_ask "$1" "$2"', name, shell.pid)
        assert shell.wait(10) == status


def test_who_is_deaf_and_never_without_a_child_is_ended(functions: Callable[..., str]) -> None:
    with running("sh", "-c", f"trap '' TERM; echo; {LIVES_WITH_CHILDREN}") as shell:
        functions('runbook_ask TERM "$1"', shell.pid)
        assert shell.poll() is None
        functions('runbook_end "$@"', shell.pid)
        assert shell.wait(10) == -9


def _names_below(pid: int) -> list[str]:
    names = [name for child in _children(pid) for name in _names_below(child)]
    return [*names, Path(f"/proc/{pid}/comm").read_text().strip()]


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (f'{START}unable to start container process: exec: "sh": executable file not found in $PATH: unknown', ProgramMissing),
        (f'{START}unable to start container process: exec: "sh": permission denied: unknown', ProgramMissing),
        ('exec failed: exec: "sh": stat sh: no such file or directory', ProgramMissing),
        ("exec failed: executable file `sh` not found in $PATH: No such file or directory", ProgramMissing),
        (f'{EXEC}failed to create exec "04084e": mkdir /run/containerd/x: no space left on device', StreamCut),
        (f'{EXEC}failed to create exec "04084e": open /run/containerd/x: no such file or directory', StreamCut),
        ("error executing command in container: rpc error: code = DeadlineExceeded desc = context deadline exceeded", StreamCut),
        (f"{START}cannot exec in a stopped container: unknown", StreamCut),
        ('container not found ("postgres")', WorkloadProblem),
    ],
)  # fmt: skip
def test_only_a_shell_that_is_missing_is_told_to_be_missing(message: str, kind: type[RunbookError]) -> None:
    status = {
        "status": "Failure",
        "reason": "InternalError",
        "message": f"Internal error occurred: {message}",
        "code": 500,
    }
    shell = Shell.__new__(Shell)
    shell._where, shell._stream = "pod x", SimpleNamespace(status=status)  # type: ignore[assignment]
    assert shell._cut().__class__ is kind


def test_a_workload_or_a_label_selector() -> None:
    assert read_workload("deployment/x") == ("deployments", "x")
    assert read_workload("x") == (None, "x")
    for selector in ("app=x", "app!=x", "!app", "app in (a, b)", "app notin (a,b)", "app in(a)"):
        assert read_workload(selector) == (None, None), selector
    for wrong in ("app notin", "Deployment/x", "app in"):
        with pytest.raises(InvalidInput):
            read_workload(wrong)


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, 99, None),
        ({"cpu.max": "max 100000", "memory.max": "max", "memory.current": "5000"}, 99, None),
        ({"cpu.max": "150000 100000", "memory.max": "10000", "memory.current": "4000"}, 2, 6000),
        (
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "4000",
            },
            99,
            None,
        ),
        (
            {
                "cpu/cpu.cfs_quota_us": "200000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "2147483648",
                "memory/memory.usage_in_bytes": "147483648",
            },
            2,
            2_000_000_000,
        ),
    ],
    ids=["none", "v2 without", "v2", "v1 without", "v1"],
)
def test_the_limits_of_a_container_are_known(
    tmp_path: Path, files: dict[str, str], cpus: int, memory: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    found = []
    for script in (_CPUS, _MEMORY):
        here = script.replace("/sys/fs/cgroup", str(tmp_path)).replace("/proc/meminfo", str(tmp_path / "meminfo"))
        argv = ["sh", "-c", f"nproc() {{ echo 99; }}\n{here}"]
        found.append(int(subprocess.run(argv, capture_output=True, check=True).stdout))
    assert found == [cpus, 8000000 * 1024 if memory is None else memory]


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
