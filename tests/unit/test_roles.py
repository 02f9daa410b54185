"""`make roles` in a copy of the tree: what follows from the modules' documentation, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

DEFAULTS = "roles/analyze/defaults/main.yml"
SPECS = "roles/analyze/meta/argument_specs.yml"
TABLE = "roles/analyze/README.md"
TASKS = "roles/analyze/tasks/main.yml"
MODULE = "plugins/modules/pg_analyze.py"
SOURCE = "tools/roles/analyze.yml"

Roles = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the generator reads and writes, for one role."""
    for folder in ("tools", "plugins/modules", "plugins/doc_fragments", "roles/analyze"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def roles(tree: Path) -> Roles:
    """Runs the generator in the copy."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(tree / "tools/roles.py"), *arguments], text=True, capture_output=True, check=False
        )

    return run


def edit(file: Path, old: str, new: str) -> None:
    """Replace what stands in a file once."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_a_default_of_a_module_reaches_every_place(tree: Path, roles: Roles) -> None:
    edit(tree / MODULE, "    default: 50\n", "    default: 60\n")
    seen = roles("--check")
    assert seen.returncode == 1
    for name in (DEFAULTS, SPECS, TABLE):
        assert f"--- {name}" in seen.stdout
    assert TASKS not in seen.stdout
    assert yaml.safe_load((tree / DEFAULTS).read_text())["analyze_min_changes"] == 50  # it only looked

    assert roles().returncode == 0
    assert yaml.safe_load((tree / DEFAULTS).read_text())["analyze_min_changes"] == 60
    options = yaml.safe_load((tree / SPECS).read_text())["argument_specs"]["main"]["options"]
    assert options["analyze_min_changes"]["default"] == 60
    assert "| `analyze_min_changes` | `60` |" in (tree / TABLE).read_text()
    assert (roles("--check").returncode, roles().stdout) == (0, "")


def test_a_renamed_option_reaches_the_task_and_the_references(tree: Path, roles: Roles) -> None:
    edit(tree / MODULE, "  lock_timeout:\n    description:", "  lock_wait:\n    description:")
    edit(tree / MODULE, "O(lock_timeout)", "O(lock_wait)")
    assert roles().returncode == 0
    assert '        lock_wait: "{{ analyze_lock_wait }}"\n' in (tree / TASKS).read_text()
    assert "O(analyze_lock_wait)" in (tree / SPECS).read_text()
    assert "`analyze_lock_wait`" in (tree / TABLE).read_text()
    assert all("lock_timeout" not in (tree / name).read_text() for name in (DEFAULTS, SPECS, TASKS))


def test_a_hidden_option_is_not_taken_from_the_inventory(tree: Path, roles: Roles) -> None:
    with (tree / SOURCE).open("a") as file:
        file.write("    hide: [kubernetes]\n")
    assert roles().returncode == 0
    assert all("kubernetes" not in (tree / name).read_text() for name in (SPECS, TASKS))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (DEFAULTS, "analyze_in_stages: false", "analyze_in_stages: true"),
        (TABLE, "| `analyze_in_stages` | `false` |", "| `analyze_in_stages` | `true` |"),
        (TASKS, "{{ analyze_in_stages }}", "{{ analyze_in_stages | bool }}"),
    ],
)
def test_an_edit_by_hand_is_found(tree: Path, roles: Roles, name: str, old: str, new: str) -> None:
    edit(tree / name, old, new)
    seen = roles("--check")
    assert seen.returncode == 1
    assert f"--- {name}" in seen.stdout
    assert roles().stdout == f"wrote {name}\n"
    assert roles("--check").returncode == 0


def test_what_stands_outside_of_the_marks_is_the_authors(tree: Path, roles: Roles) -> None:
    edit(tree / TABLE, "## Example", "## An example")
    edit(tree / TASKS, "- name: Gather statistics\n", "- name: Gather them\n")
    assert roles("--check").returncode == 0


@pytest.mark.parametrize(
    ("added", "why"),
    [
        ("    options: {min_changes: {default: 50}}", "min_changes has this default in the module"),
        ("    options: {min_change: {default: 60}}", "no key min_change"),
        ("    options: {min_changes: {defualt: 60}}", "no key defualt"),  # codespell:ignore
        ("    hide: [min_change]", "no key min_change"),
        ("options: {min_changes: {description: Own., type: int}}", "is an option of a module as well"),
        ("option: {}", "no key option"),
        ("inventory: {postgres_dbs: {}}", "no key postgres_dbs"),
    ],
)
def test_a_source_that_cannot_be_right_is_refused(tree: Path, roles: Roles, added: str, why: str) -> None:
    with (tree / SOURCE).open("a") as file:
        file.write(f"{added}\n")
    seen = roles()
    assert seen.returncode == 1
    assert why in seen.stderr
    assert "Traceback" not in seen.stderr


def test_a_readme_without_its_marks_is_refused(tree: Path, roles: Roles) -> None:
    edit(tree / TABLE, "<!-- End of what is generated. -->", "")
    assert "README.md lacks the comments" in roles("--check").stderr
