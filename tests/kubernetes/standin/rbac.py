"""Who asks, and what they may: tokens, and Roles as they are stored."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.standin import errors, kinds
from tests.kubernetes.standin.kinds import Kind
from tests.kubernetes.standin.store import Store

ADMINISTRATORS = "system:masters"


@dataclass(frozen=True)
class Identity:
    """A user as RBAC sees it."""

    user: str
    groups: tuple[str, ...] = ()

    @property
    def anonymous(self) -> bool:
        return self.user == "system:anonymous"


ANONYMOUS = Identity("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True)
class Wish:
    """What a request wants to do, as RBAC looks at it."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    name: str = ""
    namespace: str = ""

    @property
    def whole_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def service_account(namespace: str, name: str) -> Identity:
    """Return the identity of a service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return Identity(f"system:serviceaccount:{namespace}:{name}", groups)


class Access:
    """The tokens that are valid, and the Roles that apply."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tokens: dict[str, tuple[Identity, float | None]] = {}

    def mint(self, identity: Identity) -> str:
        """Return a new token of this identity."""
        token = f"standin.{secrets.token_urlsafe(24)}"
        self._tokens[token] = identity, None
        return token

    def expire(self, user: str, after_s: float) -> None:
        """Let every token of a user end in so many seconds."""
        end = time.monotonic() + after_s
        for token, (identity, dummy) in list(self._tokens.items()):
            if identity.user == user:
                self._tokens[token] = identity, end

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """Return who sent these headers; raises 401 for a token that is unknown or has ended."""
        kind, dummy, token = headers.get("Authorization", "").partition(" ")
        if not kind:
            return ANONYMOUS
        identity, end = self._tokens.get(token.strip(), (None, None))
        if kind.lower() != "bearer" or identity is None or (end is not None and time.monotonic() >= end):
            raise errors.unauthorized()
        return identity

    def demand(self, identity: Identity, kind: Kind, wish: Wish) -> None:
        """Raise 403 unless the wish is granted."""
        if self.why(identity, wish) is None:
            raise errors.forbidden(kind, wish.name, identity.user, wish.verb, wish.subresource, wish.namespace)

    def why(self, identity: Identity, wish: Wish) -> str | None:
        """Return the reason for which a wish is granted, or None."""
        if ADMINISTRATORS in identity.groups:
            return ""
        for role, binding, rules in self._rules(identity, wish.namespace):
            if any(_covers(rule, wish) for rule in rules):
                return f"RBAC: allowed by {binding} of {role} to {_subject(identity)}"
        return None

    def _rules(self, identity: Identity, namespace: str) -> Iterator[tuple[str, str, list[Any]]]:
        for binding in self._store.select(kinds.CLUSTER_ROLE_BINDING):
            if _binds(binding, identity):
                named = f'ClusterRoleBinding "{binding["metadata"]["name"]}"'
                yield from self._role(binding, named)
        if namespace:
            for binding in self._store.select(kinds.ROLE_BINDING, namespace):
                if _binds(binding, identity):
                    yield from self._role(binding, f'RoleBinding "{binding["metadata"]["name"]}/{namespace}"')

    def _role(self, binding: dict[str, Any], named: str) -> Iterator[tuple[str, str, list[Any]]]:
        reference = binding["roleRef"]
        cluster = reference["kind"] == "ClusterRole"
        kind = kinds.CLUSTER_ROLE if cluster else kinds.ROLE
        role = self._store.find(kind, binding["metadata"].get("namespace", ""), reference["name"])
        if role is not None:
            yield f'{kind.kind} "{reference["name"]}"', named, role.get("rules") or []


def _subject(identity: Identity) -> str:
    if identity.user.startswith("system:serviceaccount:"):
        dummy, dummy, namespace, name = identity.user.split(":")
        return f'ServiceAccount "{name}/{namespace}"'
    return f'User "{identity.user}"'


def _binds(binding: dict[str, Any], identity: Identity) -> bool:
    for subject in binding.get("subjects") or []:
        if subject["kind"] == "ServiceAccount":
            namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
            if identity.user == f"system:serviceaccount:{namespace}:{subject['name']}":
                return True
        elif (subject["kind"] == "User" and identity.user == subject["name"]) or (
            subject["kind"] == "Group" and subject["name"] in identity.groups
        ):
            return True
    return False


def _covers(rule: dict[str, Any], wish: Wish) -> bool:
    def has(field: str, *values: str) -> bool:
        return bool({"*", *values} & set(rule.get(field) or []))

    resources = (wish.whole_resource, f"*/{wish.subresource}" if wish.subresource else wish.resource)
    names = rule.get("resourceNames") or []
    return (
        has("verbs", wish.verb)
        and has("apiGroups", wish.group)
        and has("resources", *resources)
        and (not names or (wish.name != "" and wish.name in names))
    )


_RULE = re.compile(r"^(?P<verbs>[\w*,]+) (?P<resources>[^\[,]+)(, resourceNames \[(?P<names>[^\]]*)\])?$")


def parse_rules(*lines: str) -> list[dict[str, Any]]:
    """Return rules from lines as ``get,list pods`` or ``patch deployments.apps/scale, resourceNames [a]``."""
    rules = []
    for line in lines:
        found = _RULE.match(line)
        if found is None:
            raise ValueError(f"not a rule: {line!r}")
        for resource in found["resources"].split("+"):
            whole, dummy, subresource = resource.strip().partition("/")
            plural, dummy, group = whole.partition(".")
            rule: dict[str, Any] = {
                "apiGroups": [group],
                "resources": [f"{plural}/{subresource}" if subresource else plural],
                "verbs": found["verbs"].split(","),
            }
            if found["names"]:
                rule["resourceNames"] = [name.strip() for name in found["names"].split(",")]
            rules.append(rule)
    return rules
