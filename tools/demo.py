"""Back up a database, verify the backup, refuse a damaged copy, restore after an accident, and show the health.

Everything happens on a throwaway server and in a temporary folder, which are removed afterwards. The reports stay.
"""

# ruff: noqa: E402 - what is imported lies beside this folder, not on the search path

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".venv" / "collections")]

import psycopg2

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import human_duration, human_size
from tests.support.controller import HOST, Controller, Played, adopt_orphans, end_children, interrupt_on_signals, report
from tests.support.databases import Database, new_database
from tests.support.processes import children
from tests.support.servers import Server, ServerError
from tests.support.workspace import run_user, workspace
from tests.support.zoo import build_app

COLLECTION = "godel.postgres_runbook"
REPORTS = ROOT / ".build" / "demo"
NAME = "shop"
TABLES = ("users", "sessions", "events")
WIDTH = 108


class Disappointment(Exception):
    """A result differs from what this demo promises."""


@dataclass(frozen=True)
class Step:
    """What a playbook did: the run, and its report."""

    played: Played
    report: dict[str, Any]


# --- what is shown ---------------------------------------------------------------------------------


def say(text: str = "", indent: int = 0) -> None:
    """Print a paragraph."""
    space = " " * indent
    print(textwrap.fill(text, WIDTH, initial_indent=space, subsequent_indent=space), flush=True)


