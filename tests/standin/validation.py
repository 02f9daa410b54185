"""What the API server refuses: wrong names and values, missing fields, changes of what cannot change.

The rules are those of Kubernetes 1.32: `names` has what holds for all objects, `validation_pods` the specs of pods,
`validation_batch` Jobs and CronJobs. What cannot be read at all is refused with 400, what can be and is wrong with 422.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.standin import errors, kinds, names, quantities, validation_batch, validation_pods
from tests.standin.causes import Cause, forbidden, invalid, negative, required, too_long, unsupported
from tests.standin.kinds import Kind
from tests.standin.matching import Object, selects

_DATA_BYTES = 1024 * 1024
_TEXTS = ("labels", "annotations", "nodeSelector", "matchLabels")
_NAME_RULES: Mapping[Kind, Callable[[str], list[str]]] = {
    kinds.NAMESPACE: names.label,
    kinds.BY_PATH["", "v1", "services"]: names.label_1035,
    kinds.ROLE: names.path_segment,
    kinds.ROLE_BINDING: names.path_segment,
    kinds.CLUSTER_ROLE: names.path_segment,
    kinds.CLUSTER_ROLE_BINDING: names.path_segment,
}


# --- what cannot be read


def check_type(kind: Kind, body: Any) -> None:
    """Refuse what is not an object of this kind, or has values of other types than it may have."""
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
    check_values(kind, body)


def check_values(kind: Kind, body: Any) -> None:
    """Refuse an object with values of other types than they may have, as its decoding does."""
    for told in _unreadable(body, kind is kinds.SECRET):
        raise errors.bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {told}')


def _unreadable(found: Any, is_secret: bool) -> Iterator[str]:
    if isinstance(found, list):
        for each in found:
            yield from _unreadable(each, False)
    if not isinstance(found, dict):
        return
    for name, value in found.items():
        if name in _TEXTS and isinstance(value, dict):
            yield from (_not_a_text(name, each) for each in value.values() if not isinstance(each, (str, type(None))))
        elif name in ("limits", "requests") and isinstance(value, dict):
            yield from (told for each in value.values() if (told := _no_quantity(each)))
        elif name == "sizeLimit":
            yield from filter(None, [_no_quantity(value)])
        elif name == "data" and is_secret and isinstance(value, dict):
            yield from (told for each in value.values() if (told := _no_base64(each)))
        else:
            yield from _unreadable(value, False)


def _not_a_text(field: str, value: object) -> str:
    kind = {bool: "bool", int: "number", float: "number", list: "array", dict: "object"}.get(type(value), "value")
    return f"json: cannot unmarshal {kind} into Go struct field ObjectMeta.metadata.{field} of type string"


def _no_quantity(value: object) -> str:
    try:
        quantities.amount(value)
    except ValueError as exc:
        return str(exc)
    return ""


def _no_base64(value: object) -> str:
    try:
        base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        return "illegal base64 data at input byte 0"
    return ""


# --- what is wrong


def check(kind: Kind, item: Object, before: Object | None = None) -> None:
    """Refuse an invalid new object, or an invalid new state."""
    causes = list(_metadata(kind, item["metadata"]))
    if kind in _WITH_SPEC:
        item["spec"] = item.get("spec") or {}
    rule = _RULES.get(kind)
    if rule:
        causes += rule(item, before)
    if causes:
        raise errors.invalid(kind.group, kind.kind, item["metadata"].get("name", ""), *causes)


def _metadata(kind: Kind, meta: Mapping[str, Any]) -> Iterator[Cause]:
    name = meta.get("name") or ""
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        rule = _NAME_RULES.get(kind, names.subdomain)
        yield from (invalid("metadata.name", name, each) for each in rule(name))
    yield from names.labels("metadata.labels", meta.get("labels"))
    yield from names.annotations("metadata.annotations", meta.get("annotations"))
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                told = "version must not be empty" if field == "apiVersion" else "must not be empty"
                yield invalid(f"metadata.ownerReferences[{index}].{field}", owner.get(field) or "", told)


def _selector(field: str, found: Mapping[str, Any]) -> Iterator[Cause]:
    yield from names.labels(f"{field}.matchLabels", found.get("matchLabels"))
    for index, each in enumerate(found.get("matchExpressions") or []):
        where, operator = f"{field}.matchExpressions[{index}]", each.get("operator")
        if operator in ("In", "NotIn"):
            if not each.get("values"):
                yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist"):
            if each.get("values"):
                told = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield forbidden(f"{where}.values", told)
        else:
            yield invalid(f"{where}.operator", operator or "", "not a valid selector operator")
        yield from (invalid(f"{where}.key", each.get("key", ""), told) for told in names.qualified(each.get("key", "")))


def _workload(item: Object, before: Object | None) -> Iterator[Cause]:
    spec = item["spec"]
    template = spec.setdefault("template", {})
    yield from negative("spec.replicas", spec.get("replicas"))
    selector, labels = spec.get("selector"), (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        yield required("spec.selector")
    else:
        yield from _selector("spec.selector", selector)
        if not selects(selector, labels):
            yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if before is not None and selector != before["spec"].get("selector"):
        yield invalid("spec.selector", selector, "field is immutable")
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        yield forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    claims = [{"name": each["metadata"]["name"], "emptyDir": {}} for each in spec.get("volumeClaimTemplates") or []]
    inner = template.get("spec") or {}
    inner = {**inner, "volumes": [*(inner.get("volumes") or []), *claims]}
    yield from validation_pods.template("spec.template", {**template, "spec": inner}, "Always")


_POD_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def _pod(item: Object, before: Object | None) -> Iterator[Cause]:
    spec = item["spec"]
    yield from validation_pods.spec("spec", spec)
    if before is None:
        return

    def fixed(whole: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in whole.items() if name not in _POD_MUTABLE}
        for name in ("containers", "initContainers"):
            if name in kept:
                kept[name] = [{**each, "image": None} for each in kept[name]]
        return kept

    if fixed(spec) != fixed(before["spec"]):
        fields = (
            "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
            "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
            "(allow it to be set to 1 if it was previously negative)"
        )
        yield forbidden("spec", f"pod updates may not change fields other than {fields}")


def _data(item: Object, before: Object | None) -> Iterator[Cause]:
    size = 0
    for field in ("data", "stringData", "binaryData"):
        for name, value in (item.get(field) or {}).items():
            if field != "stringData":  # which is in data when it is looked at
                yield from (invalid(f"{field}[{name}]", name, each) for each in names.config_key(name))
            size += len(name) + len(str(value).encode())
    if size > _DATA_BYTES:
        yield too_long("", _DATA_BYTES)
    if before is not None and before.get("immutable") and item.get("data") != before.get("data"):
        yield forbidden("data", "field is immutable when `immutable` is set")


def _role(item: Object, _before: Object | None) -> Iterator[Cause]:
    for index, rule in enumerate(item.get("rules") or []):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            yield required(f"{where}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            continue
        if not rule.get("apiGroups"):
            yield required(f"{where}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{where}.resources", "resource rules must supply at least one resource")


def _binding(item: Object, before: Object | None) -> Iterator[Cause]:
    role = item.get("roleRef") or {}
    if role.get("apiGroup", kinds.RBAC_GROUP) != kinds.RBAC_GROUP:
        yield unsupported("roleRef.apiGroup", role["apiGroup"], kinds.RBAC_GROUP)
    if role.get("kind") not in ("Role", "ClusterRole"):
        yield unsupported("roleRef.kind", role.get("kind", ""), "Role", "ClusterRole")
    if not role.get("name"):
        yield required("roleRef.name")
    if before is not None and role != before.get("roleRef"):
        yield invalid("roleRef", role, "cannot change roleRef")
    for index, subject in enumerate(item.get("subjects") or []):
        yield from _subject(f"subjects[{index}]", subject)


def _subject(field: str, found: Mapping[str, Any]) -> Iterator[Cause]:
    name = found.get("name")
    if not name:
        yield required(f"{field}.name")
    if found.get("kind") == "ServiceAccount":
        yield from (invalid(f"{field}.name", name, each) for each in (names.subdomain(name) if name else ()))
        if not found.get("namespace"):
            yield required(f"{field}.namespace")
    elif found.get("kind") not in ("User", "Group"):
        yield unsupported(f"{field}.kind", found.get("kind", ""), "ServiceAccount", "User", "Group")


def _claim(item: Object, _before: Object | None) -> Iterator[Cause]:
    spec = item["spec"]
    modes = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
    if not spec.get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    for each in spec.get("accessModes") or []:
        if each not in modes:
            yield unsupported("spec.accessModes", each, *modes)
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        yield required("spec.resources[storage]")
    elif quantities.amount(storage) <= 0:
        yield invalid("spec.resources[storage]", str(storage), "must be greater than zero")


_RULES: dict[Kind, Callable[[Object, Object | None], Iterator[Cause]]] = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _workload,
    kinds.REPLICA_SET: _workload,
    kinds.STATEFUL_SET: _workload,
    kinds.JOB: validation_batch.job,
    kinds.CRON_JOB: validation_batch.cron_job,
    kinds.SECRET: _data,
    kinds.CONFIG_MAP: _data,
    kinds.ROLE: _role,
    kinds.CLUSTER_ROLE: _role,
    kinds.ROLE_BINDING: _binding,
    kinds.CLUSTER_ROLE_BINDING: _binding,
    kinds.BY_PATH["", "v1", "persistentvolumeclaims"]: _claim,
}
_WITH_SPEC = (
    kinds.POD,
    kinds.DEPLOYMENT,
    kinds.REPLICA_SET,
    kinds.STATEFUL_SET,
    kinds.JOB,
    kinds.CRON_JOB,
    kinds.BY_PATH["", "v1", "persistentvolumeclaims"],
)


def check_scale(name: str, replicas: object) -> None:
    """Refuse a scale that cannot be."""
    if not isinstance(replicas, int) or replicas < 0:
        cause = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.invalid("autoscaling", "Scale", name, cause)
