# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks, hosts and tags that ansible-playbook was called with, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _specs
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._words import nearest

DEFAULT_GROUP = "postgres"
_ANSIBLES_TAGS = frozenset({"all", "tagged", "untagged", "always", "never"})
_IMPORTS = ("import_playbook", "ansible.builtin.import_playbook")
_LISTED = 10
_ALIKE = 0.6  # names of hosts are short: db1 and db2 are alike


@dataclass(frozen=True)
class CollectionRun:
    """A run that consists of playbooks of this collection alone: then all of its tags and options are known.

    Attributes:
        playbooks: their names.
        tags: the tags that the user's own playbooks give to those that they import.
    """

    playbooks: Sequence[str]
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def all_tags(self) -> set[str]:
        """Every tag that chooses something in this run."""
        return set(self.tags).union(*(_specs.tags_of(name) for name in self.playbooks))

    @property
    def roles(self) -> set[str]:
        """The roles that take part."""
        return set().union(*(_specs.roles_of(name) for name in self.playbooks))


def ours(given: Iterable[str], load: Callable[[str], Any]) -> CollectionRun | None:
    """The run that these playbooks make, names or paths; None when a play of it is the user's own.

    Args:
        load: reads a file of YAML.
    """
    found: list[str] = []
    tags: set[str] = set()
    for item in given:
        name = _own_name(item)
        if name is not None:
            found.append(name)
            continue
        inner = _imported(item, load)
        if inner is None:
            return None
        found += inner.playbooks
        tags |= inner.tags
    return CollectionRun(found, frozenset(tags))


def _own_name(item: str) -> str | None:
    """The name of a playbook of ours, given as such or as a path."""
    prefix = f"{_specs.COLLECTION}."
    if item.startswith(prefix):
        name = item[len(prefix) :]
        return name if name in _specs.playbooks() else None
    path = Path(item).resolve()
    return path.stem if path.parent == _specs.ROOT / "playbooks" and path.stem in _specs.playbooks() else None


def _imported(item: str, load: Callable[[str], Any]) -> CollectionRun | None:
    """What a user's playbook imports, when it does nothing else."""
    try:
        plays = load(str(Path(item).absolute()))
    except Exception:  # noqa: BLE001  # Ansible itself says what is wrong with it
        return None
    found: list[str] = []
    tags: set[str] = set()
    for play in plays if isinstance(plays, list) else []:
        target = next((str(play[word]) for word in _IMPORTS if isinstance(play, dict) and word in play), None)
        if target is None:
            return None
        beside = target if target.startswith(_specs.COLLECTION) else str(Path(item).parent / target)
        inner = ours([beside], load)
        if inner is None:
            return None
        given = play.get("tags", [])
        found += inner.playbooks
        tags |= inner.tags | set(given.split(",") if isinstance(given, str) else map(str, given))
    return CollectionRun(found, frozenset(tags)) if found else None


def wrong_tags(run: CollectionRun, chosen: Iterable[str], skipped: Iterable[str]) -> str:
    """What is wrong with --tags and --skip-tags, for people; empty when each of them chooses something."""
    known = run.all_tags
    for option, given in (("--tags", chosen), ("--skip-tags", skipped)):
        for tag in given:
            if tag in known or tag in _ANSIBLES_TAGS:
                continue
            near = nearest(tag, known)
            guess = f" Did you mean {near!r}?" if near else ""
            there = f"The tags are {', '.join(sorted(known))}." if known else "These playbooks have no tags."
            return (
                f"Invalid {option}: {tag!r} selects no task of {', '.join(run.playbooks)}.{guess} {there} "
                f"Nothing was done. Correct {option}, or leave it out."
            )
    return ""


@dataclass(frozen=True)
class Inventory:
    """The inventory of a run.

    Attributes:
        sources: the files and scripts that it comes from.
        groups: the hosts of each group.
        match: the hosts of one pattern, without its sign.
    """

    sources: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    match: Callable[[str], Sequence[str]]

    @property
    def hosts(self) -> Sequence[str]:
        """All hosts."""
        return self.groups.get("all", ())

    @property
    def names(self) -> set[str]:
        """Groups and hosts that an operator can name."""
        return {*self.hosts, *self.groups} - {"ungrouped"}

    def describe(self) -> str:
        """What is in it, in one or two sentences."""
        missing = [source for source in self.sources if "," not in source and not Path(source).exists()]
        if missing:
            return f"The inventory {', '.join(missing)} does not exist."
        where = f"The inventory {', '.join(self.sources)}" if self.sources else "The inventory"
        if not self.hosts:
            return f"{where} has no hosts; a warning above says so when Ansible could not read it."
        groups = sorted(set(self.groups) - {"all", "ungrouped"})
        listed = ", ".join(groups[:_LISTED]) + (" ..." if len(groups) > _LISTED else "")
        count = len(self.hosts)
        return f"{where} has {count} {'host' if count == 1 else 'hosts'} and " + (
            f"the {'group' if len(groups) == 1 else 'groups'} {listed}." if groups else "no groups."
        )


def wrong_hosts(inventory: Inventory, patterns: Sequence[str], matched: Sequence[str], *, given: bool) -> str:
    """What is wrong with the hosts of a play, for people; empty when each part of the pattern matches.

    A part that excludes hosts has to match, too: a misspelt `!db2` would work on db2.

    Args:
        patterns: the parts of the pattern.
        matched: the hosts that all parts together leave.
        given: whether target_hosts says so; else it is the default.
    """
    headline = "Invalid target_hosts" if given else "No host to work on"
    said = _unmatched(inventory, patterns, headline)
    if not said and not matched:
        said = f"{headline}: {','.join(patterns)!r} leaves no host."
    remedy = (
        "Name hosts or groups of the inventory in target_hosts."
        if given
        else f"Put the hosts into the group {DEFAULT_GROUP}, or name others with -e target_hosts=..., and see -i."
    )
    return said and f"{said} {inventory.describe()} Nothing was done. {remedy}"


def wrong_limit(inventory: Inventory, patterns: Sequence[str], limit: Sequence[str], left: Sequence[str]) -> str:
    """What is wrong with --limit, for people; empty when each part of it matches, and a host is left."""
    said = _unmatched(inventory, limit, "Invalid --limit")
    if not said and limit and not left:
        said = f"Invalid --limit: {','.join(limit)!r} leaves no host of {','.join(patterns)!r}."
    return said and f"{said} {inventory.describe()} Nothing was done. Correct --limit, or leave it out."


def _unmatched(inventory: Inventory, patterns: Sequence[str], headline: str) -> str:
    if not patterns:
        return f"{headline}: it is empty."
    for part in patterns:
        plain = part.lstrip("!&")
        if inventory.match(plain) or (plain != part and plain in inventory.groups):
            continue
        near = nearest(plain, inventory.names, _ALIKE)
        what = "is a group without hosts" if plain in inventory.groups else "matches no host and no group"
        return f"{headline}: {plain!r} {what}." + (f" Did you mean {near!r}?" if near and near != plain else "")
    return ""
