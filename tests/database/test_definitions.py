"""Definitions: what means the same is equal after a restore, and each change that pg_dump carries is seen."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture, definitions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.definitions import (
    DefinitionPart,
    Original,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import Fingerprint, compare
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.round_trip import RoundTrip
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.sql.content import PINNED_SETTINGS
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.sql.schema_words import (
    ARGUMENTS,
    BODY,
    EXPRESSION,
    QUERY,
    RULE,
    TRIGGER,
)
from tests.support.backups import our_server
from tests.support.corpus import CORPUS
from tests.support.databases import Database, new_database
from tests.support.fuzzed_definitions import AFTERWARDS, BASE, Definitions
from tests.support.programs import Installation, installations
from tests.support.proofs import original, proven_differences
from tests.support.servers import Server

CHANGES = (CORPUS / "mutations" / "changes.txt").read_text().splitlines()
# What a fingerprint does not see: no dump carries it either, as the test makes sure.
NOT_CARRIED = {"alter table u disable trigger all"}
# The quick sample: changes of definitions that were once not seen, and neighbours of theirs.
SAMPLE = [
    each
    for each in CHANGES
    if re.search(
        "darr set def|transform|tmpl;;|prs;;|statistics 77|p1 dis|public is 'o|pg_ls|shell1|password|sspace", each
    )
]
EVERY_MAJOR = [pytest.param(each, id=f"pg{each.major}") for each in installations()]


def statements(text: str) -> list[str]:
    """Split at the semicolons that are in no literal."""
    return [each.strip() for each in re.findall(r"(?:[^;']|'[^']*')+", text) if each.strip()]


def load(database: Database, found: Sequence[str]) -> list[str]:
    """Run each statement by itself; returns those that this server refuses."""
    refused = []
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        for statement in found:
            try:
                cursor.execute(statement)
            except psycopg2.Error:
                refused.append(statement)
    return refused


@contextlib.contextmanager
def on(server: Server) -> Iterator[Database]:
    """A database of this server, for as long as it is needed."""
    database = new_database(server)
    try:
        yield database
    finally:
        database.drop()


@contextlib.contextmanager
def copy_of(database: Database, folder: Path) -> Iterator[Database]:
    """A database restored from a dump of this one, as restores do it."""
    with on(database.server) as copy:
        database.run("pg_dump", "--format=custom", f"--file={folder / 'dump'}")
        copy.run("pg_restore", "--no-subscriptions", "--exit-on-error", f"--dbname={copy.name}", folder / "dump")
        yield copy


def assert_proven(database: Database, folder: Path, at_least: int) -> None:
    """A restored copy has no difference, although that many definitions are printed in another form."""
    source = original(database)
    with copy_of(database, folder) as copy:
        printed = capture.take(our_server(copy), copy.name, mode="content", workers=1)
        assert proven_differences(source, copy) == []
    others = [name for name, digest in source.fingerprint.objects.items() if printed.objects.get(name) != digest]
    assert len(others) >= at_least, "else this test proves nothing"


# --- what means the same ------------------------------------------------------------------------------


def printed_forms(database: Database, folder: Path) -> None:
    """Load the corpus, back it up, restore it, compare."""
    text = (CORPUS / "printed-forms.sql").read_text()
    if not database.query("SELECT FROM pg_available_extensions WHERE name = 'citext'"):
        text = text.replace("create extension citext;", "create domain citext as text;")
    refused = load(database, [each for each in text.split(";\n") if each.strip()])
    assert not [each for each in refused if "xmlelement" not in each], refused  # not every build has XML
    assert_proven(database, folder, 20)


def test_printed_forms_mean_the_same(database: Database, tmp_path: Path) -> None:
    printed_forms(database, tmp_path)


@pytest.mark.majors
@pytest.mark.parametrize("programs", EVERY_MAJOR)
def test_printed_forms_mean_the_same_on_every_major(
    programs: Installation, servers: Callable[[Installation], Server], tmp_path: Path
) -> None:
    with on(servers(programs)) as database:
        printed_forms(database, tmp_path)


def fuzz(database: Database, folder: Path, seed: int, objects: int) -> None:
    """Make random objects, change the types that they use, and compare a restored copy."""
    database.execute(BASE)
    stream = Definitions(seed)
    refused = load(database, [stream.statement() for dummy in range(objects)])
    assert len(refused) < objects / 5, refused  # two literals without a common type
    database.execute(*statements(AFTERWARDS))
    assert_proven(database, folder, objects // 8)


def test_random_definitions_mean_the_same(database: Database, tmp_path: Path) -> None:
    fuzz(database, tmp_path, seed=1, objects=80)


@pytest.mark.majors
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("programs", EVERY_MAJOR)
def test_random_definitions_mean_the_same_on_every_major(
    programs: Installation, servers: Callable[[Installation], Server], tmp_path: Path, seed: int
) -> None:
    with on(servers(programs)) as database:
        fuzz(database, tmp_path, seed * 100 + programs.major, 200)


PREPARED = """
CREATE TABLE t (a int, b text, v varchar(9)); CREATE VIEW w AS SELECT a FROM t;
CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING;
CREATE FUNCTION noisy() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'it ran'; END$$;
CREATE TABLE log (what text);
CREATE FUNCTION logs() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.log VALUES (tg_tag); END$$;
CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION logs();
"""
UPDATE = "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
OTHERS = {"result": "integer", "arguments": "x integer"}
TRIPS = {
    "a literal gets its type": (QUERY, "SELECT 'x' AS k UNION SELECT NULL", "SELECT 'x'::text AS k UNION SELECT NULL::text", True),
    "brackets": (EXPRESSION, "(((a > 1) AND (a < 3)) AND (b = 'x'::text))", "((a > 1) AND (a < 3) AND (b = 'x'::text))", True),
    "another number": (EXPRESSION, "(a > 1)", "(a > 2)", False),
    "and or or": (EXPRESSION, "((a > 1) AND (a < 3))", "((a > 1) OR (a < 3))", False),
    "another type": (EXPRESSION, "NULL::integer", "NULL::bigint", False),
    "another length": (EXPRESSION, "v", "(v)::character varying(5)", False),
    "another collation": (EXPRESSION, "b", '(b COLLATE "C")', False),
    "another order of brackets": (EXPRESSION, "((a + 1) * 2)", "(a + (1 * 2))", False),
    "another name of a column": (QUERY, "SELECT a AS k FROM public.t", "SELECT a AS l FROM public.t", False),
    "what cannot be loaded": (EXPRESSION, "(gone > 1)", "(a > 1)", False),
    "nothing is run": (EXPRESSION, "public.noisy()", "(public.noisy())", True),
    "a trigger": (TRIGGER, f"CREATE TRIGGER g BEFORE UPDATE ON public.t FOR EACH ROW WHEN ((new.a = ANY (ARRAY[1,2]))) {UPDATE}",
                  f"CREATE TRIGGER g BEFORE UPDATE ON public.t FOR EACH ROW WHEN (new.a IN (1, 2)) {UPDATE}", True),
    "another trigger": (TRIGGER, f"CREATE TRIGGER g BEFORE UPDATE ON public.t FOR EACH ROW {UPDATE}",
                        f"CREATE TRIGGER g BEFORE INSERT ON public.t FOR EACH ROW {UPDATE}", False),
    "a rule": (RULE, "CREATE RULE r AS ON DELETE TO public.t DO INSTEAD SELECT k FROM (SELECT 'x' AS k UNION SELECT NULL) q;",
               "CREATE RULE r AS ON DELETE TO public.t DO INSTEAD SELECT q.k FROM (SELECT 'x'::text AS k UNION SELECT NULL) q;", True),
    "another rule": (RULE, "CREATE RULE r AS ON DELETE TO public.t DO INSTEAD NOTHING;", "CREATE RULE r AS ON DELETE TO public.t DO NOTHING;", False),
    "arguments": (ARGUMENTS, "x integer DEFAULT (1 + 1)", "x integer DEFAULT 1 + 1", True),
    "other arguments": (ARGUMENTS, "x integer DEFAULT 1", "x integer DEFAULT 2", False),
    "a body": (BODY, "RETURN (x + 1)", "RETURN x + 1", True),
    "another body": (BODY, "RETURN x + 1", "RETURN x - 1", False),
}  # fmt: skip
CONTEXTS = {
    QUERY: "", EXPRESSION: "public.t", TRIGGER: "DROP TRIGGER g ON public.t", RULE: "DROP RULE r ON public.t",
    ARGUMENTS: "f", BODY: "f",
}  # fmt: skip


def round_trips(database: Database) -> None:
    """Each pair of texts, in both directions."""
    database.execute(PREPARED)
    before = original(database)
    with our_server(database).connect(database.name, settings=PINNED_SETTINGS) as session:
        with RoundTrip(session) as trip:
            for name, (carrier, one, other, same) in TRIPS.items():
                assert trip.makes_equal(carrier, one, other, CONTEXTS[carrier], OTHERS) is same, name
                assert trip.makes_equal(carrier, other, one, CONTEXTS[carrier], OTHERS) is same, name
        assert session.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'pg_runbook%'") == 0
    assert proven_differences(before, database) == []
    assert database.query("SELECT count(*) FROM log") == [(0,)]


def test_a_round_trip_tells_meaning_from_form_and_leaves_nothing(database: Database) -> None:
    round_trips(database)


@pytest.mark.majors
@pytest.mark.parametrize("programs", EVERY_MAJOR)
def test_a_round_trip_does_so_on_every_major(programs: Installation, servers: Callable[[Installation], Server]) -> None:
    with on(servers(programs)) as database:
        round_trips(database)


# --- what is seen -------------------------------------------------------------------------------------


def mutated(database: Database, change: str) -> Database:
    """A copy of the database with a change in it."""
    copy = new_database(database.server, template=database.name)
    copy.execute(*change.split(";;"))
    return copy


def prepare_mutations(database: Database) -> None:
    """Load the base, without extensions that this server has not."""
    found = statements((CORPUS / "mutations" / "base.sql").read_text())
    load(database, [each for each in found if each.startswith("create role")])  # others may have made them
    refused = load(database, [each for each in found if not each.startswith("create role")])
    assert not [each for each in refused if not re.search("extension|server srv", each)], refused


def schema_of(database: Database) -> str:
    """What pg_dump writes of the schema."""
    text = database.run("pg_dump", "--schema-only", "--no-tablespaces", "--no-subscriptions")
    return re.sub(r"^(\\(un)?restrict|-- Dumped).*$", "", text, flags=re.MULTILINE)


def in_transactions(database: Database, changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Make each change and take it back; returns those that no definition shows, and those that this server refuses."""
    unseen, refused = [], []
    with our_server(database).connect(database.name) as session:

        def digests() -> dict[str, str]:
            session.query("SET LOCAL search_path = ''; SET LOCAL TimeZone = 'UTC'")
            found = definitions.read(lambda dummy, statement: session.texts(statement), session.server_version)
            return {name: definitions.digest(parts) for name, parts in found.items()}

        session.query("BEGIN")
        before = digests()
        session.query("ROLLBACK")
        for change in changes:
            session.query("BEGIN")
            try:
                for statement in change.split(";;"):
                    session.query(statement)
            except QueryFailed:
                refused.append(change)
            else:
                if digests() == before:
                    unseen.append(change)
            session.query("ROLLBACK")
    return unseen, refused


