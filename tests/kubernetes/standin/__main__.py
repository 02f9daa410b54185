"""Serve a stand-in in a process of its own, for the tests of real clusters: they find it by the variables that it prints.

python -m tests.kubernetes.standin
It is there until its standard input ends.
"""

from __future__ import annotations

import sys

from tests.kubernetes.standin import Standin, postgres_image
from tests.support.workspace import workspace

_NAMESPACE, _IMAGE = "served", "lab/postgres:15"


def main() -> None:
    """Serve."""
    with Standin(workspace() / "srv", images={_IMAGE: postgres_image()}) as standin:
        standin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
        variables = {
            "KUBECONFIG": standin.kubeconfig(namespace=_NAMESPACE),
            "PG_RUNBOOK_TEST_NAMESPACE": _NAMESPACE,
            "PG_RUNBOOK_TEST_IMAGE": _IMAGE,
            # Where the folder of a claim really is: its pods share this machine's root directory.
            "PG_RUNBOOK_TEST_BACKUPS": f"{standin.folder}/n/{_NAMESPACE}/$name",
            "PG_RUNBOOK_TEST_ROWS": 120_000,
        }
        for name, value in variables.items():
            print(f"export {name}='{value}'")
        print(flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
