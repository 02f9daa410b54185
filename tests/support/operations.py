"""The operations of modules, without Ansible and a process around them, which cost most of the time."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._module import Call
from tests.support.databases import Database
from tests.support.modules import Result


def attempt(module: ModuleType, database: Database, check: bool = False, **over: Any) -> Result:
    """Run a module's operation on a database; its result, with `changed`, `diff` and `failure`."""
    params = {name: option.get("default") for name, option in module.SPEC.options.items()}
    result = module.operation(Call(module.SPEC.read({**params, **database.login(**over)}), check))
    return {"changed": result.changed, "diff": result.diff, "failure": result.failure, **result.values}
