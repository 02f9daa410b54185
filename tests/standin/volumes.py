"""The environment and the volumes of a container, from the objects that its pod names."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.standin import kinds
from tests.standin.matching import Object
from tests.standin.rbac import Access, service_account
from tests.standin.store import Store
from tests.support.workspace import give


class NotYet(Exception):
    """Something that a container needs is not there; the text is for its status."""


def _data(store: Store, kind: kinds.Kind, namespace: str, source: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of a Secret or ConfigMap; raises NotYet unless it is there or optional."""
    name = source.get("name") or source.get("secretName") or ""
    item = store.find(kind, namespace, name)
    if item is None:
        if source.get("optional"):
            return {}
        raise NotYet(f'{kind.singular} "{name}" not found')
    if kind is kinds.SECRET:
        return {key: base64.b64decode(value) for key, value in (item.get("data") or {}).items()}
    return {key: value.encode() for key, value in (item.get("data") or {}).items()}


def expand(text: str, env: Mapping[str, str]) -> str:
    """Put values for $(NAME), as the kubelet does; $$ stands for one dollar."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return env.get(found[1], found[0])

    return re.sub(r"\$\$|\$\((\w+)\)", value, text)


def environment(store: Store, pod: Object, container: Object, address: str) -> dict[str, str]:
    """Return the variables that a container's spec asks for; raises NotYet."""
    namespace = pod["metadata"]["namespace"]
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        secret = source.get("secretRef")
        kind = kinds.SECRET if secret is not None else kinds.CONFIG_MAP
        data = _data(store, kind, namespace, secret if secret is not None else source["configMapRef"])
        env |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
    for entry in container.get("env") or []:
        if "valueFrom" in entry:
            value = _value_from(store, pod, entry["valueFrom"], address)
            if value is not None:
                env[entry["name"]] = value
        else:
            env[entry["name"]] = expand(entry.get("value") or "", env)
    return env


def _value_from(store: Store, pod: Object, source: Mapping[str, Any], address: str) -> str | None:
    if "fieldRef" in source:
        fields = {
            "metadata.name": pod["metadata"]["name"],
            "metadata.namespace": pod["metadata"]["namespace"],
            "metadata.uid": pod["metadata"]["uid"],
            "spec.nodeName": pod["spec"].get("nodeName", ""),
            "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
            "status.podIP": address,
        }
        return str(fields[source["fieldRef"]["fieldPath"]])
    for name, kind in (("secretKeyRef", kinds.SECRET), ("configMapKeyRef", kinds.CONFIG_MAP)):
        if name in source:
            data = _data(store, kind, pod["metadata"]["namespace"], source[name])
            key = source[name]["key"]
            if key in data:
                return data[key].decode()
            if source[name].get("optional"):
                return None
            raise NotYet(f"couldn't find key {key} in {kind.kind} {source[name]['name']}")
    return None


class Volumes:
    """The folders behind the volumes of one pod."""

    def __init__(self, store: Store, access: Access, root: Path, pod: Object, folder: Path) -> None:
        self._store = store
        self._access = access
        self._root = root
        self._pod = pod
        self._folder = folder

    def make(self, as_run_user: bool) -> None:
        """Make every volume; raises NotYet when one needs what is not there."""
        for volume in self._pod["spec"].get("volumes") or []:
            folder = self._make(volume)
            if as_run_user and "hostPath" not in volume:
                for path in (folder, *folder.rglob("*")):
                    give(path)

    def mounts(self, container: Object) -> dict[str, Path]:
        """Return where the mount points of a container really are."""
        folders = {volume["name"]: self._path(volume) for volume in self._pod["spec"].get("volumes") or []}
        return {
            mount["mountPath"].rstrip("/"): folders[mount["name"]] / mount.get("subPath", "")
            for mount in container.get("volumeMounts") or []
        }

    def _path(self, volume: Object) -> Path:
        namespace = str(self._pod["metadata"]["namespace"])
        if "hostPath" in volume:
            return self._root / "h" / str(volume["hostPath"]["path"]).strip("/")
        if "persistentVolumeClaim" in volume:
            return self._root / "n" / namespace / str(volume["persistentVolumeClaim"]["claimName"])
        return self._folder / "v" / str(volume["name"])

    def _make(self, volume: Object) -> Path:
        folder = self._path(volume)
        namespace = self._pod["metadata"]["namespace"]
        claim = volume.get("persistentVolumeClaim")
        if claim:
            kind = kinds.BY_PATH["", "v1", "persistentvolumeclaims"]
            if self._store.find(kind, namespace, claim["claimName"]) is None:
                raise NotYet(f'persistentvolumeclaim "{claim["claimName"]}" not found')
        folder.mkdir(parents=True, exist_ok=True)
        if "hostPath" in volume:
            give(folder)
        for name, content in self._content(volume, namespace).items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            source = volume.get("secret") or volume.get("configMap") or {}
            os.chmod(file, source.get("defaultMode", 0o644))
        return folder

    def _content(self, volume: Object, namespace: str) -> dict[str, bytes]:
        for field, kind in (("secret", kinds.SECRET), ("configMap", kinds.CONFIG_MAP)):
            if field in volume:
                data = _data(self._store, kind, namespace, volume[field])
                items = volume[field].get("items")
                return {each["path"]: data[each["key"]] for each in items} if items else data
        if "projected" in volume and volume["name"].startswith("kube-api-access-"):
            account = self._pod["spec"].get("serviceAccountName", "default")
            token = self._access.mint(service_account(namespace, account))
            ca_bundle = self._root / "ca.crt"
            return {
                "token": token.encode(),
                "namespace": namespace.encode(),
                "ca.crt": ca_bundle.read_bytes() if ca_bundle.exists() else b"",
            }
        return {}
