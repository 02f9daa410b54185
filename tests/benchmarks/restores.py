"""Ways to restore a backup, and to know that it was right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import pgbackrest
from tests.benchmarks.backups import BASE_METHODS, base_argv
from tests.benchmarks.bench import Bench, Contender
from tests.benchmarks.measure import BenchmarkError, Sample, module, pipe, run, together

PLAYBOOK = "godel.postgres_runbook.backup_verify"


def contenders(bench: Bench) -> list[Contender]:
    """Return what can run here."""
    restore = f"`pg_restore -j{bench.jobs}`"
    found = [
        Contender("psql", "runbook: `gunzip` into `psql`, into the server", _script),
        Contender("restore", f"{restore}, into the server", _restore),
        Contender("scratch", f"{restore}, into an equal scratch server", _scratch),
        Contender("digests", f"{restore}, into an equal scratch server, then the digest queries", _digests),
    ]
    method = _unpackable_base(bench)
    if method:
        found.append(Contender("base", f"base backup ({method}) unpacked", _unpack(method)))
    if pgbackrest.available():
        found.append(Contender("pgbackrest", f"pgBackRest restore, {bench.jobs} processes", pgbackrest.restore))
    found += [
        Contender("verify", "**module `pg_restore_verify`**", _verify),
        Contender("verify-playbook", "**playbook `backup_verify`**", _verify_playbook),
    ]
    return found


def _script(bench: Bench, folder: Path) -> Sample:
    with bench.fresh_database() as name:
        psql = [bench.client("psql"), "-Xq", "-o", "/dev/null", "-d", name]
        return Sample(pipe([["gunzip", "-c", bench.plain], psql], folder / "output", bench.env))


def _restore(bench: Bench, _folder: Path) -> Sample:
    with bench.fresh_database() as name:
        argv = [bench.client("pg_restore"), f"-j{bench.jobs}", "-d", name, bench.dump]
        return Sample(run(argv, bench.env))


def _scratch(bench: Bench, _folder: Path) -> Sample:
    with bench.scratch_server() as env:
        return Sample(_load(bench, env))


def _digests(bench: Bench, _folder: Path) -> Sample:
    queries = bench.digest_queries()
    with bench.scratch_server() as env:
        return Sample(_load(bench, env) + together(queries, env))


def _load(bench: Bench, env: dict[str, str]) -> float:
    return run([bench.client("pg_restore"), f"-j{bench.jobs}", "-d", env["PGDATABASE"], bench.dump], env)


def _unpackable_base(bench: Bench) -> str:
    """Take a base backup for the unpacking; returns its method, or nothing if there is none to unpack here."""
    for method in BASE_METHODS:
        if not shutil.which(method):
            continue
        try:
            run(base_argv(bench, bench.folder / "base", method), bench.env)
        except BenchmarkError:
            continue
        return method
    return ""


def _unpack(method: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, folder: Path) -> Sample:
        (archive,) = (bench.folder / "base").glob("base.tar.*")
        return Sample(run(["tar", "-x", "-C", folder, "-I", method, "-f", archive]))

    return act


def _verify(bench: Bench, folder: Path) -> Sample:
    sample, result = module("pg_restore_verify", bench.params(scratch_dir=str(bench.folder)))
    if result["verdict"] != "verified":
        raise BenchmarkError(f"pg_restore_verify: {result['msg']}")
    return sample


def _verify_playbook(bench: Bench, _folder: Path) -> Sample:
    return Sample(bench.play(PLAYBOOK))
