"""Which options the action restore_procedure gives to which module."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.godel.postgres_runbook.plugins.action import restore_procedure as action
from ansible_collections.godel.postgres_runbook.plugins.doc_fragments.kubernetes import ModuleDocFragment
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.modules import (
    pg_backup,
    pg_database_swap,
    pg_restore,
    restore_procedure,
    workload_scale,
)
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _option_names

GIVEN = {
    "state": "restored",
    "database": "shop",
    "host": "db1",
    "login_password": "secret",
    "kubernetes": {"namespace": "data", "workload": "deployment/postgres", "ssl_ca_cert": "/ca", "context": "one"},
    "backup_dir": "~/backups",
    "bin_dir": "/usr/bin",
    "jobs": 2,
    "keep_old": "3d",
    "allow": ["subscription"],
}


def options(given: dict[str, Any]) -> dict[str, Any]:
    """What the spec makes of options, without Ansible's own checks."""
    defaults = {name: option.get("default") for name, option in action.SPEC.options.items()}
    return action.SPEC.read({**defaults, **given, "db": "shop"})


def test_each_module_gets_its_own_options_as_they_were_written() -> None:
    found = action._modules(options({**GIVEN, "safety_backup": True}), GIVEN)
    shared = {name: GIVEN[name] for name in ("database", "host", "login_password", "kubernetes")}
    assert found.swap == {**shared, "keep_old": "3d", "allow": ["subscription"]}
    stage = {name: GIVEN[name] for name in ("backup_dir", "bin_dir", "jobs", "allow")}
    assert found.restore == {**shared, **stage}
    assert found.backup == {**shared, "backup_dir": "~/backups", "bin_dir": "/usr/bin"}
    assert action._modules(options(GIVEN), GIVEN).backup is None


@pytest.mark.parametrize(("module", "names"), [
    (pg_restore, action._OPTIONS["restore"]), (pg_backup, action._OPTIONS["backup"]),
    (pg_database_swap, action._OPTIONS["swap"]), (workload_scale, ("kubernetes", "timeout", "state")),
])  # fmt: skip
def test_the_modules_know_all_of_these(module: Any, names: tuple[str, ...]) -> None:
    assert not set(names) - set(module.SPEC.options)


def test_every_option_of_the_restore_and_the_swap_can_be_given() -> None:
    own = {"replacement", "block", "attempts"}  # of the swap alone
    assert not set(pg_restore.SPEC.options) - set(action.SPEC.options)
    assert not set(pg_database_swap.SPEC.options) - set(action.SPEC.options) - own


def test_the_cluster_of_an_application_is_that_of_the_database_unless_it_names_one() -> None:
    words = {"namespace": "shop", "workload": "deployment/shop", "ca_cert": "/own", "timeout": "1m"}
    given = {**GIVEN, "application": words}
    found = action._application(options(given), given)
    cluster = {"namespace": "shop", "workload": "deployment/shop", "ca_cert": "/own", "context": "one"}
    assert found.scale == {"kubernetes": cluster, "timeout": "1m"}
    del given["kubernetes"]
    found = action._application(options(given), given)
    assert found.scale is not None
    assert "context" not in found.scale["kubernetes"]


def test_commands_scale_nothing() -> None:
    given = {**GIVEN, "application": {"stop_command": ["stop"], "start_command": ["start"]}, "health_url": "http://a"}
    found = action._application(options(given), given)
    assert (found.scale, found.stop_command, found.start_command) == (None, ["stop"], ["start"])
    assert (found.health_url, found.health_status, found.health_retries) == ("http://a", [200], 30)


@pytest.mark.parametrize("wrong", [
    {"keep_old": "7x"}, {"grace": "soon"}, {"jobs": 0}, {"max_replica_lag": "far"}, {"health_retries": -1},
    {"application": {"timeout": "long"}},
])  # fmt: skip
def test_what_cannot_be_understood_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        options({**GIVEN, **wrong})


def test_the_keys_of_an_application_that_a_role_takes_are_those_that_the_action_takes() -> None:
    assert set(_option_names._APPLICATION) == set(action.OWN.options["application"]["options"])


def without_texts(options: dict[str, Any]) -> dict[str, Any]:
    """Documented options, or a spec, by what both say."""
    found = {
        name: {**option, "options": option.get("suboptions", option.get("options"))} for name, option in options.items()
    }
    return {
        name: {
            **{
                key: option[key]
                for key in ("type", "elements", "choices", "default", "aliases", "required")
                if key in option
            },
            "keys": without_texts(option["options"] or {}),
        }
        for name, option in found.items()
    }


DOCUMENTED = yaml.safe_load(restore_procedure.DOCUMENTATION)["options"]


def test_the_options_are_documented_as_the_action_takes_them() -> None:
    assert without_texts(DOCUMENTED) == without_texts(action.OWN.options)


def test_the_cluster_of_an_application_is_documented_as_that_of_the_database() -> None:
    fragment = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["kubernetes"]["suboptions"]
    cluster = {name: fragment[name] for name in action._CLUSTER}
    documented = DOCUMENTED["application"]["suboptions"]
    assert without_texts({name: documented[name] for name in cluster}) == without_texts(cluster)
