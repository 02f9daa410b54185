"""How near the truth bloat reports are: `python -m tests.benchmarks.bloat [FOLDER]` prints a table in Markdown.

The folder may hold what others ask: `table_bloat.sql` and `btree_bloat.sql` of ioguix/pgsql-bloat-estimation, and
`check_postgres.pl` of bucardo/check_postgres. They are not ours to distribute.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.bloat_zoo import SCHEMA, Truth, build_bloat_zoo, rewrite
from tests.support.databases import Database, new_database
from tests.support.modules import expect_success
from tests.support.servers import Server

Ratios = dict[str, float]
_PAGES = re.compile(r"(?:table|index) (?:bloat_zoo\.)?(\w+) rows:\S+ pages:(\d+) shouldbe:(\d+)")


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
    """Its tables come together with their TOAST; that they cannot be told apart counts for them, not against them."""
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


def _reports(zoo: Database, folder: Path | None) -> Iterator[tuple[str, Ratios]]:
    yield "**`pg_bloat_report`**, measured", _ours(zoo, "60s")
    yield "**`pg_bloat_report`**, estimate alone", _ours(zoo, "0")
    yield "**the same**, without those of low confidence", _ours(zoo, "0", ("medium", "high"))
    if folder and (folder / "table_bloat.sql").exists():
        yield "ioguix/pgsql-bloat-estimation", _ioguix(zoo, folder)
    if folder and (folder / "check_postgres.pl").exists():
        yield "check_postgres, action bloat", _check_postgres(zoo, folder)


def _line(name: str, ratios: Ratios, truths: list[Truth]) -> str:
    missed = {
        each.name: abs(ratios[each.name] - each.ratio) * 100 for each in truths if ratios.get(each.name) is not None
    }
    worst = max(missed, key=lambda each: missed[each])
    median = statistics.median(missed.values())
    return f"| {name} | {len(missed)} | {median:.2f} | {missed[worst]:.1f} | `{worst}` |"


def main() -> None:
    """Build the zoo, ask everybody, rewrite it, compare."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with Server(settings={"autovacuum": "off"}) as server:
        zoo = new_database(server, "bloat")
        build_bloat_zoo(zoo)
        zoo.execute("CREATE EXTENSION pgstattuple")
        reports = list(_reports(zoo, folder))
        truths = rewrite(zoo)
    print(f"{len(truths)} relations, PostgreSQL {server.major}.\n")
    print("| report | relations with a figure | median error in points | worst | of |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name, ratios in reports:
        print(_line(name, ratios, truths))


if __name__ == "__main__":
    main()
