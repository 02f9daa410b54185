"""Variables that look like options of the collection and are none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _specs
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._option_names import (
    GivenVariables,
    examine,
    wrong_keys,
)
from tests.conftest import ROOT

INVENTORY = {"postgres_db": "app", "postgres_backup_dir": "/backups", "inventory_hostname": "db1", "groups": {}}


def errors(role: str, variables: Mapping[str, Any], **where: Any) -> str:
    """The errors for variables beside those of an inventory."""
    return " ".join(examine(role, GivenVariables({**INVENTORY, **variables}, **where)).errors)


@pytest.mark.parametrize("role", sorted(_specs.options()))
def test_no_option_and_no_file_of_the_collection_is_taken_for_a_mistake(role: str) -> None:
    names = dict.fromkeys(_specs.known_names(), "")
    for path in (ROOT / "roles" / role).glob("*/main.yml"):
        if path.parent.name != "meta":
            prefix = rf"(?<![\w.'])(?:postgres|{role})_\w+(?=[ |)}}])"
            found = re.findall(prefix, path.read_text())
            names.update(dict.fromkeys(name for name in found if not name.endswith("_result")))
    for where in ({}, {"command_line": names}, {"to_role": names}):
        found = examine(role, GivenVariables(names, **where))
        assert (found.errors, found.warnings) == ([], [])


@pytest.mark.parametrize(
    ("role", "name", "right"),
    [
        ("restore", "restore_bakcup", "restore_backup"),
        ("restore", "restroe_backup", "restore_backup"),
        ("restore", "Restore_Backup", "restore_backup"),
        ("backup", "postgres_kubernets", "postgres_kubernetes"),
        ("backup", "postgress_kubernetes", "postgres_kubernetes"),
        ("backup", "postgres_bakup_dir", "postgres_backup_dir"),
        ("backup", "backup_age_max", "backup_max_age"),
        ("backup", "backup_job", "backup_jobs"),
        ("backup_retention", "backup_retention_keep_dialy", "backup_retention_keep_daily"),
        ("backup_verify", "backup_verifiy_backup", "backup_verify_backup"),
        ("terminate_sessions", "terminate_sessions_aplication", "terminate_sessions_application"),
        ("maintenance", "reindex_min_bloat_rato", "reindex_min_bloat_ratio"),
        ("restore_discard", "restore_discard_dueonly", "restore_discard_due_only"),
        ("backup", "target_host", "target_hosts"),
    ],
)
@pytest.mark.parametrize("where", ["", "command_line", "to_role"])
def test_a_misspelt_option_is_an_error_wherever_it_stands(role: str, name: str, right: str, where: str) -> None:
    said = errors(role, {name: "x"}, **({where: [name]} if where else {}))
    assert f"{name!r}" in said
    assert f"Did you mean {right}?" in said


@pytest.mark.parametrize("name", ["backup_dir", "backup_host", "backup_user", "postgres_dbs", "postgres_version"])
def test_a_variable_of_the_users_own_is_none_in_an_inventory_and_one_on_the_command_line(name: str) -> None:
    assert not errors("backup", {name: "x"})
    assert repr(name) in errors("backup", {name: "x"}, command_line=[name])
    assert repr(name) in errors("backup", {name: "x"}, to_role=[name])
    assert not errors("backup", {name: "x"}, command_line=[name], ignored=["other", f"{name[:-1]}*"])


def test_what_an_option_refers_to_is_the_users_own() -> None:
    assert "Did you mean postgres_db?" in errors("backup", {"db": "x"}, command_line=["db"])
    assert "Did you mean restore_backup?" in errors("restore", {"backup": "x"}, command_line=["backup"])
    assert not errors("backup", {"db": "x", "postgres_db": "{{ db }}"}, command_line=["db"])
    assert not errors("backup", {"postgres_kube": {}, "postgres_kubernetes": "{{ postgres_kube }}"})
    assert errors("backup", {"postgres_kube": {}, "postgres_kubernetes": "{{ postgres_kube_two }}"})


def test_an_unknown_name_of_the_role_gets_a_warning_in_an_inventory() -> None:
    found = examine(
        "backup", GivenVariables({**INVENTORY, "backup_dir": "/x", "storage_path": "", "backup_taken": {"changed": 1}})
    )
    [warning] = found.warnings
    assert "'backup_dir'" in warning
    assert "postgres_backup_dir" in warning


def test_an_option_of_another_role_on_the_command_line_gets_a_warning() -> None:
    given = GivenVariables({**INVENTORY, "backup_verify_backup": "x"}, ["backup_verify_backup"])
    [warning] = examine("restore", given, {"restore"}).warnings
    assert "Did you mean restore_backup?" in warning
    assert not examine("restore", given, {"restore", "backup_verify"}).warnings
    assert not examine("restore", given).warnings


@pytest.mark.parametrize(
    ("role", "values", "said"),
    [
        ("backup", {"postgres_login": {"login_hots": "x"}}, "Did you mean 'login_host'?"),
        ("backup", {"postgres_login": {"host": "x", "login_user": "y", "ssl_rootcert": "z"}}, ""),
        ("backup", {"postgres_kubernetes": {"namespace": "a", "worklaod": "b"}}, "Did you mean 'workload'?"),
        (
            "restore",
            {"restore_smoke_queries": [{"query": "a"}, {"query": "b", "expct": "c"}]},  # codespell:ignore
            "Did you mean 'expect'?",
        ),
        ("restore", {"restore_application": {"stop_comand": ["x"]}}, "Did you mean 'stop_command'?"),
        ("maintenance", {"maintenance_window": {"strat": "1"}}, "Did you mean 'start'?"),  # codespell:ignore
        ("backup_schedule", {"backup_schedule_backup_options": {"backup_formt": 1}}, "Did you mean 'backup_format'?"),
        ("backup_schedule", {"backup_schedule_resources": {"anything": 1}}, ""),
        ("backup", {"postgres_login": "host=x"}, ""),
    ],
)
def test_keys_within_options_are_compared(role: str, values: dict[str, Any], said: str) -> None:
    found = wrong_keys(role, values)
    assert (not found) if not said else said in found[0]
