# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: merge_results
short_description: Merge the results of several modules into one, for a common report
version_added: 0.1.0
description:
  - Merges the results of modules of this collection. The merged result has all findings and notes, the worst
    severity, and all messages.
  - The merged result has failed if one of them has, with the error of the first that has failed.
  - Other values are copied. If two results have a value of the same name, the later one counts.
  - Results that were skipped or are empty are ignored.
author:
  - The godel.postgres_runbook authors (@godel)
positional: _input
options:
  _input:
    description: The results, as C(register) keeps them.
    type: list
    elements: dict
    required: true
seealso:
  - module: godel.postgres_runbook.record_result
"""

EXAMPLES = r"""
- name: Write one report of both results
  godel.postgres_runbook.record_result:
    directory: /srv/reports
    playbook: nightly
    title: Backups and their schedule
    result: "{{ [catalog, schedule] | godel.postgres_runbook.merge_results }}"
"""

RETURN = r"""
_value:
  description: The merged result.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import SEVERITIES


def merge_results(results: Any) -> dict[str, Any]:
    """The filter."""
    if not isinstance(results, Sequence) or not all(isinstance(each, Mapping) for each in results):
        raise AnsibleFilterError(f"merge_results takes a list of results, not {results!r}.")
    told = [each for each in results if each and not each.get("skipped")]
    failures = [each for each in told if each.get("failed") or each.get("unreachable")]
    merged: dict[str, Any] = {name: value for each in told for name, value in each.items()}
    merged["changed"] = any(each.get("changed") for each in told)
    merged["failed"] = bool(failures)
    merged["msg"] = " ".join(str(each["msg"]) for each in told if each.get("msg"))
    merged["findings"] = [finding for each in told for finding in each.get("findings") or []]
    merged["notes"] = [note for each in told for note in each.get("notes") or []]
    severities = [str(each["severity"]) for each in told if each.get("severity")]
    if not told:
        merged["msg"] = "No result: no module has run."
    unproven = bool(failures) or not told
    merged["severity"] = "critical" if unproven else max(severities, key=SEVERITIES.index, default="ok")
    if failures:
        merged["error"] = failures[0].get("error") or {}
    return merged


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """The filters by name."""
        return {"merge_results": merge_results}
