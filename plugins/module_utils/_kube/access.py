# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask beforehand whether we have the rights that we need, and name those that we lack.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .._errors import ClusterRefused, ObjectNotFound
from .cluster import Cluster, patiently

# The files with the Roles that a procedure needs.
RIGHTS_URL = "https://github.com/godel/postgres_runbook/blob/main/docs/rbac"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """What one needs to be allowed: each of the `verbs` on a resource, such as `pods/exec`."""

    verbs: tuple[str, ...]
    resource: str
    group: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{' and '.join(self.verbs)} {self.resource}" + (f".{self.group}" if self.group else "")


def rights_for(plural: str | None, name: str | None) -> list[Right]:
    """What it takes to work in a pod of a workload of this kind and name; no kind is a pod, or pods by a selector."""
    found = [Right(("get",), plural, "apps", name or "")] if plural else []
    # A WebSocket is checked as `get` by some releases and as `create` by others, and either alone is then refused.
    streams = [Right(("get", "create"), resource) for resource in ("pods/exec", "pods/portforward")]
    return [*found, Right(("get",), "pods"), Right(("list",), "pods"), *streams]


def refuse_missing(cluster: Cluster, rights: list[Right], grant: str) -> None:
    """Raise ClusterRefused unless all of these are ours; `grant` names the file that gives them."""
    lacking = [replace(right, verbs=tuple(_refused(cluster, right))) for right in rights]
    missing = [str(right) for right in lacking if right.verbs]
    if missing:
        raise ClusterRefused(
            "Rights are missing",
            subject=f"namespace {cluster.namespace}",
            why=", ".join(missing),
            remedy=f"Apply {RIGHTS_URL}/{grant}.yml, and bind its Role to the account that runs this. "
            "Nothing was done.",
            details={"missing": missing},
        )


def _refused(cluster: Cluster, right: Right) -> list[str]:
    return [verb for verb in right.verbs if not _allowed(cluster, right, verb)]


def _allowed(cluster: Cluster, right: Right, verb: str) -> bool:
    resource, dummy, subresource = right.resource.partition("/")
    attributes = {"namespace": cluster.namespace, "verb": verb, "group": right.group, "resource": resource}
    if right.name:
        attributes["name"] = right.name
    if subresource:
        attributes["subresource"] = subresource
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = patiently(lambda: cluster.request("POST", _REVIEWS, body=body))  # it changes nothing
    except ObjectNotFound:
        return True  # no such API here: the request that is refused will say so
    except ClusterRefused as exc:
        if exc.details.get("status") == 403:
            return True
        raise
    return bool(answer["status"]["allowed"])
