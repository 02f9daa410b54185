"""A site as a user has it: an inventory, and ``ansible-playbook`` run on it as a program.

Its processes are forked from one that has imported Ansible, with the same configuration for all sites of a test run.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import COLLECTIONS, ROOT
from tests.support.databases import Database
from tests.support.forked import ForkedProcess, forked_python
from tests.support.servers import without_pg_variables
from tests.support.workspace import workspace

COLLECTION = "godel.postgres_runbook"
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
TIMEOUT_S = 600

SETTINGS = """\
[defaults]
home = {folder}/ansible
local_tmp = {folder}/ansible/tmp
remote_tmp = {folder}/ansible/tmp
collections_path = {collections}
nocolor = true
pipelining = true
show_custom_stats = true
"""


@dataclass(frozen=True)
class Run:
    """How a playbook ended. ``recap`` has Ansible's counters by host, ``stats`` what it set for the job."""

    returncode: int
    output: str
    recap: Mapping[str, Mapping[str, int]]
    stats: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it ended well and without a warning."""
        return self.returncode == 0 and not self.warned

    @property
    def warned(self) -> bool:
        """Whether Ansible warned of anything."""
        return "[WARNING]" in self.output or "[DEPRECATION" in self.output

    def changed(self, host: str = "db1") -> int:
        """How many tasks changed something on a host."""
        return self.recap[host]["changed"]


@dataclass
class Site:
    """An inventory below a folder, with one host ``db1`` for one database, until more are added."""

    folder: Path
    backup_dir: Path
    database: Database
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Describe the first host."""
        self.add_host("db1", self.database)

    def add_host(self, name: str, database: Database, group: str = "postgres") -> None:
        """Add a host with a database to a group."""
        login = {key: value for key, value in database.login().items() if key != "db"}
        local = {"ansible_connection": "local", "ansible_python_interpreter": str(forked_python())}
        self.hosts[name] = {**local, "postgres_login": login, "postgres_db": database.name}
        self.groups.setdefault(group, []).append(name)

    @property
    def reports(self) -> Path:
        """Where reports go, when a run asks for them."""
        return self.folder / "reports"

    def entries(self) -> list[Path]:
        """The backups in the catalog, oldest first; what is unfinished has a dot in its name."""
        return sorted(path.parent for path in self.backup_dir.glob("*/*/manifest.json"))

    def run(self, playbook: str | Path, *arguments: str, report: bool = False, **variables: Any) -> Run:
        """Run a playbook of the collection by its name, or any other by its path."""
        inventory = self.folder / "inventory.yml"
        everybody = {"postgres_backup_dir": str(self.backup_dir)}
        if report:
            everybody["postgres_report_dir"] = str(self.reports)
        groups = {name: {"hosts": {host: self.hosts[host] for host in hosts}} for name, hosts in self.groups.items()}
        inventory.write_text(yaml.safe_dump({"all": {"vars": everybody, "children": groups}}))
        name = str(playbook) if isinstance(playbook, Path) else f"{COLLECTION}.{playbook}"
        command = [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), name, *arguments]
        if variables:
            command += ["-e", json.dumps(variables)]
        process = ForkedProcess("playbooks", command, _environment(), cwd=self.folder, one_output=True)
        try:
            output = process.communicate(TIMEOUT_S)[0].decode()
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode is not None
        return Run(process.returncode, output, _recap(output), _stats(output))

    def play(self, *, roles: list[str], **keywords: Any) -> Path:
        """Write a user's own playbook with roles of the collection, and return its path."""
        names = [f"{COLLECTION}.{role}" for role in roles]
        path = self.folder / "own.yml"
        path.write_text(json.dumps([{"hosts": "postgres", "gather_facts": False, "roles": names, **keywords}]))
        return path

    def report(self, playbook: str, host: str = "db1") -> dict[str, Any]:
        """The JSON report of the last run; its companions have to be there as well."""
        found = self.reports / host / f"{playbook}.json"
        for suffix in (".md", ".html"):
            assert found.with_suffix(suffix).stat().st_size > 100
        document: dict[str, Any] = json.loads(found.read_text())
        return document


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in without_pg_variables().items() if not name.startswith("ANSIBLE_")}
    return {**clean, "ANSIBLE_CONFIG": str(_configuration()), "LC_ALL": "C.UTF-8"}


@functools.cache
def _configuration() -> Path:
    """Write a configuration that keeps the developer's own Ansible out, and return its path."""
    folder = workspace() / "controller"
    folder.mkdir()
    path = folder / "ansible.cfg"
    path.write_text(SETTINGS.format(folder=folder, collections=COLLECTIONS))
    return path


def by_path(playbook: str) -> Path:
    """A playbook of the collection as a file, as AWX runs it."""
    return ROOT / "playbooks" / f"{playbook}.yml"


def _recap(output: str) -> dict[str, dict[str, int]]:
    lines = re.findall(r"^(\S+)\s+: (ok=\d+ .*)$", output, re.MULTILINE)
    return {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in lines}


def _stats(output: str) -> dict[str, Any]:
    match = re.search(r"^\tRUN: (\{.*\})$", output, re.MULTILINE)
    return json.loads(match[1]) if match else {}