def test_a_sample_of_changes_is_seen(database: Database) -> None:
    prepare_mutations(database)
    unseen, refused = in_transactions(database, SAMPLE)
    assert unseen == []
    assert len(refused) < len(SAMPLE) / 5, refused


@pytest.mark.majors
@pytest.mark.parametrize("programs", EVERY_MAJOR)
def test_every_change_is_seen_that_pg_dump_carries(
    programs: Installation, servers: Callable[[Installation], Server]
) -> None:
    with on(servers(programs)) as database:
        prepare_mutations(database)
        unseen, refused = in_transactions(database, CHANGES)
        # Rows, positions and large objects are no definitions, and some of them know no transactions.
        before, schema = original(database).fingerprint, schema_of(database)
        for change in unseen:
            with contextlib.closing(contextlib.ExitStack()) as stack:
                copy = mutated(database, change)
                stack.callback(copy.drop)
                if change in NOT_CARRIED:
                    assert schema_of(copy) == schema, change
                else:
                    assert compare(before, original(copy).fingerprint), change
        assert len(refused) < len(CHANGES) / 4, (
            refused
        )  # what came with a later major, and extensions that are not there


@pytest.mark.majors
@pytest.mark.parametrize("programs", EVERY_MAJOR)
def test_all_changes_together_come_back_from_a_dump(
    programs: Installation, servers: Callable[[Installation], Server], tmp_path: Path
) -> None:
    with on(servers(programs)) as database:
        prepare_mutations(database)
        for change in CHANGES:
            with contextlib.closing(database.connect(autocommit=False)) as session, contextlib.suppress(psycopg2.Error):
                for statement in change.split(";;"):
                    session.cursor().execute(statement)
                session.commit()
        assert_proven(database, tmp_path, 0)


