# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock waits as trees. Pure: it takes edges and gives rows, and a cycle does not make it loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PREPARED = 0
"""What stands for a prepared transaction, which has no process."""


@dataclass(frozen=True)
class Node:
    """One session's place in the tree, and how many wait because of it, directly or not."""

    pid: int
    depth: int
    root: int
    held_up: int


def forest(waits: Mapping[int, Sequence[int]]) -> list[Node]:
    """Every session of the edges once, a root first and then those that it blocks, depth first.

    `waits` maps each waiting session to those that it waits for. A root does not wait itself. Where all wait in a
    circle (a deadlock that was not found yet), the one with the lowest number stands in for a root. A session that
    waits for several is shown below the one that is nearest to a root.
    """
    below: dict[int, list[int]] = {}
    for pid in sorted(waits):
        for blocker in sorted(set(waits[pid])):
            below.setdefault(blocker, []).append(pid)
    pids = sorted({*waits, *below})
    roots = [pid for pid in pids if not waits.get(pid)]
    parents: dict[int, tuple[int, int]] = {}  # pid: (parent, root)
    depths: dict[int, int] = {}
    _reach(roots, below, parents, depths)
    for pid in pids:  # circles
        if pid not in depths:
            roots.append(pid)
            _reach([pid], below, parents, depths)
    children: dict[int, list[int]] = {}
    for pid, (parent, _root) in parents.items():
        children.setdefault(parent, []).append(pid)
    counts = {root: _reachable(root, below) for root in roots}
    rows: list[Node] = []
    for root in sorted(roots, key=lambda pid: (-counts[pid], pid)):
        stack = [root]
        while stack:
            pid = stack.pop()
            held_up = counts[pid] if pid in counts else _reachable(pid, below)
            rows.append(Node(pid, depths[pid], root, held_up))
            stack += sorted(children.get(pid, []), reverse=True)
    return rows


def _reach(
    starts: Sequence[int],
    below: Mapping[int, Sequence[int]],
    parents: dict[int, tuple[int, int]],
    depths: dict[int, int],
) -> None:
    """Breadth first from the starts; each session gets the place that it is found at first."""
    for pid in starts:
        depths[pid] = 0
    queue = deque((pid, pid) for pid in starts)
    while queue:
        pid, root = queue.popleft()
        for each in below.get(pid, ()):
            if each not in depths:
                depths[each] = depths[pid] + 1
                parents[each] = (pid, root)
                queue.append((each, root))


def _reachable(start: int, below: Mapping[int, Sequence[int]]) -> int:
    """The number of sessions that wait for one, directly or through others."""
    seen = {start}
    queue = deque([start])
    while queue:
        for each in below.get(queue.popleft(), ()):
            if each not in seen:
                seen.add(each)
                queue.append(each)
    return len(seen) - 1
