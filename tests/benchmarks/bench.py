"""What every contender works on: one server, one database, one folder on a disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.sql import content as sql
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.programs import SCRATCH, find
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target import work_directory
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify import scratch_instance
from tests.benchmarks.measure import Argv, BenchmarkError, Sample, Series, module, run
from tests.support.controller import Controller, end_children
from tests.support.databases import Database, new_database
from tests.support.processes import children
from tests.support.programs import Installation, client_for
from tests.support.servers import Server, without_pg_variables
from tests.support.workspace import REPOSITORY, workspace
from tests.support.zoo import build_app

NAME = "bench"
RESTORED = "restored"
PING_PLAYBOOK = "ping.yml"
# A server as one runs it, and not as tests do: what is written is durable.
SETTINGS: dict[str, object] = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "maintenance_work_mem": "256MB",
    "dynamic_shared_memory_type": "posix",
}


@dataclass
class Bench:
    """The server with its database, ready to be backed up, and a catalog with one backup of it."""

    database: Database
    folder: Path
    controller: Controller
    jobs: int
    backup: dict[str, Any] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        """The server of the database."""
        return self.database.server

    @property
    def env(self) -> dict[str, str]:
        """The environment with which libpq's programs find the database."""
        return self.server.environment(NAME)

    @property
    def size_bytes(self) -> int:
        """The size of the database."""
        return int(self.database.query("SELECT pg_database_size(current_database())")[0][0])

    @property
    def compression(self) -> str:
        """What the module chose, as a value for pg_dump's --compress."""
        chosen = str(self.backup["compression"])
        return chosen if client_for(self.server.major).major >= 16 else chosen.rpartition(":")[2]

    @property
    def dump(self) -> str:
        """The directory archive inside the catalogued backup."""
        return f"{self.backup['path']}/data"

    @property
    def plain(self) -> Path:
        """A script of the database, packed with gzip, as the runbook makes it."""
        return self.folder / "plain.sql.gz"

    def client(self, name: str) -> str:
        """The path of a client program."""
        return str(self.server.program(name))

    def params(self, **over: Any) -> dict[str, Any]:
        """The parameters that pg_backup and pg_restore_verify share."""
        return {
            **self.server.login(db=NAME),
            "backup_dir": str(self.folder / "catalog"),
            "bin_dir": str(self.server.client_dir),
            "jobs": self.jobs,
            **over,
        }

    def fill(self, megabytes: int, tenants: int) -> None:
        """Fill the database, a schema for each tenant, and take the backup that restores begin with."""
        for number in range(1, tenants + 1):
            schema = f"tenant_{number}"
            self.database.execute(f"CREATE SCHEMA {schema}", f"ALTER DATABASE {NAME} SET search_path = {schema}")
            with contextlib.closing(self.database.connect()) as connection:
                build_app(connection, megabytes // tenants)
        self.database.execute(f"ALTER DATABASE {NAME} RESET search_path", "CHECKPOINT")
        dummy, result = module("pg_backup", self.params())
        self.backup = result["backup"]
        run([self.client("pg_dump"), "--compress=1", f"--file={self.plain}"], self.env)

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[str]:
        """An empty database on the server."""
        name = self.server.create_database(f"{NAME}_{RESTORED}")
        try:
            yield name
        finally:
            self.server.drop_database(name)

    @contextlib.contextmanager
    def scratch_server(self) -> Iterator[dict[str, str]]:
        """A scratch server as a verification starts it, with an empty database; yields libpq's environment."""
        target = LocalTarget()
        programs = find(
            target, self.server.major, bin_dir=str(self.server.bin_dir), needed=SCRATCH, purpose="to restore"
        )
        like = self.database.query("SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()")[0]
        locale = f"ENCODING 'UTF8' LC_COLLATE '{like[0]}' LC_CTYPE '{like[1]}'"
        with (
            work_directory.work_directory(target, str(self.folder)) as home,
            scratch_instance.instance(target, programs, home, superuser="postgres", jobs=self.jobs) as (server, dummy),
        ):
            with server.connect("postgres") as session:
                session.execute(f"CREATE DATABASE {RESTORED} TEMPLATE template0 {locale}")
            yield {
                **without_pg_variables(),
                "PGHOST": str(server.login.unix_socket),
                "PGUSER": "postgres",
                "PGDATABASE": RESTORED,
            }

    def digest_queries(self) -> list[Argv]:
        """The digest of each table as the fingerprint reads it: a psql for each."""
        with contextlib.closing(self.database.connect()) as connection, connection.cursor() as cursor:
            for name, value in sql.PINNED_SETTINGS.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
            cursor.execute(sql.TABLES)
            rows = cursor.fetchall()
        hashed = "sum(hash_record_extended(ROW({}), 0))"
        return [
            [self.client("psql"), "-XAtqc", f"SELECT count(*), {hashed.format(row[1])} FROM ONLY {row[0]} AS t"]
            for row in rows
        ]

    def play(self, playbook: str, **extra: object) -> float:
        """Run a playbook that has to succeed; returns the seconds it took."""
        played = self.controller.run(playbook, extra)
        if played.returncode:
            raise BenchmarkError(f"{playbook}:\n{played.output}")
        return played.duration_s


@contextlib.contextmanager
def prepared(jobs: int, installation: Installation | None = None) -> Iterator[Bench]:
    """Start the server with an empty database; both are removed on exit."""
    root = workspace()
    spared = set(children(os.getpid()))
    folder = Path(tempfile.mkdtemp(prefix="b", dir=root))
    folder.chmod(0o755)
    try:
        with Server(installation, settings=SETTINGS) as server:
            variables = {
                "postgres_db": NAME,
                "postgres_backup_dir": str(folder / "catalog"),
                "backup_bin_dir": str(server.client_dir),
                "backup_jobs": jobs,
                "backup_verify_bin_dir": str(server.client_dir),
                "backup_verify_jobs": jobs,
                "backup_verify_scratch_dir": str(folder),
                "backup_verify_max_age": "0",
            }
            controller = Controller(folder, server.login(), variables)
            (folder / PING_PLAYBOOK).write_text(_ping_playbook())
            yield Bench(new_database(server, NAME), folder, controller, jobs)
    finally:
        end_children(spared)
        shutil.rmtree(folder, ignore_errors=True)


def _ping_playbook() -> str:
    """The backup playbook with one ping in place of its role."""
    (play,) = yaml.safe_load((REPOSITORY / "playbooks" / "backup.yml").read_text())
    del play["roles"]
    play["tasks"] = [{"name": "Ping", "ansible.builtin.ping": {}}]
    return yaml.safe_dump([play], sort_keys=False)


@dataclass(frozen=True)
class Contender:
    """One way to do something. ``act`` gets an empty folder and does its own timing; ``rounds`` multiplies the runs."""

    key: str
    title: str
    act: Callable[[Bench, Path], Sample]
    rounds: int = 1


def compete(bench: Bench, contenders: list[Contender], runs: int) -> dict[str, Series]:
    """Run all contenders one after the other, and repeat that `runs` times."""
    found = {contender.key: Series() for contender in contenders}
    for number in range(runs):
        for contender in contenders:
            for dummy in range(contender.rounds):
                folder = Path(tempfile.mkdtemp(prefix="c", dir=bench.folder))
                try:
                    os.sync()  # no contender pays for the writes of the previous one
                    sample = contender.act(bench, folder)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                found[contender.key].samples.append(sample)
                print(f"  {number + 1}/{runs}  {sample.seconds:8.2f} s  {contender.title}", file=sys.stderr, flush=True)
    return found
