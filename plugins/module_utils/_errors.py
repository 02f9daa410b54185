# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error tree of the collection.

Every error says *what* failed, on *what* subject, *why*, and the *safe next step*. The four parts are fields,
so that a caller can judge an error without reading its text, and the text is composed in one place only.
"""

from __future__ import annotations

from collections.abc import Mapping


class RunbookError(Exception):
    """Base of every error that the collection raises on purpose.

    Attributes:
        what: the action that failed, as a short sentence without a full stop.
        subject: the thing it failed on (a database, a path, a backup id); may be empty.
        why: the cause as the server or the operating system said it; may be empty.
        remedy: the safe next step for the operator; may be empty.
        details: further figures for the module's result. JSON-serialisable, never a secret.
    """

    def __init__(
        self,
        what: str,
        *,
        subject: str = "",
        why: str = "",
        remedy: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        self.what = what
        self.subject = subject
        self.why = why.strip()
        self.remedy = remedy
        self.details: dict[str, object] = dict(details or {})
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole text: what, on what, why, and what to do next."""
        text = self.what
        if self.subject:
            text += f" ({self.subject})"
        if self.why:
            text += f": {self.why}"
        text = text.rstrip(".") + "."
        return f"{text} {self.remedy}" if self.remedy else text

    def as_result(self) -> dict[str, object]:
        """The fields for a module's failure result."""
        return {
            "error": {
                "kind": type(self).__name__,
                "what": self.what,
                "subject": self.subject,
                "why": self.why,
                "remedy": self.remedy,
                **self.details,
            }
        }


class Interrupted(BaseException):
    """A signal asked us to end. Not an Exception, so that no handler but the module's stops it.

    `left` is a text for people on what was left on purpose; empty if nothing was.
    """

    left = ""


class InvalidInput(RunbookError):
    """A parameter has a value that cannot work; nothing was touched."""


class MissingLibrary(RunbookError):
    """A Python library that the module needs is not on the target."""


class ConnectionFailed(RunbookError):
    """The server cannot be reached or refuses the login."""


class QueryFailed(RunbookError):
    """The server refused or aborted a statement. `details["sqlstate"]` has the SQLSTATE, if there is one.

    `details["context"]` is the function in which it failed, if any; `raised`: that function chose the SQLSTATE.
    """


class ProgramMissing(RunbookError):
    """A PostgreSQL program is not on the target, or is too old for the server."""


class CommandFailed(RunbookError):
    """A program ended with another status than 0. `details` has `returncode` and the tail of its messages."""


class FileProblem(RunbookError):
    """A path of the target cannot be read, written, created or removed."""


class NotEnoughSpace(RunbookError):
    """The preflight found too little space, or a disk filled up. Nothing complete-looking was left."""


class Locked(RunbookError):
    """Another run is doing the same work on the same subject."""


class BackupNotFound(RunbookError):
    """The catalog has no such backup."""


class ManifestProblem(RunbookError):
    """A manifest cannot be read, was edited, or belongs elsewhere: the backup cannot be trusted."""


class ProofFailed(RunbookError):
    """What was restored, or is to be, is not proven to be what its source was. Production was not touched."""


class SwapFailed(RunbookError):
    """Two databases could not exchange their names; the one in production is still there under its name."""


class NewerManifest(ManifestProblem):
    """A manifest comes from a newer version of the collection: nothing is known against the backup."""


class ClusterUnreachable(RunbookError):
    """The Kubernetes API server does not answer, or the connection to it was cut."""


class ClusterRefused(RunbookError):
    """The API server refuses a request: no right, no valid login, or overloaded. `details` has the HTTP `status`."""


class ObjectNotFound(RunbookError):
    """The cluster has no such object, or none in this namespace."""


class WorkloadProblem(RunbookError):
    """The workload has no pod to work in: none is ready, several are, or the one that was used no longer exists."""


class JobFailed(RunbookError):
    """A Job of the cluster failed, was deleted, or did not end in time. `details` has the end of its `log`."""
