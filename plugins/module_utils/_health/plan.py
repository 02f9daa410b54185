# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of all sections, from the thresholds that a user gives under the names of the plans' own fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import Any

from .._diagnostics.activity.report import ActivityPlan
from .._diagnostics.disk.report import DiskPlan
from .._diagnostics.queries.report import QueriesPlan
from .._diagnostics.replication.report import ReplicationPlan
from .._diagnostics.storage.report import StoragePlan
from .._errors import InvalidInput
from .backups import BackupsPlan
from .maintenance import MaintenancePlan
from .schema.report import SchemaPlan
from .server import ServerPlan

_PLANS: dict[str, Any] = {
    "server": ServerPlan,
    "activity": ActivityPlan,
    "queries": QueriesPlan,
    "storage": StoragePlan,
    "disk": DiskPlan,
    "replication": ReplicationPlan,
    "maintenance": MaintenancePlan,
    "schema": SchemaPlan,
}
# As the plans write it. Python 3.9 cannot make a type of these words.
_MAY_BE_A_NUMBER = ("int | None", "float | None")


def plans(thresholds: Mapping[str, Any], backup_dir: str | None = None) -> dict[str, Any]:
    """The plan of each section, where it is not the default. `backup_dir` is looked at by the section disk.

    Raises:
        InvalidInput: there is no such section or threshold, or it is no number.
    """
    found: dict[str, Any] = {}
    for section, given in thresholds.items():
        if section not in _PLANS:
            raise InvalidInput(
                "Invalid thresholds",
                subject=repr(section),
                why="there is no such section",
                remedy=f"The sections are {', '.join(_PLANS)}.",
            )
        found[section] = _changed(_PLANS[section](), given, f"thresholds.{section}")
    if backup_dir:
        found["disk"] = replace(found.get("disk") or DiskPlan(), backup_dir=backup_dir)
    return found


def backups(params: Mapping[str, Any]) -> BackupsPlan | None:
    """The plan for the backups; None when there is no catalog."""
    return BackupsPlan.from_params(params) if params["backup_dir"] else None


def _changed(plan: Any, given: object, where: str) -> Any:
    known = [each.name for each in fields(plan) if _is_settable(plan, each)]
    if not isinstance(given, Mapping) or not given.keys() <= set(known):
        raise InvalidInput(f"Invalid {where}", subject=repr(given), remedy=f"It may have {', '.join(known)}.")
    return replace(plan, **{name: _number(value, f"{where}.{name}") for name, value in given.items()})


def _is_settable(plan: Any, known: Field[Any]) -> bool:
    """Whether it is a number, or may be one."""
    value = getattr(plan, known.name)
    if value is None:
        return str(known.type) in _MAY_BE_A_NUMBER
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: object, where: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise InvalidInput(
            f"Invalid {where}", subject=repr(value), why="it is not a number", remedy="Use a number, as 0.9 or 300."
        ) from None
    return int(number) if number.is_integer() else number
