"""Throwaway PostgreSQL servers: quick to start, never outliving the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import sql

from tests.support.processes import alive, die_with_the_parent, kill_family, remove_shared_memory, until
from tests.support.programs import CLIENT_PROGRAMS, Installation, at_hand, client_for
from tests.support.workspace import give, run_user, workspace

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

SUPERUSER = "postgres"
PASSWORD = "dummy-of-the-tests-5b1e"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
QUICK_AND_CLEAN: Mapping[str, object] = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "1d",  # on, as users have it, but never in between
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",  # inside the data directory: nothing stays in /dev/shm after a kill
    "log_line_prefix": "%m [%p] %d ",
}


class ServerError(Exception):
    """A throwaway server did not do as told; the text ends with its log."""


class Server:
    """One throwaway cluster. Use it as a context manager, or call start() and remove()."""

    def __init__(
        self,
        installation: Installation | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        password: str = PASSWORD,
        own_identity: bool = False,
        language: str = "",
    ) -> None:
        """Describe a server.

        Args:
            own_identity: run initdb again, for a system identifier of its own.
            language: what gettext is to speak, for example ``de``; needs ``lc_messages`` other than ``C``.
        """
        self.installation = installation or default_installation()
        self.major = self.installation.major
        self.bin_dir = self.installation.bin_dir
        self.client_dir = self.bin_dir if self.installation.has_clients else client_for(self.major).bin_dir
        self.host = "127.0.0.1"
        self.port = 0
        self.user = SUPERUSER
        self.password = password
        self.settings: dict[str, object] = dict(settings or {})
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.major}-", dir=workspace()))
        self.folder.chmod(0o755)
        self.data_dir = self.folder / "data"
        self.socket_dir = self.folder / "s"
        self._log_file = self.folder / "log"
        self._own_identity = own_identity
        self._language = {"LANGUAGE": language} if language else {}
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Server {self.major} on port {self.port}, {'running' if self.running else 'stopped'}>"

    def __enter__(self) -> Server:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    # --- life ---------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the postmaster is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise ServerError(f"{self!r} was never started")
        return self._process.pid

    def start(self) -> Server:
        """Start the server, with a new cluster the first time; returns itself when it accepts connections."""
        if self.running:
            return self
        if not self.data_dir.exists():
            self._create_cluster()
        atexit.register(self.remove)
        attempts = 1 if self.port else 3  # another process may take the free port first
        for attempt in range(attempts):
            self.port = self.port if attempts == 1 else _free_port()
            self._write_settings()
            try:
                self._launch()
            except ServerError:
                if attempt == attempts - 1 or "could not bind" not in self.log():
                    raise
            else:
                return self
        raise AssertionError("not reached")

    def stop(self, mode: str = "fast") -> None:
        """Shut the server down: ``smart``, ``fast`` or ``immediate``."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(STOP_SIGNALS[mode])
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"{self!r} did not stop ({mode})\n{self.log()}") from None

    def kill(self) -> None:
        """Kill every process of the server at once, as the OOM killer or a power cut would."""
        if self._process is None or not self.running:
            return
        family = kill_family(self._process.pid)
        self._process.wait()
        until(lambda: not any(alive(pid) for pid in family), STOP_TIMEOUT_S)

    def restart(self, mode: str = "fast", settings: Mapping[str, object] | None = None) -> Server:
        """Stop and start on the same port, with these settings added."""
        self.stop(mode)
        self.settings.update(settings or {})
        return self.start()

    def remove(self) -> None:
        """Stop the server if it runs, and remove everything it has."""
        if os.getpid() != self._owner:  # a forked child runs our atexit handlers too
            return
        atexit.unregister(self.remove)
        if self.running:
            self.stop("immediate")
        _remove_shared_memory(self.data_dir)
        _remove_tree(self.folder)

    # --- use ----------------------------------------------------------------------------------------

    def login(self, **over: Any) -> dict[str, Any]:
        """Return connection options, named as in community.postgresql; keyword arguments win."""
        options: dict[str, Any] = {
            "login_host": self.host,
            "login_port": self.port,
            "login_user": self.user,
            "login_password": self.password,
            "db": SUPERUSER,
        }
        return options | over

    def dsn(self, db: str = SUPERUSER, **over: Any) -> str:
        """Return a libpq connection string."""
        words: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
        }
        return psycopg2.extensions.make_dsn(dbname=db, **(words | over))

    def connect(self, db: str = SUPERUSER, autocommit: bool = True, **over: Any) -> Connection:
        """Open a connection."""
        connection = psycopg2.connect(self.dsn(db, **over))
        connection.autocommit = autocommit
        return connection

    def query(self, statement: str, *values: object, db: str = SUPERUSER) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with contextlib.closing(self.connect(db)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def program(self, name: str) -> Path:
        """Return the path of a program: a client program may come from a newer installation."""
        return (self.client_dir if name in CLIENT_PROGRAMS else self.bin_dir) / name

    def environment(self, db: str = SUPERUSER) -> dict[str, str]:
        """Return the environment with which client programs find this server."""
        return {
            **without_pg_variables(),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": db,
        }

    def run(self, program: str, *arguments: str | Path, db: str = SUPERUSER) -> str:
        """Run a client program against this server and return its output; raises when it fails."""
        command = [self.program(program), *arguments]
        done = subprocess.run(command, env=self.environment(db), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"{program}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def psql(self, text: str, db: str = SUPERUSER) -> str:
        """Run SQL through psql and return its bare output."""
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text, db=db)

    def log(self) -> str:
        """Return what the server has logged."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def create_database(self, name: str, template: str = "template0") -> str:
        """Create a database and return its name; a template database must have no connections."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        self._execute(statement)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and terminate its sessions."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def create_tablespace(self, name: str) -> Path:
        """Create a tablespace and return its folder."""
        folder = Path(tempfile.mkdtemp(prefix="space-", dir=self.folder))
        give(folder)
        statement = sql.SQL("CREATE TABLESPACE {} LOCATION {}")
        self._execute(statement.format(sql.Identifier(name), sql.Literal(str(folder))))
        return folder

    def databases(self) -> set[str]:
        """Return the names of the databases."""
        return {name for (name,) in self.query("SELECT datname FROM pg_database")}

    def _execute(self, statement: sql.Composable) -> None:
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    # --- inside -------------------------------------------------------------------------------------

    def _create_cluster(self) -> None:
        self.socket_dir.mkdir(mode=0o700)
        give(self.socket_dir)
        self._log_file.touch()
        give(self._log_file)
        if self._own_identity or self.password != PASSWORD:
            _initdb(self.installation, self.data_dir, self.password)
        else:
            subprocess.run(["cp", "-a", _template(self.installation), self.data_dir], check=True)

    def _write_settings(self) -> None:
        settings: dict[str, object] = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.socket_dir,
            **QUICK_AND_CLEAN,
            **self.settings,
        }
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
        target = self.data_dir / "tests.conf"
        target.write_text("".join(lines))
        give(target)

    def _launch(self) -> None:
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self.data_dir],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data_dir,
                env={**without_pg_variables(), "LC_ALL": "C", **self._language},
                start_new_session=True,  # Ctrl-C is for the tests; they then stop the server in order
                preexec_fn=die_with_the_parent,  # noqa: PLW1509
                **_as_run_user(),
            )
        if not until(lambda: not self.running or self._is_ready(), START_TIMEOUT_S):
            self.kill()
            raise ServerError(f"{self!r} was not ready after {START_TIMEOUT_S:g} s\n{self.log()}")
        if not self.running:
            raise ServerError(f"{self!r} ended with {self._process.returncode}\n{self.log()}")

    def _is_ready(self) -> bool:
        """Read the state in postmaster.pid: trying to connect would leave traces in the log."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def default_installation() -> Installation:
    """Return the oldest installation that has its own client programs."""
    return next(installation for installation in at_hand() if installation.has_clients)


def without_pg_variables() -> dict[str, str]:
    """Return our environment without libpq's variables, which would lead elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@functools.cache
