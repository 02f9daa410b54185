"""What the API server and the kubelet refuse, the stand-in refuses with the same words.

On a real cluster the same requests are made (`dryRun=All`, so that nothing is made), and only have to be refused: the
words there are those of its release.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes.client import ApiException

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    ClusterRefused,
    ObjectNotFound,
    WorkloadProblem,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import scratch_pod
from tests.kubernetes import place as places
from tests.kubernetes.place import CONTAINER, Place
from tests.kubernetes.place_base import KINDS

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
ENDS = "and must start and end with an alphanumeric character"
SUBDOMAIN = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {ENDS} (e.g. "
    "'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL = (
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {ENDS} (e.g. 'my-name',  "
    "or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
QUALIFIED = (
    f"must consist of alphanumeric characters, '-', '_' or '.', {ENDS} (e.g. 'MyName',  or 'my.name',  or '123-abc', "
    "regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    f"{ENDS} (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("ref") as prepared:
        yield prepared


def pod(**spec: Any) -> Object:
    inner = {"containers": [{"name": "c", "image": "busybox"}], "restartPolicy": "Never", **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": inner}


def container(**more: Any) -> Object:
    return pod(containers=[{"name": "c", "image": "busybox", **more}])


def named(found: Object, **meta: Any) -> Object:
    return {**found, "metadata": {"name": "x", **meta}}


def deployment(**spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": pod()["spec"]["containers"]}}
    inner = {"selector": {"matchLabels": {"app": "x"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": inner}


def job(policy: str | None = "Never", **spec: Any) -> Object:
    inner = {name: value for name, value in pod(restartPolicy=policy)["spec"].items() if value is not None}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "x"},
        "spec": {"template": {"spec": inner}, **spec},
    }


def cron_job(**spec: Any) -> Object:
    inner = {"schedule": "0 2 * * *", "jobTemplate": {"spec": job()["spec"]}, **spec}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x"}, "spec": inner}


def plain(kind: str, **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **more}


def role(**rule: Any) -> Object:
    return {**plain("Role", rules=[rule]), "apiVersion": "rbac.authorization.k8s.io/v1"}


LIMITED = {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}
TWICE = [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]
# What is asked for, and the field and what is said of it.
INVALID: list[tuple[Object, str, str]] = [
    (
        named(deployment(), annotations={"a.b_c/d": "1"}),
        "metadata.annotations",
        f'Invalid value: "a.b_c/d": prefix part {SUBDOMAIN}',
    ),
    (named(pod(), annotations={"/d": "1"}), "metadata.annotations", 'Invalid value: "/d": prefix part must be non-emp'),
    (named(pod(), annotations={"a/-": "1"}), "metadata.annotations", f'Invalid value: "a/-": name part {QUALIFIED}'),
    (named(pod(), labels={"a b": "1"}), "metadata.labels", f'Invalid value: "a b": name part {QUALIFIED}'),
    (named(pod(), labels={"a": "b c"}), "metadata.labels", f'Invalid value: "b c": {VALUE}'),
    (named(pod(), labels={"a": "b" * 64}), "metadata.labels", f'Invalid value: "{"b" * 64}": must be no more than 63'),
    (named(pod(), name="a_b"), "metadata.name", f'Invalid value: "a_b": {SUBDOMAIN}'),
    (named(pod(), name="a" * 254), "metadata.name", f'Invalid value: "{"a" * 254}": must be no more than 253'),
    (pod(containers=[]), "spec.containers", "Required value"),
    (container(name="a.b"), "spec.containers[0].name", 'Invalid value: "a.b": must not contain dots'),
    (container(name="A"), "spec.containers[0].name", f'Invalid value: "A": {LABEL}'),
    (container(image=""), "spec.containers[0].image", "Required value"),
    (container(image=" x"), "spec.containers[0].image", 'Invalid value: " x": must not have leading or trailing white'),
    (pod(containers=2 * pod()["spec"]["containers"]), "spec.containers[1].name", 'Duplicate value: "c"'),
    (pod(restartPolicy="Often"), "spec.restartPolicy", 'Unsupported value: "Often": supported values: "Always", "OnFa'),
    (pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "Invalid value: 0: must be between 1 and 2147483647"),
    (pod(serviceAccountName="A"), "spec.serviceAccountName", f'Invalid value: "A": {SUBDOMAIN}'),
    (pod(nodeSelector={"a": "b c"}), "spec.nodeSelector", f'Invalid value: "b c": {VALUE}'),
    (
        pod(securityContext={"runAsUser": -1}),
        "spec.securityContext.runAsUser",
        "Invalid value: -1: must be between 0 and",
    ),
    (
        container(securityContext={"runAsUser": -1}),
        "spec.containers[0].securityContext.runAsUser",
        "Invalid value: -1: must be between 0 and",
    ),
    (
        container(resources=LIMITED),
        "spec.containers[0].resources.requests",
        'Invalid value: "1Gi": must be less than or equal to memory limit of 512Mi',
    ),
    (
        container(resources={"limits": {"cpu": "-1"}}),
        "spec.containers[0].resources.limits[cpu]",
        'Invalid value: "-1": must be greater than or equal to 0',
    ),
    (
        container(resources={"limits": {"disk": "1"}}),
        "spec.containers[0].resources.limits[disk]",
        'Invalid value: "disk": must be a standard resource',
    ),
    (container(env=[{"value": "1"}]), "spec.containers[0].env[0].name", "Required value"),
    (container(env=[{"name": "a=b"}]), "spec.containers[0].env[0].name", 'Invalid value: "a=b": a valid environment'),
    (
        container(env=[{"name": "a", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        "spec.containers[0].env[0].valueFrom",
        'Invalid value: "": may not be specified when `value` is not empty',
    ),
    (
        container(env=[{"name": "a", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k/l"}}}]),
        "spec.containers[0].env[0].valueFrom.secretKeyRef.key",
        "Invalid value: \"k/l\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    ),
    (
        container(volumeMounts=[{"name": "v", "mountPath": "/a"}]),
        "spec.containers[0].volumeMounts[0].name",
        'Not found: "v"',
    ),
    (
        pod(containers=container(volumeMounts=TWICE)["spec"]["containers"], volumes=[{"name": "v", "emptyDir": {}}]),
        "spec.containers[0].volumeMounts[1].mountPath",
        'Invalid value: "/a": must be unique',
    ),
    (container(ports=[{"containerPort": 70000}]), "spec.containers[0].ports[0].containerPort", "Invalid value: 70000"),
    (
        container(ports=[{"containerPort": 1, "name": "A"}]),
        "spec.containers[0].ports[0].name",
        'Invalid value: "A": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
    ),
    (container(readinessProbe={}), "spec.containers[0].readinessProbe", "Required value: must specify a handler type"),
    (pod(volumes=[{"name": "V", "emptyDir": {}}]), "spec.volumes[0].name", f'Invalid value: "V": {LABEL}'),
    (pod(volumes=2 * [{"name": "v", "emptyDir": {}}]), "spec.volumes[1].name", 'Duplicate value: "v"'),
    (
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
        "spec.volumes[0].hostPath",
        "Forbidden: may not specify more than 1 volume type",
    ),
    (
        pod(volumes=[{"name": "v", "persistentVolumeClaim": {}}]),
        "spec.volumes[0].persistentVolumeClaim.claimName",
        "Required value",
    ),
    (
        pod(volumes=[{"name": "v", "nfs": {"server": "s", "path": "x"}}]),
        "spec.volumes[0].nfs.path",
        'Invalid value: "x": must be an absolute path',
    ),
    (deployment(replicas=-1), "spec.replicas", "Invalid value: -1: must be greater than or equal to 0"),
    (
        deployment(selector={"matchLabels": {"app": "y"}}),
        "spec.template.metadata.labels",
        'Invalid value: map[string]string{"app":"x"}: `selector` does not match template `labels`',
    ),
    (
        deployment(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        "spec.strategy.rollingUpdate",
        "Forbidden: may not be specified when strategy `type` is 'Recreate'",
    ),
    (job("Always"), "spec.template.spec.restartPolicy", 'Required value: valid values: "OnFailure", "Never"'),
    (job(None), "spec.template.spec.restartPolicy", 'Required value: valid values: "OnFailure", "Never"'),
    (job(backoffLimit=-1), "spec.backoffLimit", "Invalid value: -1: must be greater than or equal to 0"),
    (named(job(), name="a" * 64), "spec.template.labels", f'Invalid value: "{"a" * 64}": must be no more than 63'),
    (
        cron_job(schedule="0 2 * *"),
        "spec.schedule",
        'Invalid value: "0 2 * *": expected exactly 5 fields, found 4: [0 2 * *]',
    ),
    (
        cron_job(schedule="60 2 * * *"),
        "spec.schedule",
        'Invalid value: "60 2 * * *": end of range (60) above maximum (59): 60',
    ),
    (cron_job(schedule="a 2 * * *"), "spec.schedule", 'Invalid value: "a 2 * * *": failed to parse int from a'),
    (cron_job(schedule="@often"), "spec.schedule", 'Invalid value: "@often": unrecognized descriptor: @often'),
    (
        cron_job(schedule="TZ=UTC 0 2 * * *"),
        "spec.schedule",
        'Invalid value: "TZ=UTC 0 2 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead',
    ),
    (
        cron_job(timeZone="Mars/Olympus"),
        "spec.timeZone",
        'Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus',
    ),
    (cron_job(concurrencyPolicy="No"), "spec.concurrencyPolicy", 'Unsupported value: "No": supported values: "Allow"'),
    (named(cron_job(), name="a" * 53), "metadata.name", f'Invalid value: "{"a" * 53}": must be no more than 52 charac'),
    (plain("ConfigMap", data={"a/b": "1"}), "data[a/b]", 'Invalid value: "a/b": a valid config key must consist of'),
    (plain("Secret", data={"a b": "MQ=="}), "data[a b]", 'Invalid value: "a b": a valid config key must consist of'),
    (
        plain("PersistentVolumeClaim", spec={"resources": {"requests": {"storage": "1Gi"}}}),
        "spec.accessModes",
        "Required value: at least 1 access mode is required",
    ),
    (
        plain("PersistentVolumeClaim", spec={"accessModes": ["ReadWriteOnce"]}),
        "spec.resources[storage]",
        "Required value",
    ),
    (role(apiGroups=[""], resources=["pods"]), "rules[0].verbs", "Required value: verbs must contain at least one val"),
    (role(verbs=["get"], resources=["pods"]), "rules[0].apiGroups", "Required value: resource rules must supply at le"),
]
UNREADABLE: list[tuple[Object, str]] = [
    (named(deployment(), annotations={"a": 3}), "cannot unmarshal number into Go struct field ObjectMeta.metadata."),
    (container(resources={"limits": {"cpu": "much"}}), QUANTITY),
    (container(resources={"limits": {"memory": "1Gib"}}), "quantit"),  # codespell:ignore
    (pod(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "big"}}]), QUANTITY),
    (plain("Secret", data={"a": "not base64"}), "illegal base64 data at input byte"),
]
VALID: list[Object] = [
    named(deployment(), annotations={"godel.postgres-runbook/replicas": "3", "UPPER.example/A": "any text: {}"}),
    pod(), container(resources={"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1.5Gi"}}),
    container(resources={"limits": {"memory": "1e9", "cpu": 1}}), job(), job("OnFailure"), cron_job(),
    cron_job(schedule="@daily", timeZone="Europe/Berlin"), cron_job(schedule="*/5 0-6,12 1 jan-mar MON"),
    plain("ConfigMap", data={"a.b-c_d": "1"}),
]  # fmt: skip


def asked(place: Place, wanted: Object) -> Any:
    """Ask for an object, and make nothing."""
    group = wanted["apiVersion"]
    plurals = {"ConfigMap": "configmaps", "Job": "jobs", "CronJob": "cronjobs"}
    plural = plurals.get(wanted["kind"]) or KINDS[wanted["kind"]][1]
    path = place.api.path(plural, api=f"apis/{group}" if "/" in group else f"api/{group}")
    meta = {**wanted["metadata"], "name": wanted["metadata"]["name"]}
    return place.api.request("POST", path, query={"dryRun": "All"}, body={**copy.deepcopy(wanted), "metadata": meta})


def refused(place: Place, wanted: Object) -> tuple[int, str]:
    with pytest.raises(ClusterRefused) as caught:
        asked(place, wanted)
    return int(str(caught.value.details["status"])), caught.value.why


def identity(found: object) -> str:
    return found if isinstance(found, str) and len(found) < 60 else ""


@pytest.mark.parametrize(("wanted", "field", "told"), INVALID, ids=identity)
def test_what_is_wrong_is_refused_as_the_api_server_does(place: Place, wanted: Object, field: str, told: str) -> None:
    status, why = refused(place, wanted)
    if status == 403 and place.standin is None:
        pytest.skip(f"this kubeconfig may not do that at all: {why}")
    assert status == 422
    if place.standin is not None:  # another release has other words
        assert f"{field}: {told}" in why
        assert why.startswith(f"{wanted['kind']}")


@pytest.mark.parametrize(("wanted", "told"), UNREADABLE, ids=identity)
def test_what_cannot_be_read_is_a_bad_request(place: Place, wanted: Object, told: str) -> None:
    status, why = refused(place, wanted)
    assert status == 400
    if place.standin is not None:
        assert told in why
        assert f"cannot be handled as a {wanted['kind']}" in why


@pytest.mark.parametrize("wanted", VALID, ids=lambda wanted: wanted["kind"])
def test_what_is_right_is_taken(place: Place, wanted: Object) -> None:
    assert asked(place, wanted)["kind"] == wanted["kind"]


def test_a_patch_with_a_wrong_key_is_refused_as_a_whole(place: Place) -> None:
    before = place.get("Deployment", place.name)["metadata"].get("annotations")
    with pytest.raises(ApiException) as caught:
        place.patch(place.name, {"metadata": {"annotations": {"a.b_c/d": "3", "right": "1"}}})
    assert caught.value.status == 422
    assert "metadata.annotations: Invalid value" in str(caught.value.body)
    assert place.get("Deployment", place.name)["metadata"].get("annotations") == before


# --- what the kubelet does not start


def as_root(made: Object) -> None:
    made["spec"].pop("securityContext", None)
    made["spec"]["containers"][0]["securityContext"] = {"runAsNonRoot": True}


def with_root(made: Object) -> None:
    as_root(made)
    made["spec"]["containers"][0]["securityContext"]["runAsUser"] = 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (as_root, "CreateContainerConfigError: container has runAsNonRoot and image will run as root"),
        (with_root, "CreateContainerConfigError: container's runAsUser breaks non-root policy"),
    ],
)
def test_a_container_that_must_not_be_root_is_not_created_and_the_reason_is_said_at_once(
    place: Place, change: Callable[[Object], None], told: str
) -> None:
    work = scratch_pod.ScratchPodWork(place.volume, None)
    found = place.get("Pod", place.pod)
    made = scratch_pod.manifest(found, CONTAINER, work, scratch_pod.ScratchPodOptions(), 60)
    change(made)
    with pytest.raises(WorkloadProblem, match="does not start") as caught, scratch_pod.running(place.api, made, 300):
        pass
    assert told in caught.value.why
    name = made["metadata"]["name"]
    place.until(lambda: not is_there(place, name))


def is_there(place: Place, name: str) -> bool:
    try:
        return "deletionTimestamp" not in place.get("Pod", name)["metadata"]
    except ObjectNotFound:
        return False
