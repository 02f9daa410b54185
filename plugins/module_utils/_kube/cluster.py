# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach a cluster: configuration, login and REST by the `kubernetes` client.

Only its `config`, `client.configuration` and `client.rest` are used: they cost a third of the whole package, whose
generated models that are not needed here. Exec and port-forward are in `exec_stream` and `port_forward`.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from .._errors import ClusterRefused, ClusterUnreachable, InvalidInput, MissingLibrary, ObjectNotFound, RunbookError

# How long to wait for an API server that restarts, in seconds, where waiting is possible.
PATIENCE_S = 60.0
CONNECT_TIMEOUT_S = 15
_RETRY_S = 1.0
_REQUEST_TIMEOUT_S = 30
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_OVERLOADED = (429, 500, 502, 503, 504)
_OVERRIDES = {  # option of kubernetes.core: attribute of the client's Configuration
    "host": "host",
    "ca_cert": "ssl_ca_cert",
    "client_cert": "cert_file",
    "client_key": "key_file",
    "validate_certs": "verify_ssl",
    "proxy": "proxy",
    "no_proxy": "no_proxy",
}
_T = TypeVar("_T")


@dataclass(frozen=True)
class ClusterOptions:
    """The words of kubernetes.core for a cluster; what is None comes from the kubeconfig or from the pod we run in."""

    namespace: str
    kubeconfig: object = None
    context: str | None = None
    api_key: str | None = field(default=None, repr=False)
    overrides: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ClusterOptions:
        """From the `kubernetes` dictionary of a module's parameters (`KUBERNETES` in `_argspec`)."""
        return cls(
            namespace=params["namespace"],
            kubeconfig=params["kubeconfig"],
            context=params["context"],
            api_key=params["api_key"],
            overrides={
                attribute: params[option] for option, attribute in _OVERRIDES.items() if params[option] is not None
            },
        )


class Cluster:
    """One API server as one identity. Safe to use from several threads."""

    def __init__(self, options: ClusterOptions) -> None:
        self.namespace = options.namespace
        self._options = options
        self._configuration = _configure(options)
        self._rest: Any = None
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        """The server's URL without a trailing slash."""
        return str(self._configuration.host).rstrip("/")

    def path(self, resource: str, name: str = "", *, api: str = "api/v1") -> str:
        """The path of a namespaced resource, or of one object of it."""
        found = f"/{api}/namespaces/{quote(self.namespace, safe='')}/{resource}"
        return f"{found}/{quote(name, safe='')}" if name else found

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Read an object or a list; waits for an API server that is away for a moment."""
        return patiently(lambda: self.request("GET", path, query=query))

    def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        """One request; the answer's JSON. The body of a PATCH is a merge patch.

        Raises:
            ClusterUnreachable: the API server does not answer. Whether a change was made is then unknown.
            ClusterRefused: 401, 403 or another refusal.
            ObjectNotFound: 404.
        """
        data = self.as_somebody(lambda: self._request(method, path, query, body, _JSON))
        return json.loads(data) if data else {}

    def get_text(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Read what is no JSON, such as a log."""
        data = patiently(lambda: self.as_somebody(lambda: self._request("GET", path, query, None, "*/*")))
        return data.decode("utf-8", "replace")

    def as_somebody(self, attempt: Callable[[], _T]) -> _T:
        """Attempt something; a login that has lapsed is read again, once."""
        try:
            return attempt()
        except ClusterRefused as exc:
            if exc.details.get("status") != 401:
                raise
        with self._lock:  # a kubeconfig, or the program that it names, may have a new token by now
            self._configuration = _configure(self._options)
            self._rest = None
        return attempt()

    def close(self) -> None:
        """End the connections that are kept."""
        with self._lock:
            if self._rest is not None:
                self._rest.pool_manager.clear()

    def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None, accept: str
    ) -> bytes:
        from kubernetes.client import exceptions, rest
        from urllib3.exceptions import HTTPError

        with self._lock:
            if self._rest is None:
                self._rest = rest.RESTClientObject(self._configuration)
            client = self._rest
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {**self._headers(), "Accept": accept, "Content-Type": _MERGE_PATCH if method == "PATCH" else _JSON}
        try:
            answer = client.request(method, url, headers=headers, body=body, _request_timeout=_REQUEST_TIMEOUT_S)
            data = answer.read() if answer.data is None else answer.data  # before release 36 of the client it was read
        except exceptions.ApiException as exc:
            if not exc.status:
                raise _unreachable(self.host, str(exc.reason)) from None
            raise refusal(exc.status, exc.body, f"{method} {path}") from None
        except (OSError, HTTPError) as exc:
            raise _unreachable(self.host, str(exc)) from None
        if not 200 <= answer.status <= 299:
            raise refusal(answer.status, data, f"{method} {path}")
        return bytes(data)

    def open_stream(self, pod: str, verb: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]) -> Any:
        """A WebSocket of websocket-client to `exec` or `portforward` of a pod.

        Raises:
            ClusterUnreachable, ClusterRefused, ObjectNotFound: as `request` does.
        """
        return self.as_somebody(lambda: self._open_stream(pod, verb, query, protocols))

    def _open_stream(self, pod: str, verb: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]) -> Any:
        import websocket

        what = f"{verb} in pod {self.namespace}/{pod}"
        try:
            return websocket.create_connection(
                f"ws{self.host[4:]}{self.path('pods', pod)}/{verb}?{urlencode(query)}",
                timeout=CONNECT_TIMEOUT_S,
                header=[f"{name}: {value}" for name, value in self._headers().items()],
                subprotocols=list(protocols),
                sslopt=self._ssl_options(),
                skip_utf8_validation=True,
                enable_multithread=True,
                suppress_origin=True,
                **self._proxy_options(),
            )
        except websocket.WebSocketBadStatusException as exc:
            raise refusal(exc.status_code, getattr(exc, "resp_body", b""), what) from None
        except (websocket.WebSocketException, OSError) as exc:
            raise _unreachable(self.host, str(exc) or type(exc).__name__) from None

    def _headers(self) -> dict[str, str]:
        """Our credentials; asked for again for each request, since the client renews what it can."""
        headers = {"User-Agent": "godel.postgres_runbook"}
        for setting in self._configuration.auth_settings().values():
            if setting.get("value"):
                headers["Authorization"] = setting["value"]
        return headers

    def _ssl_options(self) -> dict[str, Any]:
        configuration = self._configuration
        options: dict[str, Any] = {}
        if not configuration.verify_ssl:
            options.update(cert_reqs=ssl.CERT_NONE, check_hostname=False)
        elif configuration.ssl_ca_cert:
            options.update(cert_reqs=ssl.CERT_REQUIRED, ca_certs=configuration.ssl_ca_cert)
        if getattr(configuration, "tls_server_name", None):
            options["server_hostname"] = configuration.tls_server_name
        if configuration.cert_file:
            options.update(certfile=configuration.cert_file, keyfile=configuration.key_file)
        return options

    def _proxy_options(self) -> dict[str, Any]:
        proxy = urlsplit(self._configuration.proxy or "")
        if not proxy.hostname:
            return {}
        return {
            "http_proxy_host": proxy.hostname,
            "http_proxy_port": proxy.port or 3128,
            "http_no_proxy": [name for name in (self._configuration.no_proxy or "").split(",") if name],
            "proxy_type": "http",
        }


