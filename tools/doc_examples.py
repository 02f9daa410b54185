"""Run the examples of docs/ on a throwaway server and print their real output, to be pasted and cut.

The inventory is that of the README's quick start, but for the login: a throwaway server has its own port and password.
"""

# ruff: noqa: E402 - what is imported lies beside this folder, not on the search path

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".venv" / "collections")]

from tests.support.controller import LOCAL, SETTINGS, adopt_orphans, end_children, interrupt_on_signals
from tests.support.databases import Database, new_database
from tests.support.processes import children
from tests.support.replicas import replica_of
from tests.support.servers import Server, without_pg_variables
from tests.support.workspace import workspace
from tests.support.zoo import build_app

COLLECTION = "godel.postgres_runbook"
DATABASE = "godel_production"
HOST, STANDBY = "db1.example.com", "db2.example.com"
ROLE = "godel"  # of the application
SLOW = (
    "SELECT u.email, count(*) FROM users u JOIN events e ON e.user_id = u.id GROUP BY u.email ORDER BY 2 DESC LIMIT 10"
)
QUICK = "SELECT * FROM sessions WHERE user_id = {} ORDER BY started_at DESC"


@dataclass
class Examples:
    """An inventory in a folder, and ``ansible-playbook`` on it; real paths print as those of the README."""

    folder: Path
    database: Database
    paths: dict[str, str] = field(default_factory=dict)

    def write_inventory(self, hosts: dict[str, Server]) -> None:
        """Write the inventory of the README with these hosts."""
        variables = {
            **LOCAL,
            "postgres_db": DATABASE,
            "postgres_backup_dir": str(self.folder / "backups"),
            "postgres_report_dir": "{{ inventory_dir }}/reports",
            "backup_verify_scratch_dir": str(self.folder),
        }
        entries = {}
        for name, server in hosts.items():
            login = {key: value for key, value in server.login().items() if key != "db"}
            entries[name] = {
                "postgres_login": login,
                "backup_bin_dir": str(server.client_dir),
                "restore_bin_dir": str(server.client_dir),
                "backup_verify_bin_dir": str(server.bin_dir),
            }
        inventory = {"postgres": {"hosts": entries, "vars": variables}}
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(inventory, sort_keys=False, width=1000))
        collections = ROOT / ".venv" / "collections"
        (self.folder / "ansible.cfg").write_text(SETTINGS.format(folder=self.folder, collections=collections))

    def play(self, playbook: str, *options: str) -> None:
        """Run a playbook and print the command and its output."""
        words = ["ansible-playbook", "-i", "inventory.yml", f"{COLLECTION}.{playbook}", *options]
        print(f"$ {shlex.join(words)}", flush=True)
        kept = {name: value for name, value in without_pg_variables().items() if not name.startswith("ANSIBLE_")}
        done = subprocess.run(
            words,
            executable=Path(sys.executable).with_name("ansible-playbook"),
            cwd=self.folder,
            env={**kept, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(f"{self._shown(done.stdout)}[exit status {done.returncode}]\n", flush=True)
        for report in sorted(self.folder.glob(f"reports/*/{playbook}.md")):
            print(f"$ cat {report.relative_to(self.folder)}\n{self._shown(report.read_text())}", flush=True)

    def _shown(self, text: str) -> str:
        for real, shown in self.paths.items():
            text = text.replace(real, shown)
        return text


def chapter(title: str) -> None:
    """Print a heading."""
    print(f"##### {title}\n", flush=True)


def back_up(examples: Examples) -> None:
    """docs/backup.md and the README."""
    chapter("backup")
    examples.play("backup", "--check")
    examples.play("backup")
    examples.play("backup")
    examples.play("backup_verify")
    examples.play("backup_status")
    examples.play("backup_retention", "--check", "--diff")


def restore(examples: Examples) -> None:
    """docs/restore.md: rows are deleted, restored, and the restore is taken back."""
    chapter("restore")
    examples.database.execute("DELETE FROM events WHERE id % 7 = 0")
    examples.play("restore", "--check", "--diff")
    examples.play("restore")
    examples.play("restore_rollback")
    examples.play("restore_discard", "-e", "restore_discard_due_only=false", "--check")


def maintain(examples: Examples) -> None:
    """docs/maintenance.md: dead rows and a wide index."""
    chapter("maintenance")
    examples.database.execute(
        "CREATE EXTENSION pgstattuple",
        "CREATE TABLE jobs (id bigserial PRIMARY KEY, state text, payload text)",
        "INSERT INTO jobs (state, payload) SELECT 'new', 'job ' || n FROM generate_series(1, 900000) AS n",
        "CREATE INDEX jobs_by_state ON jobs (state, id)",
        "DELETE FROM jobs WHERE id % 3 > 0",
    )
    time.sleep(1)
    examples.play("maintenance", "--tags", "daily", "--check", "--diff")
    examples.play("maintenance", "--tags", "daily")
    examples.play("maintenance", "--tags", "monthly")
    examples.play("maintenance")
    examples.play("health")


@contextlib.contextmanager
def stuck_sessions(database: Database) -> Iterator[None]:
    """A session that is idle in a transaction, and one that waits for its lock."""
    login = {"user": ROLE, "password": "dummy-g"}
    holder = database.connect(autocommit=False, application_name="psql", **login)
    waiter = database.connect(application_name="godel-web", **login)
    with contextlib.closing(holder), contextlib.closing(waiter):
        holder.cursor().execute("UPDATE users SET email = email WHERE id = 1")

        def wait() -> None:
            with contextlib.suppress(Exception):
                waiter.cursor().execute("UPDATE users SET email = email WHERE id = 1")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(8)
        try:
            yield
        finally:
            holder.close()
            thread.join()


def find_out_why(examples: Examples, damaged: Path) -> None:
    """docs/troubleshooting.md: each section has one command."""
    chapter("troubleshooting")
    database = examples.database
    database.execute(
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'dummy-g'", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"
    )
    with stuck_sessions(database):
        examples.play("connections")
        examples.play("terminate_sessions", "-e", "terminate_sessions_blocking_over=5s", "--check", "--diff")
        examples.play("terminate_sessions", "-e", "terminate_sessions_blocking_over=5s")
    database.query("SELECT pg_stat_statements_reset()")
    database.execute("SET work_mem = '64kB'", *[SLOW] * 20, *[QUICK.format(n) for n in range(300)])
    examples.play("query_performance")
    database.query("SELECT pg_create_physical_replication_slot('old_standby', true)")
    database.execute("UPDATE events SET amount = amount")
    examples.play("disk_space", "-e", "disk_space_held_warning=10MB")
    examples.play("disk_space", "-e", "disk_space_drop_slot=old_standby", "--check", "--diff")
    examples.play("disk_space", "-e", "disk_space_drop_slot=old_standby")
    examples.play("storage")
    with replica_of(database.server, "db2") as standby:
        examples.write_inventory({HOST: database.server, STANDBY: standby})
        standby.query("SELECT pg_wal_replay_pause()")
        database.execute("UPDATE events SET amount = amount", "UPDATE events SET amount = amount")
        examples.play("replication")
        examples.play("vacuum", "--limit", STANDBY)
        examples.write_inventory({HOST: database.server})
    database.execute("CREATE ROLE reporting LOGIN PASSWORD 'dummy-r'")
    examples.play(
        "backup", "-e", '{"backup_max_age": "0", "postgres_login": {"login_host": "127.0.0.1", "login_port": '
        f'{database.server.port}, "login_user": "reporting", "login_password": "dummy-r"}}}}',
    )  # fmt: skip
    examples.play("backup", "-e", "backup_job=4")
    victim = max((path for path in damaged.rglob("data/*")), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    examples.play("backup_verify", "-e", "backup_verify_max_age=0")
    examples.play("restore")
    examples.play("backup_status")


def peers(examples: Examples) -> None:
    """docs/peers.md: what other tools would show, and Prometheus."""
    chapter("peers")
    examples.play("bloat_report")
    examples.play("health", "-e", "health_prometheus_dir={{ inventory_dir }}/prometheus")
    for path in sorted(examples.folder.glob("prometheus/*")):
        print(path.name, path.read_text(), sep="\n")


def run(chapters: Sequence[str]) -> None:
    """Run the chapters on one server, in this order."""
    folder = workspace()
    spared = set(children(os.getpid()))
    settings = {
        "shared_buffers": "128MB",
        "shared_preload_libraries": "pg_stat_statements",
        "logging_collector": "on",
        "log_directory": "log",
        "wal_level": "replica",
        "track_io_timing": "on",
        "fsync": "on",
        "full_page_writes": "on",
    }
    try:
        with Server(settings=settings) as server:
            database = new_database(server, DATABASE)
            with contextlib.closing(database.connect()) as connection:
                build_app(connection, 50)
            database.execute("CREATE EXTENSION pg_stat_statements")
            paths = {
                str(folder / "backups"): "/backups",
                str(server.data_dir): "/var/lib/postgresql/15/main",
                str(server.bin_dir): "/usr/lib/postgresql/15/bin",
                str(folder): "/srv/runbook",
                f"127.0.0.1:{server.port}": "db1.example.com:5432",
            }
            examples = Examples(folder, database, paths)
            examples.write_inventory({HOST: server})
            if "backup" in chapters:
                back_up(examples)
            if "restore" in chapters:
                restore(examples)
            if "maintenance" in chapters:
                maintain(examples)
            if "troubleshooting" in chapters:
                find_out_why(examples, folder / "backups")
            if "peers" in chapters:
                peers(examples)
    finally:
        end_children(spared)
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str]) -> int:
    """Run the examples; each chapter needs those before it."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["backup", "restore", "maintenance", "troubleshooting", "peers"]
    parser.add_argument("chapters", nargs="*", default=names, metavar="CHAPTER", help=f"of {', '.join(names)} (all)")
    arguments = parser.parse_args(argv)
    interrupt_on_signals()
    adopt_orphans()
    run(arguments.chapters)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
