# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of all sections, from the options of the module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, replace
from typing import Any

from .._errors import InvalidInput
from .sections import SECTIONS

_MAY_BE_A_NUMBER = ("int | None", "float | None")


def plans(options: Mapping[str, Any]) -> dict[str, Any]:
    """The plans by section, without those that cannot be read by these options.

    Args:
        options: those of the module; `thresholds` has values by section, under the names of the plan's own fields.

    Raises:
        InvalidInput: there is no such section or threshold, or it is no number.
    """
    thresholds: Mapping[str, Any] = options["thresholds"]
    settable = [section.name for section in SECTIONS if section.plan is not None]
    for name in thresholds:
        if name not in settable:
            raise InvalidInput(
                "Invalid thresholds",
                subject=repr(name),
                why="there is no such section",
                remedy=f"The sections are {', '.join(settable)}.",
            )
    found = {}
    for section in SECTIONS:
        plan = section.plan
        if section.name in thresholds:
            plan = _changed(plan, thresholds[section.name], f"thresholds.{section.name}")
        plan = section.configure(plan, options)
        if plan is not None:
            found[section.name] = plan
    return found


def _changed(plan: Any, given: object, where: str) -> Any:
    known = [each.name for each in fields(plan) if _is_settable(plan, each)]
    if not isinstance(given, Mapping) or not given.keys() <= set(known):
        raise InvalidInput(f"Invalid {where}", subject=repr(given), remedy=f"Valid names: {', '.join(known)}.")
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
            f"Invalid {where}", subject=repr(value), why="it is not a number", remedy="Use a number such as 0.9 or 300."
        ) from None
    return int(number) if number.is_integer() else number
