"""pg_index_info on real servers: it finds superfluous and missing indexes, and changes nothing."""

from __future__ import annotations

from ansible_collections.godel.postgres_runbook.plugins.modules import pg_index_info
from tests.support.databases import Database
from tests.support.modules import Result, expect_success
from tests.support.operations import attempt


def test_what_is_superfluous_or_missing_is_found(any_database: Database) -> None:
    any_database.execute(
        "CREATE TABLE a (id int PRIMARY KEY, b int, c int)",
        "CREATE TABLE d (id int, a_id int REFERENCES a)",
        "CREATE INDEX a_b ON a (b)",
        "CREATE INDEX a_b_again ON a (b)",
        "CREATE INDEX a_bc ON a (b, c)",
        "INSERT INTO d VALUES (1, NULL)",
    )
    words = {**any_database.login(), "min_size": "0", "unused_after": "0"}
    result = expect_success("pg_index_info", words)
    found = {(each["check"], each["subject"]) for each in result["findings"]}
    assert ("index_duplicate", "public.a_b_again") in found
    assert ("index_redundant", "public.a_b") in found
    assert ("index_missing_for_key", "public.d") in found
    assert ("index_unused", "public.a_bc") in found
    assert not any(subject == "public.a_pkey" for dummy, subject in found)
    assert result["changed"] is False
    young = expect_success("pg_index_info", {**words, "unused_after": "900d"})
    assert [each["subject"] for each in young["findings"] if each["check"] == "index_unused"] == ["statistics"]


def _judged(database: Database, **options: object) -> dict[str, dict[str, str]]:
    """Findings by check and subject: what each says, and its remedy."""
    words = {"min_size": "0", "unused_after": "0", **options}
    result: Result = attempt(pg_index_info, database, **words)
    found: dict[str, dict[str, str]] = {}
    for each in result["findings"]:
        found.setdefault(each["check"], {})[each["subject"]] = f"{each['message']} {each['remedy']}"
    return found


def _dropped(found: dict[str, dict[str, str]]) -> set[str]:
    """What would go if all advice was followed."""
    texts = [(subject, text) for each in found.values() for subject, text in each.items()]
    return {subject for subject, text in texts if "DROP" in text}


def test_a_key_and_its_twin_that_is_the_replica_identity_are_both_kept(any_database: Database) -> None:
    any_database.execute(
        "CREATE TABLE customer (id int PRIMARY KEY, name text)",
        "CREATE UNIQUE INDEX customer_ident ON customer (id)",
        "ALTER TABLE customer REPLICA IDENTITY USING INDEX customer_ident",
    )
    found = _judged(any_database)
    assert _dropped(found) == set()
    assert "index_duplicate" not in found
    (text,) = found["index_twin"].values()
    assert "it is the replica identity of public.customer" in text
    assert "it backs the constraint customer_pkey" in text


def test_what_must_stay_is_never_advised_to_be_dropped(database: Database) -> None:
    database.execute(
        "CREATE EXTENSION btree_gist",
        # a plain twin of each may go, whichever was made first
        "CREATE TABLE k (id int NOT NULL, u int, c int, x int)",
        "CREATE INDEX k_plain ON k (id)",
        "ALTER TABLE k ADD PRIMARY KEY (id)",
        "ALTER TABLE k ADD CONSTRAINT k_again UNIQUE (id)",  # a constraint's own, which ON CONFLICT may name
        "CREATE UNIQUE INDEX k_target ON k (u)",
        "CREATE UNIQUE INDEX k_target_twin ON k (u)",
        "CREATE INDEX k_sorted ON k (c)",
        "CREATE INDEX k_sorted_twin ON k (c)",
        "CLUSTER k USING k_sorted",
        "CREATE INDEX k_longer ON k (c, x)",
        "ALTER TABLE k ADD CONSTRAINT k_x EXCLUDE USING gist (x WITH =)",
        "CREATE INDEX k_x_twin ON k USING gist (x)",
        "CREATE TABLE child (u int REFERENCES k (u))",
        "CREATE INDEX child_u ON child (u)",  # never scanned, and all that the foreign key has
    )
    found = _judged(database)
    assert _dropped(found) == {
        "public.k_plain",
        "public.k_target_twin",
        "public.k_sorted_twin",
        "public.k_x_twin",
        "public.k_longer",
    }
    assert set(found["index_duplicate"]) == _dropped(found) - {"public.k_longer"}
    assert set(found["index_twin"]) == {"public.k_again"}
    target = database.query("SELECT conindid::regclass::text FROM pg_constraint WHERE contype = 'f'")
    assert target == [("k_target",)]
    for each in sorted(_dropped(found)):
        database.execute(f"DROP INDEX CONCURRENTLY {each}")
    assert _dropped(_judged(database)) == set()  # nor does one piece of advice undo another


def test_indexes_that_lean_on_each_other_are_not_all_dropped(database: Database) -> None:
    database.execute(
        "CREATE TABLE t AS SELECT i AS a, i AS b FROM generate_series(1, 2000) i",
        "CREATE INDEX t_a ON t (a)",
        "VACUUM ANALYZE t",
    )
    assert database.query("SELECT b FROM t WHERE a = 7") == [(7,)]
    database.execute("CREATE INDEX t_ab ON t (a, b)")
    scans = database.query("SELECT indexrelname::text FROM pg_stat_user_indexes WHERE idx_scan > 0")
    assert scans == [("t_a",)]
    found = _judged(database)
    assert set(found["index_redundant"]) == {"public.t_a"}
    assert "index_unused" not in found  # t_ab serves those queries then


def test_what_a_partition_needs_keeps_the_index_of_the_whole(database: Database) -> None:
    database.execute(
        "CREATE TABLE p (id int NOT NULL, v int NOT NULL) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)",
        "CREATE INDEX p_v ON p (v)",
        "CREATE INDEX p_v_twin ON p (v)",
        "CREATE INDEX p1_alone ON p1 (v)",
        "ALTER TABLE p1 CLUSTER ON p1_v_idx",
    )
    found = _judged(database)
    assert set(found["index_duplicate"]) == {"public.p_v_twin", "public.p1_alone"}
    assert _dropped(found) == {"public.p_v_twin", "public.p1_alone"}
