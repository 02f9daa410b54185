"""The cluster that was recorded, rebuilt: the same namespaces, objects and pods, and how answers are compared."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.standin.images import Image, toolbox
from tests.standin.matching import Object
from tests.standin.server import Standin

RECORDINGS = Path(__file__).resolve().with_name("recordings")
NAMESPACE = "godel"
PROBE = "probe"
HEALTH_PORT = 7373

HEALTH = """
import json, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            body = json.dumps({"status": "ok", "host": "x", "uptime_s": 1}, separators=(",", ":")) + "\\n"
            head = f"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n"
            connection.sendall(f"{head}Connection: close\\r\\n\\r\\n{body}".encode())
"""
WAIT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
DUMP = "#!/bin/sh\necho '-- dump'\n"


@cache
def recording(name: str) -> Any:
    """Return the content of a recorded JSON file."""
    return json.loads((RECORDINGS / name).read_text())


def lines(name: str) -> list[Any]:
    """Return the content of a recorded file with one JSON a line."""
    return [json.loads(line) for line in (RECORDINGS / name).read_text().splitlines()]


def names(folder: str, pattern: str = "*") -> list[str]:
    """Return the names of the recorded files in a folder."""
    return sorted(file.name for file in (RECORDINGS / folder).glob(pattern))


# --- the cluster


def images(folder: Path) -> dict[str, Image]:
    """Return the images of the lab; PostgreSQL is only a process that waits."""
    health = folder / "health.py"
    health.write_text(HEALTH)
    programs = ("bash", "cat", "date", "dd", "echo", "env", "gzip", "head", "kill", "ls", "seq", "sh", "sleep")
    tools = toolbox(folder / "tools", *programs, "stty", "tail", "tar", "tee", "timeout", "true", "wc")
    dump = tools / "pg_dump"
    dump.write_text(DUMP)
    ready = tools / "pg_isready"
    ready.write_text("#!/bin/sh\nexit 0\n")
    for script in (dump, ready):
        script.chmod(0o755)
    waiting = Image(command=("bash", "-c", WAIT), path=(tools,), private_paths={"/tmp": "t"})
    database = Image(entrypoint=("bash", "-c", WAIT), path=(tools,), private_paths={"/tmp": "t"})
    application = Image(command=(sys.executable, "-I", "-S", str(health), "localhost", str(HEALTH_PORT)))
    return {"lab/postgres:15": database, "lab/app:1": application, "lab/waiting:1": waiting}


def build(standin: Standin) -> None:
    """Make the recorded objects, and wait until the pods are as they were."""
    for name in (NAMESPACE, PROBE):
        standin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    secret = {"POSTGRES_USER": "godel", "POSTGRES_PASSWORD": "dummy", "POSTGRES_DB": "godel_production"}
    meta = {"name": "godel-db", "namespace": NAMESPACE}
    standin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": secret})
    dummy = recording("http/secret-get.json")["response"]["body"]
    standin.apply({**dummy, "metadata": {"name": "dummy", "namespace": NAMESPACE}})
    for item in recording("http/configmaps-list.json")["response"]["body"]["items"]:
        standin.apply({"apiVersion": "v1", "kind": "ConfigMap", **_bare(item)})
    for name in ("deployment-get", "deployment-postgres-get", "cronjob-get"):
        standin.apply(_bare(recording(f"http/{name}.json")["response"]["body"]))
    replica = _bare(recording("http/deployment-postgres-get.json")["response"]["body"])
    text = json.dumps(replica).replace('"app": "postgres"', '"app": "postgres-replica"')
    replica = json.loads(text)
    replica["metadata"]["name"] = "postgres-replica"
    standin.apply(replica)
    standin.apply(*_probes())
    standin.ready_pod(NAMESPACE, "app=postgres")
    standin.until(lambda: _is_settled(standin))


def _bare(item: Object) -> Object:
    """Return a recorded object as it was applied."""
    meta = {name: item["metadata"][name] for name in ("name", "labels", "annotations") if name in item["metadata"]}
    meta["namespace"] = NAMESPACE
    annotations = dict(meta.get("annotations") or {})
    annotations.pop("deployment.kubernetes.io/revision", None)
    bare = {name: value for name, value in item.items() if name != "status"}
    return {**bare, "metadata": {**meta, "annotations": annotations}}


def _pod(name: str, *containers: Object, **spec: Any) -> Object:
    meta = {"name": name, "namespace": PROBE}
    whole = {"terminationGracePeriodSeconds": 2, "restartPolicy": "Never", "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": whole}


def _container(name: str = "c", **more: Any) -> Object:
    return {"name": name, "image": "lab/waiting:1", **more}


def _probes() -> Iterator[Object]:
    yield _pod("running", _container())
    yield _pod("crash", _container(command=["bash", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"]))
    yield _pod("pending", _container(image="lab/missing:1", imagePullPolicy="Never"))
    yield _pod("done", _container(command=["true"]))
    yield _pod("unschedulable", _container(), nodeSelector={"nowhere": "yes"})
    yield _pod("two", _container("first"), _container("second", command=["sleep", "600"]))
    missing = _container(image="lab/missing:1", imagePullPolicy="Never")
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "stuck", "namespace": PROBE},
        "spec": {
            "selector": {"matchLabels": {"app": "stuck"}},
            "template": {
                "metadata": {"labels": {"app": "stuck"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [missing]},
            },
        },
    }


def _is_settled(standin: Standin) -> bool:
    deployments = standin.objects("deployments", NAMESPACE)
    done = {pod["metadata"]["name"]: pod["status"]["phase"] for pod in standin.pods(PROBE)}
    waits = [name for name in done if name.startswith(("stuck", "pending"))]
    reasons = [
        each["state"].get("waiting", {}).get("reason")
        for pod in standin.pods(PROBE)
        if pod["metadata"]["name"] in waits
        for each in pod["status"].get("containerStatuses") or []
    ]
    return (
        all(each["status"].get("readyReplicas") == each["spec"]["replicas"] for each in deployments)
        and all(_reason(each) == "NewReplicaSetAvailable" for each in deployments)
        and all(done.get(name) == "Running" for name in ("running", "crash", "two"))
        and done.get("done") == "Succeeded"
        and reasons == ["ErrImageNeverPull"] * 2
        and bool(standin.get("pod", "unschedulable", PROBE)["status"].get("conditions"))  # type: ignore[index]
    )


def _reason(deployment: Object) -> str:
    found = [each["reason"] for each in deployment["status"].get("conditions") or [] if each["type"] == "Progressing"]
    return found[0] if found else ""


def here(standin: Standin, text: str) -> str:
    """Put the names of our pods for the recorded ones."""

    def ours(found: re.Match[str]) -> str:
        app, namespace = found[1], PROBE if found[1] == "stuck" else NAMESPACE
        selector = "job-name=manual-1" if app == "manual-1" else f"app={app}"
        pods = standin.pods(namespace, selector)
        return str(pods[0]["metadata"]["name"]) if pods else found[0]

    return re.sub(rf"(?<![\w-])({_APPS})(-[a-z0-9]{{8,10}}-[a-z0-9]{{5}}|-ps4hd)(?![\w-])", ours, text)


_APPS = "godel|postgres|stuck|manual-1"

# --- comparing

_PATTERNS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\b[0-9a-f]{64}\b", "HEX"),
    (rf"\b({_APPS}|postgres-replica)-[a-z0-9]{{8,10}}(-[a-z0-9]{{5}})?(?![\w])", r"\1-HASH"),
    (r"\bmanual-1-[a-z0-9]{5}\b", "manual-1-HASH"),
    (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-HASH"),
    (r"\b\d+\.\d+\.\d+\.\d+(:\d+)?\b", "ADDRESS"),
    (r"^\d[0-9.,]* \w?B|[\d.]+ (s|MB/s|GB/s)$", "FIGURE"),
)
_NUMBERS = ("resourceVersion", "generation", "observedGeneration", "deployment.kubernetes.io/revision")
_HASHED = ("pod-template-hash",)


def alike(value: Any, key: str = "") -> Any:
    """Return a value with all that differs from one cluster to the next taken out."""
    if isinstance(value, Mapping):
        return {alike(name): alike(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [alike(inner) for inner in value if not _is_of_the_distribution(inner)]
    if key in _NUMBERS:
        return "NUMBER"
    if key in _HASHED:
        return "HASH"
    if isinstance(value, str):
        for pattern, replacement in _PATTERNS:
            value = re.sub(pattern, replacement, value)
    return value


def _is_of_the_distribution(value: Any) -> bool:
    """Tell whether this is what the recorded distribution adds to the volume of every pod."""
    return isinstance(value, Mapping) and value.get("configMap", {}).get("name") == "openshift-service-ca.crt"


def same_order(value: Any) -> Any:
    """Return a value with its conditions, volumes and mounts in a fixed order."""
    if isinstance(value, Mapping):
        return {name: same_order(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted((same_order(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value
