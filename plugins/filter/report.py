# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report
short_description: The result of a playbook as JSON, Markdown and HTML
version_added: 0.1.0
description:
  - Turns the result of any module of this collection into a report, findings first and the worst of them on top.
  - A failed result makes a report as well, with the failure as its worst finding, so that an old report never stands for a
    new failure.
  - The HTML is one file that loads nothing. Everything that came from a server is escaped.
  - The playbooks of this collection write these texts when C(postgres_report_dir) is set.
author:
  - The godel.postgres_runbook authors (@godel)
positional: _input
options:
  _input:
    description: What the module returned, as C(register) keeps it.
    type: dict
    required: true
  playbook:
    description: Name of the playbook that the report is of.
    type: str
    required: true
  title:
    description: Heading of the report.
    type: str
    required: true
  host:
    description: The host, as the inventory calls it.
    type: str
    required: true
  time:
    description: When the report was made, RFC 3339 in UTC.
    type: str
    required: true
  database:
    description: The database, if there is one that all of it is about.
    type: str
    default: ""
  columns:
    description:
      - Which columns a table shows in Markdown and HTML, by the name of the return value. All of them when a value is not named here.
      - The JSON has everything.
    type: dict
    default: {}
seealso:
  - module: godel.postgres_runbook.pg_backup_info
"""

EXAMPLES = r"""
- name: Judge the backups
  godel.postgres_runbook.pg_backup_info:
    backup_dir: /backups
    rpo: 1h
  register: catalog

- name: Write a page for people
  ansible.builtin.copy:
    content: "{{ texts.html }}"
    dest: /srv/www/backups.html
    mode: "0644"
  vars:
    texts: >-
      {{ catalog | godel.postgres_runbook.report(playbook='backup_status', title='Backups', host=inventory_hostname,
         time=now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ'), columns={'backups': ['id', 'size_bytes', 'verdict']}) }}
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The report in three forms.
  type: dict
  contains:
    json:
      description: For programs, with every value.
      type: str
    md:
      description: Markdown.
      type: str
    html:
      description: One page of HTML.
      type: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _html, _markdown
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._report import About, build


def report(
    result: Any,
    playbook: str,
    title: str,
    host: str,
    time: str,
    database: str = "",
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, str]:
    """The filter."""
    if not isinstance(result, Mapping):
        raise AnsibleFilterError(f"report takes the result of a module, not {type(result).__name__}.")
    about = About(playbook=playbook, title=title, host=host, database=database, time=time)
    found = build(result, about, columns)
    texts = {"json": found.as_json(), "md": _markdown.render(found), "html": _html.render(found)}
    # Before ansible-core 2.19 a table named {{ ... }} would be run as a template when the text is used.
    wrapped: dict[str, str] = wrap_var(texts)
    return wrapped


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., dict[str, str]]]:
        """The filters by name."""
        return {"report": report}
