"""What the API server fills in when an object is created."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

from tests.standin import kinds
from tests.standin.kinds import Kind
from tests.standin.matching import Object
from tests.standin.store import born, suffix

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def admit(kind: Kind, item: Object) -> Object:
    """Return a new object as the server would store it."""
    item = born(kind, {"kind": kind.kind, "apiVersion": kind.api_version, **item})
    return complete(kind, item)


def complete(kind: Kind, item: Object) -> Object:
    """Fill in the defaults of a kind; the same object with nothing left out comes back unchanged."""
    fill = _FILL.get(kind)
    if fill:
        item = copy.deepcopy(item)
        fill(item)
    return item


def _defaults(target: dict[str, Any], **values: Any) -> None:
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def _probe(probe: dict[str, Any]) -> None:
    _defaults(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if "httpGet" in probe:
        _defaults(probe["httpGet"], scheme="HTTP", path="/")


def _container(container: dict[str, Any]) -> None:
    for port in container.get("ports") or []:
        _defaults(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            _probe(container[name])
    image = container.get("image", "")
    newest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
    _defaults(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="Always" if newest else "IfNotPresent",
    )


def _volume(volume: dict[str, Any]) -> None:
    for name in ("secret", "configMap", "projected", "downwardAPI"):
        if name in volume:
            _defaults(volume[name], defaultMode=420)
    if volume.get("hostPath"):
        _defaults(volume["hostPath"], type="")
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}


def _pod_spec(spec: dict[str, Any]) -> None:
    for volume in spec.get("volumes") or []:
        _volume(volume)
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        _container(container)
    if spec.get("serviceAccountName"):
        _defaults(spec, serviceAccount=spec["serviceAccountName"])
    _defaults(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )


def _template(template: dict[str, Any]) -> None:
    meta = {"creationTimestamp": None, **(template.get("metadata") or {})}
    template["metadata"] = {name: value for name, value in meta.items() if value or value is None}
    _pod_spec(template.setdefault("spec", {}))


def _pod(item: Object) -> None:
    spec = item["spec"]
    _pod_spec(spec)
    _defaults(
        spec,
        serviceAccountName="default",
        serviceAccount="default",
        tolerations=[_toleration("not-ready"), _toleration("unreachable")],
        priority=0,
        enableServiceLinks=True,
        preemptionPolicy="PreemptLowerPriority",
    )
    if spec.get("automountServiceAccountToken", True):
        _service_account_volume(spec)
    _defaults(item, status={"phase": "Pending", "qosClass": _quality(spec)})


def _quality(spec: dict[str, Any]) -> str:
    wanted = [container.get("resources") or {} for container in spec["containers"]]
    if all(not each.get("requests") and not each.get("limits") for each in wanted):
        return "BestEffort"
    guaranteed = all(
        set(each.get("limits") or {}) >= {"cpu", "memory"}
        and (each.get("requests") or each["limits"]) == each["limits"]
        for each in wanted
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _toleration(what: str) -> dict[str, Any]:
    key = f"node.kubernetes.io/{what}"
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}


def _service_account_volume(spec: dict[str, Any]) -> None:
    volumes = spec.setdefault("volumes", [])
    if any(volume["name"].startswith("kube-api-access-") for volume in volumes):
        return
    name = f"kube-api-access-{suffix()}"
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    ca_bundle = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": ca_bundle},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    volumes.append({"name": name, "projected": {"sources": sources, "defaultMode": 420}})
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        mounts = container.setdefault("volumeMounts", [])
        if not any(mount["mountPath"] == TOKEN_PATH for mount in mounts):
            mounts.append({"name": name, "readOnly": True, "mountPath": TOKEN_PATH})


def _deployment(item: Object) -> None:
    spec = item["spec"]
    _template(spec["template"])
    strategy = spec.setdefault("strategy", {})
    _defaults(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        _defaults(rolling, maxUnavailable="25%", maxSurge="25%")
    _defaults(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _defaults(item, status={})


def _replica_set(item: Object) -> None:
    _template(item["spec"]["template"])
    _defaults(item["spec"], replicas=1)
    _defaults(item, status={"replicas": 0})


def _stateful_set(item: Object) -> None:
    spec = item["spec"]
    _template(spec["template"])
    _defaults(
        spec,
        replicas=1,
        serviceName="",
        podManagementPolicy="OrderedReady",
        updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        revisionHistoryLimit=10,
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"},
    )
    _defaults(item, status={"replicas": 0})


def _job(item: Object) -> None:
    spec, meta = item["spec"], item["metadata"]
    _defaults(spec, parallelism=1, completions=1, backoffLimit=6)
    if not spec.get("manualSelector"):
        labels = {
            "batch.kubernetes.io/controller-uid": meta["uid"],
            "batch.kubernetes.io/job-name": meta["name"],
            "controller-uid": meta["uid"],
            "job-name": meta["name"],
        }
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}}
        spec["manualSelector"] = False
        _template(spec["template"])
        inherited = spec["template"]["metadata"].get("labels") or {}
        spec["template"]["metadata"]["labels"] = {**inherited, **labels}
        meta["labels"] = {**inherited, **labels, **(meta.get("labels") or {})}
    _template(spec["template"])
    _defaults(spec, completionMode="NonIndexed", suspend=False, podReplacementPolicy="TerminatingOrFailed")
    _defaults(item, status={})


def _cron_job(item: Object) -> None:
    spec = item["spec"]
    _defaults(
        spec,
        concurrencyPolicy="Allow",
        suspend=False,
        successfulJobsHistoryLimit=3,
        failedJobsHistoryLimit=1,
    )
    template = spec["jobTemplate"]
    template["metadata"] = {"creationTimestamp": None, **(template.get("metadata") or {})}
    _template(template["spec"]["template"])
    _defaults(item, status={})


def _secret(item: Object) -> None:
    plain = item.pop("stringData", None) or {}
    if plain:
        encoded = {name: base64.b64encode(value.encode()).decode() for name, value in plain.items()}
        item["data"] = dict(sorted({**(item.get("data") or {}), **encoded}.items()))
    _defaults(item, type="Opaque")


def _namespace(item: Object) -> None:
    meta = item["metadata"]
    meta["labels"] = {"kubernetes.io/metadata.name": meta["name"], **(meta.get("labels") or {})}
    _defaults(item, spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})


def _service(item: Object) -> None:
    spec = item.setdefault("spec", {})
    for port in spec.get("ports") or []:
        _defaults(port, protocol="TCP", targetPort=port.get("port"))
    _defaults(spec, type="ClusterIP", sessionAffinity="None", clusterIP="10.96.0.10")
    _defaults(item, status={"loadBalancer": {}})


def _claim(item: Object) -> None:
    _defaults(item["spec"], volumeMode="Filesystem", volumeName=f"pvc-{item['metadata']['uid']}")
    _defaults(item, status={"phase": "Bound"})


_FILL: dict[Kind, Callable[[Object], None]] = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _deployment,
    kinds.REPLICA_SET: _replica_set,
    kinds.STATEFUL_SET: _stateful_set,
    kinds.JOB: _job,
    kinds.CRON_JOB: _cron_job,
    kinds.SECRET: _secret,
    kinds.NAMESPACE: _namespace,
    kinds.BY_PATH["", "v1", "services"]: _service,
    kinds.BY_PATH["", "v1", "persistentvolumeclaims"]: _claim,
}
