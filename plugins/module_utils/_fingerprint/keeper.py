# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a snapshot where no lost connection can end it: in a psql that runs beside the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .._db import Server
from .._errors import QueryFailed
from .._sql import fingerprint as sql

_PATIENCE_S = 60
_POLL_S = 0.1
# What psql waits for inside of its transaction: the end of the file, or its own. POSIX sh, constant text.
_WAIT = r"\! while [ -e "
_UNTIL_GONE = r" ] && kill -0 $PPID; do sleep 1; done"


@contextmanager
def held(server: Server, db: str, psql: str, directory: str) -> Iterator[str]:
    """A transaction that exports its snapshot and stays open; yields the snapshot's name.

    Args:
        psql: the program's path on the target.
        directory: where one of our own may be made on the target, whose removal ends the transaction. Only one run at a
            time may use it: what a dead one left there is removed.

    Raises:
        QueryFailed: the transaction could not begin.
    """
    files = server.target.files
    home = f"{directory}/.snapshot"
    flag, log = f"{home}/flag", f"{home}/log"
    files.remove_tree(home)
    files.make_dir(home)
    files.write(flag, b"")
    job = server.target.spawn(
        [
            psql, "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align",
            "--set=ON_ERROR_STOP=1", f"--dbname={server.login.conninfo(db)}",
            "--command=SET idle_in_transaction_session_timeout = 0", "--command=SET statement_timeout = 0",
            f"--command=DO $$ BEGIN PERFORM * FROM ({sql.NO_TIMEOUTS.strip()}) AS timeouts; END $$",
            f"--command={sql.BEGIN}", f"--command={sql.EXPORT_SNAPSHOT}",
            f"--command={_WAIT}'{_quoted(flag)}'{_UNTIL_GONE}",
        ],
        env=server.login.environ(),
        log=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not files.read(log).endswith(b"\n"):
            if job.wait(_POLL_S) is not None or time.monotonic() > deadline:
                raise QueryFailed(
                    "The snapshot cannot be taken",
                    subject=f"{db!r} on {server.target.name}",
                    why=job.tail(),
                    remedy="See the server's log for the reason, then run again.",
                )
        yield files.read(log).decode().splitlines()[-1].strip()
    finally:
        files.remove_tree(flag)
        if job.wait(_POLL_S * 50) is None:
            job.stop()
        files.remove_tree(home)


def _quoted(path: str) -> str:
    return path.replace("'", "'\\''")
