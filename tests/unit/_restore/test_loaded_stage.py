"""What the mark of a loaded stage says: all that the proof needs, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import Fingerprint
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import databases
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.copies import Copy
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.databases import Mark
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.load import Loaded
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.refusals import Refusal
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.source_settings import Lack
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login, Server
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import loaded_stage
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.loaded_stage import StageLoading
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget

WAY = {"tablespace": "pg_default", "keeps_tablespaces": False, "bin_dir": None, "login": "postgres"}
BEGUN = Mark("staging", "shop", "shop_20260101T000000Z", "2026-01-01T00:00:00Z", name="shop_staged")
PROOF = Fingerprint("content", "record-3", 15)
REFUSED = Refusal("CREATE EXTENSION old", 'extension "old" is not available', "0A000", "Could not open it.", False)
LOADING = StageLoading(
    WAY,
    True,
    Loaded([REFUSED], 1, True),
    ["Restored with locale C."],
    [Lack("The copy lacks the setting a.b = c of its source: no.", "content")],
    "2026-01-01 00:00:00+00",
)


def test_the_next_run_reads_what_was_written() -> None:
    mark = loaded_stage.as_mark(BEGUN, PROOF, LOADING)
    assert mark is not None
    assert mark.state == "loaded"
    known = databases._read(mark.as_text())
    assert known is not None
    assert loaded_stage.read(known) == LOADING


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("COPY public.t (a) FROM stdin;", 'invalid input syntax for type integer: "secret"', "22P02"),
        Refusal(
            "CREATE UNIQUE INDEX i ON t (a)", "could not create unique index", "23505", "Key (a)=(secret) is there"
        ),
        Refusal("CREATE USER MAPPING FOR a SERVER s OPTIONS ( password 'secret' )", "no", "42704"),
        Refusal("CREATE FUNCTION f() RETURNS text AS $$ secret $$", "no", "42601"),
        Refusal("CREATE INDEX ON t (f(a))", "secret", "42P01", inside=True),
        Refusal("REFRESH MATERIALIZED VIEW v", "secret", "42P01"),
        Refusal("CREATE TABLE t (a int)", "secret", "P0001"),
        Refusal("CREATE TABLE t (a int)", "secret"),
    ],
)
def test_values_of_rows_and_passwords_get_into_no_mark(refusal: Refusal) -> None:
    # Every role can read the settings of a database.
    loading = replace(LOADING, loaded=Loaded([REFUSED, refusal], 2))
    assert loaded_stage.as_mark(BEGUN, PROOF, loading) is None


def test_a_mark_that_cannot_have_all_is_none() -> None:
    few, many = (replace(LOADING, loaded=Loaded([REFUSED] * number, number)) for number in (100, 1000))
    assert loaded_stage.as_mark(BEGUN, PROOF, few) is not None
    assert loaded_stage.as_mark(BEGUN, PROOF, many) is None


def test_what_would_show_no_change_is_not_remembered() -> None:
    assert loaded_stage.as_mark(BEGUN, None, LOADING) is None
    assert loaded_stage.as_mark(BEGUN, replace(PROOF, mode="counts"), LOADING) is None


@pytest.mark.parametrize("name", sorted(vars(LOADING)))
@pytest.mark.parametrize("value", [None, 7, "text", {"a": 1}, [1], "missing"])
def test_a_mark_that_was_written_by_hand_raises_nothing(name: str, value: Any) -> None:
    mark = loaded_stage.as_mark(BEGUN, PROOF, LOADING)
    assert mark is not None
    document = json.loads(mark.as_text())
    document["loading"][name] = value
    if value == "missing":
        del document["loading"][name]
    known = databases._read(json.dumps(document))
    assert known is not None
    found = loaded_stage.read(known)
    assert found is None or isinstance(found, StageLoading)
    for other in (None, 7, "text", [1]):
        assert loaded_stage.read(replace(known, loading=other)) is None  # type: ignore[arg-type]


def test_it_is_for_a_run_that_would_load_the_same_in_the_same_way() -> None:
    started = LOADING.server_started
    assert LOADING.is_for(WAY, started, forced=False)
    assert LOADING.is_for(WAY, started, forced=True)
    assert not replace(LOADING, forced=False).is_for(WAY, started, forced=True)
    assert not LOADING.is_for({**WAY, "tablespace": "fast"}, started, forced=False)
    assert not LOADING.is_for(WAY, "2026-01-02 00:00:00+00", forced=False)
    assert replace(LOADING, server_started="").is_for(WAY, "2026-01-02 00:00:00+00", forced=False)


def test_what_was_lacking_in_the_load_is_lacking_in_the_proof() -> None:
    now = Lack("It lacks a library.", "load")
    copy = LOADING.on(Copy(Server(LocalTarget(), Login()), "shop_staged", [], [now, *LOADING.doubts]))
    assert copy.notes == ["Restored with locale C."]
    assert copy.doubts == [*LOADING.doubts, now]
