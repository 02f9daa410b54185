# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/ names modules, playbooks, files and options that exist."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAP = (ROOT / "docs" / "modules.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WEB = "https://github.com/godel/postgres_runbook/blob/main/"
MISSPELLED = {"backup_job"}  # in an example
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def stems(pattern: str) -> set[str]:
    return {path.stem for path in ROOT.glob(pattern)}


def rows() -> dict[str, tuple[set[str], str]]:
    """Module: its playbooks and its operation file."""
    found = re.findall(r"^\| `(\w+)` \| (.*?) \| `(\S+)` \|", MAP, re.MULTILINE)
    return {module: (set(re.findall(r"`(\w+)`", playbooks)), operation) for module, playbooks, operation in found}


@functools.cache
def known() -> set[str]:
    """Options of roles, modules, playbooks, and all words of the code, such as checks and return values."""
    texts = [(ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text() for role in ROLES]
    texts += [path.read_text() for path in (ROOT / "plugins").rglob("*.py")]
    return {word for text in texts for word in re.findall(r"\w+", text)} | stems("playbooks/*.yml")


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_map_has_every_module_and_no_other() -> None:
    assert set(rows()) == stems("plugins/modules/*.py")


def test_the_map_has_every_playbook_and_no_other() -> None:
    assert {name for playbooks, _file in rows().values() for name in playbooks} == stems("playbooks/*.yml")


def test_each_playbook_has_the_role_of_its_name() -> None:
    assert stems("playbooks/*.yml") == set(ROLES) - {"check_options"}


@pytest.mark.parametrize("module", rows())
def test_each_operation_of_the_map_exists_and_its_module_imports_it(module: str) -> None:
    operation = Path(rows()[module][1])
    assert (ROOT / "plugins" / operation).is_file()
    if operation.parts[0] == "module_utils":
        package, name = ".".join(operation.parts[1:-1]), operation.stem
        source = (ROOT / "plugins" / "modules" / f"{module}.py").read_text()
        imports = rf"module_utils\.{package}(\.{name} import|\s+import [^\n]*\b{name}\b)"
        assert re.search(imports, source), f"{module} does not import {package}.{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_options_and_playbooks_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    if page.name == "peers.md":  # its first columns name what other tools have
        text = re.sub(r"^\|[^|\n]*\|[^|\n]*\|", "", text, flags=re.MULTILINE)
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    option = rf"\b(?:{'|'.join(sorted(ROLES, key=len, reverse=True))}|postgres)_\w+(?=[=:`\"])"
    plugins = re.findall(r"godel\.postgres_runbook\.(\w+)", code)
    named = {*re.findall(option, code), *plugins} - MISSPELLED
    assert {name for name in named - known() if not re.search(r"_result$|_\d{8}T", name)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, dummy, anchor = link.removeprefix(WEB).partition("#")
        target = (ROOT / path if link.startswith(WEB) else page.parent / path) if path else page
        if "://" in path:
            continue
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    assert broken == []