# --- what the verdict says -------------------------------------------------------------------------------------


def test_a_difference_shows_both_texts(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (a int DEFAULT 1, b text); CREATE VIEW v AS SELECT a FROM t WHERE a > 1; COMMENT ON VIEW v IS 'x'"
    )
    source = original(database)
    database.execute("ALTER TABLE t ALTER a SET DEFAULT 2; ALTER TABLE t ALTER b SET NOT NULL")
    database.execute("CREATE OR REPLACE VIEW v AS SELECT a FROM t WHERE a > 2; COMMENT ON VIEW v IS 'y'")
    told = proven_differences(source, database)
    assert "definition of comment view public.v: text x in the source, y in the copy" in told
    [table] = [each for each in told if "table public.t" in each]
    assert "columns b text (and default of column a) in the source, b text NOT NULL" in table
    [view] = [each for each in told if each.startswith("definition of view")]
    assert re.search(r"query .*a > 1.* in the source, .*a > 2.* in the copy", view)


def test_a_password_of_a_user_mapping_is_not_shown(database: Database) -> None:
    database.execute(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
        "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (password 'hidden-1')"
    )
    source = original(database)
    assert "hidden" not in str(source.texts())
    database.execute("ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (SET password 'hidden-2')")
    [told] = proven_differences(source, database)
    assert told.startswith("definition of user mapping")
    assert "hidden" not in told