def chapter(title: str) -> None:
    """Print a heading."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def show_command(words: list[str]) -> None:
    """Print a command as one types it, an option to a line when it is long."""
    text = f"  $ {' '.join(words)}"
    if len(text) <= WIDTH:
        print(text, flush=True)
        return
    head, *options = " ".join(words).split(" -e ")
    print(" \\\n        ".join([f"  $ {head}", *(f"-e {option}" for option in options)]), flush=True)


def facts(rows: list[tuple[str, str]]) -> None:
    """Print names and what is to say about them."""
    for name, text in rows:
        filled = textwrap.fill(text, WIDTH - 18, subsequent_indent=" " * 18)
        print(f"  {name:<16}{filled}", flush=True)


# --- what is done ----------------------------------------------------------------------------------


@dataclass
class Demo:
    """The server, the controller, and where things are."""

    server: Server
    database: Database
    controller: Controller
    folder: Path
    reports: Path

    def play(self, playbook: str, *, succeeds: bool = True, **extra: object) -> Step:
        """Run a playbook of the collection as a user does, and show the essential lines."""
        name = f"{COLLECTION}.{playbook}"
        show_command(self.controller.command(name, extra))
        played = self.controller.run(name, extra)
        if (played.returncode == 0) is not succeeds:
            print(played.output)
            raise Disappointment(f"{name} ended with status {played.returncode}")
        where = Path(str(extra.get("postgres_report_dir", self.reports)))
        step = Step(played, report(where, playbook))
        say(step.report["message"], indent=4)
        say(f"{played.recap}   [{human_duration(played.duration_s)}]", indent=4)
        return step

    def fill(self, megabytes: int) -> str:
        """Fill the database; returns what is in it, in words."""
        started = time.monotonic()
        with contextlib.closing(self.database.connect()) as connection:
            build_app(connection, megabytes)
        took = human_duration(time.monotonic() - started)
        size = self.database.query("SELECT pg_database_size(current_database())")[0][0]
        counts = [self.database.query(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES]  # noqa: S608
        content = ", ".join(f"{count:,} {table}" for count, table in zip(counts, TABLES, strict=True))
        return f"database {NAME}: {content}; {human_size(size)}, filled in {took}"


def insist(condition: bool, promise: str) -> None:
    """Raise unless a promise of the demo holds."""
    if not condition:
        raise Disappointment(f"not so: {promise}")


def flip_one_bit(backup: Path) -> str:
    """Flip a random bit in the largest file of a backup; returns which, in words."""
    victim = max((path for path in backup.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    before = victim.stat()
    place, bit = random.randrange(before.st_size), random.randrange(8)  # noqa: S311
    with victim.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"bit {bit} of byte {place:,} in {victim.relative_to(backup)}, of {before.st_size:,} bytes"


def tell(demo: Demo, megabytes: int) -> list[tuple[str, str]]:
    """Run the demo; returns the summary."""
    account = run_user()
    origin = f"PostgreSQL {demo.server.major} {demo.server.installation.origin}"
    chapter("A server and a database to work on, both throwaway")
    facts([("server", origin + (f", run by the account {account.pw_name}" if account else ""))])
    content = demo.fill(megabytes).split(" ", 1)[1]
    facts([("database", content), ("inventory.yml", "")])
    print(textwrap.indent(demo.controller.inventory.rstrip(), "    "), flush=True)

    chapter("1. Take a backup")
    backup = demo.play("backup")
    insist(backup.report["changed"], "a backup was taken")

    chapter("2. Ask for one again: the backup is recent, so nothing is done")
    insist(not demo.play("backup").report["changed"], "the second run changes nothing")

    chapter("3. Verify it: restore it into a throwaway server, compare every row with the source")
    proof = demo.play("backup_verify")
    insist(proof.report["verdict"] == "verified", "the backup is verified")
    compared(demo.folder / "backups" / NAME / backup.report["backup"]["id"], proof.report["restored"])

    chapter("4. Damage a copy: one bit, size and times unchanged")
    damaged = demo.folder / "damaged"
    print("  $ cp -a backups damaged", flush=True)
    shutil.copytree(demo.folder / "backups", damaged, copy_function=shutil.copy2)
    bit = flip_one_bit(damaged / NAME / backup.report["backup"]["id"] / "data")
    say(f"flipped {bit}", indent=4)
    elsewhere = {"postgres_backup_dir": damaged, "postgres_report_dir": demo.reports / "damaged"}
    refusal = demo.play("backup_verify", succeeds=False, **elsewhere, backup_verify_max_age="0")
    insist(refusal.report["verdict"] == "failed", "the damaged copy is refused")

    chapter("5. An accident, and a restore: next to production first, then a swap in one transaction")
    before = demo.database.query("SELECT count(*) FROM events")[0][0]
    accident = "DELETE FROM events WHERE id % 2 = 0"
    demo.database.execute(accident)
    after = demo.database.query("SELECT count(*) FROM events")[0][0]
    say(f"{NAME}=# {accident};  -- {before:,} rows, then {after:,}", indent=2)
    restore = demo.play("restore")
    insist(demo.database.query("SELECT count(*) FROM events")[0][0] == before, "all events are back")

    chapter("6. The health of the server, the most severe findings first")
    health = demo.play("health", health_fail_at="never")
    worst(health.report)
    return summary(content, before - after, (backup, proof, refusal, restore, health))


def compared(backup: Path, restored: dict[str, Any]) -> None:
    """Print what a verification compared, table by table."""
    source = json.loads((backup / "manifest.json").read_text())["fingerprint"]["tables"]
    print(f"    {'table':<20}{'rows':>10}  {'digest in the source':<24}{'digest in the copy':<24}", flush=True)
    for row in restored["largest_tables"]:
        known = source[row["table"]]
        equal = (known["rows"], known["digest"]) == (row["rows"], row["digest"])
        insist(equal, f"{row['table']} equals its source")
        digests = f"{known['digest']:<24}{row['digest']:<24}"
        print(f"    {row['table']:<20}{row['rows']:>10,}  {digests}equal", flush=True)


def worst(report: dict[str, Any], most: int = 3) -> None:
    """Print the first findings of a report, with their remedies."""
    problems = [each for each in report["findings"] if each["severity"] != "ok"]
    for each in problems[:most]:
        say(f"{each['severity']}: {each['message']}", indent=4)
        say(f"-> {each['remedy']}", indent=8)
    if len(problems) > most:
        say(f"and {len(problems) - most} more on the page", indent=4)


def summary(content: str, lost: int, steps: tuple[Step, Step, Step, Step, Step]) -> list[tuple[str, str]]:
    """Say in a few lines what was done."""
    backup, proof, refusal, restore, health = steps
    taken, damage = backup.report["backup"], refusal.report["differences"][0]
    size, took = human_size(taken["size_bytes"]), human_duration(taken["duration_s"])
    equal, proven = proof.report["why"].rstrip("."), human_duration(proof.report["duration_s"])
    downtime = human_duration(restore.report["swap"]["downtime_s"])
    counts = Counter(each["severity"] for each in health.report["findings"] if each["severity"] != "ok")
    found = ", ".join(f"{number} {severity}" for severity, number in counts.items()) or "no problems"
    rows = {
        "database": content,
        "backup": f"{size} ({taken['format']}, {taken['compression']}) in {took}{whole(backup)}",
        "verified": f"{equal}, in {proven}{whole(proof)}",
        "damaged copy": f"refused, because of the {damage['kind']} {damage['subject']}{whole(refusal)}",
        "restore": f"{lost:,} lost rows are back; the database was unavailable for {downtime}{whole(restore)}",
        "health": f"{found}{whole(health)}",
    }
    return list(rows.items())


def whole(step: Step) -> str:
    """Say how long the playbook took as a whole."""
    return f"; the whole playbook took {human_duration(step.played.duration_s)}"


@contextlib.contextmanager
def prepared(reports: Path) -> Iterator[Demo]:
    """A server, an empty database and a controller, in a folder; all but the reports is removed on exit."""
    folder = workspace()
    spared = set(children(os.getpid()))
    try:
        with Server(settings={"shared_buffers": "128MB"}) as server:
            variables = {
                "postgres_db": NAME,
                "postgres_backup_dir": str(folder / "backups"),
                "postgres_report_dir": str(reports),
                "backup_bin_dir": str(server.client_dir),
                "backup_verify_bin_dir": str(server.bin_dir),
                "backup_verify_scratch_dir": str(folder),
                "restore_bin_dir": str(server.bin_dir),
                "restore_scratch_dir": str(folder),
            }
            controller = Controller(folder, server.login(), variables)
            yield Demo(server, new_database(server, NAME), controller, folder, reports)
    finally:
        end_children(spared)
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str]) -> int:
    """Run the demo; returns the exit code: 0 when everything was as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100, metavar="MB", help="size of the database (default: 100)")
    parser.add_argument(
        "--reports", type=Path, default=REPORTS, metavar="FOLDER", help="where the reports go (default: .build/demo)"
    )
    arguments = parser.parse_args(argv)
    interrupt_on_signals()
    adopt_orphans()
    started = time.monotonic()
    try:
        print("Starting a throwaway server.", flush=True)
        with prepared(arguments.reports.resolve()) as demo:
            told = tell(demo, arguments.size)
    except KeyboardInterrupt as interrupt:
        print("\nInterrupted. The server is stopped and everything removed.")
        return 128 + int(interrupt.args[0])
    except Disappointment as error:
        print(f"\nThe demo FAILED: {error}.\nThe server is stopped and everything removed.", file=sys.stderr)
        return 1
    except (ServerError, LookupError, OSError, psycopg2.Error) as error:
        print(
            f"\nThe demo cannot run here: {error}\nThe server is stopped and everything removed.",
            file=sys.stderr,
        )
        return 2
    chapter(f"In short ({human_duration(time.monotonic() - started)})")
    facts(told)
    reports = arguments.reports.resolve()
    facts([("reports", f"{reports / HOST}: each as JSON, Markdown and HTML"), ("", f"open {reports / 'health.html'}")])
    say("The server is stopped and its files are removed.", indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
