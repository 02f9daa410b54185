# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway PostgreSQL instance: its own data, its own socket, removed afterwards, never the production server."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from .._errors import CommandFailed, ConnectionFailed, InvalidInput
from .._postgres.connection import Login, Server
from .._postgres.programs import Programs
from .._target.base import BackgroundJob, Target

_START_TIMEOUT_S = 60
_SOCKET_PATH_LIMIT = 107  # sun_path: https://man7.org/linux/man-pages/man7/unix.7.html
# Below those that Linux gives to clients (ip_local_port_range); one that is taken shows when the server starts.
_FIRST_PORT, _PORTS = 16384, 16384
_PORT_TAKEN = "could not create any TCP/IP sockets"
_ATTEMPTS = 3
_MIB = 1024 * 1024
# A regclass of a dropped table is a bare OID. In a new instance, where OIDs begin low, it would soon be that of another
# table, and print as its name. OIDs begin where few clusters have come to.
_FIRST_OID = 0xC0000000
# Libraries that start no process of their own, so that queries may have parallel workers beside them.
_PASSIVE = ("auth_delay", "auto_explain", "passwordcheck", "pg_stat_statements", "pgaudit")


@dataclass(frozen=True)
class Preload:
    """Libraries that the source's server loads at its start, in their order, and the custom settings for them."""

    libraries: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def without(self, log: str) -> Preload:
        """The rest when a start with this log failed: without the libraries that it names, else without any."""
        left = [name for name in self.libraries if name not in log]
        return Preload(left, self.settings) if left and len(left) < len(self.libraries) else Preload()

    def as_settings(self) -> dict[str, str]:
        """Settings of the server. Nothing that the libraries would run on their own runs, such as scheduled jobs."""
        if not self.libraries:
            return {}
        # A path leads to files of the source's host, which may be this one.
        found = {name: value for name, value in self.settings.items() if not value.startswith("/")}
        quoted = ('"' + name.replace('"', '""') + '"' for name in self.libraries)
        found["shared_preload_libraries"] = ",".join(quoted)
        if set(self.libraries) - set(_PASSIVE):
            found["max_worker_processes"] = "0"
        return found


@contextmanager
def instance(
    target: Target, programs: Programs, at: str, *, superuser: str, jobs: int, preload: Preload | None = None
) -> Iterator[tuple[Server, list[str]]]:
    """A running scratch server of this version inside the private directory `at`; ended whatever happens.

    Yields the server, and sentences on what it does not preload although the source does.

    It listens on a Unix socket in there only; in a pod, where a port-forward reaches no socket, also on a port of the
    loopback interface, with a password of its own. When this process is killed, the server ends, too.

    Raises:
        InvalidInput: the directory's path is too long for a socket.
        CommandFailed: it cannot be created or does not start; the message has the end of its log.
    """
    socket = f"{at}/s"
    if len(f"{socket}/.s.PGSQL.5432") > _SOCKET_PATH_LIMIT:
        raise InvalidInput(
            "Invalid scratch_dir",
            subject=repr(at),
            why="the path of a Unix socket in it would be too long",
            remedy="Use a shorter one, for example /var/tmp.",
        )
    user = target.unprivileged_user()
    target.files.make_dir(socket, user)
    login = _login(target, superuser, socket)
    _create(target, programs, at, login, user)
    lacks: list[str] = []
    preload = preload or Preload()
    attempts = _ATTEMPTS
    with ExitStack() as stack:
        while True:
            settings = {**_settings(target, programs, login, socket, jobs), **preload.as_settings()}
            arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
            job = target.spawn(
                [programs.path("postgres"), "-D", f"{at}/data", *arguments],
                log=f"{at}/log",
                user=user,
                stop_signal=signal.SIGQUIT,  # nothing in it is worth a checkpoint
            )
            stack.callback(job.stop)
            try:
                _wait_until_ready(Server(target, login), job)
                break
            except CommandFailed as exc:
                if _PORT_TAKEN in exc.why and attempts > 1:
                    attempts -= 1
                    login = replace(login, port=_any_port())
                elif preload.libraries:
                    before, preload = preload, preload.without(exc.why)
                    gone = [name for name in before.libraries if name not in preload.libraries]
                    lacks.append(
                        f"The copy runs without preloaded libraries of its source, {', '.join(gone)} of its "
                        f"source: {_reason(exc.why)}."
                    )
                else:
                    raise
                job.stop()
        yield Server(target, login), lacks


