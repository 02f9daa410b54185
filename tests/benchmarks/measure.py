"""Run programs against the clock, and read how much memory a module took."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.modules import COLLECTIONS, PACKAGE

Argv = Sequence[str | Path]


class BenchmarkError(Exception):
    """A contender did not do its work, so that its time would mean nothing."""


@dataclass(frozen=True)
class Sample:
    """One run: wall time, what it wrote, and the largest memory of a module's own process."""

    seconds: float
    size_bytes: int | None = None
    peak_bytes: int | None = None


@dataclass
class Series:
    """The runs of one contender."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median wall time."""
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The shortest and the longest wall time."""
        times = [sample.seconds for sample in self.samples]
        return min(times), max(times)

    @property
    def size_bytes(self) -> int | None:
        """The size of the output, of the last run."""
        return self.samples[-1].size_bytes

    @property
    def peak_bytes(self) -> int:
        """The largest memory of all runs; 0 when there is none to tell."""
        return max(sample.peak_bytes or 0 for sample in self.samples)


def run(argv: Argv, env: Mapping[str, str] | None = None, cwd: Path | None = None, **options: Any) -> float:
    """Run a program that has to succeed; returns the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False, **options)
    if done.returncode:
        raise BenchmarkError(
            f"{Path(argv[0]).name} ended with {done.returncode}: {done.stderr.decode(errors='replace')}"
        )
    return time.monotonic() - started


def pipe(commands: Sequence[Argv], into: Path, env: Mapping[str, str] | None = None) -> float:
    """Run a pipeline whose every program has to succeed, its output in a file; returns the seconds it took."""
    started = time.monotonic()
    running: list[subprocess.Popen[bytes]] = []
    try:
        with into.open("wb") as output:
            source: Any = subprocess.DEVNULL
            for number, argv in enumerate(commands):
                last = number == len(commands) - 1
                process = subprocess.Popen(argv, env=env, stdin=source, stdout=output if last else subprocess.PIPE)
                running.append(process)
                if source is not subprocess.DEVNULL:
                    source.close()  # the writer has to notice when the reader dies
                source = process.stdout
        _await(running, commands)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
    return time.monotonic() - started


def together(commands: Sequence[Argv], env: Mapping[str, str] | None = None) -> float:
    """Run programs at the same time, all of which have to succeed; returns the seconds until the last ended."""
    started = time.monotonic()
    running = [subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL) for argv in commands]
    _await(running, commands)
    return time.monotonic() - started


def _await(running: Sequence[subprocess.Popen[bytes]], commands: Sequence[Argv]) -> None:
    statuses = [process.wait() for process in running]
    if any(statuses):
        names = " | ".join(Path(argv[0]).name for argv in commands)
        raise BenchmarkError(f"{names} ended with {statuses}")


def module(name: str, params: Mapping[str, Any]) -> tuple[Sample, dict[str, Any]]:
    """Run a module as Ansible does, in a process of its own; returns the sample and the module's result."""
    arguments = {**params, "_ansible_check_mode": False, "_ansible_diff": False, "_ansible_no_log": False}
    with tempfile.NamedTemporaryFile("r") as peak:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.peak", peak.name, f"{PACKAGE}.{name}"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": f"{COLLECTIONS}:{Path(__file__).resolve().parents[2]}"},
            check=False,
        )
        seconds = time.monotonic() - started
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise BenchmarkError(f"{name}: {done.stderr.decode(errors='replace')}") from None
        if result.get("failed"):
            raise BenchmarkError(f"{name}: {result['msg']}")
        return Sample(seconds, peak_bytes=int(peak.read())), result


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
