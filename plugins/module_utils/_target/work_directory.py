# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private directory on a target that is removed whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from .._errors import FileProblem, Locked
from .base import Target

PREFIX = "pg_runbook_scratch_"

_ASIDE_S = 600


@contextmanager
def work_directory(target: Target, directory: str) -> Iterator[str]:
    """A private directory below `directory`; removed whatever happens, at the latest by the next run's sweep.

    It has its name only while its lock is held, so that who finds one without a holder may remove it.
    """
    sweep(target, directory)
    name = f"{PREFIX}{uuid4().hex[:12]}"
    path, aside = f"{directory.rstrip('/')}/{name}", f"{directory.rstrip('/')}/.{name}"
    try:
        target.files.make_dir(aside, target.unprivileged_user())
        with target.files.lock(f"{aside}/lock", "verification"):
            target.files.rename(aside, path)
            try:
                yield path
            finally:
                with suppress(FileProblem):  # another process removed it
                    target.files.rename(path, aside)
    finally:
        target.files.remove_tree(aside)


def sweep(target: Target, directory: str) -> list[str]:
    """Remove what killed runs left below a directory: their lock ended with them. Returns the removed paths."""
    removed = []
    parent = directory.rstrip("/")
    for home in target.files.glob(f"{_literal(parent)}/{PREFIX}*"):
        # A run at work holds the lock; another account's leftovers are not ours; another run may sweep, too.
        with suppress(Locked, FileProblem), target.files.lock(f"{home}/lock", "removal"):
            aside = f"{parent}/.{home.rsplit('/', 1)[-1]}"
            target.files.rename(home, aside)
            target.files.remove_tree(aside)
            removed.append(home)
    for aside in target.files.glob(f"{_literal(parent)}/.{PREFIX}*"):
        found = target.files.info(aside)
        if found is not None and time.time() - found.modified > _ASIDE_S:  # else another run removes it right now
            with suppress(FileProblem):
                target.files.remove_tree(aside)
                removed.append(aside)
    return removed


def _literal(path: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
