"""Nasty things on purpose: what a test has switched on, and what of it concerns a request."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.standin.errors import ApiError, canned


@dataclass
class Request:
    """One request that arrived, without its credentials. ``status`` is 0 until it is answered."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)
    user: str = ""
    status: int = 0
    body: bytes = b""

    @property
    def argv(self) -> list[str]:
        """The command of an exec."""
        return [value for name, value in self.query if name == "command"]

    def asked(self, name: str) -> str:
        """Return the last value of a query parameter, or ''."""
        return next((value for key, value in reversed(self.query) if key == name), "")


@dataclass(frozen=True)
class StreamFaults:
    """What happens to one exec or port-forward; counts are bytes of payload."""

    false_success_after: int | None = None
    cut_out_after: int | None = None
    cut_in_after: int | None = None
    stdin_ends_after: int | None = None
    bytes_per_s: float | None = None
    frame_delay_s: float = 0.0

    def __or__(self, other: StreamFaults) -> StreamFaults:
        fields = {**vars(self)}
        fields |= {name: value for name, value in vars(other).items() if value != vars(NONE)[name]}
        return StreamFaults(**fields)


NONE = StreamFaults()


@dataclass
class _Rule:
    matches: Callable[[Request], bool]
    times: int | None
    effect: ApiError | float | StreamFaults

    def take(self, request: Request) -> bool:
        """Tell whether it concerns this request, and count it."""
        if self.times == 0 or not self.matches(request):
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """What goes wrong on purpose. Every method may be called from the test's thread.

    ``method`` is an HTTP method, ``path`` a regular expression searched for in the path, ``argv`` one
    searched for in the command of an exec (joined with spaces); ``times`` is for how many requests, None
    for all from now on.
    """

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def answer(
        self,
        code: int,
        *,
        times: int | None = 1,
        method: str | None = None,
        path: str | None = None,
        message: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Answer the next requests with this error."""
        self._add(_match(method, path, None), times, canned(code, message, retry_after))

    def delay(
        self, seconds: float, *, times: int | None = 1, method: str | None = None, path: str | None = None
    ) -> None:
        """Answer the next requests late."""
        self._add(_match(method, path, None), times, float(seconds))

    def false_success(self, after_bytes: int, *, times: int | None = 1, argv: str | None = None) -> None:
        """End an exec with Success after so many bytes of standard output; its process lives on."""
        self._stream(StreamFaults(false_success_after=after_bytes), times, r"/exec$", argv)

    def cut_stdin(self, after_bytes: int, *, times: int | None = 1, argv: str | None = None) -> None:
        """End the standard input of an exec after so many bytes, without an error."""
        self._stream(StreamFaults(stdin_ends_after=after_bytes), times, r"/exec$", argv)

    def cut(
        self,
        after_bytes: int,
        direction: str = "out",
        *,
        times: int | None = 1,
        argv: str | None = None,
        path: str = r"/(exec|portforward)$",
    ) -> None:
        """Cut the TCP connection of a stream after so many bytes to the client (out) or from it (in)."""
        if direction not in ("in", "out"):
            raise ValueError(f"direction must be 'in' or 'out', not {direction!r}")
        fault = StreamFaults(cut_in_after=after_bytes) if direction == "in" else StreamFaults(cut_out_after=after_bytes)
        self._stream(fault, times, path, argv)

    def slow(
        self,
        *,
        bytes_per_s: float | None = None,
        frame_delay_s: float = 0.0,
        times: int | None = 1,
        argv: str | None = None,
        path: str = r"/(exec|portforward)$",
    ) -> None:
        """Send the frames of a stream slowly."""
        self._stream(StreamFaults(bytes_per_s=bytes_per_s, frame_delay_s=frame_delay_s), times, path, argv)

    def clear(self) -> None:
        """Let everything work again."""
        with self._lock:
            self._rules.clear()

    # --- for the server

    def of_request(self, request: Request) -> tuple[float, ApiError | None]:
        """Return by how much an answer is late, and the error to answer instead."""
        delay, error = 0.0, None
        with self._lock:
            for rule in self._rules:
                if isinstance(rule.effect, StreamFaults) or (error and isinstance(rule.effect, ApiError)):
                    continue
                if rule.take(request):
                    if isinstance(rule.effect, ApiError):
                        error = rule.effect
                    else:
                        delay += rule.effect
        return delay, error

    def of_stream(self, request: Request) -> StreamFaults:
        """Return what goes wrong with this exec or port-forward."""
        faults = NONE
        with self._lock:
            for rule in self._rules:
                if isinstance(rule.effect, StreamFaults) and rule.take(request):
                    faults |= rule.effect
        return faults

    def _stream(self, fault: StreamFaults, times: int | None, path: str, argv: str | None) -> None:
        self._add(_match(None, path, argv), times, fault)

    def _add(
        self, matches: Callable[[Request], bool], times: int | None, effect: ApiError | float | StreamFaults
    ) -> None:
        with self._lock:
            self._rules.append(_Rule(matches, times, effect))


def _match(method: str | None, path: str | None, argv: str | None) -> Callable[[Request], bool]:
    def matches(request: Request) -> bool:
        return (
            (method is None or request.method == method.upper())
            and (path is None or re.search(path, request.path) is not None)
            and (argv is None or re.search(argv, " ".join(request.argv)) is not None)
        )

    return matches