@contextmanager
def connect(params: Mapping[str, Any] | None) -> Iterator[Cluster]:
    """A cluster for as long as a module needs it, by its option `kubernetes`.

    Raises:
        InvalidInput: the option is not there.
    """
    if not params:
        raise InvalidInput(
            "kubernetes is missing",
            why="it selects the cluster and the pod",
            remedy="Set postgres_kubernetes in the inventory.",
        )
    cluster = Cluster(ClusterOptions.from_params(params))
    try:
        yield cluster
    finally:
        cluster.close()


def is_passing(exc: RunbookError) -> bool:
    """Whether an error may pass in a moment: the API server does not answer, or is overloaded."""
    if isinstance(exc, ClusterUnreachable):
        return True
    return isinstance(exc, ClusterRefused) and exc.details.get("status") in _OVERLOADED


def patiently(attempt: Callable[[], _T], patience_s: float = PATIENCE_S) -> _T:
    """Repeat what a restart of the API server breaks, until `patience_s` seconds are over."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return attempt()
        except RunbookError as exc:
            if not is_passing(exc) or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_S)


def refusal(status: int, body: object, action: str) -> RunbookError:
    """The error for an answer of the API server that is none of 2xx. The body is a `Status` object, or anything."""
    message = _message(body) or f"HTTP status {status}"
    if status == 404:
        return ObjectNotFound(
            "The cluster has no such object", subject=action, why=message, remedy="Check the name and the namespace."
        )
    remedies = {
        401: "The credentials are invalid or have expired: renew them, then run again.",
        403: "Grant the right (docs/kubernetes.md names the file for each playbook), then run again.",
    }
    return ClusterRefused(
        "The API server refuses a request",
        subject=action,
        why=message,
        remedy=remedies.get(status, ""),
        details={"status": status},
    )


def _message(body: object) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:500]


def _unreachable(host: str, why: str) -> ClusterUnreachable:
    return ClusterUnreachable(
        "The API server cannot be reached",
        subject=host,
        why=" ".join(why.split()),
        remedy="Check the kubeconfig, the context and the network, then run again.",
    )


def _configure(options: ClusterOptions) -> Any:
    try:
        from kubernetes import config
        from kubernetes.client.configuration import Configuration
        from kubernetes.config.config_exception import ConfigException
    except ImportError as exc:
        raise MissingLibrary(
            "The Python library kubernetes is missing",
            subject="this host",
            why=str(exc),
            remedy="Install it for the Python that ansible_python_interpreter names.",
        ) from None
    configuration = Configuration()
    try:
        if not (options.api_key and "host" in options.overrides):  # then all is said
            _load(config, options, configuration)
    except (ConfigException, OSError, TypeError, ValueError, KeyError) as exc:
        raise InvalidInput(
            "The kubeconfig cannot be used",
            subject=str(options.kubeconfig) if isinstance(options.kubeconfig, str) else "",
            why=str(exc),
            remedy="Set kubeconfig and context, or host and api_key.",
        ) from None
    for attribute, value in options.overrides.items():
        setattr(configuration, attribute, value)
    if options.api_key:
        configuration.refresh_api_key_hook = None
        configuration.api_key = {"authorization": f"Bearer {options.api_key}"}
    return configuration


def _load(config: Any, options: ClusterOptions, configuration: Any) -> None:
    wanted = {"context": options.context, "client_configuration": configuration}
    if isinstance(options.kubeconfig, Mapping):
        config.load_kube_config_from_dict(dict(options.kubeconfig), persist_config=False, **wanted)
        return
    if options.kubeconfig is None and options.context is None:
        try:
            config.load_incluster_config(client_configuration=configuration)
            return
        except config.ConfigException:
            pass  # not in a pod
    config.load_kube_config(config_file=options.kubeconfig, persist_config=False, **wanted)
