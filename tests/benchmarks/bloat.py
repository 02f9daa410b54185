"""Maintenance: how near the truth bloat reports are, how long they take, and what it costs when there is nothing to do.

A folder may hold what others ask: `table_bloat.sql` and `btree_bloat.sql` of ioguix/pgsql-bloat-estimation, and
`check_postgres.pl` of bucardo/check_postgres. They are not ours to distribute.
"""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import PING_PLAYBOOK, Bench, Contender, compete
from tests.benchmarks.measure import Sample, Series, module
from tests.benchmarks.tables import Bar, results_table
from tests.support.bloat_zoo import SCHEMA, Truth, build_bloat_zoo, rewrite
from tests.support.databases import Database, new_database
from tests.support.modules import expect_success
from tests.support.servers import Server

Ratios = dict[str, float]
_PAGES = re.compile(r"(?:table|index) (?:bloat_zoo\.)?(\w+) rows:\S+ pages:(\d+) shouldbe:(\d+)")  # codespell:ignore
OURS, ALONE, SURE = "measured", "estimate", "estimate-sure"
FEW, MANY = 5_000, 50_000
ROUNDS = 2
PLAYBOOK = "godel.postgres_runbook.maintenance"
_MANY = """
DO $$ BEGIN FOR number IN 1..{tables} LOOP
    EXECUTE format('CREATE TABLE t_%s AS SELECT n AS id, n %% 7 AS kind, md5(n::text)::varchar(32) AS v FROM generate_series(1, 20) n', number);
    EXECUTE format('CREATE INDEX t_%s_id ON t_%s (id)', number, number);
    EXECUTE format('ANALYZE t_%s', number);
    IF number % 200 = 0 THEN COMMIT; END IF;
END LOOP; END $$
"""
_RELATIONS = "SELECT count(*)::int FROM pg_class WHERE relkind IN ('r', 'i') AND oid >= 16384"


@dataclass(frozen=True)
class Accuracy:
    """By how many points a report missed the truth, relation by relation."""

    key: str
    title: str
    missed: dict[str, float]

    @property
    def median(self) -> float:
        """Half of the relations are nearer."""
        return statistics.median(self.missed.values())

    @property
    def worst(self) -> str:
        """The relation that it missed by most."""
        return max(self.missed, key=lambda each: self.missed[each])

    @property
    def most(self) -> float:
        """By how many points."""
        return self.missed[self.worst]

    @property
    def line(self) -> str:
        """A row of the table."""
        return f"| {self.title} | {len(self.missed)} | {self.median:.2f} | {self.most:.1f} | `{self.worst}` |"


def _ours(database: Database, budget: str, confidences: tuple[str, ...] = ("high", "medium", "low")) -> Ratios:
    result = expect_success(
        "pg_bloat_report", {**database.login(), "min_size": "0", "top": 0, "measure_budget": budget}
    )
    return {
        each["name"] + (" TOAST" if each["kind"] == "toast" else ""): each["bloat_ratio"]
        for each in result["relations"]
        if each["schema"] in (SCHEMA, "pg_toast") and each["confidence"] in confidences
    }


def _ioguix(database: Database, folder: Path) -> Ratios:
    """It reports a table together with its TOAST; the comparison treats that in its favor."""
    found: Ratios = {}
    for name, subject in (("table_bloat.sql", "tblname"), ("btree_bloat.sql", "idxname")):
        text = re.sub(r"--.*", "", (folder / name).read_text()).rstrip().rstrip(";")
        rows = database.query(f"SELECT {subject}, bloat_pct FROM ({text}) q WHERE schemaname = '{SCHEMA}'")
        found.update({relation: max(0.0, float(percent)) / 100 for relation, percent in rows})
    return found


