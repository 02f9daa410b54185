"""PgBouncer in front of a throwaway server, from Debian's package; nothing is installed on the machine."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.debian import NoPackage, unpacked
from tests.support.processes import die_with_the_parent, until
from tests.support.servers import Server, _as_run_user, _free_port
from tests.support.workspace import give, workspace

PACKAGES = ("pgbouncer", "libc-ares2", "libevent-2.1-7")
START_TIMEOUT_S = 30.0


@functools.cache
def program() -> tuple[Path, dict[str, str]]:
    """The program and the environment in which it finds its libraries, for as long as this process lives."""
    root = unpacked(PACKAGES, workspace() / "pgbouncer-package", "pgbouncer")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    libraries = os.pathsep.join(sorted({str(file.parent) for file in root.glob("usr/lib/**/*.so*")}))
    return root / "usr" / "sbin" / "pgbouncer", {**os.environ, "LD_LIBRARY_PATH": libraries}


@contextlib.contextmanager
def pgbouncer(server: Server, pool_mode: str = "transaction", pool_size: int = 5) -> Iterator[dict[str, object]]:
    """A PgBouncer for all databases of a server; yields its connection options for the modules."""
    path, environment = program()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=workspace()))
    port = _free_port()
    users, settings, log = folder / "users.txt", folder / "pgbouncer.ini", folder / "log"
    users.write_text(f'"{server.user}" "{server.password}"\n')
    settings.write_text(
        f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {users}\n"
        f"pool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\nlogfile = {log}\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    for each in (folder, users, settings):
        give(each)
    process = subprocess.Popen(
        [path, settings],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        preexec_fn=die_with_the_parent,  # noqa: PLW1509
        **_as_run_user(),
    )
    try:
        if (
            not until(lambda: process.poll() is not None or _answers(port), START_TIMEOUT_S)
            or process.poll() is not None
        ):
            told = log.read_text() if log.exists() else "it has said nothing"
            raise NoPackage(f"PgBouncer does not start: {told}")
        yield {"login_host": "127.0.0.1", "login_port": port}
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
