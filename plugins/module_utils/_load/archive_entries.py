# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order, and how, the entries of an archive are restored. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Lines of `pg_restore --list --verbose`: number, two OIDs, kind, name; then the numbers of what the entry depends on.
_ENTRY = re.compile(rb"(\d+); \d+ \d+ ")
_DEPENDS = b";\tdepends on: "
_ATTACHED = re.compile(rb"\d+; \d+ \d+ TABLE ATTACH ")
_FOREIGN_KEY = re.compile(rb"\d+; \d+ \d+ FK CONSTRAINT ")
_WATCHING = re.compile(rb"\d+; \d+ \d+ (?:CHECK CONSTRAINT|TRIGGER|COMMENT .*(?:CONSTRAINT|TRIGGER)) ")
_RIGHTS = re.compile(rb"\d+; \d+ \d+ (?:DEFAULT )?ACL(?: LANGUAGE)? ")
_HEAVY = re.compile(rb"\d+; \d+ \d+ (?:TABLE DATA|INDEX|CONSTRAINT|FK CONSTRAINT|MATERIALIZED VIEW DATA|BLOBS) ")
_HEAVY_AT_ONCE = 2  # for each job
_COMPUTED = re.compile(rb"\d+; \d+ \d+ MATERIALIZED VIEW DATA ")
_EVENT_TRIGGER = re.compile(rb"\d+; \d+ \d+ (?:(?:COMMENT|SECURITY LABEL) - )?EVENT TRIGGER ")


def passes(listing: bytes) -> list[tuple[bytes, bool]]:
    """The entries of an archive as lists to restore one after the other, and whether in parallel.

    `listing` is what `pg_restore --list --verbose` tells.

    `pg_restore --jobs` knows which table an entry needs, but nothing of partitions. A trigger or a check of a
    partitioned table would be there before the rows of its partitions, and refuse or change them; so would a check of a
    domain. A foreign key of one partition locks others, and workers lock each other up. So these come when all rows are
    there, one after the other. Foreign keys of other tables stay in parallel, since they take their time.

    It restores rights in parallel as well, and may so use a right as a role that only has it through another grant,
    before that is there. So rights come in the same pass, where they are the last. What needs them comes after that:
    contents of materialized views, and event triggers (RestorePass in src/bin/pg_dump/pg_backup_archiver.h).
    """
    entries: list[bytes] = []
    needs: dict[bytes, set[bytes]] = {}
    for line in listing.splitlines(keepends=True):
        if _ENTRY.match(line):
            entries.append(line)
        elif entries and line.startswith(_DEPENDS):
            needs[entries[-1]] = set(line[len(_DEPENDS) :].split())
    attached = {number for entry in entries if _ATTACHED.match(entry) for number in needs.get(entry, ())}
    main, after, late, watching = [], [], [], []
    for entry in entries:
        of_partitions = _FOREIGN_KEY.match(entry) and attached & needs.get(entry, set())
        if _EVENT_TRIGGER.match(entry):
            watching.append(entry)
        elif _COMPUTED.match(entry):
            late.append(entry)
        elif of_partitions or _RIGHTS.match(entry) or _WATCHING.match(entry):
            after.append(entry)
        else:
            main.append(entry)
    found = ((main, True), (after, False), (late, True), (watching, False))
    return [(b"".join(each), together) for each, together in found if each]


def in_pieces(whole: Sequence[tuple[bytes, bool]], jobs: int) -> list[tuple[bytes, bool]]:
    """The same in the same order, cut so that each piece keeps every job busy with some large entries."""
    pieces: list[tuple[bytes, bool]] = []
    for entries, together in whole:
        piece: list[bytes] = []
        heavy = 0
        for line in entries.splitlines(keepends=True):
            piece.append(line)
            heavy += bool(_HEAVY.match(line))
            if heavy == jobs * _HEAVY_AT_ONCE:
                pieces.append((b"".join(piece), together))
                piece, heavy = [], 0
        if piece:
            pieces.append((b"".join(piece), together))
    return pieces
