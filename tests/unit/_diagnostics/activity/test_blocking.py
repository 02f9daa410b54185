"""Trees of lock waits: every session once, roots first, and no endless loop for a cycle."""

from __future__ import annotations

import random

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.activity.blocking import Node, forest


def test_nobody_waits() -> None:
    assert forest({}) == []


def test_a_chain_and_a_queue_hang_below_their_root() -> None:
    rows = forest({2: [1], 3: [2], 4: [1, 2], 9: [8]})
    assert rows == [
        Node(1, 0, 1, 3),
        Node(2, 1, 1, 2),
        Node(3, 2, 1, 0),
        Node(4, 1, 1, 0),
        Node(8, 0, 8, 1),
        Node(9, 1, 8, 0),
    ]


def test_one_that_waits_for_two_roots_counts_for_both_and_is_shown_once() -> None:
    rows = forest({5: [1, 2], 6: [2]})
    assert [(row.pid, row.held_up) for row in rows] == [(2, 2), (6, 0), (1, 1), (5, 0)]


def test_a_circle_has_a_root_and_an_end() -> None:
    rows = forest({1: [2], 2: [3], 3: [1], 4: [3], 7: [7]})
    assert [(row.pid, row.depth, row.root, row.held_up) for row in rows] == [
        (1, 0, 1, 3), (3, 1, 1, 3), (2, 2, 1, 3), (4, 2, 1, 0), (7, 0, 7, 0),
    ]  # fmt: skip


def test_a_prepared_transaction_has_no_process() -> None:
    assert forest({3: [0]}) == [Node(0, 0, 0, 1), Node(3, 1, 0, 0)]


def test_a_long_chain_needs_no_deep_stack() -> None:
    rows = forest({pid: [pid - 1] for pid in range(2, 3000)})
    assert (rows[0].held_up, rows[-1].depth, len(rows)) == (2998, 2998, 2999)


def test_whatever_the_edges_everybody_is_there_once() -> None:
    chance = random.Random(4)
    for _number in range(300):
        size = chance.randint(1, 12)
        waits = {pid: [chance.randint(0, size) for dummy in range(chance.randint(1, 3))] for pid in range(1, size)}
        rows = forest(waits)
        assert sorted(row.pid for row in rows) == sorted(
            {*waits, *(each for found in waits.values() for each in found)}
        )
        depths = {row.pid: row.depth for row in rows}
        assert all(row.depth == 0 or any(depths[each] == row.depth - 1 for each in waits[row.pid]) for row in rows)
