"""Run the examples of docs/ on a throwaway server and print their real output, for pasting into the pages.

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
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".venv" / "collections")]

from tests.kubernetes import place as places
from tests.support.controller import LOCAL, SETTINGS, adopt_orphans, end_children, interrupt_on_signals
from tests.support.databases import Database, new_database
from tests.support.processes import children
from tests.support.replicas import replica_of
from tests.support.servers import Server, without_pg_variables
from tests.support.workspace import workspace
from tests.support.zoo import build_app

COLLECTION = "godel.postgres_runbook"
DATABASE = "godel_production"
ROLE = "godel"  # of the application
SLOW = (
    "SELECT u.email, count(*) FROM users u JOIN events e ON e.user_id = u.id GROUP BY u.email ORDER BY 2 DESC LIMIT 10"
)
QUICK = "SELECT * FROM sessions WHERE user_id = {} ORDER BY started_at DESC"


@dataclass
class Examples:
    """An inventory in a folder, and ``ansible-playbook`` on it; real paths print as those of the README."""

    folder: Path
    paths: dict[str, str] = field(default_factory=dict)

    def write_inventory(self, hosts: dict[str, dict[str, object]], **variables: object) -> None:
        """Write the inventory of the README with these hosts, and what Ansible has to know."""
        common = {
            **LOCAL,
            "postgres_db": DATABASE,
            "postgres_backup_dir": str(self.folder / "backups"),
            "postgres_report_dir": "{{ inventory_dir }}/reports",
            **variables,
        }
        inventory = {"postgres": {"hosts": hosts, "vars": common}}
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(inventory, sort_keys=False, width=1000))
        collections = ROOT / ".venv" / "collections"
        (self.folder / "ansible.cfg").write_text(SETTINGS.format(folder=self.folder, collections=collections))

    def write_servers(self, **servers: Server) -> None:
        """Write the inventory with these servers as hosts of `example.com`."""
        hosts: dict[str, dict[str, object]] = {
            f"{name}.example.com": {
                "postgres_login": {key: value for key, value in server.login().items() if key != "db"},
                "backup_bin_dir": str(server.client_dir),
                "restore_bin_dir": str(server.client_dir),
                "backup_verify_bin_dir": str(server.bin_dir),
            }
            for name, server in servers.items()
        }
        self.write_inventory(hosts, backup_verify_scratch_dir=str(self.folder))

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


def back_up(examples: Examples, _database: Database) -> None:
    """docs/backup.md and the README."""
    chapter("backup")
    examples.play("backup", "--check")
    examples.play("backup")
    examples.play("backup")
    examples.play("backup_verify")
    examples.play("backup_status")
    examples.play("backup_retention", "--check", "--diff")


def restore(examples: Examples, database: Database) -> None:
    """docs/restore.md: rows are deleted and restored, and the restore is rolled back."""
    chapter("restore")
    database.execute("DELETE FROM events WHERE id % 7 = 0")
    examples.play("restore", "--check", "--diff")
    examples.play("restore")
    examples.play("restore_rollback")
    examples.play("restore_discard", "-e", "restore_discard_due_only=false", "--check")


def maintain(examples: Examples, database: Database) -> None:
    """docs/maintenance.md: dead rows and a wide index."""
    chapter("maintenance")
    database.execute(
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


def find_out_why(examples: Examples, database: Database) -> None:
    """docs/troubleshooting.md: each section has one command."""
    chapter("troubleshooting")
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
        examples.write_servers(db1=database.server, db2=standby)
        standby.query("SELECT pg_wal_replay_pause()")
        database.execute("UPDATE events SET amount = amount", "UPDATE events SET amount = amount")
        examples.play("replication")
        examples.play("vacuum", "--limit", "db2.example.com")
        examples.write_servers(db1=database.server)
    database.execute("CREATE ROLE reporting LOGIN PASSWORD 'dummy-r'")
    examples.play(
        "backup", "-e", '{"backup_max_age": "0", "postgres_login": {"login_host": "127.0.0.1", "login_port": '
        f'{database.server.port}, "login_user": "reporting", "login_password": "dummy-r"}}}}',
    )  # fmt: skip
    examples.play("backup", "-e", "backup_job=4")
    victim = max((path for path in (examples.folder / "backups").rglob("data/*")), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    examples.play("backup_verify", "-e", "backup_verify_max_age=0")
    examples.play("restore")
    examples.play("backup_status")


def peers(examples: Examples, _database: Database) -> None:
    """docs/peers.md: the same state in other tools, and Prometheus."""
    chapter("peers")
    examples.play("bloat_report")
    examples.play("health", "-e", "health_prometheus_dir={{ inventory_dir }}/prometheus")
    for path in sorted(examples.folder.glob("prometheus/*")):
        print(path.name, path.read_text(), sep="\n")


@contextlib.contextmanager
def examples_on_a_server() -> Iterator[tuple[Examples, Database]]:
    """A server with a filled database."""
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
    with Server(settings=settings) as server:
        database = new_database(server, DATABASE)
        with contextlib.closing(database.connect()) as connection:
            build_app(connection, 50)
        database.execute("CREATE EXTENSION pg_stat_statements")
        folder = Path(tempfile.mkdtemp(prefix="docs-", dir=workspace()))
        folder.chmod(0o755)
        paths = {
            str(folder / "backups"): "/backups",
            str(server.data_dir): f"/var/lib/postgresql/{server.major}/main",
            str(server.bin_dir): f"/usr/lib/postgresql/{server.major}/bin",
            str(folder): "/srv/runbook",
        }
        examples = Examples(folder, paths)
        examples.write_servers(db1=server)
        yield examples, database


def kubernetes() -> None:
    """docs/kubernetes.md: a server in a pod of the simulated cluster."""
    chapter("kubernetes")
    with places.prepared("ex") as place:
        place.execute(
            "CREATE TABLE users (id int PRIMARY KEY, name text)",
            "INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 50000) AS n",
        )
        folder = Path(tempfile.mkdtemp(prefix="docs-", dir=workspace()))
        folder.chmod(0o755)
        paths = {place.volume: "/backups", str(folder): "/srv/runbook"}
        examples = Examples(folder, paths)
        login = {"login_user": places.USER, "login_password": places.PASSWORD}
        options = {"postgres_login": login, "postgres_kubernetes": place.options()}
        examples.write_inventory({"godel": {}}, postgres_backup_dir=place.volume, **options)
        examples.play("backup")
        examples.play("backup_verify")
        schedule = {"image": place.runbook_image, "password_secret": place.secret, "password_key": "POSTGRES_PASSWORD"}
        examples.play(
            "backup_schedule",
            *(word for name, value in schedule.items() for word in ("-e", f"backup_schedule_{name}={value}")),
        )
        examples.play("backup_status", "-e", "backup_status_schedule=backup-godel-production")


ON_A_SERVER = {
    "backup": back_up,
    "restore": restore,
    "maintenance": maintain,
    "troubleshooting": find_out_why,
    "peers": peers,
}


def main(argv: list[str]) -> int:
    """Run the examples. The chapters but `kubernetes` share one server; each needs those before it."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*ON_A_SERVER, "kubernetes"]
    parser.add_argument("chapters", nargs="*", default=names, metavar="CHAPTER", help=f"of {', '.join(names)} (all)")
    chosen = parser.parse_args(argv).chapters
    interrupt_on_signals()
    adopt_orphans()
    spared = set(children(os.getpid()))
    try:
        if set(chosen) & set(ON_A_SERVER):
            with examples_on_a_server() as (examples, database):
                for name in filter(chosen.__contains__, ON_A_SERVER):
                    ON_A_SERVER[name](examples, database)
        if "kubernetes" in chosen:
            kubernetes()
    finally:
        end_children(spared)
        shutil.rmtree(workspace(), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
