# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the controller, below the directory of the reports."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def host_folder(directory: str, host: str) -> str:
    """The host's own directory. A name in the inventory may have any character; it is one directory all the same."""
    return os.path.join(os.path.abspath(os.path.expanduser(directory)), one_part(host))


def one_part(name: str) -> str:
    """The name as one part of a path, which leads nowhere else."""
    return name.replace(os.sep, "_") if name not in (os.curdir, os.pardir) else "_"


def replace_text(path: str, text: str) -> None:
    """Replace the file at once: a reader sees the old one or the new one."""
    handle, draft = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


@contextmanager
def alone(folder: str) -> Iterator[None]:
    """Be the only process that reads a file of the folder and replaces it, so that no sample is lost.

    The lock ends with us, even if we are killed.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
