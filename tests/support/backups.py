"""Take backups with the module in tests, and see what has become of them."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import (
    Catalog,
    Entry,
    directory_name,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.manifest import Manifest
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture, figures
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as OurServer
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.databases import Database, new_database
from tests.support.modules import Result, RunningModule, expect_success, start_module
from tests.support.processes import command_lines, until

CONTENT = """
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT '2026-01-01 00:00:00+00');
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 1000) n;
    CREATE TABLE "Or ders" (id int GENERATED ALWAYS AS IDENTITY, "user" int REFERENCES users, v numeric(10,2));
    INSERT INTO "Or ders" ("user", v) SELECT 1 + n % 1000, n / 7.0 FROM generate_series(1, 500) n;
    CREATE INDEX ON "Or ders" ("user");
    CREATE VIEW names AS SELECT name FROM users;
    CREATE MATERIALIZED VIEW totals AS SELECT "user", sum(v) FROM "Or ders" GROUP BY 1;
    SELECT lo_from_bytea(0, 'a large object');
"""
SLOW: dict[str, Any] = {"compress": "gzip:9"}


def params(database: Database, backup_dir: Path, **over: Any) -> dict[str, Any]:
    """The parameters of pg_backup for a database of a test; keyword arguments win."""
    chosen = {"backup_dir": str(backup_dir), "bin_dir": str(database.server.client_dir), "jobs": 2, **over}
    return {**database.login(), **chosen}


def back_up(database: Database, backup_dir: Path, **over: Any) -> Result:
    """Take a backup that has to succeed."""
    return expect_success("pg_backup", params(database, backup_dir, **over))


def catalog_of(backup_dir: Path) -> Catalog:
    """The catalog in a folder of this host."""
    return Catalog(LocalTarget(), str(backup_dir))


def entries(backup_dir: Path, database: Database) -> list[Entry]:
    """The backups of a database, newest first."""
    return list(catalog_of(backup_dir).entries(database.name))


def manifest_of(backup_dir: Path, database: Database) -> Manifest:
    """The manifest of the newest backup."""
    return catalog_of(backup_dir).find(database.name, "latest").usable()


def leftovers(backup_dir: Path, database: Database) -> list[str]:
    """What is in the database's folder of the catalog that is neither a lock nor a whole backup."""
    folder = backup_dir / directory_name(database.name)
    whole = {Path(entry.path) for entry in entries(backup_dir, database) if entry.problem is None}
    there = [each for each in folder.glob("*") if not each.name.startswith(".")] if folder.is_dir() else []
    return sorted(str(each) for each in there if each not in whole)


def our_server(database: Database) -> OurServer:
    """The server of a database as the collection sees it."""
    server = database.server
    return OurServer(
        LocalTarget(), Login(host=server.host, port=server.port, user=server.user, password=server.password)
    )


def fingerprint(database: Database, mode: str = "content") -> figures.Fingerprint:
    """The fingerprint of a database as it is now."""
    return capture.take(our_server(database), database.name, mode=mode, workers=2)


def restored(database: Database, path: str | Path) -> Database:
    """A new database on the same server with the content of a backup."""
    copy = new_database(database.server)
    [data] = Path(path).glob("data*")
    if data.name.startswith("data.sql"):
        script = data.with_name("script.sql")
        with gzip.open(data) if data.suffix == ".gz" else data.open("rb") as packed, script.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        copy.run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", script)
        script.unlink()
    else:
        copy.run("pg_restore", "--exit-on-error", f"--dbname={copy.name}", data)
    return copy


def differences(source: figures.Fingerprint | None, copy: Database) -> list[str]:
    """How a restored database differs from the fingerprint of its source."""
    assert source is not None
    return [str(each) for each in figures.compare(source, fingerprint(copy, source.mode))]


def sha256sum(path: Path) -> str:
    """The SHA-256 of a file, by another program than ours."""
    told = subprocess.run(["sha256sum", "--", path], capture_output=True, text=True, check=True).stdout
    return told.split()[0].lstrip("\\")


def fill(database: Database, megabytes: float) -> Database:
    """Put so many megabytes of noise into a table: it compresses badly and slowly."""
    database.execute(
        "CREATE TABLE noise (id int PRIMARY KEY, v text)",
        f"""INSERT INTO noise SELECT n, string_agg(md5(n::text || s), '')
            FROM generate_series(1, {round(megabytes * 1000)}) n, generate_series(1, 30) s GROUP BY n""",
    )
    return database


def dumping(backup_dir: Path) -> list[str]:
    """The command lines of programs that write into the folder."""
    return [line for line in command_lines().values() if "pg_dump" in line and str(backup_dir) in line]


def nobody_dumps(backup_dir: Path) -> bool:
    """Whether all that was started has ended, soon."""
    return until(lambda: not dumping(backup_dir), 15)


def data_is_written(backup_dir: Path) -> bool:
    """Whether table data are in a draft, soon: the dump is in the middle of its work."""
    return until(lambda: any(path.stat().st_size for path in backup_dir.glob("*/*.partial/data/*.gz")), 60)


@contextlib.contextmanager
def slow_backup(database: Database, backup_dir: Path, **over: Any) -> Iterator[RunningModule]:
    """A slow backup that has just begun."""
    module = start_module("pg_backup", params(database, backup_dir, **SLOW, **over))
    try:
        yield module
    finally:
        module.process.kill()
        module.process.communicate()


@contextlib.contextmanager
def in_the_middle(database: Database, backup_dir: Path, **over: Any) -> Iterator[RunningModule]:
    """A backup that is writing table data when we get it."""
    with slow_backup(database, backup_dir, **over) as module:
        assert data_is_written(backup_dir)
        yield module


def pids(needle: str, where: Path) -> list[int]:
    """The processes whose command line has both."""
    return [pid for pid, line in command_lines().items() if needle in line and str(where) in line]
