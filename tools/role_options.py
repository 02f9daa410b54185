# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role has: its options, and what its tasks pass to the modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "godel.postgres_runbook"
# Options of modules that every role takes from the inventory under one name.
INVENTORY = {"db": "postgres_db", "backup_dir": "postgres_backup_dir", "kubernetes": "postgres_kubernetes"}
_SOURCE_KEYS = {"short_description", "description", "inventory", "modules", "options"}
_MODULE_KEYS = {"hide", "only", "options", "pass", "falls_back"}
_SPEC_KEYS = ("type", "elements", "choices", "required", "no_log", "default")
_OVERRIDES = {"name", "description", "note", "zero", "default_text", *_SPEC_KEYS}
Document = Mapping[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the loader in C is ten times as fast


class Invalid(Exception):
    """An invalid source: which file, and why."""


@dataclass(frozen=True)
class Option:
    """An option of a role.

    Attributes:
        name: the variable.
        spec: as in argument_specs.yml, without the description; `options` are suboptions of the same form.
        description: paragraphs.
        default_text: what the README says instead of the default; empty for the default itself.
    """

    name: str
    spec: Document
    description: list[str]
    default_text: str = ""

    @property
    def is_template(self) -> bool:
        """Whether the default is evaluated when the role runs, so that the argument specification has none."""
        return "{{" in str(self.spec.get("default", ""))


@dataclass
class Role:
    """A role: its options by variable, in order, and by module what a task passes on."""

    name: str
    source: Document
    inventory: dict[str, Option] = field(default_factory=dict)
    options: dict[str, Option] = field(default_factory=dict)
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)


def load(text: str) -> Any:
    """The value of a YAML document."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506  # a safe loader


def _constant(file: Path, name: str) -> Any:
    """The YAML in a string constant of a Python file, at the top or in a class."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return load(ast.literal_eval(node.value))
    raise Invalid(f"{file}: there is no {name}")


@cache
def module_options(module: str) -> Document:
    """A module's documented options: its own first, then those of the fragments that it extends."""
    document = _constant(ROOT / "plugins" / "modules" / f"{module}.py", "DOCUMENTATION")
    found = dict(document.get("options", {}))
    for fragment in document.get("extends_documentation_fragment", []):
        name, _dot, part = fragment.removeprefix(f"{COLLECTION}.").partition(".")
        file = ROOT / "plugins" / "doc_fragments" / f"{name}.py"
        if fragment.startswith(COLLECTION):
            found = {**found, **(_constant(file, part.upper() or "DOCUMENTATION").get("options") or {}), **found}
    return found


@cache
def connection_options() -> frozenset[str]:
    """Options that come as keys of postgres_login."""
    return frozenset(_constant(ROOT / "plugins" / "doc_fragments" / "connection.py", "DOCUMENTATION")["options"])


def paragraphs(text: str | list[str]) -> list[str]:
    """A description as a list."""
    return [text] if isinstance(text, str) else list(text)


def read(name: str, source: Document) -> Role:
    """A role from its source."""
    role = Role(name, source)
    where = f"tools/roles/{name}.yml"
    _known(source, _SOURCE_KEYS, where)
    for module, chosen in source.get("modules", {}).items():
        _add_module(role, module, chosen or {}, f"{where}: {module}")
    for option, given in source.get("options", {}).items():
        _known(given, _OVERRIDES | {"options"}, f"{where}: {option}")
        variable = f"{name}_{option}"
        if variable in role.options:
            raise Invalid(f"{where}: {option} is an option of a module as well")
        role.options[variable] = as_option(variable, given)
    _add_inventory(role)
    return role


def _known(given: Document, keys: set[str], where: str) -> None:
    unknown = sorted(set(given) - keys)
    if unknown:
        raise Invalid(f"{where} has no key {', '.join(unknown)}")


def as_option(variable: str, given: Document) -> Option:
    """An option from its description in YAML, where unknown keys have been refused."""
    spec = {key: given[key] for key in (*_SPEC_KEYS, "options") if key in given}
    return Option(variable, spec, paragraphs(given["description"]), given.get("default_text", ""))


