"""pgBackRest as a peer, where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Sample, run, size_of
from tests.support.workspace import give, run_user

STANZA = "bench"


def available() -> bool:
    """Tell whether the program is on the search path."""
    return shutil.which("pgbackrest") is not None


def back_up(bench: Bench, folder: Path) -> Sample:
    """Take a full backup into a new repository."""
    _prepare(folder)
    _run(bench, folder, "stanza-create")
    seconds = _run(bench, folder, "backup")
    return Sample(seconds, size_of(folder / "repo"))


def restore(bench: Bench, folder: Path) -> Sample:
    """Restore the last backup of a repository that is made when it is first wanted."""
    home = bench.folder / "pgbackrest"
    if not home.exists():
        home.mkdir()
        _prepare(home)
        _run(bench, home, "stanza-create")
        _run(bench, home, "backup")
    data = folder / "data"
    data.mkdir(mode=0o700)
    for path in (folder, data):
        give(path)
    return Sample(_run(bench, home, "restore", data))


def _prepare(folder: Path) -> None:
    for path in (folder, folder / "repo", folder / "lock"):
        path.mkdir(exist_ok=True)
        give(path)


def _run(bench: Bench, home: Path, command: str, data: Path | None = None) -> float:
    """Run it as the account of the server, since it reads the server's files."""
    options = {
        "config": "/dev/null",
        "stanza": STANZA,
        "repo1-path": home / "repo",
        "lock-path": home / "lock",
        "log-level-file": "off",
        "log-level-console": "error",
        "pg1-path": data or bench.server.data_dir,
    }
    if command != "stanza-create":
        options["process-max"] = bench.jobs
    if command == "restore":
        options["type"] = "immediate"
    else:
        options |= {
            "pg1-socket-path": bench.server.socket_dir,
            "pg1-port": bench.server.port,
            "pg1-user": bench.server.user,
        }
    if command == "backup":
        options |= {"type": "full", "compress-type": "zst", "compress-level": 1}
    argv = ["pgbackrest", *(f"--{name}={value}" for name, value in options.items())]
    if command == "backup":
        argv += ["--start-fast", "--no-archive-check"]
    account = run_user()
    dropped = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    return run([*argv, command], bench.env, cwd=Path("/"), **dropped)
