# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find PostgreSQL's programs on a target: the right major, and not a wrapper when there is a real one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .._errors import CommandFailed, InvalidInput, ProgramMissing
from .._target.base import Target

# Where the packages of PostgreSQL put their programs: Debian and Ubuntu, PGDG for RHEL and SUSE, Alpine, Arch,
# source builds and container images. The plain PATH comes last: there Debian has a wrapper that picks a cluster.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/lib/postgresql*/bin",
    "/usr/libexec/postgresql*",
    "/opt/bitnami/postgresql/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/usr/bin",
)
_OLDEST_MAJOR = 13  # the oldest server that this collection knows
CLIENT = ("pg_dump", "pg_dumpall", "pg_restore", "psql")
SCRATCH = (*CLIENT, "initdb", "pg_resetwal", "postgres")


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs of one version.

    Attributes:
        bin_dir: their directory.
        version: as pg_dump prints it, for example `15.18`.
        major: for example 15.
    """

    bin_dir: str
    version: str
    major: int

    def path(self, program: str) -> str:
        """The absolute path of a program."""
        return f"{self.bin_dir}/{program}"


def inspect(target: Target, bin_dir: str, needed: Sequence[str]) -> Programs | None:
    """The programs in a directory, or None if one of `needed` is not there or does not run."""
    if any(target.files.info(f"{bin_dir}/{program}") is None for program in needed):
        return None
    try:
        answer = target.run([f"{bin_dir}/pg_dump", "--version"], timeout=30).text
    except (CommandFailed, ProgramMissing, InvalidInput):  # the last: not in a format that can be executed
        return None
    found = re.search(r"\(PostgreSQL\) ((\d+)[.\w]*)", answer)
    return Programs(bin_dir, found.group(1), int(found.group(2))) if found else None


def find(target: Target, major: int, *, bin_dir: str | None, needed: Sequence[str], purpose: str) -> Programs:
    """The programs of this major, or else of the next newer one that has all that is needed.

    Raises:
        ProgramMissing: none is there, or only older ones; the message says which package to install.
    """
    found = _installed(target, bin_dir, needed)
    usable = sorted((programs for programs in found if programs.major >= major), key=lambda programs: programs.major)
    if usable:
        return usable[0]
    if found:
        best = max(found, key=lambda programs: programs.major)
        why = f"only version {best.version} was found (in {best.bin_dir}), which is older than {major}"
    elif bin_dir:
        why = f"{bin_dir} does not have all of {', '.join(needed)}"
    else:
        why = f"no directory on {target.name} has all of {', '.join(needed)}"
    package = "postgresql" if "initdb" in needed else "postgresql-client"
    raise ProgramMissing(
        f"There are no PostgreSQL programs of version {major} or newer {purpose}",
        subject=target.name,
        why=why,
        remedy=f"Install the package {package}-{major}, or name the directory of newer programs with bin_dir.",
    )


def find_newest(target: Target, *, bin_dir: str | None, needed: Sequence[str], purpose: str) -> Programs:
    """The newest programs that are there. Raises ProgramMissing as `find` does."""
    found = _installed(target, bin_dir, needed)
    newest = max((programs.major for programs in found), default=_OLDEST_MAJOR)
    return find(target, newest, bin_dir=bin_dir, needed=needed, purpose=purpose)


def _installed(target: Target, bin_dir: str | None, needed: Sequence[str]) -> list[Programs]:
    places = [bin_dir] if bin_dir else [place for pattern in _PLACES for place in target.files.glob(pattern)]
    return [programs for place in places if (programs := inspect(target, place, needed)) is not None]
