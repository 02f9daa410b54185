"""What every target promises, as test cases: programs, jobs, files and locks.

A binding subclasses ``ContractOfTarget`` as ``Test...`` and gives it two fixtures, ``target`` and ``folder`` (an empty
directory on the target, absolute), and ``source``, Python text that makes the same ``target`` in another process.
Programs are POSIX ones, as busybox has them.
"""

from __future__ import annotations

import hashlib
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    CommandFailed,
    FileProblem,
    ProgramMissing,
    RunbookError,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import Target
from tests.database.target_files_contract import EVERY_BYTE, ContractOfFiles, shell
from tests.support.zoo import HOSTILE_NAMES, HOSTILE_TEXTS


def within(seconds: float, condition: Callable[[], Any]) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def stream_of(data: bytes) -> Iterator[IO[bytes]]:
    """A real file with this content, at its beginning."""
    with tempfile.TemporaryFile() as stream:
        stream.write(data)
        stream.seek(0)
        yield stream


class ContractOfTarget(ContractOfFiles):
    """The cases of programs and jobs, and with them those of files; a binding adds the fixtures."""

    #: Whether what a program leaves behind when it is killed can be ended, too.
    ends_orphans = True

    # --- run ----------------------------------------------------------------------------------------------

    def test_it_has_a_name_and_at_least_one_cpu(self, target: Target) -> None:
        assert target.name
        assert 1 <= target.cpus() < 10_000
        assert 1024**2 < target.memory_bytes() < 1024**5

    def test_run_returns_output_messages_and_time(self, target: Target) -> None:
        done = target.run(shell("echo out; echo err >&2; sleep 0.1"))
        assert (done.stdout, done.text, done.stderr) == (b"out\n", "out\n", b"err\n")
        assert 0.1 <= done.duration_s < 30

    def test_run_replaces_what_is_no_text(self, target: Target) -> None:
        assert target.run(["printf", r"a\377b"]).text == "a\ufffdb"

    def test_arguments_arrive_as_they_are(self, target: Target) -> None:
        arguments = [*HOSTILE_NAMES, *HOSTILE_TEXTS, "*", "~", "a" * 50_000]
        script = 'for argument in "$@"; do printf "%s\\0" "$argument"; done'
        assert target.run(shell(script, *arguments)).text.split("\0")[:-1] == arguments

    @pytest.mark.parametrize("status", [1, 2, 42, 255])
    def test_a_bad_status_raises(self, target: Target, status: int) -> None:
        with pytest.raises(CommandFailed, match=f"sh ended with status {status}: the reason") as caught:
            target.run(shell(f"echo the reason >&2; exit {status}"))
        assert caught.value.details == {"program": "sh", "returncode": status, "messages": "the reason"}

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    def test_an_end_by_a_signal_raises_and_names_it(self, target: Target, number: signal.Signals) -> None:
        with pytest.raises(CommandFailed, match=number.name) as caught:
            target.run(shell(f"ulimit -c 0; kill -{number.value} $$"))
        assert caught.value.details["returncode"] == -number

    def test_a_missing_program_is_named(self, target: Target) -> None:
        with pytest.raises(ProgramMissing) as caught:
            target.run(["/nonexistent/pg_dump", "--version"])
        assert caught.value.subject == "/nonexistent/pg_dump"

    def test_what_is_no_program_raises(self, target: Target, folder: str) -> None:
        target.files.write(f"{folder}/plain", b"text")
        with pytest.raises(RunbookError, match="plain"):
            target.run([f"{folder}/plain"])

    def test_an_argument_that_no_program_can_have_raises(self, target: Target) -> None:
        with pytest.raises(RunbookError):
            target.run(["echo", "a\0b"])

    def test_a_timeout_ends_the_program(self, target: Target) -> None:
        started = time.monotonic()
        with pytest.raises(CommandFailed, match=r"sleep ran longer than 0\.3 s"):
            target.run(["sleep", "30"], timeout=0.3)
        assert time.monotonic() - started < 10

    def test_a_timeout_ends_what_the_program_started_too(self, target: Target) -> None:
        started = time.monotonic()
        with pytest.raises(CommandFailed, match="ran longer than"):
            target.run(shell("sleep 30; exit 0"), timeout=0.3)  # the sleep has our pipes
        assert time.monotonic() - started < 10

    def test_a_program_that_is_quick_enough_knows_no_timeout(self, target: Target) -> None:
        assert target.run(["echo", "done"], timeout=30).text == "done\n"
        with pytest.raises(CommandFailed, match="ended with status 3"):
            target.run(shell("exit 3"), timeout=30)

    def test_the_environment_is_added_to(self, target: Target) -> None:
        value = "".join(HOSTILE_TEXTS) + "=$x"
        script = 'test -n "$PATH" && printf %s "$RUNBOOK_VALUE"'
        assert target.run(shell(script), env={"RUNBOOK_VALUE": value}).text == value

    def test_a_secret_in_the_environment_is_in_no_process_list(self, target: Target) -> None:
        secret = secrets.token_hex(16)
        script = 'printf %s "$PGPASSWORD" | wc -c; cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " "; exit 0'
        listing = target.run(shell(script), env={"PGPASSWORD": secret}).text
        assert listing.split()[0] == "32"
        assert "wc" in listing or "sh" in listing
        assert secret not in listing

    def test_stdin_is_empty_unless_it_is_given(self, target: Target) -> None:
        assert target.run(["cat"], timeout=30).stdout == b""
        with stream_of(EVERY_BYTE * 4096) as stream:
            assert target.run(["cat"], stdin=stream, timeout=30).stdout == EVERY_BYTE * 4096  # type: ignore[arg-type]

    def test_a_program_that_does_not_read_its_stdin_ends(self, target: Target) -> None:
        with stream_of(b"x" * 1_000_000) as stream:
            assert target.run(["echo", "no"], stdin=stream, timeout=30).text == "no\n"  # type: ignore[arg-type]

    def test_stdout_streams_every_byte_elsewhere(self, target: Target) -> None:
        data = EVERY_BYTE * 40_000  # 10 MB
        with stream_of(data) as source, stream_of(b"") as sink:
            done = target.run(["cat"], stdin=source, stdout=sink)  # type: ignore[arg-type]
            sink.seek(0)
            assert hashlib.sha256(sink.read()).digest() == hashlib.sha256(data).digest()
        assert done.stdout == b""

    def test_many_messages_neither_block_nor_fill_memory(self, target: Target) -> None:
        both = "head -c 50000 /dev/zero >&2; head -c 50000 /dev/zero"
        script = f"i=0; while [ $i -lt 20 ]; do {both}; i=$((i+1)); done; echo last >&2"
        done = target.run(shell(script), timeout=60)
        assert len(done.stdout) == 1_000_000
        assert len(done.stderr) <= 64 * 1024
        assert done.stderr.endswith(b"last\n")

    def test_the_last_messages_of_a_failure_are_told(self, target: Target) -> None:
        with pytest.raises(CommandFailed, match="the very end") as caught:
            target.run(shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo the very end >&2; exit 1"))
        assert len(caught.value.message) < 5000

    def test_what_a_program_writes_is_private(self, target: Target, folder: str) -> None:
        target.run(shell('echo x > "$1"; mkdir "$2"', f"{folder}/file", f"{folder}/directory"))
        modes = target.run(["ls", "-ld", f"{folder}/file", f"{folder}/directory"]).text.split("\n")
        assert [line[:10] for line in modes[:2]] == ["drwx------", "-rw-------"]

    # --- spawn --------------------------------------------------------------------------------------------

    def test_a_job_runs_beside_us_and_ends(self, target: Target, folder: str) -> None:
        job = target.spawn(
            shell('echo out; echo err >&2; while [ ! -e "$1" ]; do sleep 0.05; done', f"{folder}/go"),
            log=f"{folder}/log",
        )
        assert job.log == f"{folder}/log"
        assert job.poll() is None
        assert job.wait(0.1) is None
        target.files.write(f"{folder}/go", b"")
        assert job.wait(30) == 0
        assert (job.poll(), job.wait()) == (0, 0)
        assert target.files.read(job.log) == b"out\nerr\n"
        assert target.run(["ls", "-l", job.log]).text.startswith("-rw-------")

    def test_the_status_of_a_job_is_kept(self, target: Target, folder: str) -> None:
        assert target.spawn(shell("exit 42"), log=f"{folder}/a").wait(30) == 42
        assert target.spawn(shell("kill -9 $$"), log=f"{folder}/b").wait(30) == -9

    def test_a_job_stops_politely(self, target: Target, folder: str) -> None:
        script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        job = target.spawn(shell(script), log=f"{folder}/log")
        assert within(30, job.tail)
        job.stop()
        assert job.poll() == 7
        assert job.tail().startswith("ready\n")
        assert job.tail().endswith("bye")

    def test_a_job_stops_with_its_own_signal(self, target: Target, folder: str) -> None:
        script = "trap 'exit 8' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done"
        job = target.spawn(shell(script), log=f"{folder}/log", stop_signal=signal.SIGUSR1)
        assert within(30, job.tail)
        job.stop()
        assert job.poll() == 8

    def test_a_deaf_job_is_stopped_by_force(self, target: Target, folder: str) -> None:
        script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
        job = target.spawn(shell(script), log=f"{folder}/log")
        assert within(30, job.tail)
        started = time.monotonic()
        job.stop(grace_s=0.3)
        assert 0.3 <= time.monotonic() - started < 10
        assert job.poll() == -9

    def test_stopping_takes_along_what_the_job_started(self, target: Target, folder: str) -> None:
        for end in ("wait", "kill -9 $$")[: 1 + self.ends_orphans]:  # stopped by us, and dead of something else before
            job = target.spawn(shell(f"sleep 300 & echo $!; {end}"), log=f"{folder}/log")
            assert within(30, lambda job=job: job.tail())  # type: ignore[misc]
            child = job.tail()
            if end != "wait":
                job.wait(30)
            job.stop()
            assert within(10, lambda child=child: not self.alive(target, child))  # type: ignore[misc]
            target.files.remove_tree(f"{folder}/log")

    def test_stopping_what_has_ended_changes_nothing(self, target: Target, folder: str) -> None:
        job = target.spawn(shell("exit 3"), log=f"{folder}/log")
        job.wait(30)
        job.stop()
        job.stop()
        assert job.poll() == 3

    def test_a_job_dies_with_us(self, target: Target, folder: str) -> None:
        code = "job = target.spawn(['sleep', sys.argv[2]], log=sys.argv[1])\nprint('ready', flush=True)\njob.wait()"
        duration = str(3000 + secrets.randbelow(1_000_000))
        script = (
            'for d in /proc/[0-9]*; do [ "$(tr "\\0" " " <"$d/cmdline")" = "sleep $1 " ] && echo "${d#/proc/}"; done;'
            " exit 0"
        )
        with self.other_process(code, f"{folder}/log", duration) as holder:
            assert within(30, lambda: target.run(shell(script, duration)).text)  # it may not be a sleep yet
            [child] = target.run(shell(script, duration)).text.split()
            holder.kill()
            assert within(10 + self.outlives_us_s, lambda: not self.alive(target, child))

    def alive(self, target: Target, pid: str) -> bool:
        """Whether a process of the target runs; a zombie does not."""
        script = (
            'read -r line < "/proc/$1/stat" 2>/dev/null && case "${line##*)}" in " Z"*) ;; *) echo yes ;; esac; exit 0'
        )
        return "yes" in target.run(shell(script, pid)).text

    def test_a_tail_has_the_last_messages(self, target: Target, folder: str) -> None:
        job = target.spawn(shell("head -c 100000 /dev/zero | tr '\\0' x; echo; echo the end"), log=f"{folder}/log")
        job.wait(30)
        assert job.tail(limit=8) == "the end"
        assert len(job.tail()) <= 4096
        target.files.remove_tree(job.log)
        assert job.tail() == ""

    def test_a_job_that_cannot_begin_raises(self, target: Target, folder: str) -> None:
        with pytest.raises(ProgramMissing):
            target.spawn(["/nonexistent/pg_dump"], log=f"{folder}/log")
        with pytest.raises(FileProblem, match="missing/log"):
            target.spawn(["true"], log=f"{folder}/missing/log")

    def test_a_job_has_its_environment_and_no_secret_in_the_process_list(self, target: Target, folder: str) -> None:
        secret = secrets.token_hex(16)
        script = 'printf %s "$PGPASSWORD" | wc -c; cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " "; exit 0'
        job = target.spawn(shell(script), env={"PGPASSWORD": secret}, log=f"{folder}/log")
        assert job.wait(30) == 0
        listing = target.files.read(job.log)
        assert listing.split()[0] == b"32"
        assert secret.encode() not in listing

    def test_an_endpoint_leads_to_a_host_and_port(self, target: Target) -> None:
        with target.endpoint("127.0.0.1", 5432) as endpoint:
            assert endpoint.port

    def test_an_unprivileged_user_can_run_programs(self, target: Target) -> None:
        assert target.run(["id", "-u"], user=target.unprivileged_user()).text.strip() != "0"