def _template(installation: Installation) -> Path:
    """Return a data directory to copy: initdb takes a second or more, a copy a tenth."""
    folder = workspace() / f"template-{installation.major}-{zlib.crc32(bytes(installation.bin_dir)):x}"
    _initdb(installation, folder, PASSWORD)
    return folder


def _initdb(installation: Installation, data_dir: Path, password: str) -> None:
    """Create a cluster: UTF-8, passwords for every role, local connections too."""
    data_dir.mkdir(mode=0o700)
    give(data_dir)
    secret = data_dir.with_name(f"{data_dir.name}.pw")
    secret.touch(mode=0o600)
    secret.write_text(f"{password}\n")
    give(secret)
    command: list[str | Path] = [
        installation.bin_dir / "initdb",
        *("-D", data_dir, "-U", SUPERUSER, f"--pwfile={secret}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"),
    ]
    environment = without_pg_variables()
    environment.pop("LC_ALL", None)
    try:
        for locale in ("C.UTF-8", "C"):  # not every machine has the first
            done = subprocess.run(
                [*command, f"--locale={locale}"],
                env=environment,
                cwd=data_dir,
                capture_output=True,
                text=True,
                check=False,
                **_as_run_user(),
            )
            if done.returncode == 0:
                break
        else:
            raise ServerError(f"initdb of {installation} failed\n{done.stdout}\n{done.stderr}")
    finally:
        secret.unlink()
    with (data_dir / "postgresql.conf").open("a") as configuration:
        configuration.write("include = 'tests.conf'\n")


def _as_run_user() -> dict[str, Any]:
    """Return the arguments of subprocess that drop root."""
    user = run_user()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: object) -> str:
    return str(value).replace("'", "''")


def _remove_shared_memory(data_dir: Path) -> None:
    """Remove the small System V segment that a killed postmaster leaves behind."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        key_and_id = (data_dir / "postmaster.pid").read_text().splitlines()[6].split()
        remove_shared_memory(int(key_and_id[1]))


def _remove_tree(folder: Path) -> None:
    subprocess.run(["rm", "-rf", "--", folder], check=False)
