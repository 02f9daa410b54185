"""Sessions that only read for a moment: they leave nothing behind in a pool, and every wait is bounded."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.statements import compose
from tests.support.backups import our_server
from tests.support.databases import Database


def test_settings_go_with_each_transaction_and_end_with_it(database: Database) -> None:
    shown = "SELECT current_setting('statement_timeout') AS whole, current_setting('lock_timeout') AS lock"
    with our_server(database).connect(database.name, settings={"lock_timeout": "1000"}, timeout_s=5) as session:
        assert tuple(session.query(shown)[0]) == ("5s", "1s")
        session.query("BEGIN")
        assert tuple(session.query(f"{shown} WHERE %s", (True,))[0]) == ("5s", "1s")
        session.query("COMMIT")
        session._local = None  # as for the next client of the same pooled connection
        assert tuple(session.query(shown)[0]) == ("0", "0")


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_a_per_cent_sign_in_a_name_is_one_whether_values_are_bound_or_not(
    database: Database, timeout_s: float | None
) -> None:
    with our_server(database).connect(database.name, timeout_s=timeout_s) as session:
        session.execute(compose("CREATE TABLE {} AS SELECT {word} AS {}", "a%b%s", "c%d", word="1%2"))
        named = compose("SELECT {} FROM {}", "c%d", "a%b%s")
        assert session.value(named) == "1%2"
        bound = compose("SELECT {} FROM {} WHERE {} = %s", "c%d", "a%b%s", "c%d")
        assert session.value(bound, ("1%2",)) == "1%2"


def test_a_server_that_stops_in_the_middle_is_given_up(database: Database) -> None:
    with our_server(database).connect(database.name, timeout_s=0.2) as session:
        pid = session.value("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        try:
            before = time.monotonic()
            with pytest.raises(QueryFailed, match="did not answer"):
                session.query("SELECT 1")
            assert time.monotonic() - before < 30  # and does not hang
        finally:
            os.kill(pid, signal.SIGCONT)
