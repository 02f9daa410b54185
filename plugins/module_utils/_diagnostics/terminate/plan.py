# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sessions to end: by their name, which is a pid and a start, or those that a rule means. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ..._errors import InvalidInput
from ..._plan import Plan

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\s*(?:(Z)|([+-])(\d\d):?(\d\d)?)?", re.IGNORECASE
)


@dataclass(frozen=True)
class SessionName:
    """Identifies a session among all others, before and after it: pids are reused.

    Attributes:
        pid: its process.
        start: when it was started.
        exact: whether `start` has the fractions of the second; otherwise it stands for the whole second.
    """

    pid: int
    start: datetime
    exact: bool

    @classmethod
    def parse(cls, pid: int, text: str, option: str = "sessions") -> SessionName:
        """From the option, as pg_activity_info returns it or psql shows it. Without a time zone it is UTC.

        Raises:
            InvalidInput: the text is not a moment, or the pid not one.
        """
        match = _MOMENT.fullmatch(text.strip())
        if pid < 1 or match is None:
            raise InvalidInput(
                f"Invalid {option}",
                subject=f"pid {pid}, backend_start {text!r}",
                why="each entry needs the pid and the backend_start of a session",
                remedy="Give them as pg_activity_info returns them, for example 2026-02-06T03:04:05.678901Z.",
            )
        day, clock, fraction, _zulu, sign, hours, minutes = match.groups()
        try:
            start = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        except ValueError as exc:
            raise InvalidInput(f"Invalid {option}.backend_start", subject=repr(text), why=str(exc)) from None
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
            start = start - offset if sign == "+" else start + offset
        return cls(pid, start + timedelta(microseconds=int((fraction or "0").ljust(6, "0"))), fraction is not None)

    def matches(self, started: datetime) -> bool:
        """Whether a session that was started then is this one."""
        return started == self.start if self.exact else started.replace(microsecond=0) == self.start


@dataclass(frozen=True)
class Rule(Plan):
    """A session matches if it meets all conditions. A condition that is None is ignored.

    Attributes:
        idle_in_transaction_over_s: idle in a transaction for longer than this.
        blocking_over_s: at the root of a lock wait that is longer than this.
        query_over_s: busy with one query for longer than this.
        application, user, database, client_addr: exactly this; an address may be a network, or `local`.
    """

    idle_in_transaction_over_s: float | None = None
    blocking_over_s: float | None = None
    query_over_s: float | None = None
    application: str | None = None
    user: str | None = None
    database: str | None = None
    client_addr: str | None = None

    @property
    def asks(self) -> bool:
        """Whether there is any condition."""
        return any(each is not None for each in astuple(self))


@dataclass(frozen=True)
class TerminatePlan(Plan):
    """Which sessions to end, and how patiently.

    Attributes:
        sessions: these, whatever they do. Otherwise those that the rule means.
        include_superusers, include_replication, include_background: which others a rule may mean.
        include_procedures: whether sessions of a running backup or another procedure may be ended, named or not.
        grace_s: how long a query may take to end after it was cancelled; 0 to terminate at once.
        timeout_s: how long to wait until sessions that were terminated have ended.
        max_sessions: end none when more are meant.
        query_length: how many bytes of a query are shown.
    """

    sessions: Sequence[SessionName] = ()
    rule: Rule = field(default_factory=Rule)
    include_superusers: bool = False
    include_replication: bool = False
    include_background: bool = False
    include_procedures: bool = False
    grace_s: float = 5.0
    timeout_s: float = 10.0
    max_sessions: int = 100
    query_length: int = 500

    def check(self) -> None:
        """Raise InvalidInput if the plan selects no session, or is ambiguous."""
        if bool(self.sessions) == self.rule.asks:
            both = bool(self.sessions)
            raise InvalidInput(
                "Invalid sessions and rule",
                why="both say which sessions to end" if both else "neither says which sessions to end",
                remedy="Give either sessions, or at least one condition in rule.",
            )
        if self.rule.idle_in_transaction_over_s is not None and self.rule.query_over_s is not None:
            raise InvalidInput(
                "Invalid rule",
                why="no session is both idle in a transaction and busy with a query",
                remedy="Run it once for each condition: a session has to meet all conditions of a rule.",
            )

    @property
    def judges_state(self) -> bool:
        """Whether the rule asks what a session does."""
        rule = self.rule
        return any(each is not None for each in (rule.idle_in_transaction_over_s, rule.query_over_s, rule.client_addr))

    def expected(self, active: bool) -> str:
        """What will probably become of a session: cancelling a query is enough for a rule about queries."""
        rule = self.rule
        cancel = active and self.grace_s > 0 and (rule.query_over_s is not None or rule.blocking_over_s is not None)
        return "cancelled" if cancel else "terminated"

    def parameters(self) -> dict[str, object]:
        """For the statements."""
        return {
            "pids": [each.pid for each in self.sessions] if self.sessions else None,
            "procedures": self.include_procedures,
            "query_length": self.query_length,
            **vars(self.rule),
        }


def read_sessions(value: Sequence[Mapping[str, Any]], option: str) -> tuple[SessionName, ...]:
    """The option `sessions`. Raises InvalidInput for what is no name of a session."""
    return tuple(SessionName.parse(each["pid"], each["backend_start"], option) for each in value)


def read_client(value: str, option: str) -> str:
    """The option `rule.client_addr`. Raises InvalidInput for what is neither an address, nor a network, nor `local`."""
    if value == "local":
        return value
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise InvalidInput(
            f"Invalid {option}",
            subject=repr(value),
            why="it is not an address",
            remedy="Use an address such as 192.0.2.7, a network such as 192.0.2.0/24, or local for Unix sockets.",
        ) from None
