"""The health page: of one server, of one with very many relations, and of a fleet."""

from __future__ import annotations

import re

from tests.benchmarks import bloat
from tests.benchmarks.bench import PING_PLAYBOOK, Bench, Contender, compete
from tests.benchmarks.measure import BenchmarkError, Sample, Series, module
from tests.benchmarks.tables import Bar, results_table
from tests.support.controller import Controller
from tests.support.databases import Database, new_database

PLAYBOOK = "godel.postgres_runbook.health"
FEW, MANY, HOSTS = 5_000, 100_000, 50
ROUNDS = 2


def _asked(database: Database) -> Sample:
    return module("pg_health_info", database.login())[0]


def relations(bench: Bench, runs: int) -> tuple[list[str], dict[str, Series]]:
    """The module on few and on many relations."""
    known, databases = [], []
    for number in (FEW, MANY):
        database = new_database(bench.server, f"health_{number}")
        databases.append(database)
        count = bloat.crowd(database, number)
        title = f"**module `pg_health_info`**, {count:,} relations"
        known.append(Contender(f"health-{number}", title, lambda *_, database=database: _asked(database)))
    found = compete(bench, known, runs)
    for database in databases:
        database.drop()
    return results_table("health", known, found, known[0].key), found


def pages(bench: Bench, runs: int) -> tuple[list[str], dict[str, Series]]:
    """The playbook on one host and on fifty, with their pages."""
    folder = bench.folder / "fleet"
    folder.mkdir()
    names = [f"fleet_{number:02}" for number in range(HOSTS)]
    for name in names:
        new_database(bench.server, name).execute("CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 1000) n")
    words = {"postgres_report_dir": str(folder / "reports"), "health_fail_at": "never"}
    fleet = Controller(folder, bench.server.login(), words, {name: {"postgres_db": name} for name in names})

    def on_all(*_: object) -> Sample:
        played = fleet.run(PLAYBOOK)
        if played.returncode:
            raise BenchmarkError(f"{PLAYBOOK}:\n{played.output}")
        return Sample(played.duration_s)

    def on_one(*_: object) -> Sample:
        extra = {"postgres_report_dir": folder / "one", "health_fail_at": "never", "postgres_backup_dir": ""}
        return Sample(bench.play(PLAYBOOK, **extra))

    known = [
        Contender("health-ping", "a play with one `ping` task", lambda *_: Sample(bench.play(PING_PLAYBOOK)), ROUNDS),
        Contender("health", "**playbook `health`**, one server", on_one, ROUNDS),
        Contender("health-fleet", f"**playbook `health`**, {HOSTS} databases, 10 forks", on_all),
    ]
    found = compete(bench, known, runs)
    for name in names:
        bench.server.drop_database(name)
    return results_table("pages", known, found, known[0].key), found


def measure(bench: Bench, runs: int, only: re.Pattern[str]) -> tuple[list[str], list[Bar]]:
    """Run what is wanted; returns the lines of the tables, and what was promised."""
    lines: list[str] = []
    took: dict[str, Series] = {}
    for key, ask in (("relations", relations), ("pages", pages)):
        if only.search(key):
            told, found = ask(bench, runs)
            took.update(found)
            lines += [*told, ""]
    return lines, bars(took)


def bars(took: dict[str, Series]) -> list[Bar]:
    """Judge what was measured; what was left out has no bar."""
    found = []
    few, many = took.get(f"health-{FEW}"), took.get(f"health-{MANY}")
    if few and many:
        found.append(Bar(f"health with {MANY:,} relations", 15, True, many.seconds, "s", "module's process"))
        note = f"peak for {MANY:,} relations to that for {FEW:,}"
        found.append(Bar("memory of health", 1.25, True, many.peak_bytes / few.peak_bytes, "x", note))
    if "health" in took:
        own = took["health"].seconds - took["health-ping"].seconds
        found.append(Bar("health of one server, less one ping", 3, True, own, "s", "whole playbooks"))
        fleet = took["health-fleet"].seconds
        found.append(Bar(f"health of {HOSTS} databases", 30, True, fleet, "s", "whole playbook, 10 forks"))
    return found
