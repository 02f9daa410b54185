"""Each class name has one meaning in the whole collection, so that it can be found, and understood, without its module."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from tests.conftest import ROOT

# Ansible looks for these names in each plugin.
REQUIRED = {"ActionModule", "FilterModule", "LookupModule", "ModuleDocFragment"}


def names(file: Path) -> list[str]:
    """Classes at any depth, and at the top also names for types, such as `Facts = Mapping[str, Any]`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assigned = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
    named = [target.id for target in assigned if isinstance(target, ast.Name)]
    return [*classes, *(name for name in named if not name.lstrip("_").isupper() and name.lstrip("_")[:1].isupper())]


def test_no_class_name_is_defined_twice() -> None:
    found = defaultdict(list)
    for file in sorted((ROOT / "plugins").rglob("*.py")):
        for name in names(file):
            found[name.lstrip("_")].append(str(file.relative_to(ROOT)))
    assert len(found) > 300
    assert {name: files for name, files in found.items() if len(files) > 1 and name not in REQUIRED} == {}
