"""What a client reads first: groups, versions, resources, and just enough OpenAPI for kubectl."""

from __future__ import annotations

from typing import Any

from tests.standin.kinds import GROUPS, KINDS, Kind

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.13",
    "gitCommit": "standin",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.24.11",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def versions(address: str) -> dict[str, Any]:
    """Return the answer to /api."""
    where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where}


def group(name: str, version: str) -> dict[str, Any]:
    """Return one group, as /apis lists it and /apis/GROUP answers."""
    described = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [described], "preferredVersion": described}


def groups() -> dict[str, Any]:
    """Return the answer to /apis."""
    listed = [group(name, version) for name, version in GROUPS]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def resources(group_name: str, version: str) -> dict[str, Any] | None:
    """Return the answer to /api/v1 or /apis/GROUP/VERSION, or None when there is no such group."""
    kinds = [kind for kind in KINDS if (kind.group, kind.version) == (group_name, version)]
    if not kinds:
        return None
    answer: dict[str, Any] = {"kind": "APIResourceList"}
    if group_name:
        answer["apiVersion"] = "v1"
    answer["groupVersion"] = kinds[0].api_version
    answer["resources"] = [entry for kind in kinds for entry in _entries(kind)]
    return answer


def _entries(kind: Kind) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.in_all:
        entry["categories"] = ["all"]
    if kind.storage_hash:
        entry["storageVersionHash"] = kind.storage_hash
    entries = [entry]
    for name, part in sorted(kind.subresources.items()):
        described: dict[str, Any] = {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
        }
        if part.group:
            described |= {"group": part.group, "version": part.version}
        entries.append({**described, "kind": part.kind, "verbs": list(part.verbs)})
    return entries


def openapi_index() -> dict[str, Any]:
    """Return the answer to /openapi/v3."""
    roots = dict.fromkeys(kind.root.lstrip("/") for kind in KINDS)
    return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}?hash=0"} for root in roots}}


def openapi(root: str) -> dict[str, Any] | None:
    """Return the paths of one group: kubectl looks there whether the server validates fields."""
    kinds = [kind for kind in KINDS if kind.root.lstrip("/") == root]
    if not kinds:
        return None
    paths = {}
    for kind in kinds:
        name = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        namespace = "/namespaces/{namespace}" if kind.namespaced else ""
        paths[f"{kind.root}{namespace}/{kind.plural}/{{name}}"] = {
            "patch": {
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": name,
                "parameters": [
                    {"name": "dryRun", "in": "query", "schema": {"type": "string"}},
                    {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}},
                ],
                "responses": {"200": {"description": "OK"}},
            }
        }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.32.13"}, "paths": paths}