def _check_postgres(database: Database, folder: Path) -> Ratios:
    server = database.server
    command = [
        "perl",
        folder / "check_postgres.pl",
        "--action=bloat",
        "--perflimit=1000",
        "--warning=1%",
        "--critical=1%",
    ]
    told = subprocess.run(
        [
            *command,
            f"--dbhost={server.host}",
            f"--dbport={server.port}",
            f"--dbuser={server.user}",
            f"--db={database.name}",
        ],
        env={"PGPASSWORD": server.password, "PATH": f"{server.client_dir}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return {name: max(0.0, 1 - int(should) / max(1, int(pages))) for name, pages, should in _PAGES.findall(told)}


def _reports(zoo: Database, folder: Path | None) -> Iterator[tuple[str, str, Ratios]]:
    yield OURS, "**`pg_bloat_report`**, measured", _ours(zoo, "60s")
    yield ALONE, "**`pg_bloat_report`**, estimate alone", _ours(zoo, "0")
    yield SURE, "**the same**, without those of low confidence", _ours(zoo, "0", ("medium", "high"))
    if folder and (folder / "table_bloat.sql").exists():
        yield "ioguix", "ioguix/pgsql-bloat-estimation", _ioguix(zoo, folder)
    if folder and (folder / "check_postgres.pl").exists():
        yield "check_postgres", "check_postgres, action bloat", _check_postgres(zoo, folder)


def _missed(ratios: Ratios, truths: list[Truth]) -> dict[str, float]:
    return {
        each.name: abs(ratios[each.name] - each.ratio) * 100 for each in truths if ratios.get(each.name) is not None
    }


def accuracy(folder: Path | None) -> tuple[list[str], dict[str, Accuracy]]:
    """Build the zoo, run all contenders, rewrite it and compare; returns the lines of a table, and their data."""
    with Server(settings={"autovacuum": "off"}) as server:
        zoo = new_database(server, "bloat")
        build_bloat_zoo(zoo)
        zoo.execute("CREATE EXTENSION pgstattuple", "CREATE EXTENSION pageinspect")
        reports = list(_reports(zoo, folder))
        truths = rewrite(zoo)
    found = {key: Accuracy(key, title, _missed(ratios, truths)) for key, title, ratios in reports}
    lines = [
        f"| report on {len(truths)} relations | with a figure | median error in points | worst | of |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    return [*lines, *(each.line for each in found.values())], found


def crowd(database: Database, relations: int) -> int:
    """Fill a database with many small tables and their indexes; returns how many relations there are."""
    database.execute(_MANY.format(tables=relations // 2))
    database.execute("VACUUM")
    return int(database.query(_RELATIONS)[0][0])


def estimates(bench: Bench, runs: int) -> tuple[list[str], dict[str, Series]]:
    """The estimate stage on few and on many relations."""
    known, databases = [], []
    for relations in (FEW, MANY):
        database = new_database(bench.server, f"relations_{relations}")
        databases.append(database)
        count = crowd(database, relations)

        def act(dummy: Bench, _folder: Path, database: Database = database) -> Sample:
            words = {**database.login(), "measure_budget": "0", "min_size": "0"}
            return module("pg_bloat_report", words)[0]

        known.append(Contender(f"estimate-{relations}", f"**module `pg_bloat_report`**, {count:,} relations", act))
    found = compete(bench, known, runs)
    for database in databases:
        database.drop()
    return results_table("estimate stage", known, found, known[0].key), found


def idle(bench: Bench, runs: int) -> tuple[list[str], dict[str, Series]]:
    """`maintenance` with nothing to do, alone and with a look at the newest backup, and the same play with a ping."""

    def act(playbook: str, **extra: object) -> Sample:
        return Sample(bench.play(playbook, backup_verify_max_age="1d", **extra))

    act(PLAYBOOK)  # what is due is done now
    proven = "**the same**, with a backup that was proven within the day"
    known = [
        Contender("maintenance-ping", "a play with one `ping` task", lambda *_: act(PING_PLAYBOOK), ROUNDS),
        Contender(
            "maintenance",
            "**playbook `maintenance`, nothing to do**",
            lambda *_: act(PLAYBOOK, postgres_backup_dir=""),
            ROUNDS,
        ),
        Contender("maintenance-proven", proven, lambda *_: act(PLAYBOOK), ROUNDS),
    ]
    found = compete(bench, known, runs)
    return results_table("playbook", known, found, known[0].key), found


def measure(bench: Bench, runs: int, only: re.Pattern[str], peers: Path | None) -> tuple[list[str], list[Bar]]:
    """Run what is wanted; returns the lines of the tables, and what was promised."""
    lines: list[str] = []
    near: dict[str, Accuracy] = {}
    took: dict[str, Series] = {}
    if only.search("accuracy"):
        told, near = accuracy(peers)
        lines += [*told, ""]
    for key, ask in (("estimates", estimates), ("maintenance", idle)):
        if only.search(key):
            told, found = ask(bench, runs)
            took.update(found)
            lines += [*told, ""]
    return lines, bars(near, took)


def bars(near: dict[str, Accuracy], took: dict[str, Series]) -> list[Bar]:
    """Judge what was measured; what was left out has no bar."""
    found = []
    if OURS in near:
        found.append(Bar("median error of measured bloat", 1, True, near[OURS].median, "points", "against a rewrite"))
        found.append(Bar("worst error of measured bloat", 5, True, near[OURS].most, "points", "against a rewrite"))
    for key in ("ioguix", "check_postgres"):
        if key in near:
            promise = f"worst error of the estimate alone to {key}'s"
            found.append(Bar(promise, 0.5, True, near[ALONE].most / near[key].most, "x", "the same relations"))
    few, many = took.get(f"estimate-{FEW}"), took.get(f"estimate-{MANY}")
    if few and many:
        found.append(Bar(f"estimate of {MANY:,} relations", 10, True, many.seconds, "s", "module's process"))
        note = f"peak for {MANY:,} relations to that for {FEW:,}"
        found.append(Bar("memory of an estimate", 1.25, True, many.peak_bytes / few.peak_bytes, "x", note))
    if "maintenance" in took:
        own = took["maintenance"].seconds - took["maintenance-ping"].seconds
        found.append(Bar("maintenance with nothing to do, less one ping", 2, True, own, "s", "whole playbooks"))
    return found
