"""pg_restore and pg_database_swap when production was dropped: all that it was comes from the backup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import databases
from tests.support.databases import Database
from tests.support.restores import named, production, remove, rows, stage, swap, verified_backup
from tests.support.servers import Server
from tests.support.verifications import forge

CONTENT = "CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n"
_LIKE = """
SELECT pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'), datconnlimit,
       (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x),
       (SELECT array_agg(s.setrole || v ORDER BY s.setrole, v) FROM pg_db_role_setting s, unnest(s.setconfig) v
        WHERE s.setdatabase = d.oid AND v NOT LIKE 'pg_runbook.%')
FROM pg_database d WHERE datname = current_database()
"""


@pytest.fixture(name="prod")
def _prod(server: Server) -> Iterator[Database]:
    database = production(server, CONTENT)
    yield database
    remove(database)


def like(database: Database) -> list[Any]:
    """All that ALTER DATABASE and GRANT have made of a database, but for our marks."""
    return database.query(_LIKE)


def dressed(database: Database, owner: str, app: str) -> None:
    """Give it all that a database can have."""
    name = database.name
    database.execute(
        f'CREATE ROLE "{owner}"',
        f'CREATE ROLE "{app}"',
        f'ALTER DATABASE {name} OWNER TO "{owner}"',
        f"COMMENT ON DATABASE {name} IS 'the shop''s own; {{}} %'",
        f"ALTER DATABASE {name} CONNECTION LIMIT 17",
        f"ALTER DATABASE {name} SET search_path = \"$user\", public, 'odd, one'",
        f"ALTER DATABASE {name} SET shop.motto = 'a=b; {{}} %s'",
        f"ALTER ROLE \"{app}\" IN DATABASE {name} SET work_mem = '5MB'",
        f"ALTER ROLE \"{app}\" IN DATABASE {name} SET search_path = ''",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {name} TO "{app}" WITH GRANT OPTION',
        f'GRANT TEMPORARY ON DATABASE {name} TO "{app}"',
        f"GRANT CONNECT ON DATABASE {name} TO pg_monitor",
    )


def test_all_that_it_was_comes_back_on_every_major(any_server: Server, backup_dir: Path) -> None:
    prod = production(any_server, CONTENT)
    owner, app = f"{prod.name} o'wner", f"{prod.name}_app"
    try:
        dressed(prod, owner, app)
        before = like(prod)
        assert before[0][2] == 17
        verified_backup(prod, backup_dir)
        prod.drop()
        result = stage(prod, backup_dir)
        assert result["preflight"]["notes"] == []
        assert stage(prod, backup_dir)["changed"] is False
        swap(prod)
        assert (like(prod), rows(prod)) == (before, 100)
    finally:
        remove(prod)
        any_server.query(f'DROP ROLE "{owner}"')
        any_server.query(f'DROP ROLE "{app}"')


def test_a_database_that_nobody_has_changed_comes_back_as_plain(prod: Database, backup_dir: Path) -> None:
    before = like(prod)
    assert before[0][1:] == (None, -1, None, None)
    verified_backup(prod, backup_dir)
    prod.drop()
    stage(prod, backup_dir)
    swap(prod)
    assert like(prod) == before


def test_what_is_not_to_be_had_here_is_left_out_and_told(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    forge(
        entry,
        lambda document: document["source"].update(
            owner="gone boss",
            comment="of before",
            connection_limit=3,
            settings=["no_such_thing=1", "work_mem=5MB"],
            role_settings={"gone app": ["work_mem=6MB"]},
            grants={
                "public": ["TEMPORARY"],
                "gone boss": ["CONNECT", "CREATE", "TEMPORARY"],
                "gone app": ["CONNECT"],
                "pg_monitor": ["CONNECT WITH GRANT OPTION", "CREATE; DROP TABLE users"],
            },
        ),
    )
    prod.drop()
    notes = " ".join(stage(prod, backup_dir)["preflight"]["notes"])
    me = prod.server.user
    assert (
        f"The role gone boss, which owned the source, is missing here: the restored database belongs to {me}." in notes
    )
    assert "The role gone app is missing here" in notes
    assert 'unrecognized configuration parameter "no_such_thing"' in notes
    assert (notes.count("is missing here"), notes.count("does not exist")) == (2, 0)
    swap(prod)
    grants = sorted([f"=T/{me}", f"{me}=CTc/{me}", f"pg_monitor=c*/{me}"])
    assert [(*row[:3], sorted(row[3]), row[4]) for row in like(prod)] == [
        (me, "of before", 3, grants, ["0work_mem=5MB"]),
    ]


def test_a_backup_of_before_brings_owner_and_settings(prod: Database, backup_dir: Path) -> None:
    prod.execute(f"ALTER DATABASE {prod.name} SET work_mem = '5MB'", f"COMMENT ON DATABASE {prod.name} IS 'lost'")
    verified_backup(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, without_later_fields)
    prod.drop()
    assert stage(prod, backup_dir)["preflight"]["notes"] == []
    swap(prod)
    assert like(prod) == [(prod.server.user, None, -1, None, ["0work_mem=5MB"])]


def without_later_fields(document: dict[str, Any]) -> None:
    """A manifest as it was before it had these."""
    for name in ("comment", "connection_limit", "role_settings", "grants", "login_settings", "server_settings"):
        del document["source"][name]


def test_what_production_is_now_wins_and_its_limit_is_remembered(prod: Database, backup_dir: Path) -> None:
    prod.execute(f"COMMENT ON DATABASE {prod.name} IS 'then'", f"ALTER DATABASE {prod.name} CONNECTION LIMIT 17")
    verified_backup(prod, backup_dir)
    prod.execute(f"COMMENT ON DATABASE {prod.name} IS 'now'", f"ALTER DATABASE {prod.name} CONNECTION LIMIT 18")
    stage(prod, backup_dir)
    prod.execute(f"ALTER DATABASE {prod.name} CONNECTION LIMIT 19")
    assert [stage(prod, backup_dir)["changed"] for dummy in range(2)] == [True, False]
    prod.drop()  # between stage and swap
    swap(prod)
    assert like(prod)[0][1:3] == ("now", 19)


def test_a_replaced_one_keeps_its_limit_when_production_is_lost(prod: Database, backup_dir: Path) -> None:
    prod.execute(f"ALTER DATABASE {prod.name} CONNECTION LIMIT 17")
    verified_backup(prod, backup_dir)
    stage(prod, backup_dir)
    former = swap(prod)["replaced"]
    assert like(named(prod, former))[0][2] == 17
    prod.drop()
    swap(prod, replacement="replaced")
    assert like(prod)[0][2] == 17


@pytest.mark.parametrize(("limit", "known"), [("17", True), ('"0; DROP"', False), ("null", False)])
def test_a_mark_whose_limit_is_no_number_is_somebody_elses(limit: str, known: bool) -> None:
    # Who owns a database can set its mark, and a superuser reads it.
    text = f'{{"state": "staged", "database": "shop", "backup": "b", "at": "", "connection_limit": {limit}}}'
    assert (databases._read(text) is not None) is known
