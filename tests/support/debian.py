"""Content of Debian's packages, without installing them on the machine."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.workspace import REPOSITORY

TIMEOUT_S = 300


class NoPackage(AssertionError):
    """A package is not available, or does not fit this system; the text says what to do."""


def unpacked(packages: tuple[str, ...], folder: Path, cache: str) -> Path:
    """Unpack packages into a folder; they are fetched once into ``.venv/<cache>``."""
    kept = REPOSITORY / ".venv" / cache
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / ".lock").open("w") as lock:  # two test workers may want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = [next(iter(kept.glob(f"{name}_*.deb")), None) or _fetched(name, kept) for name in packages]
    for name, file in zip(packages, files, strict=True):
        _run(name, ["dpkg-deb", "--extract", file, folder])
    return folder


def _fetched(package: str, kept: Path) -> Path:
    """Download the package as apt knows it; where its lists are missing, with lists of our own. Needs no root."""
    with tempfile.TemporaryDirectory(dir=kept) as scratch:
        lists = Path(scratch) / "lists"
        (lists / "partial").mkdir(parents=True)
        ours = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch}", "-o", "Debug::NoLocking=1"]
        try:
            _run(package, ["apt-get", "download", package], scratch)
        except NoPackage:
            _run(package, ["apt-get", *ours, "update"], scratch)
            _run(package, ["apt-get", *ours, "download", package], scratch)
        [file] = Path(scratch).glob("*.deb")
        return Path(shutil.move(file, kept))


def _run(package: str, command: list[str | Path], folder: str | None = None) -> None:
    problem = f"The tests need the package {package}, and it cannot be had"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoPackage(f"{problem}: {error}") from error
    if done.returncode:
        raise NoPackage(f"{problem}: {done.stderr.strip()}")
