"""The local target keeps the contract of targets, and some promises of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem, InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.factory import create_target
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.database.target_contract import ContractOfTarget
from tests.database.target_files_contract import shell


@pytest.fixture(name="target", scope="module")
def _target() -> LocalTarget:
    return LocalTarget()


@pytest.fixture(name="folder")
def _folder(backup_dir: Path) -> str:
    backup_dir.chmod(0o755)  # the unprivileged user may look
    return str(backup_dir)


class TestLocalTarget(ContractOfTarget):
    """Everything that targets promise."""

    source = (
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget\n"
        "target = LocalTarget()"
    )


def test_parameters_without_a_cluster_mean_this_host() -> None:
    assert isinstance(create_target({}), LocalTarget)


def test_cpus_are_those_we_may_use(target: LocalTarget) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert target.cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert target.cpus() == len(before)


def test_programs_speak_english_and_begin_in_the_root_directory(target: LocalTarget) -> None:
    assert target.run(shell('echo "$LC_ALL $PWD"')).text == "C /\n"


def test_an_unknown_account_is_named(target: LocalTarget) -> None:
    with pytest.raises(InvalidInput, match="no_such_account"):
        target.run(["true"], user="no_such_account")


def test_a_link_is_not_followed_by_a_lock(target: LocalTarget, folder: str) -> None:
    os.symlink("/etc/hostname", f"{folder}/.lock")
    with pytest.raises(FileProblem), target.files.lock(f"{folder}/.lock", "mine"):
        pytest.fail("the link was followed")
