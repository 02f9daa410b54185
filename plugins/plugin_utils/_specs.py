# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles and the playbooks of this collection know: their options and their tags, read from their own files."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

COLLECTION = "godel.postgres_runbook"
ROOT = Path(__file__).resolve().parents[2]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
RoleOptions = Mapping[str, Mapping[str, Any]]


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506  # a safe loader, and our own file


@functools.cache
def options() -> Mapping[str, RoleOptions]:
    """The options of each role, as its argument_specs.yml describes them."""
    found = {}
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        found[path.parts[-3]] = _read(path)["argument_specs"]["main"].get("options", {})
    return found


@functools.cache
def known_names() -> frozenset[str]:
    """Every variable that a role or a playbook of the collection looks at."""
    return frozenset(name for known in options().values() for name in known) | {"target_hosts"}


def playbooks() -> set[str]:
    """The names of the collection's playbooks."""
    return {path.stem for path in ROOT.glob("playbooks/*.yml")}


def roles_of(playbook: str) -> set[str]:
    """The roles that a playbook runs, those that these include among them."""
    found: set[str] = set()
    for play in _read(ROOT / "playbooks" / f"{playbook}.yml"):
        for item in play.get("roles", []):
            name = str(item["role"]).rpartition(".")[2]
            steps = options().get(name, {}).get(f"{name}_steps", {})
            found |= {name, *(step for step in steps.get("choices", ()) if step in options())}
    return found


def tags_of(playbook: str) -> set[str]:
    """The tags that choose tasks of a playbook, besides those of Ansible itself."""
    found: set[str] = set()
    for role in roles_of(playbook):
        for path in sorted(ROOT.glob(f"roles/{role}/tasks/*.yml")):
            found.update(_tags(_read(path) or []))
    return found - {"always", "never"}


def _tags(tasks: Any) -> Iterator[str]:
    for task in tasks:
        given = task.get("tags", [])
        yield from [given] if isinstance(given, str) else given
        for part in ("block", "rescue", "always"):
            yield from _tags(task.get(part, []))
