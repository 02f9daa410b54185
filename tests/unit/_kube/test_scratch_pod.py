"""What a throwaway pod is made of."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.scratch_pod import (
    ScratchPodOptions,
    ScratchPodWork,
    manifest,
)

MIB = 1024 * 1024


def server(volume: dict[str, Any] | None = None, mount: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of a server whose volume `data` is at /backups."""
    mounts = [{"name": "data", "mountPath": "/backups", **(mount or {})}, {"name": "other", "mountPath": "/back"}]
    container = {"name": "postgres", "image": "postgres:15", "volumeMounts": mounts, **spec.pop("container", {})}
    source = {"persistentVolumeClaim": {"claimName": "backups"}} if volume is None else volume
    volumes = [{"name": "data", **source}, {"name": "other", "nfs": {"server": "a", "path": "/b"}}]
    sidecar = {"name": "sidecar", "image": "sidecar:1"}
    body = {"nodeName": "node-7", "containers": [sidecar, container], "volumes": volumes, **spec}
    return {"metadata": {"name": "pg-0", "labels": {"app": "postgres"}}, "spec": body}


def made(pod: dict[str, Any], path: str = "/backups/x", space: int | None = None, **wanted: Any) -> Any:
    return manifest(pod, "postgres", ScratchPodWork(path, space), ScratchPodOptions(**wanted), 300)


def volumes(pod: Any) -> dict[str, Any]:
    return {volume["name"]: volume for volume in pod["spec"]["volumes"]}


def test_it_reads_the_claim_beside_the_server_and_has_no_label_of_it() -> None:
    pod = made(server())
    assert volumes(pod)["backups"] == {
        "name": "backups",
        "persistentVolumeClaim": {"claimName": "backups", "readOnly": True},
    }
    [container] = pod["spec"]["containers"]
    assert container["volumeMounts"][1] == {"name": "backups", "readOnly": True, "mountPath": "/backups"}
    assert container["image"] == "postgres:15"
    assert "app" not in pod["metadata"]["labels"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["restartPolicy"] == "Never"
    [term] = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-7"]}]}
    assert {"cpu", "memory"} == set(container["resources"]["limits"])


def test_the_innermost_mount_counts_and_a_sub_path_is_kept() -> None:
    pod = made(server(mount={"mountPath": "/back/ups", "subPath": "pg"}), "/back/ups/godel")
    assert pod["spec"]["containers"][0]["volumeMounts"][1] == {
        "name": "backups",
        "readOnly": True,
        "mountPath": "/back/ups",
        "subPath": "pg",
    }
    outer = made(server(mount={"mountPath": "/back/ups"}), "/back/upside")
    assert "nfs" in volumes(outer)["backups"]
    assert "affinity" not in outer["spec"]


def test_a_volume_of_the_root_directory_counts() -> None:
    pod = made(server(mount={"mountPath": "/"}), "/anywhere")
    assert pod["spec"]["containers"][0]["volumeMounts"][1]["mountPath"] == "/"


def test_a_claim_that_the_pod_owns_has_the_name_that_kubernetes_gives_it() -> None:
    pod = made(server({"ephemeral": {"volumeClaimTemplate": {}}}))
    assert volumes(pod)["backups"]["persistentVolumeClaim"] == {"claimName": "pg-0-data", "readOnly": True}


def test_a_folder_of_the_node_is_mounted_there_and_read_only() -> None:
    pod = made(server({"hostPath": {"path": "/srv", "type": "Directory"}}))
    assert volumes(pod)["backups"]["hostPath"] == {"path": "/srv", "type": "Directory"}
    assert "affinity" in pod["spec"]


@pytest.mark.parametrize(
    ("pod", "path", "why"),
    [
        (server({"emptyDir": {}}), "/backups/x", "emptyDir"),
        (server(), "/var/backups", "the container's own file system"),
        (server(mount={"subPathExpr": "$(POD)"}), "/backups/x", "persistentVolumeClaim"),
    ],
)
def test_what_no_other_pod_can_see_is_refused(pod: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(InvalidInput, match="scratch: pod-local") as caught:
        made(pod, path)
    assert why in caught.value.why


def test_accounts_and_tolerations_are_those_of_the_server() -> None:
    same = {
        "securityContext": {"fsGroup": 26, "runAsUser": 26},
        "tolerations": [{"key": "db"}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    own = {"securityContext": {"allowPrivilegeEscalation": False}}
    pod = made(server(container=own, serviceAccountName="postgres", priorityClassName="high", **same))
    assert {name: pod["spec"][name] for name in same} == same
    assert pod["spec"]["containers"][0]["securityContext"] == own["securityContext"]
    assert "serviceAccountName" not in pod["spec"]
    assert "priorityClassName" not in pod["spec"]


def test_the_space_is_requested_and_limited() -> None:
    pod = made(server(), space=10 * MIB)
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["requests"]["ephemeral-storage"] == "11Mi"
    assert resources["limits"]["ephemeral-storage"] == "21Mi"
    assert volumes(pod)["scratch"]["emptyDir"] == {"sizeLimit": "21Mi"}


def test_what_the_operator_wants_goes_before() -> None:
    claim = {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}
    resources = {"limits": {"memory": "8Gi"}, "requests": {"memory": "4Gi"}}
    pod = made(server(), space=10 * MIB, image="postgres:17", resources=resources, volume=claim)
    container = pod["spec"]["containers"][0]
    assert container["image"] == "postgres:17"
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "8Gi"}
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "4Gi"}
    assert volumes(pod)["scratch"] == {"name": "scratch", **claim}
