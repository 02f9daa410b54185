"""The stand-in as tests use it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

from tests.standin import jobs, kinds, patches, rest
from tests.standin.api import Api
from tests.standin.controllers import Controllers
from tests.standin.faults import Faults, Request
from tests.standin.images import Image
from tests.standin.kinds import Kind
from tests.standin.kubelet import Kubelet, PodRunner
from tests.standin.listener import HOST, Listener, make_tls
from tests.standin.matching import Object, by_labels
from tests.standin.node import Timing
from tests.standin.rbac import ADMINISTRATORS, Access, Identity, parse_rules, service_account
from tests.standin.remote_command import Sessions
from tests.standin.store import Store
from tests.standin.streams import ExecSettings

T = TypeVar("T")
ADMIN = "admin"
_SHORT = {name: kind for kind in kinds.KINDS for name in (kind.plural, kind.singular, kind.kind, *kind.short_names)}


class StandinError(Exception):
    """The stand-in itself has failed, or what a test waited for did not come."""


class Standin:
    """An API server, its controllers and one node, in a thread of their own. Use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        tls: bool = True,
        images: Mapping[str, Image] | None = None,
        timing: Timing | None = None,
        namespaces: tuple[str, ...] = ("default",),
    ) -> None:
        """Describe one. The folder must be short, and open to the user of PostgreSQL (see `workspace()`)."""
        self.folder = folder
        self.images: dict[str, Image] = dict(images or {})
        self.timing = timing or Timing()
        self.exec = ExecSettings()
        self.faults = Faults()
        self.errors: list[str] = []
        self._tls = tls
        self._namespaces = namespaces
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standin", daemon=True)
        self._tokens: dict[str, str] = {}

    # --- life

    def __enter__(self) -> Standin:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._thread.start()
        self._started.wait()
        if self._loop is None:
            raise StandinError("\n".join(self.errors))
        for name in self._namespaces:
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._await(self._close())
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self.errors and error is None:
            raise StandinError("\n".join(self.errors))

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            self.errors.append(f"the stand-in's thread: {error!r}")
            raise
        finally:
            self._started.set()

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda dummy, context: self._blame(str(context.get("exception") or context)))
        logger = logging.Logger("standin")
        logger.addHandler(_Collector(self._blame))
        self._store = Store()
        self._access = Access(self._store)
        self._kubelet = Kubelet(self._store, self._access, self.folder, self.images, self.timing, self._blame)
        self._controllers = Controllers(self._store, self.timing)
        self._sessions = Sessions(self.exec)
        self._api = Api(self._store, self._access, self._kubelet, self._sessions, self.faults)
        context = make_tls(self.folder / "ca.crt") if self._tls else None
        self._listener = Listener(self._api.handle, context, logger)
        await self._listener.open()
        self._api.address = f"{HOST}:{self._listener.port}"
        self._stop = asyncio.Event()
        self._loop = loop
        self._started.set()
        await self._stop.wait()

    async def _close(self) -> None:
        self._controllers.close()
        await self._kubelet.close()
        await self._listener.close()

    def _blame(self, text: str) -> None:
        self.errors.append(text)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _do(self, work: Callable[[], T]) -> T:
        """Call a function in the stand-in's thread."""

        async def call() -> T:
            return work()

        return self._await(call())

    # --- clients

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._listener.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the CA that the server's own comes from."""
        return self.folder / "ca.crt"

    @property
    def requests(self) -> list[Request]:
        """Every request that has arrived, without credentials."""
        return list(self._api.requests)

    def forget_requests(self) -> None:
        """Empty the list of requests."""
        self._api.requests.clear()

    def token(self, user: str = ADMIN, namespace: str = "default") -> str:
        """Return a token of the administrator, or of a service account (which need not exist)."""
        identity = self._identity(user, namespace)
        if identity.user not in self._tokens:
            self._tokens[identity.user] = self._do(lambda: self._access.mint(identity))
        return self._tokens[identity.user]

    def expire_token(self, user: str, namespace: str = "default", after_s: float = 0.0) -> None:
        """Let a user's tokens end in so many seconds: 401 from then on; `token()` gives a new one."""
        identity = self._identity(user, namespace)
        self._tokens.pop(identity.user, None)
        self._do(lambda: self._access.expire(identity.user, after_s))

    def kubeconfig(self, user: str = ADMIN, namespace: str = "default", *, token_file: Path | None = None) -> Path:
        """Write a kubeconfig for a user and return its path; with a token file, the token is there only."""
        cluster: dict[str, Any] = {"server": self.url}
        if self._tls:
            certificate = base64.b64encode(self.ca_file.read_bytes()).decode()
            cluster["certificate-authority-data"] = certificate
        credentials: dict[str, Any] = {"token": self.token(user, namespace)}
        if token_file is not None:
            token_file.write_text(self.token(user, namespace))
            credentials = {"tokenFile": str(token_file)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "standin", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": user, "context": {"cluster": "standin", "user": user, "namespace": namespace}}],
            "current-context": user,
        }
        path = self.folder / f"{namespace}-{user}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return path

    def grant(self, user: str, *rules: str | Mapping[str, Any], namespace: str = "default") -> None:
        """Give a service account a Role with just these rules, in words as ``get,list pods`` or as in a Role."""
        parsed = [rule for each in rules for rule in (parse_rules(each) if isinstance(each, str) else [dict(each)])]
        meta = {"name": user, "namespace": namespace}
        api = f"{kinds.RBAC_GROUP}/v1"
        self.delete("rolebinding", user, namespace)
        self.delete("role", user, namespace)
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            {"apiVersion": api, "kind": "Role", "metadata": meta, "rules": parsed},
            {
                "apiVersion": api,
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": kinds.RBAC_GROUP, "kind": "Role", "name": user},
                "subjects": [{"kind": "ServiceAccount", **meta}],
            },
        )

    @staticmethod
    def _identity(user: str, namespace: str) -> Identity:
        if user == ADMIN:
            return Identity(ADMIN, (ADMINISTRATORS, "system:authenticated"))
        return service_account(namespace, user)

    # --- objects

    def apply(self, *manifests: Mapping[str, Any] | str) -> list[Object]:
        """Create or change objects, given as dictionaries or as YAML text of one or more."""
        items: list[Any] = []
        for manifest in manifests:
            items += yaml.safe_load_all(manifest) if isinstance(manifest, str) else [dict(manifest)]
        return [self._do(lambda item=item: self._apply(item)) for item in items if item]  # type: ignore[misc]

    def _apply(self, item: Object) -> Object:
        kind = kinds.kind_of(item)
        namespace = item["metadata"].get("namespace", "default") if kind.namespaced else ""
        place = rest.Place(kind, namespace, item["metadata"]["name"])
        return rest.patch(self._store, place, patches.APPLY, item, dry_run=False)[0]

    def get(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """Return an object, or None."""
        return self._do(lambda: self._store.find(_SHORT[kind], namespace, name))

    def objects(self, kind: str, namespace: str = "default", selector: str = "") -> list[Object]:
        """Return the objects of a kind."""
        return self._do(lambda: self._store.select(_SHORT[kind], namespace, by_labels(selector)))

    def delete(self, kind: str, name: str, namespace: str = "default", grace_s: int | None = None) -> None:
        """Delete an object if it is there, and what it owns."""

        def work() -> None:
            found: Kind = _SHORT[kind]
            if self._store.find(found, namespace, name) is not None:
                options: dict[str, Any] = {"propagationPolicy": "Background"}
                if grace_s is not None:
                    options["gracePeriodSeconds"] = grace_s
                rest.delete(self._store, rest.Place(found, namespace, name), options)

        self._do(work)

    def pods(self, namespace: str = "default", selector: str = "") -> list[Object]:
        """Return the pods, those that are about to go included."""
        return self.objects("pods", namespace, selector)

    # --- waiting

    def until(self, condition: Callable[[], T], timeout_s: float = 60.0) -> T:
        """Wait until a function returns something true, and return that."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if self.errors or time.monotonic() > end:
                raise StandinError(f"not so after {timeout_s:g} s: {condition}; {self.errors}")
            time.sleep(0.01)
        return value

    def ready_pod(self, namespace: str = "default", selector: str = "", timeout_s: float = 120.0) -> str:
        """Wait until there is a ready pod that is not about to go, and return its name."""

        def find() -> str:
            for pod in self.pods(namespace, selector):
                conditions = pod["status"].get("conditions") or []
                ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
                if ready and "deletionTimestamp" not in pod["metadata"]:
                    return str(pod["metadata"]["name"])
            return ""

        return self.until(find, timeout_s)

    # --- the node

    def path(self, pod: str, path: str = ".", namespace: str = "default", container: str = "") -> Path:
        """Return where a path of a running container really is."""

        def work() -> Path:
            running = self._container(pod, namespace, container)
            return Path(running.cwd / running.translate(path))

        return self._do(work)

    def environment(self, pod: str, namespace: str = "default", container: str = "") -> dict[str, str]:
        """Return the environment of a running container."""
        return self._do(lambda: dict(self._container(pod, namespace, container).env))

    def address(self, pod: str, port: int, namespace: str = "default") -> tuple[str, int]:
        """Return where a port of a pod can be reached from here."""
        return self._do(lambda: self._runner(pod, namespace).address(port))

    def log(self, pod: str, namespace: str = "default", container: str = "") -> str:
        """Return what the containers' process 1 have written, all their starts included."""

        def work() -> str:
            runner = self._runner(pod, namespace)
            names = [container] if container else list(runner.status.containers)
            files = [file for name in names for file in runner.log_files(name)]
            return "".join(file.read_text(errors="replace") for file in files)

        return self._do(work)

    def restart_container(
        self, pod: str, namespace: str = "default", container: str = "", number: int = signal.SIGKILL
    ) -> None:
        """Send process 1 of a container a signal; the node starts it again if its policy says so."""
        self._do(lambda: self._container(pod, namespace, container).container.signal(number))

    def set_ready(self, pod: str, ready: bool, namespace: str = "default") -> None:
        """Say that the containers of a pod are ready, or are not, whatever they are."""

        def work() -> None:
            status = self._runner(pod, namespace).status
            for state in status.containers.values():
                state.ready = ready
            status.publish()

        self._do(work)

    def fire(self, cron_job: str, namespace: str = "default") -> str | None:
        """Let the time of a CronJob come; returns the name of the Job, None when it must not run now."""
        job = self._do(lambda: jobs.fire(self._store, self._store.get(kinds.CRON_JOB, namespace, cron_job)))
        return None if job is None else str(job["metadata"]["name"])

    def _runner(self, pod: str, namespace: str) -> PodRunner:
        return self._kubelet.runner(self._store.get(kinds.POD, namespace, pod))

    def _container(self, pod: str, namespace: str, container: str) -> Any:
        runner = self._runner(pod, namespace)
        return runner.running[container] if container else next(iter(runner.running.values()))

    # --- faults of the whole

    def restart_kubelet(self) -> None:
        """End every exec with Success, although its process runs on."""
        self._do(self._sessions.end_early)

    def drop_connections(self) -> None:
        """End every connection without a word; new ones are welcome."""
        self._do(self._listener.drop)

    def leave(self, seconds: float) -> None:
        """Let the API server be away: every connection drops, and new ones are refused for so long."""
        self._do(lambda: self._listener.leave(seconds))

    def come_back(self) -> None:
        """End being away."""
        self._do(self._listener.come_back)

    def compact(self) -> None:
        """Forget old versions: watching from one of them is answered with 410."""
        self._do(self._store.compact)

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[Request]]:
        """Collect the requests that arrive inside a with statement; the list is filled at its end."""
        before = len(self._api.requests)
        seen: list[Request] = []
        try:
            yield seen
        finally:
            seen += self._api.requests[before:]


class _Collector(logging.Handler):
    """Takes what aiohttp logs about our own failures."""

    def __init__(self, blame: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._blame = blame

    def emit(self, record: logging.LogRecord) -> None:
        self._blame(self.format(record))
