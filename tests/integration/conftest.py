"""Sites for playbooks: inventories on real servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.site import Site
from tests.support.databases import Database, new_database
from tests.support.servers import Server
from tests.support.workspace import workspace

CONTENT = (
    "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL)",
    "INSERT INTO users SELECT number, md5(number::text) FROM generate_series(1, 500) AS number",
    "CREATE SEQUENCE tickets START 41",
)


def fill(database: Database) -> Database:
    """Give a database some content."""
    database.execute(*CONTENT)
    return database


def new_site(database: Database) -> Iterator[Site]:
    """A site with an empty catalog; everything of it goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="site-", dir=workspace()))
    catalog = folder / "backups"
    catalog.mkdir()
    yield Site(folder, catalog, database)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(database: Database) -> Iterator[Site]:
    """A site with one small database and no backup."""
    yield from new_site(fill(database))


@pytest.fixture(scope="module")
def backed_up(server: Server) -> Iterator[Site]:
    """A site with one backup, shared by the tests of a module: add to its catalog, but take nothing away."""
    database = fill(new_database(server))
    for shared in new_site(database):
        taken = shared.run("backup")
        assert taken.ok, taken.output
        yield shared
    database.drop()
