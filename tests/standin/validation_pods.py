"""What the API server refuses in the spec of a pod, alone or as a template.

pkg/apis/core/validation/validation.go of Kubernetes 1.32. Volumes of other kinds than those here are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.standin import names, quantities
from tests.standin.causes import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    negative,
    not_found,
    outside,
    required,
    unsupported,
)

POLICIES = ("Always", "OnFailure", "Never")
_MOST_SECONDS = 2**31 - 1
_MOST_ID = 2**32 - 1
# The fields without which a source is none, by the kind of the volume.
_SOURCES: dict[str, tuple[str, ...]] = {
    "hostPath": ("path",),
    "persistentVolumeClaim": ("claimName",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "nfs": ("server", "path"),
    "emptyDir": (),
    "projected": (),
    "downwardAPI": (),
    "ephemeral": (),
    "csi": ("driver",),
}
_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def template(field: str, found: dict[str, Any], *policies: str) -> Iterator[Cause]:
    """What is wrong with a template of pods; `policies` are the values of restartPolicy that its owner allows."""
    meta = found.get("metadata") or {}
    yield from names.labels(f"{field}.labels", meta.get("labels"))
    yield from names.annotations(f"{field}.annotations", meta.get("annotations"))
    inner = found.get("spec") or {}
    yield from spec(f"{field}.spec", inner)
    policy, where = inner.get("restartPolicy") or "Always", f"{field}.spec.restartPolicy"
    if policy in policies or policy not in POLICIES:
        return  # an unknown policy was reported above
    if "Always" in policies:
        yield unsupported(where, policy, *policies)
    else:
        known = ", ".join(f'"{each}"' for each in policies)
        yield required(where, f"valid values: {known}")


def spec(field: str, found: dict[str, Any]) -> Iterator[Cause]:
    """What is wrong with the spec of a pod."""
    volumes = found.get("volumes") or []
    yield from _volumes(f"{field}.volumes", volumes)
    known = [each.get("name") for each in volumes]
    if not found.get("containers"):
        yield required(f"{field}.containers")
    taken: list[str] = []
    for group in ("initContainers", "containers"):
        for index, container in enumerate(found.get(group) or []):
            where = f"{field}.{group}[{index}]"
            yield from _container(where, container, known)
            if container.get("name") in taken:
                yield duplicate(f"{where}.name", container["name"])
            taken.append(container.get("name"))
    policy = found.get("restartPolicy") or "Always"
    if policy not in POLICIES:
        yield unsupported(f"{field}.restartPolicy", policy, *POLICIES)
    yield from outside(f"{field}.activeDeadlineSeconds", found.get("activeDeadlineSeconds"), 1, _MOST_SECONDS)
    yield from names.labels(f"{field}.nodeSelector", found.get("nodeSelector"))
    for name in ("serviceAccountName", "nodeName"):
        if found.get(name):
            yield from (invalid(f"{field}.{name}", found[name], each) for each in names.subdomain(found[name]))
    for index, toleration in enumerate(found.get("tolerations") or []):
        yield from _toleration(f"{field}.tolerations[{index}]", toleration)
    context = found.get("securityContext") or {}
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from outside(f"{field}.securityContext.{name}", context.get(name), 0, _MOST_ID)


def _container(field: str, found: dict[str, Any], volumes: list[Any]) -> Iterator[Cause]:
    name, image = found.get("name"), found.get("image") or ""
    if not name:
        yield required(f"{field}.name")
    else:
        yield from (invalid(f"{field}.name", name, each) for each in names.label(name))
    if not image:
        yield required(f"{field}.image")
    elif image != image.strip():
        yield invalid(f"{field}.image", image, "must not have leading or trailing whitespace")
    policy = found.get("imagePullPolicy")
    if policy not in (None, "", "Always", "IfNotPresent", "Never"):
        yield unsupported(f"{field}.imagePullPolicy", policy, "Always", "IfNotPresent", "Never")
    yield from _ports(f"{field}.ports", found.get("ports") or [])
    yield from _environment(field, found)
    yield from _mounts(f"{field}.volumeMounts", found.get("volumeMounts") or [], volumes)
    yield from _resources(f"{field}.resources", found.get("resources") or {})
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if found.get(probe) is not None:
            yield from _probe(f"{field}.{probe}", found[probe])
    context = found.get("securityContext") or {}
    for each in ("runAsUser", "runAsGroup"):
        yield from outside(f"{field}.securityContext.{each}", context.get(each), 0, _MOST_ID)
    if context.get("allowPrivilegeEscalation") is False and context.get("privileged"):
        told = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield invalid(f"{field}.securityContext", False, told)


def _ports(field: str, ports: list[dict[str, Any]]) -> Iterator[Cause]:
    for index, port in enumerate(ports):
        where = f"{field}[{index}]"
        if port.get("name"):
            yield from (invalid(f"{where}.name", port["name"], each) for each in names.port_name(port["name"]))
        if not port.get("containerPort"):
            yield required(f"{where}.containerPort")
        yield from outside(f"{where}.containerPort", port.get("containerPort") or None, 1, 65535)
        yield from outside(f"{where}.hostPort", port.get("hostPort") or None, 1, 65535)
        if port.get("protocol", "TCP") not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{where}.protocol", port["protocol"], "SCTP", "TCP", "UDP")
    yield from names.once(f"{field}[{{}}].name", [port.get("name", "") for port in ports])


def _environment(field: str, container: dict[str, Any]) -> Iterator[Cause]:
    for index, each in enumerate(container.get("env") or []):
        where, name = f"{field}.env[{index}]", each.get("name")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from (invalid(f"{where}.name", name, told) for told in names.environment_variable(name))
        source = each.get("valueFrom")
        if source is None:
            continue
        if each.get("value"):
            yield invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
        elif not source:
            sources = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            yield invalid(f"{where}.valueFrom", "", f"must specify one of: {sources}")
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if kind in source:
                yield from _key_of(f"{where}.valueFrom.{kind}", source[kind])
    for index, each in enumerate(container.get("envFrom") or []):
        where = f"{field}.envFrom[{index}]"
        if not each.get("configMapRef") and not each.get("secretRef"):
            yield invalid(where, "", "must specify one of: `configMapRef` or `secretRef`")


def _key_of(field: str, selector: dict[str, Any]) -> Iterator[Cause]:
    if not selector.get("name"):
        yield required(f"{field}.name")
    if not selector.get("key"):
        yield required(f"{field}.key")
    else:
        yield from (invalid(f"{field}.key", selector["key"], each) for each in names.config_key(selector["key"]))


def _mounts(field: str, mounts: list[dict[str, Any]], volumes: list[Any]) -> Iterator[Cause]:
    paths: list[str] = []
    for index, mount in enumerate(mounts):
        where, path = f"{field}[{index}]", mount.get("mountPath") or ""
        if not mount.get("name"):
            yield required(f"{where}.name")
        if mount.get("name") not in volumes:
            yield not_found(f"{where}.name", mount.get("name"))
        if not path:
            yield required(f"{where}.mountPath")
        elif path in paths:
            yield invalid(f"{where}.mountPath", path, "must be unique")
        paths.append(path)
        below = mount.get("subPath") or mount.get("subPathExpr") or ""
        inner = f"{where}.{'subPath' if mount.get('subPath') else 'subPathExpr'}"
        if below.startswith("/"):
            yield invalid(inner, below, "must be a relative path")
        if ".." in below.split("/"):
            yield invalid(inner, below, "must not contain '..'")
        if mount.get("subPath") and mount.get("subPathExpr"):
            yield invalid(
                f"{where}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
            )


def _resources(field: str, found: dict[str, Any]) -> Iterator[Cause]:
    limits = found.get("limits") or {}
    for group in ("limits", "requests"):
        for name, quantity in (found.get(group) or {}).items():
            yield from _resource(f"{field}.{group}[{name}]", name, quantity)
            if group == "requests" and name in limits and quantities.amount(quantity) > quantities.amount(limits[name]):
                told = f"must be less than or equal to {name} limit of {limits[name]}"
                yield invalid(f"{field}.requests", str(quantity), told)


def _resource(field: str, name: str, quantity: object) -> Iterator[Cause]:
    yield from (invalid(field, name, each) for each in names.qualified(name))
    if "/" not in name and name not in _RESOURCES and not name.startswith("hugepages-"):
        yield invalid(field, name, "must be a standard resource type or fully qualified")
        yield invalid(field, name, "must be a standard resource for containers")
    if quantities.amount(quantity) < 0:
        yield invalid(field, str(quantity), "must be greater than or equal to 0")


def _probe(field: str, found: dict[str, Any]) -> Iterator[Cause]:
    if not any(found.get(kind) for kind in ("exec", "httpGet", "tcpSocket", "grpc")):
        yield required(field, "must specify a handler type")
    if "exec" in found and not (found["exec"] or {}).get("command"):
        yield required(f"{field}.exec.command")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from negative(f"{field}.{name}", found.get(name))


def _toleration(field: str, found: dict[str, Any]) -> Iterator[Cause]:
    key, operator = found.get("key"), found.get("operator") or "Equal"
    if key:
        yield from (invalid(f"{field}.key", key, each) for each in names.qualified(key))
    elif operator != "Exists":
        yield invalid(
            f"{field}.operator", operator, "operator must be Exists when `key` is empty, which means "
            '"match all values and all keys"',
        )  # fmt: skip
    if operator not in ("Equal", "Exists"):
        yield unsupported(f"{field}.operator", operator, "Equal", "Exists")
    if operator == "Exists" and found.get("value"):
        yield invalid(f"{field}.operator", found["value"], "value must be empty when `operator` is 'Exists'")
    if found.get("tolerationSeconds") is not None and found.get("effect") != "NoExecute":
        yield invalid(f"{field}.effect", found.get("effect", ""), "must be 'NoExecute' when `tolerationSeconds` is set")


def _volumes(field: str, volumes: list[dict[str, Any]]) -> Iterator[Cause]:
    for index, volume in enumerate(volumes):
        where, name = f"{field}[{index}]", volume.get("name")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from (invalid(f"{where}.name", name, each) for each in names.label(name))
        sources = [kind for kind in volume if kind != "name" and volume[kind] is not None]
        for kind in sources[1:]:
            yield forbidden(f"{where}.{kind}", "may not specify more than 1 volume type")
        for kind in sources[:1]:
            source = volume[kind]
            yield from (required(f"{where}.{kind}.{each}") for each in _SOURCES.get(kind, ()) if not source.get(each))
        host = volume.get("hostPath") or {}
        if ".." in str(host.get("path", "")).split("/"):
            yield invalid(f"{where}.hostPath.path", host["path"], "must not contain '..'")
        shared = volume.get("nfs") or {}
        if shared.get("path") and not shared["path"].startswith("/"):
            yield invalid(f"{where}.nfs.path", shared["path"], "must be an absolute path")
        size = (volume.get("emptyDir") or {}).get("sizeLimit")
        if size is not None and quantities.amount(size) < 0:
            yield forbidden(f"{where}.emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity")
    yield from names.once(f"{field}[{{}}].name", [each.get("name", "") for each in volumes])
