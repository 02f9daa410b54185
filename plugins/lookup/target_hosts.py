# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop a playbook that would work on no host, or skip all of its tasks, and end well all the same."""

from __future__ import annotations

DOCUMENTATION = r"""
name: target_hosts
short_description: Return the pattern of hosts, and fail if it matches no host
version_added: 0.1.0
description:
  - Use it for C(hosts) of a play. It returns the pattern unchanged, and fails when a part of it matches no host of
    the inventory. Ansible itself skips such a play and reports success, as if the work had been done.
  - It is evaluated before the first task, also with C(--check). The message suggests the host, group or tag with the
    most similar name.
  - When the whole run consists of playbooks of this collection, it also fails when a tag of C(--tags) or
    C(--skip-tags) selects no task, or when C(--limit) leaves no host. Playbooks of your own may use other tags.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  _terms:
    description: A pattern of hosts, in the syntax of C(hosts) and C(--limit), or a list of patterns.
    required: true
notes:
  - It does nothing with C(--syntax-check).
"""

EXAMPLES = r"""
- name: Work on the group postgres, or on other hosts that the operator names
  hosts: "{{ query('godel.postgres_runbook.target_hosts', target_hosts | default('postgres')) }}"
  roles:
    - role: godel.postgres_runbook.backup
"""

RETURN = r"""
_list:
  description: The pattern.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible import context
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.plugins.lookup import LookupBase

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _command_line, _specs
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._command_line import Inventory


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible has no types
    """The lookup; its documentation is above."""

    def run(self, terms: Sequence[Any], variables: Mapping[str, Any] | None = None, **_keywords: object) -> list[str]:
        """Return the pattern, or raise AnsibleLookupError with what is wrong with it."""
        given = [part for term in terms for part in (term if isinstance(term, list) else [term])]
        pattern = [str(part) for part in given if part is not None and str(part).strip()]
        if context.CLIARGS.get("syntax"):
            return pattern or [_command_line.DEFAULT_GROUP]
        groups = (variables or {}).get("groups") or {}
        said = self._wrong(pattern, groups, given="target_hosts" in (variables or {}))
        if said:
            raise AnsibleLookupError(said)
        _specs.known_names()  # for check_options, whose processes are forked from this one
        return pattern

    def _wrong(self, pattern: list[str], groups: Mapping[str, Sequence[str]], *, given: bool) -> str:
        manager = self._manager(groups)
        inventory = Inventory(_words("inventory"), groups, lambda part: _names(manager, part))
        parts = split_host_pattern(pattern)
        said = _command_line.wrong_hosts(inventory, parts, _names(manager, pattern), given=given)
        if said:
            return said
        run = _command_line.ours(_words("args"), self._loader.load_from_file)
        if run is None:
            return ""
        said = _command_line.wrong_tags(run, _words("tags"), _words("skip_tags"))
        limit = context.CLIARGS.get("subset")
        if said or not limit or limit.startswith("@"):
            return said
        manager.subset(limit)
        return _command_line.wrong_limit(
            inventory, parts, split_host_pattern(limit), _names(manager, pattern, limited=True)
        )

    def _manager(self, groups: Mapping[str, Sequence[str]]) -> Any:
        """Ansible's own matching of patterns, on the known hosts: a lookup cannot reach the inventory itself."""
        manager = InventoryManager(loader=self._loader, parse=False)
        for group, hosts in groups.items():
            if group not in manager.groups:
                manager.add_group(group)
            for host in hosts:
                manager.add_host(host, group=group if group != "all" else None)
        manager.reconcile_inventory()
        return manager


def _names(manager: Any, pattern: str | list[str], *, limited: bool = False) -> list[str]:
    try:
        return [host.name for host in manager.get_hosts(pattern, ignore_limits=not limited)]
    except AnsibleError:  # a broken regular expression, say: it matches nothing
        return []


def _words(option: str) -> list[str]:
    """An option of the command line that is given as several words or as one; tags may be joined by commas."""
    found = context.CLIARGS.get(option) or ()
    words: Iterable[str] = [found] if isinstance(found, str) else found
    if option in ("tags", "skip_tags"):
        return [tag for word in words for tag in str(word).split(",")]
    return [str(word) for word in words]
