"""``make bench``: measure the collection against its peers, side by side in one run.

Everything runs on a throwaway server, on a disk (``RUNBOOK_TEST_DIR`` names another folder than /var/tmp).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg2
from ansible.release import __version__ as ansible_version

from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import human_size
from tests.benchmarks import backups, bloat, health, pods, restores, swaps
from tests.benchmarks.bench import PING_PLAYBOOK, Bench, Contender, compete, prepared
from tests.benchmarks.measure import BenchmarkError, Sample, Series
from tests.benchmarks.tables import bars, bars_table, results_table
from tests.support.controller import adopt_orphans, interrupt_on_signals
from tests.support.programs import Installation, installations
from tests.support.servers import ServerError
from tests.support.workspace import PLACE_VARIABLE

GROUPS = ("backup", "restore", "idle", "pods", "swap", "bloat", "health")
SIZE = re.compile(r"(\d+)(?:\s*(MB|GB))?", re.IGNORECASE)
BEGIN, END = "<!-- begin of what make bench printed -->", "<!-- end -->"
IDLE_ROUNDS = 2
MAX_JOBS = 8


def megabytes(text: str) -> int:
    """Read a size such as 500, 500MB or 2GB."""
    match = SIZE.fullmatch(text.strip())
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 2GB")
    return int(match[1]) * (1024 if (match[2] or "").upper() == "GB" else 1)


def idle_contenders() -> list[Contender]:
    """Return the backup playbook when the backup is young enough, and the same play with a ping."""
    return [
        Contender("ping", "the same play with one `ping` task", _ping, IDLE_ROUNDS),
        Contender("idle", "**playbook `backup`, nothing to do**", _idle, IDLE_ROUNDS),
    ]


def _ping(bench: Bench, _folder: Path) -> Sample:
    return Sample(bench.play(PING_PLAYBOOK))


def _idle(bench: Bench, _folder: Path) -> Sample:
    return Sample(bench.play(backups.PLAYBOOK, backup_max_age="1d"))


def measure(
    bench: Bench, groups: Sequence[str], runs: int, only: re.Pattern[str], peers: Path | None = None
) -> list[str]:
    """Run what is wanted; returns the lines of the tables."""
    found: dict[str, dict[str, Series]] = {name: {} for name in GROUPS}
    lines: list[str] = []
    for name, title, base, known in (
        ("backup", "backup", "runbook", backups.contenders),
        ("restore", "restore", "psql", restores.contenders),
        ("idle", "playbook", "ping", lambda _bench: idle_contenders()),
    ):
        if name in groups:
            chosen = [each for each in known(bench) if only.search(each.key)]
            found[name] = compete(bench, chosen, runs)
            lines += [*results_table(title, chosen, found[name], base if base in found[name] else chosen[0].key), ""]
    if "pods" in groups:
        lines += measure_pods(bench, runs, only, found["pods"])
    if "swap" in groups:
        chosen = [each for each in swaps.contenders(bench) if only.search(each.key)]
        found["swap"] = compete(bench, chosen, runs)
        lines += [*results_table("into production", chosen, found["swap"], chosen[0].key), ""]
    together = {**found["pods"], **found["swap"]}
    judged = bars(found["backup"], found["restore"], found["idle"], backups.bare_key(bench), together)
    if "bloat" in groups:
        told, promises = bloat.measure(bench, runs, only, peers)
        lines += told
        judged += promises
    if "health" in groups:
        told, promises = health.measure(bench, runs, only)
        lines += told
        judged += promises
    return [*lines, *bars_table(judged)]


def measure_pods(bench: Bench, runs: int, only: re.Pattern[str], found: dict[str, Series]) -> list[str]:
    """Run what is wanted of the work in a pod, each beside its own peer, which is the first; returns the tables' lines."""
    lines = []
    with pods.prepared(bench) as pod:
        for title, known in (
            ("dump in a pod", pods.dumps(pod)),
            ("1 GiB from a pod", pods.streams(pod)),
            ("playbook for a pod", pods.playbooks(pod)),
        ):
            chosen = [each for each in known if only.search(each.key)]
            if chosen:
                results = compete(bench, chosen, runs)
                found.update(results)
                lines += [*results_table(title, chosen, results, chosen[0].key), ""]
    return lines


def of_major(text: str) -> Installation:
    """Find the installation of a major."""
    found = {str(each.major): each for each in installations()}
    if text not in found:
        raise argparse.ArgumentTypeError(f"there is no PostgreSQL {text} here, but {', '.join(found)}")
    return found[text]


def describe(bench: Bench, runs: int, command: str) -> str:
    """Say on what and how was measured."""
    version = bench.database.query("SHOW server_version")[0][0].split()[0]
    tables = bench.database.query("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384")[0][0]
    cpus, memory = LocalTarget().cpus(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"`{command}`: {cpus} cores, {human_size(memory)} of memory, PostgreSQL {version} "
        f"({bench.server.installation.origin}), Python {platform.python_version()}, ansible-core {ansible_version}; "
        f"database of {human_size(bench.size_bytes)} in {tables} tables. Medians of {runs} runs, one contender after the other in each."
    )


def write(path: Path, text: str) -> None:
    """Put the text between the marks of a page, or into a file of its own."""
    page = path.read_text() if path.exists() else ""
    if BEGIN in page and END in page:
        text = f"{page.partition(BEGIN)[0]}{BEGIN}\n\n{text}\n{END}{page.partition(END)[2]}"
    path.write_text(text)


def main(argv: list[str]) -> int:
    """Run the benchmarks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--size", type=megabytes, default=500, help="of the database: 500MB (the default), 2GB ...")
    parser.add_argument("--tenants", type=int, default=4, help="schemas with an equal share each (default: 4)")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (default: 3)")
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"some of {','.join(GROUPS)} (default: all)")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="PATTERN", help="contenders by key")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="with the queries that bloat is compared with")
    parser.add_argument("--major", type=of_major, help="of PostgreSQL (default: the oldest with its own programs)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables there, too")
    arguments = parser.parse_args(argv)
    interrupt_on_signals()
    adopt_orphans()
    os.environ.setdefault(PLACE_VARIABLE, "/var/tmp")
    jobs = min(MAX_JOBS, LocalTarget().cpus())
    given = "".join(
        f" --{name} {getattr(arguments, name)}"
        for name in ("tenants", "runs")
        if getattr(arguments, name) != parser.get_default(name)
    )
    given += f" --major {arguments.major.major}" if arguments.major else ""
    command = f"make bench SIZE={arguments.size}MB" + (f' ARGS="{given.strip()}"' if given else "")
    try:
        with prepared(jobs, arguments.major) as bench:
            print(f"Filling a database of about {arguments.size} MB.", file=sys.stderr, flush=True)
            bench.fill(arguments.size, arguments.tenants)
            about = describe(bench, arguments.runs, command)
            print(about, file=sys.stderr, flush=True)
            lines = measure(bench, arguments.groups.split(","), arguments.runs, arguments.only, arguments.peers)
    except KeyboardInterrupt as interrupt:
        print("Interrupted; the server is stopped and everything removed.", file=sys.stderr)
        return 128 + int(interrupt.args[0])
    except (BenchmarkError, ServerError, psycopg2.Error) as error:
        print(f"The benchmark cannot run: {error}", file=sys.stderr)
        return 1
    text = "\n".join([about, "", *lines, ""])
    print(text)
    if arguments.output:
        write(arguments.output, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
