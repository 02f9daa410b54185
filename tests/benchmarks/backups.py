"""Ways to back up a database: the runbook's, those of its neighbours, and ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import pgbackrest
from tests.benchmarks.bench import Bench, Contender
from tests.benchmarks.measure import Argv, Sample, module, pipe, run, size_of, together

PLAYBOOK = "godel.postgres_runbook.backup"
BASE_METHODS = ("zstd", "lz4")


def contenders(bench: Bench) -> list[Contender]:
    """Return what can run here, the runbook's own way first."""
    jobs, dump = bench.jobs, f"pg_dump -Fd -j{bench.jobs}"
    found = [
        Contender("runbook", "runbook: `pg_dump`, then `gzip`", _runbook),
        *_filters(),
        Contender("custom", "`pg_dump -Fc`", _dump("-Fc")),
        Contender("directory", f"`{dump}`", _dump("-Fd", f"-j{jobs}")),
    ]
    found += [
        Contender(f"base-{method}", f"`pg_basebackup`, server-side {method}", _base(method))
        for method in BASE_METHODS
        if _server_compresses(bench, method)
    ]
    if pgbackrest.available():
        found.append(Contender("pgbackrest", f"pgBackRest full, zst 1, {jobs} processes", pgbackrest.back_up))
    # Last, beside those that are compared with it.
    found.append(Contender("fast", f"`{dump} -Z1`", _dump("-Fd", f"-j{jobs}", "-Z1")))
    if bench.compression != "1":
        bare = f"--compress={bench.compression}"
        found.append(Contender("bare", f"`{dump} {bare}`", _dump("-Fd", f"-j{jobs}", bare)))
    found += [
        Contender("beside", "the same `pg_dump`, and the digest queries at the same time", _beside),
        Contender("none", "**module `pg_backup`, fingerprint none**", _ours("none")),
        Contender("counts", "**module `pg_backup`, fingerprint counts**", _ours("counts")),
        Contender("content", "**module `pg_backup`, fingerprint content**", _ours("content")),
        Contender("playbook-none", "**playbook `backup`, fingerprint none**", _playbook("none")),
        Contender("playbook", "**playbook `backup`, fingerprint content (the default)**", _playbook("content")),
    ]
    return found


def bare_key(bench: Bench) -> str:
    """Return the contender with the flags that the module uses."""
    return "fast" if bench.compression == "1" else "bare"


def _runbook(bench: Bench, folder: Path) -> Sample:
    script = folder / "backup.sql"
    seconds = run([bench.client("pg_dump"), "-f", script], bench.env) + run(["gzip", script])
    return Sample(seconds, size_of(folder))


def _filters() -> list[Contender]:
    """Return the pipelines whose programs are on this machine."""
    plain: list[str] = []
    found = []
    for key, title, options, argv in (
        ("gzip", "`pg_dump` piped to `gzip`", plain, ["gzip"]),
        ("pigz", "`pg_dump` piped to `pigz`", plain, ["pigz"]),
        ("zstd", "`pg_dump -Fc -Z0` piped to `zstd -T0 -3`", ["-Fc", "-Z0"], ["zstd", "-T0", "-3", "-q"]),
    ):
        if shutil.which(argv[0]):
            found.append(Contender(key, title, _filtered(options, argv)))
    return found


def _filtered(options: list[str], argv: Argv) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, folder: Path) -> Sample:
        seconds = pipe([[bench.client("pg_dump"), *options], argv], folder / "packed", bench.env)
        return Sample(seconds, size_of(folder))

    return act


def _dump(*options: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, folder: Path) -> Sample:
        seconds = run([bench.client("pg_dump"), *options, "-f", folder / "dump"], bench.env)
        return Sample(seconds, size_of(folder))

    return act


def _beside(bench: Bench, folder: Path) -> Sample:
    """Run what a proven backup has to do at least, without the snapshot that both would have to share."""
    dump = [bench.client("pg_dump"), "-Fd", f"-j{bench.jobs}", f"--compress={bench.compression}", "-f", folder / "dump"]
    return Sample(together([dump, *bench.digest_queries()], bench.env), size_of(folder))


def base_argv(bench: Bench, folder: Path, method: str) -> list[str]:
    """Return the command that writes a base backup as tar archives, packed by the server."""
    argv = [bench.client("pg_basebackup"), "-D", str(folder), "-Ft", "--checkpoint=fast"]
    return [*argv, f"--compress=server-{method}"]


def _base(method: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, folder: Path) -> Sample:
        return Sample(run(base_argv(bench, folder / "base", method), bench.env), size_of(folder))

    return act


def _server_compresses(bench: Bench, method: str) -> bool:
    """Tell whether the server packs base backups (since 15), and was built with the method."""
    if bench.server.major < 15:
        return False
    configured = bench.database.query("SELECT setting FROM pg_config() WHERE name = 'CONFIGURE'")
    return f"--with-{method}" in configured[0][0]


def _ours(fingerprint: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, folder: Path) -> Sample:
        sample, result = module("pg_backup", bench.params(backup_dir=str(folder), fingerprint=fingerprint))
        return Sample(sample.seconds, result["backup"]["size_bytes"], sample.peak_bytes)

    return act


def _playbook(fingerprint: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, folder: Path) -> Sample:
        seconds = bench.play(PLAYBOOK, postgres_backup_dir=folder, backup_fingerprint=fingerprint)
        return Sample(seconds, size_of(folder))

    return act
