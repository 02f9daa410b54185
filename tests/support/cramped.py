"""A server with a small disk: a tablespace on a file system of some megabytes, which only the server sees."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.databases import Database, new_database
from tests.support.programs import Installation
from tests.support.servers import Server, default_installation
from tests.support.workspace import run_user, workspace

TABLESPACE = "cramped"


@contextlib.contextmanager
def cramped(megabytes: int = 12) -> Iterator[Database]:
    """A database that has a tablespace ``cramped`` on such a disk."""
    root = Path(tempfile.mkdtemp(prefix="cramped-", dir=workspace()))
    root.chmod(0o755)
    space, folder = root / "space", root / "bin"
    space.mkdir()
    folder.mkdir()
    mine = default_installation()
    for program in mine.bin_dir.iterdir():
        if program.name != "postgres":
            (folder / program.name).symlink_to(program)
    user = run_user()
    uid, gid = (user.pw_uid, user.pw_gid) if user else (os.getuid(), os.getgid())
    # Root in a namespace, for the mount alone: PostgreSQL would refuse it.
    mount = f"mount -t tmpfs -o size={megabytes}m,mode=700 tmpfs {shlex.quote(str(space))} || exit 99"
    server = f'exec unshare --user --map-user={uid} --map-group={gid} {mine.bin_dir}/postgres "$@"'
    wrapper = folder / "postgres"
    wrapper.write_text(f'#!/bin/sh\nexec unshare -rm sh -c {shlex.quote(f"{mount}; {server}")} sh "$@"\n')
    wrapper.chmod(0o755)
    there = Installation(mine.major, folder, "of this machine, with a small disk", has_clients=True)
    try:
        with Server(there, own_identity=True) as small:
            database = new_database(small)
            database.execute(f"CREATE TABLESPACE {TABLESPACE} LOCATION '{space}'")
            yield database
    finally:
        shutil.rmtree(root, ignore_errors=True)
