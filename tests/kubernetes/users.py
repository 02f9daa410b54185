"""A user with fewer rights than the tests themselves: a service account with a Role and a token that can be revoked."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ClusterRefused
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import Cluster, ClusterOptions
from tests.kubernetes.link import cluster_of, write
from tests.standin.rbac import parse_rules
from tests.support.workspace import workspace

if TYPE_CHECKING:
    from tests.kubernetes.place import Place

_RBAC = "rbac.authorization.k8s.io"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_TOKEN_S = 7200
_SURE = 3  # API servers learn of a new Role one by one
_numbers = itertools.count(1)


@dataclass(frozen=True)
class User:
    """A service account; its token is in a file that the kubeconfig names, and ends with a Secret."""

    place: Place
    name: str
    kubeconfig: str
    token_file: Path

    def renew(self) -> None:
        """Put a new token into the file."""
        api, meta = self.place.api, {"name": self.name}
        secret = self.place.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta})
        bound = {"apiVersion": "v1", "kind": "Secret", "name": self.name, "uid": secret["metadata"]["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_S, "boundObjectRef": bound},
        }
        answer = api.request("POST", f"{api.path('serviceaccounts', self.name)}/token", body=body)
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(answer["status"]["token"])

    def end_token(self) -> None:
        """End the token: it is refused when this returns. The file stays as it is."""
        self.place.delete("Secret", self.name)
        time.sleep(self.place.pace.token_s)
        self.place.until(lambda: all(self._is_refused() for dummy in range(_SURE)))

    def _is_refused(self) -> bool:
        try:
            self.may("get", {"apiGroups": [""], "resources": ["pods"]})
        except ClusterRefused as exc:
            return exc.details.get("status") == 401
        return False

    def may(self, verb: str, rule: Mapping[str, Any]) -> bool:
        """Whether the API server lets it do this with the first resource of a rule."""
        resource, dummy, subresource = rule["resources"][0].partition("/")
        asked = {"namespace": self.place.namespace, "verb": verb, "resource": resource, "group": rule["apiGroups"][0]}
        if subresource:
            asked["subresource"] = subresource
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        api = Cluster(ClusterOptions(self.place.namespace, kubeconfig=self.kubeconfig))
        try:
            answer = api.request("POST", _REVIEWS, body={**kind, "spec": {"resourceAttributes": asked}})
        finally:
            api.close()
        return bool(answer["status"]["allowed"])


def new_user(place: Place, *rules: str | Mapping[str, Any]) -> User:
    """Make one with just these rights, in words as ``get,list pods`` or as in a Role.

    The test is skipped where the tests may not grant rights, or where every user has them.
    """
    name = f"{place.name}-user-{next(_numbers)}"
    parsed = [rule for each in rules for rule in (parse_rules(each) if isinstance(each, str) else [dict(each)])]
    meta = {"name": name}
    try:
        place.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        place.create({"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": meta, "rules": parsed})
        place.create(
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place.namespace}],
            }
        )
        user = User(place, name, str(workspace() / f"{name}.kubeconfig"), workspace() / f"{name}.token")
        user.renew()
    except ClusterRefused as exc:
        if exc.details.get("status") != 403:
            raise
        pytest.skip(f"this kubeconfig may not make users and give them rights: {exc.message}")
    context = {"cluster": "x", "user": "x", "namespace": place.namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": cluster_of(place.kubeconfig)}],
        "users": [{"name": "x", "user": {"tokenFile": str(user.token_file)}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    write(Path(user.kubeconfig), content)
    wanted = [(verb, rule) for rule in parsed for verb in rule["verbs"]]
    place.until(lambda: all(user.may(*each) for dummy in range(_SURE) for each in wanted))
    if user.may("delete", {"apiGroups": [""], "resources": ["secrets"]}):
        pytest.skip("every service account may do everything in this cluster")
    return user
