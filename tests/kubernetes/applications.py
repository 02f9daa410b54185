"""An application beside the database, for what stops and starts one."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.place import Place
from tests.kubernetes.place_base import is_ready

REMEMBERED = "godel.postgres-runbook/replicas"
WAITS = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]


def application(place: Place, kind: str = "Deployment") -> dict[str, Any]:
    """An application of three replicas, which the image of the server stands in for."""
    name = app(place)
    container = {"name": "app", "image": place.image, "command": WAITS}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def app(place: Place) -> str:
    """The name of the application."""
    return f"{place.name}-app"


def named(place: Place, kind: str = "deployment") -> dict[str, str]:
    """The application as the playbooks name it."""
    return {"namespace": place.namespace, "workload": f"{kind}/{app(place)}"}


def deployment(place: Place) -> Any:
    """The application as it is now."""
    return place.get("Deployment", app(place))


def pods(place: Place) -> set[str]:
    """The pods of the application that have not ended, by their uid."""
    found = place.pods(f"app={app(place)}")
    return {pod["metadata"]["uid"] for pod in found if pod["status"].get("phase") in ("Pending", "Running")}


def wait_until_ready(place: Place, replicas: int = 3) -> None:
    """Wait until all pods of the application are ready."""

    def all_are() -> bool:
        return [is_ready(pod) for pod in place.pods(f"app={app(place)}")].count(True) == replicas

    place.until(all_are, place.pace.start_s)
