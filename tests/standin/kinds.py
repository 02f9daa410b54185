"""The kinds of objects that the stand-in serves, as discovery describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS = ("get", "patch", "update")


@dataclass(frozen=True)
class Subresource:
    """A part of an object with a path of its own."""

    verbs: tuple[str, ...]
    kind: str
    group: str = ""
    version: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of object."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    in_all: bool = False
    verbs: tuple[str, ...] = ALL_VERBS
    storage_hash: str = ""
    has_generation: bool = False
    subresources: Mapping[str, Subresource] = field(default_factory=dict, compare=False)

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def singular(self) -> str:
        return self.kind.lower()


SCALE = Subresource(STATUS, "Scale", "autoscaling", "v1")


def _status(kind: str) -> Subresource:
    return Subresource(STATUS, kind)


def _core(kind: str, plural: str, hashed: str, **more: object) -> Kind:
    return Kind("", "v1", kind, plural, storage_hash=hashed, **more)  # type: ignore[arg-type]


POD = _core(
    "Pod",
    "pods",
    "xPOwRZ+Yhw8=",
    short_names=("po",),
    in_all=True,
    subresources={
        "exec": Subresource(("create", "get"), "PodExecOptions"),
        "log": Subresource(("get",), "Pod"),
        "portforward": Subresource(("create", "get"), "PodPortForwardOptions"),
        "status": _status("Pod"),
    },
)
NAMESPACE = _core(
    "Namespace",
    "namespaces",
    "Q3oi5N2YM8M=",
    namespaced=False,
    short_names=("ns",),
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    subresources={"status": _status("Namespace")},
)
SECRET = _core("Secret", "secrets", "S6u1pOWzb84=")
CONFIG_MAP = _core("ConfigMap", "configmaps", "qFsyl6wFWjQ=", short_names=("cm",))
SERVICE_ACCOUNT = _core(
    "ServiceAccount",
    "serviceaccounts",
    "pbx9ZvyFpBE=",
    short_names=("sa",),
    subresources={"token": Subresource(("create",), "TokenRequest", "authentication.k8s.io", "v1")},
)
DEPLOYMENT = Kind(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    short_names=("deploy",),
    in_all=True,
    storage_hash="8aSe+NMegvE=",
    has_generation=True,
    subresources={"scale": SCALE, "status": _status("Deployment")},
)
REPLICA_SET = Kind(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    short_names=("rs",),
    in_all=True,
    storage_hash="P1RzHs8/mWQ=",
    has_generation=True,
    subresources={"scale": SCALE, "status": _status("ReplicaSet")},
)
STATEFUL_SET = Kind(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    short_names=("sts",),
    in_all=True,
    storage_hash="H+vl74LkKdo=",
    has_generation=True,
    subresources={"scale": SCALE, "status": _status("StatefulSet")},
)
JOB = Kind(
    "batch",
    "v1",
    "Job",
    "jobs",
    in_all=True,
    storage_hash="mudhfqk/qZY=",
    has_generation=True,
    subresources={"status": _status("Job")},
)
CRON_JOB = Kind(
    "batch",
    "v1",
    "CronJob",
    "cronjobs",
    short_names=("cj",),
    in_all=True,
    storage_hash="sd5LIXh4Fjs=",
    has_generation=True,
    subresources={"status": _status("CronJob")},
)
RBAC_GROUP = "rbac.authorization.k8s.io"
ROLE = Kind(RBAC_GROUP, "v1", "Role", "roles")
ROLE_BINDING = Kind(RBAC_GROUP, "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind(RBAC_GROUP, "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(RBAC_GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
ACCESS_REVIEW = Kind(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    namespaced=False,
    verbs=("create",),
)
KINDS = (
    CONFIG_MAP,
    _core("Event", "events", "r2yiGXH7wu8=", short_names=("ev",)),
    NAMESPACE,
    _core(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "QWTyNDq0dC4=",
        short_names=("pvc",),
        subresources={"status": _status("PersistentVolumeClaim")},
    ),
    POD,
    SECRET,
    SERVICE_ACCOUNT,
    _core(
        "Service",
        "services",
        "0/CO1lhkEBI=",
        short_names=("svc",),
        in_all=True,
        subresources={"status": _status("Service")},
    ),
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    CRON_JOB,
    JOB,
    ACCESS_REVIEW,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ROLE,
    ROLE_BINDING,
)
BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}
GROUPS = tuple(dict.fromkeys((kind.group, kind.version) for kind in KINDS if kind.group))


def kind_of(manifest: Mapping[str, object]) -> Kind:
    """Return the kind of a manifest; raises KeyError when the stand-in does not serve it."""
    return BY_NAME[str(manifest["apiVersion"]), str(manifest["kind"])]
