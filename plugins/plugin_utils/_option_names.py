# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find variables that look like an option of this collection and are none.

Ansible ignores a variable that no task reads, so that a misspelt option has no effect.
An unknown name is judged by where it stands. A variable of the inventory may be the user's own although its name begins
as our options do, so that only a misspelt name is an error there. On the command line, and among the variables that are
given to the role itself, every unknown name with a prefix of ours is an error.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import CONNECTION, KUBERNETES
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _specs
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._words import misspelt, nearest

WAY_OUT = "check_options_ignore"
_SHARED = "postgres_"
# Options whose keys are described elsewhere: by the modules, or by the role's own tasks.
_CLUSTER: Mapping[str, Any] = KUBERNETES.options["kubernetes"]["options"]
_APPLICATION = {
    **{name: option for name, option in _CLUSTER.items() if name != "container"},
    **{name: {} for name in ("timeout", "stop_command", "start_command")},
}
_KEYS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "postgres_login": CONNECTION.options,
    "postgres_kubernetes": _CLUSTER,
    "restore_application": _APPLICATION,
    "restore_rollback_application": _APPLICATION,
}
_EDGE = 4  # a misspelt name keeps this many letters at its beginning or at its end


@dataclass(frozen=True)
class GivenVariables:
    """The variables of a run, by where they were given.

    Attributes:
        all: every variable that the role sees.
        command_line: those of `-e`.
        to_role: those that are given to the role itself.
        ignored: names that are the user's own, as shell patterns.
    """

    all: Mapping[str, Any]
    command_line: Collection[str] = ()
    to_role: Collection[str] = ()
    ignored: Sequence[str] = ()

    def names(self) -> Iterator[str]:
        """The names that are examined."""
        for name in self.all:
            if name.startswith(("ansible_", "__")) or any(fnmatch.fnmatchcase(name, each) for each in self.ignored):
                continue
            yield name


@dataclass(frozen=True)
class OptionErrors:
    """What was found: errors stop the run, warnings do not."""

    errors: Sequence[str]
    warnings: Sequence[str]


def examine(role: str, given: GivenVariables, in_run: Collection[str] | None = None) -> OptionErrors:
    """Compare the names of all variables with the options of the collection.

    Args:
        role: the role that is about to run.
        in_run: all roles of the run, when they are known: then an option of another role has no effect.
    """
    known = _specs.known_names()
    mine = _specs.options()[role].keys()
    near = _Neighbours(known)
    errors, warnings = [], []
    for name in given.names():
        if name in known:
            if name in given.command_line and in_run is not None and not _has_effect(name, in_run):
                warnings.append(_of_another_role(name, role))
            continue
        where = "on the command line" if name in given.command_line else ""
        where = where or ("among the variables of the role" if name in given.to_role else "")
        right = near.of(name)
        if not (right or where or name.startswith(f"{role}_")) or _is_read(name, given.all, known):
            continue
        said = f"Invalid variable: {name!r}{f' {where}' if where else ''} is not an option of this collection."
        if right is not None:
            errors.append(f"{said} Did you mean {right}?")
        elif where and _prefixed(name):
            errors.append(f"{said}{near.guess(name, role)}")
        elif name in given.command_line and f"{role}_{name}" in known:
            errors.append(f"{said} Did you mean {role}_{name}?")
        elif name in given.command_line and f"{_SHARED}{name}" in mine:
            errors.append(f"{said} Did you mean {_SHARED}{name}?")
        elif name.startswith(f"{role}_") and not _is_registered(given.all[name]):
            warnings.append(f"{said} It has no effect.{near.guess(name, role)}")
    return OptionErrors(errors, warnings)


def _of_another_role(name: str, role: str) -> str:
    owner = next(each for each, options in _specs.options().items() if name in options)
    rest = name[len(owner) + 1 :]
    mine = f"{role}_{rest}"
    guess = f" Did you mean {mine}?" if mine in _specs.options()[role] else ""
    return f"{name} is an option of {owner}, which is not a part of this run: it has no effect.{guess}"


