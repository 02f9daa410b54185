"""The tests of pods run on a real cluster, which is a stand-in here that another process serves, and leave it clean."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import Cluster, ClusterOptions
from tests.conftest import COLLECTIONS, ROOT
from tests.kubernetes import cluster_place
from tests.kubernetes.place_base import KINDS

NAMES = "missing_right or wrong_password or kubelet"
VARIABLES = ("KUBECONFIG", "PG_RUNBOOK_TEST_NAMESPACE")


def without_a_cluster() -> dict[str, str]:
    """Our environment, as if it named no cluster and we were no tests."""
    ours = ("KUBECONFIG", "PG_RUNBOOK_", "PYTEST_", "MAKE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str]]:
    """The variables that lead to a stand-in in another process."""
    environment = {**without_a_cluster(), "PYTHONPATH": f"{ROOT}:{COLLECTIONS}"}
    command = [sys.executable, "-m", "tests.standin"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        variables = {}
        while line := process.stdout.readline().strip():
            name, dummy, value = line.removeprefix("export ").partition("=")
            variables[name] = value.strip("'")
        yield {**variables, "PG_RUNBOOK_TEST_ROWS": "1000"}
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_same_tests_run_there_and_leave_nothing(served: dict[str, str]) -> None:
    files = [ROOT / "tests" / "kubernetes" / "test_backups_in_a_pod.py"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", "-q", "-rs", "-m", "cluster"]
    done = subprocess.run(
        [*command, "-k", NAMES, *files],
        cwd=ROOT,
        env={**without_a_cluster(), **served},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SKIPPED .*only the stand-in can be made to do this", done.stdout), done.stdout
    assert re.search(r"\b2 passed, 1 skipped", done.stdout), done.stdout
    api = Cluster(ClusterOptions(served["PG_RUNBOOK_TEST_NAMESPACE"], kubeconfig=served["KUBECONFIG"]))
    left = [item for group, plural in KINDS.values() for item in api.get(api.path(plural, api=group))["items"]]
    api.close()
    assert left == []


@pytest.mark.parametrize("missing", VARIABLES)
def test_a_variable_that_is_missing_is_named(missing: str) -> None:
    named = {name: "x" for name in VARIABLES if name != missing}
    done = subprocess.run(
        ["make", "test-kubernetes"],
        cwd=ROOT,
        env={**without_a_cluster(), **named},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{missing} is not set" in done.stderr
    assert not done.stdout


def test_a_kubeconfig_of_several_files_becomes_one_with_absolute_paths(tmp_path: Path) -> None:
    context = {"name": "mine", "context": {"cluster": "there", "user": "me"}}
    cluster = {"name": "there", "cluster": {"server": "https://there", "certificate-authority": "pki/ca.crt"}}
    user = {"name": "me", "user": {"exec": {"command": "./login"}, "tokenFile": "/run/token"}}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config").write_text(yaml.safe_dump({"current-context": "mine", "contexts": [context]}))
    others = {"current-context": "other", "clusters": [cluster], "users": [user]}
    (tmp_path / "config").write_text(yaml.safe_dump(others))
    paths = os.pathsep.join(str(tmp_path / name) for name in ("a/config", "nothing", "config"))
    found = cluster_place.flattened(paths, "here")
    assert found["clusters"][0]["cluster"]["certificate-authority"] == f"{tmp_path}/pki/ca.crt"
    assert found["users"][0]["user"]["exec"]["command"] == f"{tmp_path}/login"
    assert found["users"][0]["user"]["tokenFile"] == "/run/token"
    assert found["contexts"][0]["context"]["namespace"] == "here"
