"""Errors as the API server words them: a Status object with a code, a reason and details."""

from __future__ import annotations

import json
from typing import Any

from tests.standin.kinds import Kind

PHRASES = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def encode(value: Any) -> bytes:
    """Return JSON as Go writes it: compact, three characters escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


class ApiError(Exception):
    """An answer that is not a success; ``body`` is a Status object, or text for the few errors without one."""

    def __init__(
        self, code: int, body: dict[str, Any] | str, *, close: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(f"{code} {body if isinstance(body, str) else body.get('message')}")
        self.code = code
        self.body = body
        self.close = close
        self.retry_after = retry_after


def failure(code: int, reason: str, message: str, details: dict[str, Any] | None = None, **extra: Any) -> ApiError:
    """Return an error whose body is a Status."""
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details is not None:
        body["details"] = details
    body["code"] = code
    return ApiError(code, body, **extra)


def details_of(kind: Kind, name: str = "", subresource: str = "") -> dict[str, Any]:
    """Return the details that name an object, its group and its kind (in the plural, as the server does)."""
    details: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    details["kind"] = f"{kind.plural}/{subresource}" if subresource else kind.plural
    return details


def qualified(kind: Kind, subresource: str = "") -> str:
    """Return ``deployments.apps`` or ``pods``."""
    plural = f"{kind.plural}/{subresource}" if subresource else kind.plural
    return f"{plural}.{kind.group}" if kind.group else plural


def bad_request(message: str) -> ApiError:
    return failure(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return failure(401, "Unauthorized", "Unauthorized")


def forbidden(kind: Kind, name: str, user: str, verb: str, subresource: str, namespace: str) -> ApiError:
    """The refusal of a request about an object, as RBAC words it."""
    resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
    where = f"in the namespace {json.dumps(namespace)}" if namespace else "at the cluster scope"
    named = f"{qualified(kind)} {json.dumps(name)}" if name else qualified(kind)
    message = (
        f'{named} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "{kind.group}" {where}'
    )
    return failure(403, "Forbidden", message, details_of(kind, name))


def forbidden_path(user: str, verb: str, path: str) -> ApiError:
    return failure(403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"', {})


def not_found(kind: Kind, name: str, subresource: str = "") -> ApiError:
    message = f'{qualified(kind, subresource)} "{name}" not found'
    return failure(404, "NotFound", message, details_of(kind, name, subresource))


def no_such_path() -> ApiError:
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return failure(405, "MethodNotAllowed", message, {})


def already_exists(kind: Kind, name: str) -> ApiError:
    message = f'{qualified(kind)} "{name}" already exists'
    return failure(409, "AlreadyExists", message, details_of(kind, name))


def conflict(kind: Kind, name: str) -> ApiError:
    message = (
        f'Operation cannot be fulfilled on {qualified(kind)} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return failure(409, "Conflict", message, details_of(kind, name))


def expired(wanted: int, oldest: int) -> ApiError:
    return failure(410, "Expired", f"too old resource version: {wanted} ({oldest})")


def unsupported_media_type() -> ApiError:
    return failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


def invalid(group: str, kind: str, name: str, *causes: tuple[str, str, str]) -> ApiError:
    """Return 422; each cause is (reason, message, field)."""
    told = [f"{field}: {message}" for dummy, message, field in causes]
    message = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = kind
    details["causes"] = [{"reason": reason, "message": cause, "field": field} for reason, cause, field in causes]
    owner = f"{kind}.{group}" if group else kind
    return failure(422, "Invalid", f'{owner} "{name}" is invalid: {message}', details)


_CANNED = {
    400: ("BadRequest", "the request is bad"),
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "forbidden on purpose"),
    404: ("NotFound", "not found on purpose"),
    409: (
        "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    ),
    410: ("Expired", "The provided continue parameter is too old"),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "Internal error occurred: on purpose"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "request did not complete within the allotted timeout"),
}


def canned(code: int, message: str | None = None, retry_after: int | None = None) -> ApiError:
    """Return an error of this code for a fault injected by a test."""
    reason, text = _CANNED.get(code, ("Unknown", "an error on purpose"))
    details = {"retryAfterSeconds": retry_after} if retry_after is not None else None
    return failure(code, reason, message or text, details, retry_after=retry_after)
