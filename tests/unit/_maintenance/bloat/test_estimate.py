"""What a count of a table's rows tells of its indexes."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat import estimate
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat.estimate import (
    Estimate,
    RewriteFigures,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat.relation import Relation


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("counted", [None, 0.0, 50000.0])
def test_a_count_takes_the_place_of_what_statistics_call_dead(counted: float | None, partial: bool) -> None:
    relation = Relation(2, "public", "lead_x", "lead", "index", "btree", 8192)
    figures = RewriteFigures(8192, counted, 200000.0, 16.0, exact=True, least_dead=200000.0, is_partial=partial)
    found = estimate.with_table(Estimate(relation, figures, 1, counted, 200000.0), live=80000, dead=0).figures
    assert (found.dead, found.least_dead) == (0.0, 0.0)
    if not (partial and counted):
        assert found.rows == (counted if partial else 80000)
