"""The playbook ``replication``, run as a user runs it: on a primary and its standby."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import fill, new_site
from tests.integration.site import Site
from tests.support.databases import Database, new_database
from tests.support.processes import until
from tests.support.replicas import replica_of
from tests.support.servers import PASSWORD, Server


@pytest.fixture
def pair(new_server: Callable[..., Server]) -> Iterator[Site]:
    """A site of two hosts: ``db1`` is a primary with a slot without a consumer, ``db2`` follows it."""
    primary = new_server()
    database = fill(new_database(primary))
    primary.psql("SELECT pg_create_physical_replication_slot('left_behind', true)")
    with replica_of(primary, "db2") as replica:
        here = primary.query("SELECT pg_current_wal_lsn()")[0][0]
        assert until(lambda: replica.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", here) == [(True,)], 30)
        for site in new_site(database):
            site.add_host("db2", Database(replica, database.name))
            yield site


def test_primary_and_standby_are_judged_side_by_side(pair: Site) -> None:
    rehearsal = pair.run("replication", "--check", "--diff")
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed("db1"), rehearsal.changed("db2")) == (0, 0)

    run = pair.run(
        "replication",
        report=True,
        replication_inactive_warning="0",
        replication_expected_replicas="{{ 2 if inventory_hostname == 'db1' else 0 }}",
    )
    assert run.ok, run.output
    assert (run.changed("db1"), run.changed("db2")) == (0, 0)
    outcome = run.stats["replication_result"]
    assert (outcome["db1"]["role"], outcome["db1"]["replicas"], outcome["db1"]["severity"]) == (
        "primary",
        1,
        "critical",
    )
    assert (outcome["db2"]["role"], outcome["db2"]["replicas"], outcome["db2"]["severity"]) == ("standby", 0, "ok")
    assert PASSWORD not in run.output

    primary, standby = pair.report("replication"), pair.report("replication", "db2")
    assert [(each["check"], each["severity"]) for each in primary["findings"]] == [
        ("replication_replicas", "critical"),
        ("replication_slot_inactive", "warning"),
    ]
    assert (primary["replicas"][0]["application"], primary["replicas"][0]["state"]) == ("db2", "streaming")
    assert (standby["findings"], standby["receiver"]["status"], standby["replay"]["lag_s"]) == ([], "streaming", 0)
