"""What the API server refuses: wrong names, missing fields, changes of what cannot change."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.kubernetes.standin import errors, kinds
from tests.kubernetes.standin.kinds import Kind
from tests.kubernetes.standin.matching import Object, selects

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_SUBDOMAIN}')"
)
_SCHEDULE = re.compile(r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|(\S+\s+){4}\S+)$")

Cause = tuple[str, str, str]


def _required(field: str, message: str = "") -> Cause:
    return "FieldValueRequired", f"Required value{': ' if message else ''}{message}", field


def _invalid(field: str, value: object, message: str) -> Cause:
    return "FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {message}", field


def _unsupported(field: str, value: object, *supported: str) -> Cause:
    known = ", ".join(json.dumps(each) for each in supported)
    return (
        "FieldValueNotSupported",
        f"Unsupported value: {json.dumps(value)}: supported values: {known}",
        field,
    )


def check_type(kind: Kind, body: Any) -> None:
    """Refuse what is not an object of this kind."""
    if not isinstance(body, dict):
        raise errors.bad_request("the object provided is unrecognized (must be of type object)")
    version, name = body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind
    if name != kind.kind:
        group = f"{kind.group.partition('.')[0]}." if kind.group else "core."
        message = (
            f'{name} in version "{version.rpartition("/")[2]}" cannot be handled as a {kind.kind}: converting '
            f"({version.replace('/', '.')}.{name}) to ({group}{kind.kind}): unknown conversion"
        )
        raise errors.bad_request(message)
    if version != kind.api_version:
        told = f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
        raise errors.bad_request(told)


def check(kind: Kind, item: Object, before: Object | None = None) -> None:
    """Refuse an invalid new object, or an invalid new state."""
    causes = list(_name(kind, item))
    rule = _RULES.get(kind)
    if rule:
        causes += rule(item, before)
    if causes:
        raise errors.invalid(kind.group, kind.kind, item["metadata"].get("name", ""), *causes)


def _name(kind: Kind, item: Object) -> Iterator[Cause]:
    name = item["metadata"].get("name") or ""
    if not name:
        yield _required("metadata.name", "name or generateName is required")
    elif kind.group != kinds.RBAC_GROUP and not re.fullmatch(_SUBDOMAIN, name):
        yield _invalid("metadata.name", name, _NAME_RULE)


def _containers(path: str, spec: dict[str, Any]) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield _required(f"{path}.containers")
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    for index, container in enumerate(spec.get("containers") or []):
        where = f"{path}.containers[{index}]"
        for field in ("name", "image"):
            if not container.get(field):
                yield _required(f"{where}.{field}")
        for position, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in volumes:
                field = f"{where}.volumeMounts[{position}].name"
                yield "FieldValueNotFound", f"Not found: {json.dumps(mount.get('name'))}", field


def _template(path: str, template: dict[str, Any], *policies: str) -> Iterator[Cause]:
    spec = template.get("spec") or {}
    yield from _containers(f"{path}.spec", spec)
    policy = spec.get("restartPolicy")
    if policies == ("Always",) and policy in (None, "Always"):
        return
    if policy not in policies:
        field = f"{path}.spec.restartPolicy"
        if policy is None:
            yield _required(field, f"valid values: {', '.join(json.dumps(each) for each in policies)}")
        else:
            yield _unsupported(field, policy, *policies)


def _replicas(item: Object) -> Iterator[Cause]:
    replicas = item["spec"].get("replicas")
    if replicas is not None and replicas < 0:
        yield _invalid("spec.replicas", replicas, "must be greater than or equal to 0")


def _workload(item: Object, before: Object | None) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    item.setdefault("spec", spec)
    template = spec.setdefault("template", {})
    yield from _replicas(item)
    selector, labels = spec.get("selector"), (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        yield _required("spec.selector")
    elif not selects(selector, labels):
        message = "`selector` does not match template `labels`"
        yield _invalid("spec.template.metadata.labels", labels, message)
    if before is not None and selector != before["spec"].get("selector"):
        yield _invalid("spec.selector", selector, "field is immutable")
    claims = [{"name": each["metadata"]["name"]} for each in spec.get("volumeClaimTemplates") or []]
    inner = template.get("spec") or {}
    inner = {**inner, "volumes": [*(inner.get("volumes") or []), *claims]}
    yield from _template("spec.template", {**template, "spec": inner}, "Always")


def _job(item: Object, before: Object | None) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    item.setdefault("spec", spec)
    template = spec.setdefault("template", {})
    yield from _template("spec.template", template, "OnFailure", "Never")
    if before is not None:
        for field in ("template", "selector", "completions"):
            if spec.get(field) != before["spec"].get(field):
                yield _invalid(f"spec.{field}", spec.get(field), "field is immutable")


def _cron_job(item: Object, _before: Object | None) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    item.setdefault("spec", spec)
    schedule = spec.get("schedule") or ""
    if not schedule:
        yield _required("spec.schedule")
    elif not _SCHEDULE.match(schedule):
        found = len(schedule.split())
        message = f"expected exactly 5 fields, found {found}: [{schedule}]"
        yield _invalid("spec.schedule", schedule, message)
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy not in ("Allow", "Forbid", "Replace"):
        yield _unsupported("spec.concurrencyPolicy", policy, "Allow", "Forbid", "Replace")
    template = (spec.setdefault("jobTemplate", {}).setdefault("spec", {})).setdefault("template", {})
    yield from _template("spec.jobTemplate.spec.template", template, "OnFailure", "Never")
    if len(item["metadata"].get("name") or "") > 52:
        yield _invalid("metadata.name", item["metadata"]["name"], "must be no more than 52 characters")


_POD_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def _pod(item: Object, before: Object | None) -> Iterator[Cause]:
    spec = item.get("spec") or {}
    item.setdefault("spec", spec)
    yield from _containers("spec", spec)
    if before is None:
        return

    def fixed(whole: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in whole.items() if name not in _POD_MUTABLE}
        for name in ("containers", "initContainers"):
            if name in kept:
                kept[name] = [{**each, "image": None} for each in kept[name]]
        return kept

    if fixed(spec) != fixed(before["spec"]):
        message = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        yield "FieldValueForbidden", message, "spec"


def _secret(item: Object, before: Object | None) -> Iterator[Cause]:
    for name, value in (item.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            yield _invalid(f"data[{name}]", value, "illegal base64 data")
    if before is not None and before.get("immutable") and item.get("data") != before.get("data"):
        yield "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set", "data"


_RULES: dict[Kind, Callable[[Object, Object | None], Iterator[Cause]]] = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _workload,
    kinds.REPLICA_SET: _workload,
    kinds.STATEFUL_SET: _workload,
    kinds.JOB: _job,
    kinds.CRON_JOB: _cron_job,
    kinds.SECRET: _secret,
}


def check_scale(name: str, replicas: object) -> None:
    """Refuse a scale that cannot be."""
    if not isinstance(replicas, int) or replicas < 0:
        cause = _invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.invalid("autoscaling", "Scale", name, cause)
