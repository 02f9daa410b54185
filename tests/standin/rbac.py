"""Who asks, and what they may: tokens, and Roles as they are stored."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.standin import errors, kinds
from tests.standin.kinds import Kind
from tests.standin.store import Store

ADMINISTRATORS = "system:masters"
GRANTING = (kinds.ROLE, kinds.CLUSTER_ROLE, kinds.ROLE_BINDING, kinds.CLUSTER_ROLE_BINDING)


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
        self._secrets: dict[str, tuple[str, str, str]] = {}

    def mint(self, identity: Identity, end: float | None = None, secret: tuple[str, str, str] | None = None) -> str:
        """Return a new token of this identity; with a Secret (namespace, name, uid) it ends when that is removed."""
        token = f"standin.{secrets.token_urlsafe(24)}"
        self._tokens[token] = identity, end
        if secret is not None:
            self._secrets[token] = secret
        return token

    def request(self, account: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """Answer a TokenRequest for a service account."""
        meta, spec = account["metadata"], dict(body.get("spec") or {})
        seconds, bound = int(spec.get("expirationSeconds") or 3600), spec.get("boundObjectRef") or {}
        secret = None
        if bound:
            secret = meta["namespace"], bound["name"], bound.get("uid", "")
            if not self._is_there(secret):
                raise errors.not_found(kinds.SECRET, bound["name"])
        token = self.mint(service_account(meta["namespace"], meta["name"]), time.monotonic() + seconds, secret)
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        status = {"token": token, "expirationTimestamp": until}
        named = {"name": meta["name"], "namespace": meta["namespace"], "creationTimestamp": until}
        return {**head, "metadata": named, "spec": {**spec, "expirationSeconds": seconds}, "status": status}

    def _is_there(self, secret: tuple[str, str, str]) -> bool:
        namespace, name, uid = secret
        found = self._store.find(kinds.SECRET, namespace, name)
        return found is not None and uid in ("", found["metadata"]["uid"])

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
        secret = self._secrets.get(token.strip())
        if secret is not None and not self._is_there(secret):
            raise errors.unauthorized()
        return identity

    def demand(self, identity: Identity, kind: Kind, wish: Wish) -> None:
        """Raise 403 unless the wish is granted."""
        if self.why(identity, wish) is None:
            raise errors.forbidden(kind, wish.name, identity.user, wish.verb, wish.subresource, wish.namespace)

    def demand_to_grant(self, identity: Identity, kind: Kind, item: dict[str, Any]) -> None:
        """Raise 403 when an identity grants rights that it lacks, unless it may `escalate` or may `bind` the role."""
        namespace, name = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        special, rules = Wish("escalate", kind.group, kind.plural, "", name, namespace), item.get("rules") or []
        if kind in (kinds.ROLE_BINDING, kinds.CLUSTER_ROLE_BINDING):
            role = kinds.BY_NAME[kind.api_version, item["roleRef"]["kind"]]
            special = Wish("bind", role.group, role.plural, "", item["roleRef"]["name"], namespace)
            rules = [rule for dummy, dummy, found in self._role(item, "") for rule in found]
        if self.why(identity, special) is not None:
            return
        lacking = [
            rule for rule in rules if not all(self.why(identity, wish) is not None for wish in _wishes(rule, namespace))
        ]
        if lacking:
            told = "\n".join(_printed(rule) for rule in lacking)
            groups = " ".join(f'"{group}"' for group in identity.groups)
            message = (
                f'{errors.qualified(kind)} "{name}" is forbidden: user "{identity.user}" (groups=[{groups}]) is attempting '
                f"to grant RBAC permissions not currently held:\n{told}"
            )
            raise errors.failure(403, "Forbidden", message, errors.details_of(kind, name))

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


def _wishes(rule: dict[str, Any], namespace: str) -> Iterator[Wish]:
    """Everything that a rule allows."""
    for group in rule.get("apiGroups") or []:
        for resource in rule.get("resources") or []:
            whole, dummy, subresource = resource.partition("/")
            for verb in rule.get("verbs") or []:
                for name in rule.get("resourceNames") or [""]:
                    yield Wish(verb, group, whole, subresource, name, namespace)


def _printed(rule: dict[str, Any]) -> str:
    fields = (
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    )
    lists = [f"{name}:[{', '.join(json.dumps(each) for each in rule[key])}]" for key, name in fields if rule.get(key)]
    return f"{{{', '.join(lists)}}}"


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