def _add_module(role: Role, module: str, chosen: Document, where: str) -> None:
    """Add the options of a module that the role has, and what its task passes to the module."""
    documented = {name: spec for name, spec in module_options(module).items() if name not in connection_options()}
    _known(chosen, _MODULE_KEYS, where)
    for key in sorted(chosen):
        _known(dict.fromkeys(chosen[key]), set(documented), f"{where}: {key}:")
    own = [name for name in documented if name not in INVENTORY]
    shown = set(chosen.get("only", own)) - set(chosen.get("hide", ()))
    names = {name: chosen.get("options", {}).get(name, {}).get("name", name) for name in shown}
    variables = {
        name: INVENTORY.get(name) or f"{role.name}_{names[name]}"
        for name in documented
        if name in shown or (name in INVENTORY and name not in chosen.get("hide", ()))
    }
    passed = role.arguments.setdefault(module, {})
    for name in (*INVENTORY, *own):
        if name in variables:
            passed[name] = _add_option(role, module, name, chosen, variables)
        if name in chosen.get("pass", {}):
            passed[name] = chosen["pass"][name]


def _add_option(role: Role, module: str, name: str, chosen: Document, variables: Mapping[str, str]) -> str:
    """Add one option of a module, and return what a task passes to it."""
    where = f"tools/roles/{role.name}.yml: {module}: {name}"
    spec, given, variable = module_options(module)[name], chosen.get("options", {}).get(name, {}), variables[name]
    _known(given, _OVERRIDES, where)
    if "default" in given and given["default"] == spec.get("default"):
        raise Invalid(f"{where} has this default in the module, and needs none here")
    option = {**_translated(spec, module, variables), **given}
    option["description"] = paragraphs(option["description"]) + paragraphs(given.get("note", []))
    reserve = f"maintenance_{name}" if name in chosen.get("falls_back", ()) else ""
    if reserve:
        option["description"].append(f"When it is left out, C({reserve}) counts, if that is set.")
    # Two modules may share an option: the first describes it.
    (role.inventory if name in INVENTORY else role.options).setdefault(variable, as_option(variable, option))
    return _expression(variable, option, spec, reserve)


def _expression(variable: str, option: Document, spec: Document, reserve: str) -> str:
    """What a task passes to the module, whose own option is `spec`. Empty texts count as left out."""
    if reserve:
        return f"{{{{ {variable} | default({reserve} | default(omit, true), true) }}}}"
    if spec.get("required") or option.get("required"):
        return f"{{{{ {variable} }}}}"
    if "default" not in option:
        kept = option["type"] == "bool" or option.get("zero")  # false and 0 are values
        return f"{{{{ {variable} | default(omit{'' if kept else ', true'}) }}}}"
    differs = option["type"] in ("str", "path") and option["default"] != spec.get("default")
    return f"{{{{ {variable}{' | default(omit, true)' if differs else ''} }}}}"


def _translated(spec: Document, module: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """A module's option in the terms of the role: options by their variables, all else by the module's name."""

    def option(match: re.Match[str]) -> str:
        name, rest = match[1], match[2]
        if name in variables:
            return f"O({variables[name]}{rest})"
        return f"C({name})" if name in connection_options() else f"O({COLLECTION}.{module}#module:{name}{rest})"

    def text(paragraph: str) -> str:
        paragraph = re.sub(r"\bO\((\w+)((?:[.=\[][^)#]*)?)\)", option, paragraph)
        return re.sub(r"\bRV\(([^)#]+)\)", rf"RV({COLLECTION}.{module}#module:\1)", paragraph)

    told = {key: spec[key] for key in _SPEC_KEYS if key in spec}
    told["description"] = [text(paragraph) for paragraph in paragraphs(spec["description"])]
    keys = spec.get("suboptions", {})
    if keys and not any("aliases" in key for key in keys.values()):  # a role's specification has no aliases
        told["options"] = {name: _translated(key, module, variables) for name, key in keys.items()}
    return told


def _add_inventory(role: Role) -> None:
    """Add the variables that roles share, in one order. Their texts are in _inventory.yml, or those of the module."""
    main = next(iter(role.source.get("modules", {})), "")
    shared = load((ROOT / "tools" / "roles" / "_inventory.yml").read_text(encoding="utf-8"))
    found, role.inventory = role.inventory, {}
    own = role.source.get("inventory", {})
    _known(own, set(shared), f"tools/roles/{role.name}.yml: inventory:")
    for variable, text in shared.items():
        if not main or not (text.get("always") or variable in found or variable in own):
            continue
        base = found.get(variable, Option(variable, {}, []))
        given = {**base.spec, "description": base.description, **text, **own.get(variable, {})}
        _known(given, {*_OVERRIDES, "options", "always"}, f"tools/roles/{role.name}.yml: {variable}")
        option = as_option(variable, given)
        option.description[:] = [
            line.replace("{role}", role.name).replace("{module}", f"{COLLECTION}.{main}") for line in option.description
        ]
        role.inventory[variable] = option