def _prefixed(name: str) -> bool:
    return name.startswith((_SHARED, *(f"{role}_" for role in _specs.options())))


def _has_effect(name: str, in_run: Collection[str]) -> bool:
    options = _specs.options()
    return name in ("target_hosts", WAY_OUT) or any(name in options[role] for role in in_run)


def _is_registered(value: object) -> bool:
    """Whether it is the result of a task, which a play may register under any name."""
    return isinstance(value, Mapping) and "changed" in value


def _is_read(name: str, variables: Mapping[str, Any], known: Collection[str]) -> bool:
    """Whether an option refers to this variable, as in `postgres_db: "{{ db }}"`: then it is the user's own."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    texts = (str(variables[option]) for option in known if option in variables)
    return any("{{" in text and word.search(text) for text in texts)


class _Neighbours:
    """Finds misspelt names without comparing each with all."""

    def __init__(self, known: Iterable[str]) -> None:
        self._by_edge: dict[str, list[str]] = {}
        self._by_prefix: dict[str, dict[str, str]] = {}
        for name in sorted(known):
            for edge in (f"^{name[:_EDGE]}", f"{name[-_EDGE:]}$"):
                self._by_edge.setdefault(edge, []).append(name)
        for prefix in (_SHARED, *(f"{role}_" for role in _specs.options())):
            names = {name[len(prefix) :]: name for name in known if name.startswith(prefix)}
            self._by_prefix[prefix] = names

    def of(self, name: str) -> str | None:
        """The option that this name certainly stands for, if there is one."""
        plain = name.lower().replace("-", "_")
        for prefix in sorted(self._by_prefix, key=len, reverse=True):
            if plain.startswith(prefix):  # the rest alone is compared, since the prefix would hide how short it is
                names = self._by_prefix[prefix]
                right = misspelt(plain[len(prefix) :], names)
                if right is not None:
                    return names[right]
        if _prefixed(plain):
            return None
        close = {other for edge in (f"^{plain[:_EDGE]}", f"{plain[-_EDGE:]}$") for other in self._by_edge.get(edge, ())}
        return misspelt(plain, sorted(close))

    def guess(self, name: str, role: str) -> str:
        """A sentence with the option that is most like an unknown one; empty when none is like it."""
        names = self._by_prefix[f"{role}_"]
        if name in self._by_prefix[_SHARED]:  # as the modules call it
            return f" The nearest option is {_SHARED}{name}."
        rest = name[len(role) + 1 :] if name.startswith(f"{role}_") else name
        right = names.get(nearest(rest, names) or "") or nearest(name, self._by_prefix[_SHARED].values())
        return f" The nearest option is {right}." if right else ""


def wrong_keys(role: str, values: Mapping[str, Any]) -> list[str]:
    """Misspelt keys within options that are dictionaries, or lists of them."""
    found = []
    for name, option in _specs.options()[role].items():
        keys = _KEYS.get(name) or option.get("options")
        if keys and values.get(name):
            found += list(_wrong_keys(name, keys, values[name]))
    names = _specs.options()["backup"]
    for key in values.get("backup_schedule_backup_options") or {}:
        if role == "backup_schedule" and key not in names:
            found.append(_wrong_key("backup_schedule_backup_options", str(key), names))
    return found


def _wrong_keys(name: str, keys: Mapping[str, Mapping[str, Any]], value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _wrong_keys(name, keys, item)
        return
    if not isinstance(value, Mapping):
        return  # its type is judged elsewhere
    right = {word for key, option in keys.items() for word in (key, *option.get("aliases", ()))}
    for key, inner in value.items():
        if key not in right:
            yield _wrong_key(name, str(key), right)
        elif keys.get(key, {}).get("options") and inner:
            yield from _wrong_keys(f"{name}.{key}", keys[key]["options"], inner)


def _wrong_key(name: str, key: str, right: Iterable[str]) -> str:
    words = sorted(right)
    near = nearest(key, words)
    return f"Invalid {name}: {key!r} is not one of its keys." + (
        f" Did you mean {near!r}?" if near else f" They are {', '.join(words)}."
    )