def _login(target: Target, superuser: str, socket: str) -> Login:
    if not target.connections_may_break:
        return Login(user=superuser, unix_socket=socket)
    return Login(host="127.0.0.1", port=_any_port(), user=superuser, password=secrets.token_urlsafe(24))


def _any_port() -> int:
    return _FIRST_PORT + secrets.randbelow(_PORTS)


def _create(target: Target, programs: Programs, home: str, login: Login, user: str | None) -> None:
    # By file, so that no process list shows it. The account of the server has to read it.
    password_file = f"{home}/s/password"
    argv = [
        programs.path("initdb"),
        f"--pgdata={home}/data",
        f"--username={login.user}",
        "--auth-local=trust",  # the socket's directory is 0700
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    if login.password:
        target.files.write(password_file, f"{login.password}\n".encode())
        if user is not None:
            target.run(["chown", user, password_file])
        argv.append(f"--pwfile={password_file}")
    if programs.major >= 18:
        argv.append("--no-data-checksums")
    try:
        target.run(argv, user=user)
        target.files.remove_tree(password_file)
        target.run([programs.path("pg_resetwal"), f"--next-oid={_FIRST_OID}", f"{home}/data"], user=user)
    except CommandFailed as exc:
        raise CommandFailed(
            "A scratch server cannot be created",
            subject=home,
            why=exc.why,
            details=exc.details,
            remedy="Set scratch_dir to a directory that the account of the server can enter and write to.",
        ) from None


def _settings(target: Target, programs: Programs, login: Login, socket: str, jobs: int) -> dict[str, str]:
    """Tuned for one load that may be lost.

    https://www.postgresql.org/docs/current/populate.html and https://www.postgresql.org/docs/current/non-durability.html
    """
    memory = target.memory_bytes()
    settings = {
        "listen_addresses": login.host,
        "port": str(login.port),
        "unix_socket_directories": socket,
        "unix_socket_permissions": "0700",
        "dynamic_shared_memory_type": "mmap",  # inside the data directory: nothing stays in /dev/shm
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
        "bgwriter_lru_maxpages": "0",
        "jit": "off",
        "max_connections": str(2 * jobs + 20),
        "max_locks_per_transaction": "1024",  # pg_restore and views may lock thousands of tables at once
        "shared_buffers": f"{_within(memory // 8, 64 * _MIB, 1024 * _MIB) // _MIB}MB",
        "maintenance_work_mem": f"{_within(memory // (8 * jobs), 64 * _MIB, 1024 * _MIB) // _MIB}MB",
        "log_min_messages": "warning",
        "log_checkpoints": "off",
        "logging_collector": "off",
        "event_triggers": "off",
    }
    if programs.major < 17:
        del settings["event_triggers"]
    return settings


def _reason(log: str) -> str:
    """The last line by which the server says why it does not start."""
    fatal = [line.partition("FATAL:")[2].strip() for line in log.splitlines() if "FATAL:" in line]
    return fatal[-1] if fatal else log[-200:]


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _wait_until_ready(server: Server, job: BackgroundJob) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    why = ""
    while time.monotonic() < deadline:
        try:
            with server.connect("postgres"):
                return
        except ConnectionFailed as exc:
            why = exc.why
        if job.wait(0.05) is not None:
            break
    raise CommandFailed(
        "A scratch server does not start",
        why=job.tail() or why,
        remedy="Check that this host has enough memory and disk space for a second server.",
    )
