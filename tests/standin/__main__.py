"""Serve a stand-in in a process of its own, for the tests of real clusters: they find it by the variables that it prints.

python -m tests.standin
It is there until its standard input ends.
"""

from __future__ import annotations

import contextlib
import sys
import threading

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.schedule.cron import Cron
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import read_zone, utc_now
from tests.standin import Standin, postgres_image, runbook_image
from tests.standin.errors import ApiError
from tests.support.workspace import workspace

_NAMESPACE, _IMAGE, _RUNBOOK = "served", "lab/postgres:15", "lab/runbook:1"


def keep_time(standin: Standin, ended: threading.Event) -> None:
    """Start what CronJobs have due, as their controller does."""
    last = utc_now()
    while not ended.wait(1):
        now = utc_now()
        for item in standin.objects("cronjobs", _NAMESPACE):
            due = Cron.parse(item["spec"]["schedule"]).times(last, now, read_zone(item["spec"].get("timeZone")))
            if any(due):
                with contextlib.suppress(ApiError):  # it was deleted meanwhile
                    standin.fire(item["metadata"]["name"], _NAMESPACE)
        last = now


def main() -> None:
    """Serve."""
    served: list[Standin] = []
    images = {_IMAGE: postgres_image(), _RUNBOOK: runbook_image(lambda: served[0].url)}
    with Standin(workspace() / "srv", images=images) as standin:
        served.append(standin)
        standin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
        variables = {
            "KUBECONFIG": standin.kubeconfig(namespace=_NAMESPACE),
            "PG_RUNBOOK_TEST_NAMESPACE": _NAMESPACE,
            "PG_RUNBOOK_TEST_IMAGE": _IMAGE,
            "PG_RUNBOOK_TEST_RUNBOOK_IMAGE": _RUNBOOK,
            # Where the folder of a claim really is: its pods share this machine's root directory.
            "PG_RUNBOOK_TEST_BACKUPS": f"{standin.folder}/n/{_NAMESPACE}/$name",
            "PG_RUNBOOK_TEST_ROWS": 120_000,
        }
        for name, value in variables.items():
            print(f"export {name}='{value}'")
        print(flush=True)
        ended = threading.Event()
        clock = threading.Thread(target=keep_time, args=(standin, ended))
        clock.start()
        sys.stdin.read()
        ended.set()
        clock.join()


if __name__ == "__main__":
    main()
