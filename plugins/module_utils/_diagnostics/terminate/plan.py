# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom to end: sessions by their name, which is a pid and a start, or those that a rule means. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..._errors import InvalidInput
from ..._units import parse_duration

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\s*(?:(Z)|([+-])(\d\d):?(\d\d)?)?", re.IGNORECASE
)
_DURATIONS = {"idle_in_transaction_over": "idle_s", "blocking_over": "blocking_s", "query_over": "query_s"}
_NAMES = ("application", "user", "database", "client_addr")


@dataclass(frozen=True)
class SessionName:
    """What tells a session from all others, before and after it: pids are used again.

    Attributes:
        pid: its process.
        start: when it was started.
        exact: whether `start` has the fractions of the second; otherwise it stands for the whole second.
    """

    pid: int
    start: datetime
    exact: bool

    @classmethod
    def parse(cls, pid: int, text: str) -> SessionName:
        """From the option, as pg_activity_info returns it or psql shows it. Without a time zone it is UTC.

        Raises:
            InvalidInput: the text is not a moment, or the pid not one.
        """
        match = _MOMENT.fullmatch(text.strip())
        if pid < 1 or match is None:
            raise InvalidInput(
                "sessions has what is no session",
                subject=f"pid {pid}, backend_start {text!r}",
                remedy="Give them as pg_activity_info returns them, for example 2026-02-06T03:04:05.678901Z.",
            )
        day, clock, fraction, _zulu, sign, hours, minutes = match.groups()
        try:
            start = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        except ValueError as exc:
            raise InvalidInput("backend_start is not a time", subject=text, why=str(exc)) from None
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
            start = start - offset if sign == "+" else start + offset
        return cls(pid, start + timedelta(microseconds=int((fraction or "0").ljust(6, "0"))), fraction is not None)

    def matches(self, started: datetime) -> bool:
        """Whether a session that was started then is this one."""
        return started == self.start if self.exact else started.replace(microsecond=0) == self.start


@dataclass(frozen=True)
class TerminatePlan:
    """Whom to end, and how patiently.

    Attributes:
        sessions: those, whatever they do. Otherwise all whom every given condition of the rule means.
        idle_s: idle in a transaction for longer than this.
        blocking_s: the cause that somebody has waited for a lock for longer than this.
        query_s: busy with one query for longer than this.
        application, user, database, client_addr: exactly this; an address may be a network, or `local`.
        include_superusers, include_replication, include_background: whom a rule may mean, too.
        include_procedures: whether sessions of a running backup or another procedure may be ended, named or not.
        grace_s: how long a query may take to end after it was cancelled; 0 to terminate at once.
        timeout_s: how long to wait until those who were terminated are gone.
        max_sessions: end nobody when more are meant.
    """

    sessions: Sequence[SessionName] = ()
    idle_s: float | None = None
    blocking_s: float | None = None
    query_s: float | None = None
    application: str | None = None
    user: str | None = None
    database: str | None = None
    client_addr: str | None = None
    include_superusers: bool = False
    include_replication: bool = False
    include_background: bool = False
    include_procedures: bool = False
    grace_s: float = 5.0
    timeout_s: float = 10.0
    max_sessions: int = 100
    query_length: int = 500

    @property
    def judges_state(self) -> bool:
        """Whether the rule asks what a session does."""
        return any(each is not None for each in (self.idle_s, self.query_s, self.client_addr))

    def expected(self, active: bool) -> str:
        """What will probably become of a session: cancelling a query is enough for a rule about queries."""
        cancel = active and self.grace_s > 0 and (self.query_s is not None or self.blocking_s is not None)
        return "cancelled" if cancel else "terminated"

    def parameters(self) -> dict[str, object]:
        """For the statements."""
        return {
            "pids": [each.pid for each in self.sessions] if self.sessions else None,
            "procedures": self.include_procedures,
            **{name: getattr(self, name) for name in (*_DURATIONS.values(), *_NAMES, "query_length")},
        }


def whom(sessions: Sequence[Mapping[str, Any]], rule: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plan that says whom, from the options.

    Raises:
        InvalidInput: nobody is named and no condition given, or both, or one without a value, or what can never be.
    """
    given = {name: value for name, value in rule.items() if value is not None}
    empty = [f"rule.{name}" for name in sorted(given) if not str(given[name]).strip()]
    if empty:  # as when a variable of a script is not set
        raise InvalidInput(
            "A condition has no value",
            subject=", ".join(empty),
            why="without it the rule would mean more sessions",
            remedy="Give it a value, or leave it out.",
        )
    names = [SessionName.parse(each["pid"], each["backend_start"]) for each in sessions]
    if bool(names) == bool(given):
        what = "Both sessions and rule say whom to end" if names else "Nothing says whom to end"
        raise InvalidInput(what, remedy="Give either sessions, or at least one condition in rule.")
    if "idle_in_transaction_over" in given and "query_over" in given:
        raise InvalidInput(
            "The rule means nobody",
            why="no session is idle in a transaction and busy with a query",
            remedy="Run it once for each condition: those of one rule must all be met.",
        )
    address = given.get("client_addr")
    if address is not None and address != "local":
        try:
            address = str(ipaddress.ip_network(address, strict=False))
        except ValueError:
            remedy = "Use an address such as 192.0.2.7, a network such as 192.0.2.0/24, or local for Unix sockets."
            raise InvalidInput("rule.client_addr is not an address", subject=str(address), remedy=remedy) from None
    durations = {
        field: parse_duration(given[option], f"rule.{option}")
        for option, field in _DURATIONS.items()
        if option in given
    }
    names_ = {name: given[name] for name in _NAMES if name in given}
    return {"sessions": tuple(names), **durations, **names_, **({"client_addr": address} if address else {})}
