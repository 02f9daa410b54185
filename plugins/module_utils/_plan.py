# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: frozen dataclasses of what the operator wants, filled by name from a module's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field as dataclass_field
from dataclasses import fields
from typing import Any, TypeVar

_UNITS = ("_s", "_bytes")
_NO_OPTION = "no option"
P = TypeVar("P", bound="Plan")
T = TypeVar("T")


def no_option(default: T) -> T:
    """A plan's field that no option of the module sets, so that it keeps its default unless it is given."""
    found: T = dataclass_field(default=default, metadata={_NO_OPTION: True})
    return found


class Plan:
    """The base of all plans. Its subclasses are frozen dataclasses whose fields are named as the options are.

    A field that holds seconds or bytes may add `_s` or `_bytes` to the option's name: `lock_timeout_s`.
    """

    @classmethod
    def from_params(cls: type[P], params: Mapping[str, Any], **given: Any) -> P:
        """The plan that a module's parameters (`Call.params`) describe.

        Args:
            given: fields that are no options, or that are not what the option says.

        Raises:
            LookupError: a field is neither an option, nor given, nor `no_option`, which is a mistake in the code.
        """
        values = dict(given)
        for field in fields(cls):  # type: ignore[arg-type]  # subclasses are dataclasses
            if field.name not in values and _NO_OPTION not in field.metadata:
                values[field.name] = params[_option(field.name, params, cls.__name__)]
        return cls(**values)


def _option(field: str, params: Mapping[str, Any], plan: str) -> str:
    for name in (field, *(field[: -len(unit)] for unit in _UNITS if field.endswith(unit))):
        if name in params:
            return name
    raise LookupError(f"{plan}.{field} has no option")
