# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup is in production already, or an earlier run has left a stage of it."""

from __future__ import annotations

from collections.abc import Mapping

from .._load import databases, sql
from .._load.databases import Database, Mark
from .._postgres.connection import Server, Session
from . import acceptance, loaded_stage
from .plan import StagePlan
from .source import BackupIdentity


def already_live(session: Session, plan: StagePlan, identity: BackupIdentity) -> bool:
    """Whether production came from this very backup."""
    production = databases.list_databases(session).get(plan.db)
    mark = production.mark if production and production.is_as_marked else None
    return not plan.force and mark is not None and mark.state == "live" and _is_of(mark, identity)


def _is_of(mark: Mark, identity: BackupIdentity) -> bool:
    return (mark.backup, mark.digest) == (identity.name, identity.digest)


def find_staged(session: Session, plan: StagePlan, identity: BackupIdentity) -> Database | None:
    """A stage of this very backup that an earlier run has proven as well as this one asks for."""
    for item in databases.find_marked(session, plan.db, "staged"):
        if item.mark and _is_of(item.mark, identity) and _accepts(plan, item.mark) and not plan.force:
            return item
    return None


def way_of(server: Server, plan: StagePlan, tablespace: str, keeps_tablespaces: bool) -> dict[str, object]:
    """What decides what a load brings, beside the backup."""
    return {
        "tablespace": tablespace,
        "keeps_tablespaces": keeps_tablespaces,
        "bin_dir": plan.bin_dir,
        "login": server.login.user,  # whose settings the load has
    }


def find_loaded(
    session: Session, plan: StagePlan, identity: BackupIdentity, way: Mapping[str, object]
) -> loaded_stage.FoundStage | None:
    """A stage of this very backup that an earlier run has loaded in the same way, and not proven."""
    for item in databases.find_marked(session, plan.db, "loaded"):
        mark = item.mark
        if mark is None or not _is_of(mark, identity):
            continue
        known = loaded_stage.read(mark)
        if known and known.is_for(way, str(session.value(sql.SERVER_STARTED)), forced=plan.force):
            return loaded_stage.FoundStage(item, mark, known)
    return None


def _accepts(plan: StagePlan, mark: Mark) -> bool:
    """Whether a stage is proven as well as this run asks for."""
    if mark.lost and acceptance.DEFINITIONS not in plan.accept:
        return False
    return mark.verdict in ("verified", "incomplete") or bool(mark.lost) or plan.accept_unproven
