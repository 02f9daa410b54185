"""The HTTP side: from a request to an answer."""

from __future__ import annotations

import asyncio
import secrets

from aiohttp import web

from tests.standin import (
    discovery,
    errors,
    forward,
    kinds,
    logs,
    remote_command,
    rest,
    wire,
)
from tests.standin.errors import ApiError, encode
from tests.standin.faults import Faults, Request, StreamFaults
from tests.standin.kinds import Kind
from tests.standin.kubelet import Kubelet
from tests.standin.matching import Object
from tests.standin.node import Running
from tests.standin.rbac import GRANTING, Access, Identity, Wish
from tests.standin.remote_command import Sessions
from tests.standin.rest import Place
from tests.standin.routing import (
    TRUE,
    body_of,
    delete_options_of,
    matcher_of,
    patch_of,
    place_of,
    record_of,
    wish_of,
)
from tests.standin.store import Store, Watcher

OPEN_PATHS = ("/version", "/readyz", "/livez", "/healthz")


class Api:
    """Answers requests."""

    def __init__(self, store: Store, access: Access, kubelet: Kubelet, sessions: Sessions, faults: Faults) -> None:
        self._store = store
        self._access = access
        self._kubelet = kubelet
        self._sessions = sessions
        self._faults = faults
        self.address = ""
        self.requests: list[Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and write it down."""
        record = record_of(request)
        self.requests.append(record)
        try:
            delay, error = self._faults.of_request(record)
            if delay:
                await asyncio.sleep(delay)
            if error:
                raise error
            identity = self._access.identify(request.headers)
            record.user = identity.user
            response = await self._answer(request, record, identity)
        except ApiError as error:
            response = _refusal(error)
        record.status = record.status or response.status
        return response

    async def _answer(self, request: web.Request, record: Request, identity: Identity) -> web.StreamResponse:
        path = request.path
        if path.rstrip("/") in OPEN_PATHS:
            is_version = path.startswith("/version")
            return _json(discovery.VERSION) if is_version else web.Response(text="ok", headers=_headers())
        if identity.anonymous and path.rstrip("/") in ("", "/api", "/apis"):
            raise errors.forbidden_path(identity.user, request.method.lower(), path)
        described = self._discover(path.rstrip("/"))
        if described is not None:
            return _json(described)
        place = place_of(path)
        wish = wish_of(place, record)
        if place.kind is not kinds.ACCESS_REVIEW or identity.anonymous:  # every identity with a token may ask
            self._access.demand(identity, place.kind, wish)
        record.body = await request.read() if request.method != "GET" else b""
        if place.kind is kinds.ACCESS_REVIEW:
            return self._review(identity, record)
        if place.subresource:
            return await self._part(request, record, place)
        if wish.verb == "watch":
            return await self._watch(request, record, place)
        if place.kind in GRANTING and wish.verb in ("create", "update", "patch"):
            self._access.demand_to_grant(identity, place.kind, self._change(request, record, place, wish.verb, True)[0])
        return self._object(request, record, place, wish.verb)

    def _discover(self, path: str) -> Object | None:
        parts = path.strip("/").split("/")
        if path == "/api":
            return discovery.versions(self.address)
        if path == "/apis":
            return discovery.groups()
        if parts[:1] == ["openapi"]:
            found = discovery.openapi("/".join(parts[2:])) if len(parts) > 2 else discovery.openapi_index()
            if parts[1:2] != ["v3"] or found is None:
                raise errors.no_such_path()
            return found
        if parts[0] == "apis" and len(parts) == 2:
            versions = [version for group, version in kinds.GROUPS if group == parts[1]]
            if not versions:
                raise ApiError(404, "404 page not found\n")
            described = discovery.group(parts[1], versions[0])
            return {"kind": "APIGroup", "apiVersion": "v1", **described}
        group_version = ["", *parts[1:]] if parts[0] == "api" else parts[1:]
        if len(group_version) != 2 or parts[0] not in ("api", "apis"):
            return None
        found = discovery.resources(*group_version)
        if found is None:
            raise ApiError(404, "404 page not found\n")
        return found

    def _review(self, identity: Identity, record: Request) -> web.StreamResponse:
        body = body_of(record)
        spec = body.get("spec") or {}
        asked = spec.get("resourceAttributes") or {}
        wish = Wish(
            asked.get("verb", ""),
            asked.get("group", ""),
            asked.get("resource", ""),
            asked.get("subresource", ""),
            asked.get("name", ""),
            asked.get("namespace", ""),
        )
        reason = self._access.why(identity, wish)
        status: Object = {"allowed": reason is not None}
        if reason:
            status["reason"] = reason
        kind = kinds.ACCESS_REVIEW
        head = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {"creationTimestamp": None}}
        return _json({**head, "spec": spec, "status": status}, 201)

    # --- objects

    def _object(self, request: web.Request, record: Request, place: Place, verb: str) -> web.StreamResponse:
        store, dry_run = self._store, record.asked("dryRun") == "All"
        matches = matcher_of(record)
        if verb == "get":
            return _json(store.get(place.kind, place.namespace, place.name))
        if verb == "list":
            items = store.select(place.kind, place.namespace or None, matches)
            return _json(rest.listed(place.kind, items, store.version))
        if verb in ("create", "update", "patch"):
            item, created = self._change(request, record, place, verb, dry_run)
            return _json(item, 201 if created else 200)
        options = delete_options_of(record)
        if verb == "delete":
            return _json(rest.delete(store, place, options))
        return _json(rest.delete_all(store, place, matches, options))

    def _change(
        self, request: web.Request, record: Request, place: Place, verb: str, dry_run: bool
    ) -> tuple[Object, bool]:
        """Create or change an object; tells whether it was created."""
        if verb == "create":
            return rest.create(self._store, place, body_of(record), dry_run), True
        if verb == "update":
            return rest.replace(self._store, place, body_of(record), dry_run), False
        return rest.patch(self._store, place, request.content_type, patch_of(request, record), dry_run)

    async def _part(self, request: web.Request, record: Request, place: Place) -> web.StreamResponse:
        if place.kind is kinds.POD and place.subresource != "status":
            return await self._pod_part(request, record, place)
        dry_run = record.asked("dryRun") == "All"
        if place.subresource == "scale":
            return _json(self._scale(request, record, place, dry_run))
        if place.subresource == "token":
            account = self._store.get(place.kind, place.namespace, place.name)
            return _json(self._access.request(account, body_of(record)), 201)
        if request.method == "GET":
            return _json(self._store.get(place.kind, place.namespace, place.name))
        if request.method == "PUT":
            return _json(rest.replace(self._store, place, body_of(record), dry_run))
        item, dummy = rest.patch(self._store, place, request.content_type, patch_of(request, record), dry_run)
        return _json(item)

    def _scale(self, request: web.Request, record: Request, place: Place, dry_run: bool) -> Object:
        if request.method == "GET":
            item = self._store.find(place.kind, place.namespace, place.name)
            if item is None:
                raise errors.not_found(place.kind, place.name, "scale")
            return rest.scale_of(item)
        content_type = request.content_type if request.method == "PATCH" else None
        body = body_of(record) if content_type is None else patch_of(request, record)
        return rest.write_scale(self._store, place, content_type, body, dry_run)

    # --- pods

    async def _pod_part(self, request: web.Request, record: Request, place: Place) -> web.StreamResponse:
        pod = self._store.get(kinds.POD, place.namespace, place.name)
        if place.subresource == "log":
            container = _container(pod, record.asked("container"))
            return await logs.serve(request, record, self._kubelet.runner(pod), container)
        if place.subresource == "exec":
            container = _container(pod, record.asked("container"))
            _demand_node(pod)
            faults = self._faults.of_stream(record)
            return await self._exec(request, record, self._running(pod, container), faults)
        return await self._port_forward(request, record, pod)

    def _running(self, pod: Object, container: str) -> Running | str:
        """Return the running container, or its name when it does not run."""
        return self._kubelet.runner(pod).running.get(container, container)

    async def _exec(
        self, request: web.Request, record: Request, running: Running | str, faults: StreamFaults
    ) -> web.StreamResponse:
        return await remote_command.serve(request, record, running, self._sessions, faults)

    async def _port_forward(self, request: web.Request, record: Request, pod: Object) -> web.StreamResponse:
        _demand_node(pod)
        faults = self._faults.of_stream(record)
        wire.demand_upgrade(request)
        wire.chosen_protocol(request, forward.PROTOCOLS)
        ports = forward.asked_ports(record)
        _demand_running(pod)
        runner = self._kubelet.runner(pod)
        return await forward.WebSocketForward(request, runner, ports, faults).serve(record)

    # --- watching

    async def _watch(self, request: web.Request, record: Request, place: Place) -> web.StreamResponse:
        """Tell every change of a collection, one JSON a line, until the time is up."""
        watcher = Watcher(place.kind, place.namespace or None, matcher_of(record) or (lambda dummy: True))
        since = record.asked("resourceVersion")
        response = web.StreamResponse(headers={"Content-Type": "application/json", **_headers()})
        response.enable_chunked_encoding()
        await response.prepare(request)
        record.status = 200
        timeout = float(record.asked("timeoutSeconds") or 1_800)
        bookmarks = record.asked("allowWatchBookmarks") in TRUE
        try:
            if since in ("", "0"):
                present = self._store.select(place.kind, place.namespace or None, matcher_of(record))
                told = [("ADDED", item) for item in present]
                missed = list(self._store.watch(watcher, self._store.version))
            else:
                told, missed = [], list(self._store.watch(watcher, int(since)))
            await _tell_all(response, place.kind, [*told, *missed])
            async with asyncio.timeout(timeout):
                while True:
                    await _tell_all(response, place.kind, [await watcher.events.get()])
        except ApiError as error:
            await response.write(encode({"type": "ERROR", "object": error.body}) + b"\n")
        except TimeoutError:
            if bookmarks:
                meta = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
                head = {"kind": place.kind.kind, "apiVersion": place.kind.api_version, "metadata": meta}
                await _tell_all(response, place.kind, [("BOOKMARK", head)])
        except ConnectionError:
            pass
        finally:
            self._store.unwatch(watcher)
        return response


async def _tell_all(response: web.StreamResponse, kind: Kind, events: list[tuple[str, Object]]) -> None:
    for change, item in events:
        head = {"kind": kind.kind, "apiVersion": kind.api_version}
        await response.write(encode({"type": change, "object": {**head, **item}}) + b"\n")


# --- pods


def _container(pod: Object, name: str) -> str:
    """Return the container that a request means; raises 400."""
    names = [each["name"] for each in pod["spec"]["containers"]]
    init = [each["name"] for each in pod["spec"].get("initContainers") or []]
    if not name:
        chosen = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        if len(names) == 1 or chosen in names:
            return str(chosen if chosen in names else names[0])
        more = f" or one of the init containers: [{' '.join(init)}]" if init else ""
        told = f"choose one of: [{' '.join(names)}]{more}"
        raise errors.bad_request(f"a container name must be specified for pod {pod['metadata']['name']}, {told}")
    if name not in (*names, *init):
        raise errors.bad_request(f"container {name} is not valid for pod {pod['metadata']['name']}")
    return name


def _demand_node(pod: Object) -> None:
    if "nodeName" not in pod["spec"]:
        raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")


def _demand_running(pod: Object) -> None:
    if pod["status"]["phase"] != "Running":
        meta = pod["metadata"]
        raise ApiError(500, f'pod not found ("{meta["name"]}_{meta["namespace"]}")')


# --- answers


def _headers() -> dict[str, str]:
    return {"Audit-Id": secrets.token_hex(16), "Cache-Control": "no-cache, private"}


def _json(body: Object, status: int = 200) -> web.Response:
    return web.Response(body=encode(body) + b"\n", status=status, content_type="application/json", headers=_headers())


def _refusal(error: ApiError) -> web.Response:
    headers = _headers()
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error.body, str):
        response = web.Response(text=error.body, status=error.code, headers=headers)
    else:
        response = _json(error.body, error.code)
        response.headers.update(headers)
    if error.close:
        response.force_close()
    return response
