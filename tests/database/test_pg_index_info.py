"""pg_index_info on real servers: what is superfluous or missing is found, and nothing is touched."""

from __future__ import annotations

from tests.support.databases import Database
from tests.support.modules import expect_success


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
