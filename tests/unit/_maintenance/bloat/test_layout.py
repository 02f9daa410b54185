"""The arithmetic of pages, against what PostgreSQL 15 really built."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat.advice import (
    Thresholds,
    advise,
    finding,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat.layout import (
    BloatColumn,
    Group,
    btree_pages,
    entry_size,
    heap_pages,
    row_size,
    rows_per_page,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat.relation import Relation

PAGE = 8192
INT, BIGINT, BOOL = BloatColumn(4, "i", None), BloatColumn(8, "d", None), BloatColumn(1, "c", None)


@pytest.mark.parametrize(
    ("columns", "dropped", "size"),
    [
        ([INT], False, 32),
        ([BOOL, BIGINT, BOOL, BIGINT], False, 56),  # seven bytes of padding before each bigint
        ([BIGINT, BIGINT, BOOL, BOOL], False, 48),
        ([INT] * 9, False, 64),
        ([INT] * 9, True, 72),  # the bitmap of NULLs that a dropped column brings has two bytes
    ],
)
def test_a_row_is_as_large_as_its_layout(columns: list[BloatColumn], dropped: bool, size: int) -> None:
    assert row_size(columns, some_dropped=dropped) == size


def test_values_of_varying_length_are_aligned_only_when_they_are_long() -> None:
    short, long, plain = BloatColumn(-1, "i", 33), BloatColumn(-1, "i", 200), BloatColumn(-1, "i", 33, plain=True)
    assert row_size([BOOL, short]) == 24 + 34 + 3.5
    assert row_size([BOOL, long]) == 24 + 4 + 200 + 3.5
    assert row_size([BOOL, plain]) == 24 + 4 + 33 + 3.5


def test_nulls_take_no_room_but_that_of_their_bitmap() -> None:
    assert row_size([INT, BloatColumn(8, "d", None, null_share=1.0)]) == 24 + 8
    assert entry_size([INT]) == 16
    assert entry_size([BloatColumn(4, "i", None, null_share=1.0)]) == 16


@pytest.mark.parametrize(
    ("rows", "size", "fillfactor", "pages"),
    [
        (60000, 72, 100, 561),
        (40000, 64, 60, 564),
        (120000, 32, 100, 531),
        (1200, 3032, 100, 600),
        (0, 72, 100, 0),
    ],
)
def test_a_rewritten_table_has_so_many_pages(rows: int, size: int, fillfactor: int, pages: int) -> None:
    assert heap_pages(rows, size, fillfactor, PAGE, exact=True) == pages


@pytest.mark.parametrize(
    ("groups", "fillfactor", "share", "pages"),
    [
        ([Group(60000, 1, 16)], 90, False, 166),
        ([Group(40000, 1, 16)], 50, False, 201),
        ([Group(60000, 1, 24)], 90, False, 234),
        ([Group(100, 300, 16)], 90, True, 27),
        ([Group(51, 60000 / 51, 16)], 90, True, 55),
        ([Group(1500, 1, 2216)], 90, False, 1125),  # two to a page, whatever the fillfactor; three above the leaves
        ([], 90, False, 1),
    ],
)
def test_a_rebuilt_index_has_nearly_so_many_pages(
    groups: list[Group], fillfactor: int, share: bool, pages: int
) -> None:
    assert abs(btree_pages(groups, fillfactor, PAGE, share=share, exact=True) - pages) <= (2 if share else pages // 200)


def test_rows_that_do_not_fit_begin_a_new_page() -> None:
    assert rows_per_page([3000] * 100, 100, PAGE) == pytest.approx(2, abs=0.05)
    assert rows_per_page([2032, 1240] * 100, 100, PAGE) == pytest.approx(4, abs=0.1)


# --- advice -----------------------------------------------------------------------------------------------


def relation(**over: object) -> Relation:
    about = {
        "oid": 1, "schema": "s", "name": "t", "table": "t", "kind": "table", "access_method": "heap",
        "size_bytes": 100 << 20, "bloat_bytes": 60 << 20, "bloat_ratio": 0.6, "confidence": "high",
        "live_tuples": 1000, "dead_tuples": 0, "freeze_age": 10,
    }  # fmt: skip
    return Relation(**{**about, **over})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("over", "what", "severity"),
    [
        ({}, "repack", "warning"),
        ({"kind": "index"}, "reindex", "warning"),
        ({"confidence": "low"}, "nothing", None),
        ({"bloat_ratio": 0.1}, "nothing", None),
        ({"bloat_bytes": 1 << 20}, "nothing", None),
        ({"bloat_ratio": None, "bloat_bytes": None, "note": "It was never analyzed, so."}, "analyze", "info"),
        ({"dead_tuples": 5000}, "vacuum", "warning"),
        ({"dead_tuples": 500}, "repack", "warning"),
        ({"freeze_age": 160_000_000}, "vacuum", "info"),  # from here on the playbook vacuum acts
        ({"freeze_age": 300_000_000}, "vacuum", "warning"),
        ({"freeze_age": 500_000_000}, "vacuum", "critical"),
    ],
)
def test_advice_follows_the_figures(over: dict[str, object], what: str, severity: str | None) -> None:
    advised = advise(relation(**over), Thresholds())
    assert advised.recommendation == what
    assert advised.why
    found = finding(advised, Thresholds())
    assert (found.severity if found else None) == severity
