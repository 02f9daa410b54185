"""Ways to put a backup into production, and how long the database is unavailable meanwhile."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.bench import NAME, Bench, Contender
from tests.benchmarks.measure import Sample, module, pipe, run, together
from tests.support.processes import until
from tests.support.restores import asking

_WARM = 100  # answers before the swap begins, and after it


def contenders(bench: Bench) -> list[Contender]:
    """Return the procedures, and then the times without the database."""
    restore = f"`pg_restore -j{bench.jobs}`"
    return [
        Contender("bare-stage", f"{restore} into the server, then the digest queries", _bare),
        Contender("stage", "**module `pg_restore`**: stage, proof, statistics", _stage),
        Contender("down-runbook", "runbook: without the database while it is dropped and loaded", _drop_and_load),
        Contender("down-swap", "**module `pg_database_swap`**: the longest time without an answer", _swap),
    ]


def _bare(bench: Bench, _folder: Path) -> Sample:
    queries = bench.digest_queries()
    with bench.fresh_database() as name:
        seconds = run([bench.client("pg_restore"), f"-j{bench.jobs}", "-d", name, bench.dump], bench.env)
        return Sample(seconds + together(queries, {**bench.env, "PGDATABASE": name}))


def _stage(bench: Bench, _folder: Path) -> Sample:
    sample, dummy = module("pg_restore", _params(bench))
    _discard(bench)
    return sample


def _drop_and_load(bench: Bench, folder: Path) -> Sample:
    postgres = {**bench.env, "PGDATABASE": "postgres"}
    statements = [f"DROP DATABASE {NAME}", f"CREATE DATABASE {NAME} TEMPLATE template0"]
    seconds = sum(run([bench.client("psql"), "-Xqc", statement], postgres) for statement in statements)
    psql = [bench.client("psql"), "-Xq", "-o", "/dev/null"]
    return Sample(seconds + pipe([["gunzip", "-c", bench.plain], psql], folder / "output", bench.env))


def _swap(bench: Bench, _folder: Path) -> Sample:
    """What a client sees that asks every ten milliseconds, and connects again when it is sent away."""
    module("pg_restore", _params(bench))
    login = bench.server.login(db=NAME)
    with asking(bench.database, "SELECT count(*) FROM tenant_1.users WHERE id < 10") as client:
        until(lambda: len(client.answers) > _WARM, 60)
        module("pg_database_swap", login)
        enough = len(client.answers) + _WARM
        until(lambda: len(client.answers) > enough, 60)
    _discard(bench)
    return Sample(client.longest_gap_s())


def _params(bench: Bench) -> dict[str, object]:
    id_ = str(bench.backup["id"])
    return bench.params(backup=id_, force=True, scratch_dir=str(bench.folder))


def _discard(bench: Bench) -> None:
    """Drop what is beside the database: stages and what was replaced."""
    for name in bench.server.databases():
        if name.startswith((f"{NAME}_staged_", f"{NAME}_replaced_")):
            bench.server.drop_database(name)
