# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the pages of all hosts on the controller, in one task for all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import SEVERITIES
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339, utc_now
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import (
    _health_fleet,
    _health_page,
    _history_files,
    _prometheus,
)
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._files import host_folder, replace_text
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._health import HostHealth, build

SPEC = {
    "results": {"type": "dict", "required": True},
    "databases": {"type": "dict", "default": {}},
    "directory": {"type": "str", "default": ""},
    "prometheus_dir": {"type": "str", "default": ""},
    "fail_at": {"type": "str", "choices": ["never", "warning", "critical"], "default": "never"},
    "keep": {"type": "int", "default": 400},
}
PROMETHEUS_FILE = "godel_postgres.prom"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The action; its documentation is in plugins/modules/write_health.py."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the pages; the result has their paths and the severity of each host."""
        outcome: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=SPEC)
        now, folder = utc_now(), options["directory"]
        folders = {host: host_folder(folder, host) for host in options["results"]} if folder else {}
        hosts = [
            build(
                str(host),
                result if isinstance(result, Mapping) else None,
                now=to_rfc3339(now),
                database=str(options["databases"].get(host) or ""),
                history=_read_history(folders[host]) if folders else (),
            )
            for host, result in options["results"].items()
        ]
        hosts = _health_fleet.sort(hosts)
        paths: dict[str, str] = {}
        where = folder or options["prometheus_dir"]
        try:
            if folder:
                paths = self._pages(hosts, folders, folder, options["keep"])
            if options["prometheus_dir"]:
                where = options["prometheus_dir"]
                path = os.path.join(os.path.abspath(os.path.expanduser(where)), PROMETHEUS_FILE)
                paths["prometheus"] = path
                self._write(path, _prometheus.render(hosts))
        except OSError as exc:
            raise AnsibleActionFail(
                f"Writing the pages failed on the controller ({where}): {exc.strerror}. Set postgres_report_dir and "
                "health_prometheus_dir to directories that the account that runs Ansible can write to."
            ) from None
        outcome.update(
            changed=False,
            severity=_health_fleet.severity(hosts),
            msg=_health_fleet.message(hosts),
            hosts={host.host: _told(host, options["fail_at"]) for host in hosts},
            paths=paths,
        )
        return outcome

    def _pages(self, hosts: Sequence[HostHealth], folders: Mapping[str, str], folder: str, keep: int) -> dict[str, str]:
        now = utc_now()
        for host in hosts:
            base = os.path.join(folders[host.host], "health")
            for suffix, text in _health_page.texts(host).items():
                self._write(f"{base}.{suffix}", text)
            if host.reachable and not self._task.check_mode:
                _keep(folders[host.host], host, keep)
        base = os.path.join(os.path.abspath(os.path.expanduser(folder)), "health")
        texts = _health_fleet.texts(hosts, to_rfc3339(now))
        for suffix, text in texts.items():
            self._write(f"{base}.{suffix}", text)
        return {suffix: f"{base}.{suffix}" for suffix in texts}

    def _write(self, path: str, text: str) -> None:
        if not self._task.check_mode:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            replace_text(path, text)


def _keep(folder: str, host: HostHealth, keep: int) -> None:
    """Add to the histories, those of other playbooks included, which may keep more than we do."""
    now = utc_now()
    _history_files.add(_history_files.path_of(folder, "health"), host.sample, keep, now)
    for each in host.other_samples:
        path = _history_files.path_of(folder, each.name)
        if not each.apart_s or _age_s(path) >= each.apart_s:
            _history_files.add(path, each.sample, min(keep, each.most or keep), now, spare=True)


def _age_s(path: str) -> float:
    try:
        return time.time() - os.path.getmtime(path)
    except FileNotFoundError:
        return float("inf")


def _read_history(folder: str) -> list[dict[str, Any]]:
    """Earlier samples; without them there are no lines over time, and nothing else is missing."""
    try:
        samples, _notes = _history_files.read(_history_files.path_of(folder, "health"))
    except OSError:
        return []
    return samples


def _told(host: HostHealth, fail_at: str) -> dict[str, Any]:
    """How a host is for the play: whether it fails, and why."""
    bad = fail_at != "never" and SEVERITIES.index(host.severity) >= SEVERITIES.index(fail_at)
    serious = [
        " ".join(part for part in (str(each["message"]), str(each.get("remedy") or "")) if part)
        for each in host.findings
        if bad and SEVERITIES.index(each["severity"]) >= SEVERITIES.index(fail_at)
    ]
    return {
        "severity": host.severity,
        "reachable": host.reachable,
        "message": host.message,
        "fails": bad,
        "reasons": serious[:5] + ([f"{len(serious) - 5} more on the page."] if len(serious) > 5 else []),
    }
