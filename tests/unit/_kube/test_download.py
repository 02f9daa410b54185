"""How files are sent from a container: what one command sends, and that it ends with us and not before."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.download import (
    DownloadPart,
    _Arrival,
    next_part,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.exec_stream import STDERR, STDOUT
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.shell import StreamCut
from tests.support.processes import children, until

SIZES = {"/a": 10, "/empty": 0, "/b": 20, "/c": 30}
SHELLS = [name for name in ("dash", "bash", "busybox", "sh") if shutil.which(name)]


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (0, DownloadPart(("/a", "/b", "/c"), 0, 60)),
        (1, DownloadPart(("/a",), 1, 9)),
        (10, DownloadPart(("/b", "/c"), 0, 50)),
        (29, DownloadPart(("/b",), 19, 1)),
        (30, DownloadPart(("/c",), 0, 30)),
        (59, DownloadPart(("/c",), 29, 1)),
        (60, DownloadPart((), 0, 0)),
    ],
)
def test_what_comes_next_after_so_many_bytes(done: int, expected: DownloadPart) -> None:
    assert next_part(SIZES, done) == expected


def test_a_command_names_no_more_files_than_a_kernel_takes() -> None:
    sizes = {f"/{number:0>999}": 1 for number in range(200)}
    done, parts = 0, 0
    while done < 200:
        part = next_part(sizes, done)
        assert sum(map(len, part.paths)) < 65 * 1024
        done += part.size_bytes
        parts += 1
    assert parts == 4


class Sender(subprocess.Popen[bytes]):
    """A shell whose streams are open."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]


@contextmanager
def sending(shell: str, part: DownloadPart) -> Iterator[Sender]:
    """A shell that has got the script."""
    argv = ["busybox", "sh", "-s", "download"] if shell == "busybox" else [shell, "-s", "download"]
    process = Sender(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.stdin.write(part.script("MARK").encode())
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
        process.wait()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("skip", [0, 3])
def test_the_sender_waits_for_the_receipt(tmp_path: Path, shell: str, skip: int) -> None:
    path = tmp_path / "a 'quoted' $(name)"
    path.write_bytes(b"content")
    with sending(shell, DownloadPart((str(path),), skip, 7 - skip)) as process:
        assert os.read(process.stdout.fileno(), 100) == b"content"[skip:]
        assert os.read(process.stderr.fileno(), 100) == b"MARK 0\n"
        assert not until(lambda: process.poll() is not None, 0.3)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(10) == 0
        assert process.stdout.read() + process.stderr.read() == b""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_sender_ends_when_nobody_listens_any_more(tmp_path: Path, shell: str) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"0" * 1_000_000)  # more than a pipe holds
    with sending(shell, DownloadPart((str(path),), 0, 1_000_000)) as process:
        assert until(lambda: bool(children(process.pid)), 10)
        [inner] = children(process.pid)
        assert until(lambda: bool(children(inner)), 10)
        [sender] = children(inner)
        process.stdin.close()  # its output stays open, as in a container: the pipe stays full
        assert process.wait(10) == 0
        assert not os.path.exists(f"/proc/{sender}")  # gone, and taken leave of by its own parent


@pytest.mark.parametrize("shell", SHELLS)
def test_a_sender_that_fails_says_why(tmp_path: Path, shell: str) -> None:
    with sending(shell, DownloadPart((f"{tmp_path}/nothing",), 0, 5)) as process:
        arrival = _Arrival(DownloadPart(("/nothing",), 0, 5), "MARK", lambda data: None)
        while not arrival.take(STDERR, os.read(process.stderr.fileno(), 4096)):
            pass
        with pytest.raises(FileProblem, match="No such file or directory"):
            arrival.judge("where", quiet=False)


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([(STDOUT, b"12345"), (STDERR, b"MARK 0\n")], None),
        ([(STDERR, b"a warning\nMA"), (STDERR, b"RK 0\n"), (STDOUT, b"123"), (STDOUT, b"45")], None),
        ([(STDOUT, b"12345")], StreamCut),
        ([(STDOUT, b"1234"), (STDERR, b"MARK 0\n")], StreamCut),
        ([(STDERR, b"MARK 0\n")], StreamCut),
        ([(STDOUT, b"123456"), (STDERR, b"MARK 0\n")], FileProblem),
        ([(STDOUT, b"12345"), (STDERR, b"MARK 1\n")], FileProblem),
        ([(STDOUT, b"12345"), (STDERR, b"MARK ")], StreamCut),
    ],
)
def test_only_all_bytes_and_the_mark_are_an_arrival(
    frames: list[tuple[int, bytes]], error: type[Exception] | None
) -> None:
    came = bytearray()
    arrival = _Arrival(DownloadPart(("/a",), 0, 5), "MARK", came.extend)
    for frame in frames:
        arrival.take(*frame)
    assert len(came) <= 5
    if error is None:
        arrival.judge("where", quiet=False)
        assert came == b"12345"
    else:
        with pytest.raises(error):
            arrival.judge("where", quiet=False)