def test_texts_without_an_encoding_are_kept_byte_for_byte(server: Server) -> None:
    server.query("CREATE DATABASE bytes_only TEMPLATE template0 ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C'")
    database = Database(server, "bytes_only")
    create = r"DO $do$ BEGIN EXECUTE convert_from('\x{}', 'SQL_ASCII'); END $do$"
    made = "CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT 'caf\xe9'$$"
    try:
        database.execute(create.format(made.encode("latin-1").hex()))
        source = original(database)
        kept = source.texts()["function public.f()"]["source"]
        assert kept.encode("utf-8", "surrogateescape") == b"SELECT 'caf\xe9'"
        assert proven_differences(source, database) == []
        database.execute(create.format(made.replace("\xe9", "\xe8").encode("latin-1").hex()))
        assert len(proven_differences(source, database)) == 1
    finally:
        database.drop()


def test_an_earlier_fingerprint_is_compared_by_names() -> None:
    source = Fingerprint(
        "content", "record-2", 15, objects={"view public.v": "1", "view public.w": "1", "comment x": "1"}
    )
    copy = Fingerprint("content", "record-2", 15, objects={"view public.v": "2", "transform for x": "3"})
    assert [str(each) for each in compare(source, copy)] == ["object view public.w is missing"]


def test_the_owner_and_the_comment_of_public_count_when_pg_dump_carries_them(database: Database) -> None:
    database.execute(
        "DO $$ BEGIN CREATE ROLE fp_one; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    known = original(database)
    database.execute("COMMENT ON SCHEMA public IS 'ours'; ALTER SCHEMA public OWNER TO fp_one")
    assert len(proven_differences(known, database)) == 2
    [told] = proven_differences(Original(known.fingerprint, known.texts, 14), database)
    assert told.startswith("definition of schema public: privileges")


def test_texts_survive_the_file() -> None:
    found = {"view v": {"query": DefinitionPart("SELECT '\u00e9\udce9'", QUERY), "owner": DefinitionPart("o")}}
    assert definitions.unpacked(definitions.packed(found)) == {
        "view v": {"query": "SELECT '\u00e9\udce9'", "owner": "o"}
    }
