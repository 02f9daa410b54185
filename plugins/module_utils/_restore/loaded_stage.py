# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mark of a loaded stage says to the next run, which goes on from it and proves it in full.

The proof of that run must not be weaker than that of a run that loads. So a stage is remembered only if its content is
compared, and if the mark has all that the load said. Otherwise the next run loads it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .._fingerprint.figures import Fingerprint
from .._load.copies import Copy
from .._load.databases import Database, Mark
from .._load.load import Loaded
from .._load.refusals import Refusal
from .._load.source_settings import Lack
from .._postgres import sqlstate

# The mark is a setting, which every session with the stage gets.
_MOST_CHARS = 64 * 1024
# Every role can read the settings of all databases. So no value of a row and no password may get into one: literals,
# statements that read rows, and errors that may quote them. These errors name objects and resources only.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_READS_ROWS = re.compile(r"COPY |INSERT |UPDATE |SELECT |REFRESH |CREATE MATERIALIZED |.*['$]", re.S)
_NAMES_OBJECTS = ("0A", sqlstate.INVALID_PARAMETER_VALUE, "2B", "3D", "3F", "42", "53", "55", "57", "58")


@dataclass(frozen=True)
class StageLoading:
    """What only the run that loaded a stage knows.

    Attributes:
        way: what decides what is loaded, beside the backup: words of the plan, and where it goes.
        forced: whether that run was to load whatever is there.
        loaded: how the load ended.
        notes, doubts: how the database is not made like its source, as in `Copy`.
        server_started: when the server was started, if the stage has unlogged tables; else empty. A crash empties them.
    """

    way: Mapping[str, object]
    forced: bool = False
    loaded: Loaded = field(default_factory=Loaded)
    notes: Sequence[str] = ()
    doubts: Sequence[Lack] = ()
    server_started: str = ""

    def is_for(self, way: Mapping[str, object], server_started: str, *, forced: bool) -> bool:
        """Whether a run that would load in this way may go on from it instead."""
        alive = self.server_started in ("", server_started)
        return alive and dict(self.way) == dict(way) and forced <= self.forced

    def on(self, copy: Copy) -> Copy:
        """The copy with what it lacked while it was loaded, beside what it lacks now."""
        doubts = [*self.doubts, *(each for each in copy.doubts if each not in self.doubts)]
        return replace(copy, notes=list(self.notes), doubts=doubts)


@dataclass(frozen=True)
class FoundStage:
    """A stage that an earlier run has loaded: the database, its mark, and what that says on the load."""

    database: Database
    mark: Mark
    loading: StageLoading


def as_mark(begun: Mark, proof: Fingerprint | None, loading: StageLoading) -> Mark | None:
    """The mark of a stage whose load has come to its end; None if the next run cannot go on from it.

    Args:
        begun: its mark while it was loaded.
        proof: what it will be compared with, None if there is nothing.
    """
    if proof is None or proof.mode != "content" or any(map(_may_have_values, loading.loaded.refusals)):
        return None
    mark = replace(begun, state="loaded", loading=asdict(loading))
    return mark if len(mark.as_text()) <= _MOST_CHARS else None


def _may_have_values(refusal: Refusal) -> bool:
    """Whether the texts on a refused statement may have a value of a row, or a password."""
    plain = refusal.sqlstate.startswith(_NAMES_OBJECTS) and not _READS_ROWS.match(refusal.statement)
    return refusal.inside or not plain


def read(mark: Mark) -> StageLoading | None:
    """What a mark says on the load; None if it says nothing that can be understood."""
    found: Any = mark.loading
    # The owner of a database can write its mark.
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        loaded = found["loaded"]
        refusals = [_text_fields(Refusal(**each)) for each in loaded["refusals"]]
        return StageLoading(
            way=dict(found["way"]),
            forced=found["forced"] is True,
            loaded=Loaded(refusals, int(loaded["count"]), loaded["cramped"] is not False),
            notes=[str(each) for each in found["notes"]],
            doubts=[Lack(str(each["text"]), str(each["reach"])) for each in found["doubts"]],
            server_started=str(found["server_started"]),
        )
    return None


def _text_fields(refusal: Refusal) -> Refusal:
    """The same refusal. Raises TypeError if what should be a text is none."""
    if not all(isinstance(each, str) for each in (refusal.statement, refusal.why, refusal.sqlstate, refusal.more)):
        raise TypeError
    return refusal
