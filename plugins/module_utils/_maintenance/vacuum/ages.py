# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of VACUUM does to the age of its database, and what keeps that from changing."""

from __future__ import annotations

from collections.abc import Sequence

from ..._findings import Finding
from ..._postgres.connection import Server
from .. import wraparound
from ..work import WorkLoop
from ..wraparound import DatabaseAge
from .plan import VacuumPlan
from .report import VacuumRecord
from .tables import VacuumItem

_CHECK = "vacuum_wraparound"
_LOOK_S = 60.0


def permitted(items: Sequence[VacuumItem], record: VacuumRecord) -> list[VacuumItem]:
    """The items without catalogs that this login may not vacuum, which are one finding together."""
    refused = [each for each in items if each.facts.table.system and not each.facts.table.allowed]
    if refused:
        oldest = max((each.facts.table for each in refused), key=lambda each: each.age)
        count = "1 system catalog nears" if len(refused) == 1 else f"{len(refused)} system catalogs near"
        record.wraparound.append(
            Finding(
                "vacuum_catalogs", "warning", oldest.title, oldest.age, oldest.freeze_limit,
                f"{count} wraparound, and the login lacks the privilege to vacuum them. The oldest is {oldest.title}.",
                "Run it again with the login of a superuser.",
            )
        )  # fmt: skip
    return [each for each in items if each not in refused]


class Ages:
    """The ages of the cluster's databases around one run."""

    def __init__(self, server: Server, plan: VacuumPlan, *, alone: bool) -> None:
        """Look at them as they are before anything is done; `alone`: only the plan's own database is reported."""
        self._alone = alone
        self._server = server
        self._plan = plan
        self._before = self._here(self._read())

    def stale(self) -> bool:
        """Whether the database's own age has to be looked at again, whatever its tables were."""
        return self._before is not None and self._before.aged()

    def old_templates(self) -> list[str]:
        """The other template databases that near wraparound and allow connections."""
        found = self._read()
        return [each.name for each in found if each.template and each.connectable and each.aged() and not each.current]

    def tell(self, record: VacuumRecord, work: WorkLoop, items: Sequence[VacuumItem]) -> None:
        """Note how old the database is now and, where it nears wraparound, what holds its rows; others as well."""
        if work.lost:
            return
        before = self._before
        found = self._read()
        now = self._here(found)
        if now is None or before is None:
            return
        if not self._alone:
            record.ages = {"database_freeze_age": now.freeze_age, "database_multixact_age": now.multixact_age}
        if now.share() < before.share() and before.aged():
            age, dummy, what = before.oldest
            later = now.multixact_age if before.by_multixacts else now.freeze_age
            if later < age:
                own = f"the oldest rows of {now.name} were {age:,} {what} old, and are {later:,} now"
                record.rejuvenated = "; ".join(each for each in (own, record.rejuvenated) if each)
        if self._plan.tables or self._plan.schemas:
            return
        others = [each for each in found if not (each.current or self._alone) and each.aged()]
        if now.aged() and not (work.check_mode and items) and not work.stopped_by:
            others.insert(0, now)
        with self._server.connect(self._plan.db, timeout_s=_LOOK_S) as session:
            record.wraparound += wraparound.findings(session, others, _CHECK)

    def _read(self) -> list[DatabaseAge]:
        with self._server.connect(self._plan.db, timeout_s=_LOOK_S) as session:  # names of any encoding
            return wraparound.databases(session)

    @staticmethod
    def _here(found: Sequence[DatabaseAge]) -> DatabaseAge | None:
        return next((each for each in found if each.current), None)
