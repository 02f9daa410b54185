# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Misspelt words, and the right word that is nearest to each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LIKELY = 0.75  # the ratio of difflib.get_close_matches()


def distance(one: str, other: str, most: int) -> int:
    """How many letters to insert, delete, replace or swap with their neighbour; `most + 1` when it is more than `most`.

    The optimal string alignment distance: https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    above: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        before, above, row = above, row, [at]
        for column, against in enumerate(other, 1):
            cost = min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != against))
            if at > 1 and column > 1 and letter == other[column - 2] and one[at - 2] == against:
                cost = min(cost, before[column - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def misspelt(word: str, right: Iterable[str]) -> str | None:
    """The right word that this one certainly stands for, if there is one.

    A few letters differ, or the order of the parts. Short words have many neighbours by chance: below four letters only
    swapped letters count, below six one letter.
    """
    plain = word.lower().replace("-", "_").strip("_")
    best: tuple[int, str] | None = None
    for known in right:
        size = len(known)
        most = 2 if size > 5 else 1
        found = distance(plain, known, most)
        if size < 4 and sorted(plain) != sorted(known):
            found = most + 1
        if found > most and (sorted(plain.split("_")) == sorted(known.split("_")) or _clipped(plain, known)):
            found = most
        if found <= most and (best is None or (found, known) < best):
            best = (found, known)
    return best[1] if best else None


def _clipped(word: str, known: str) -> bool:
    """Whether it is the beginning of a known word, cut within one of its parts: `kube` for `kubernetes`."""
    return len(word) >= 4 and known.startswith(word) and known[len(word)] != "_"


def nearest(word: str, right: Iterable[str], likely: float = _LIKELY) -> str | None:
    """The right word that is most like this one, if any is like it at all: a guess, to be shown as one."""
    known = list(right)
    ending = min((each for each in known if each.endswith(f"_{word}")), key=len, default=None)
    return misspelt(word, known) or ending or next(iter(difflib.get_close_matches(word, known, 1, likely)), None)
