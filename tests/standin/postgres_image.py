"""An image of a real PostgreSQL server as process 1, as the official one behaves."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.standin.images import MACHINE_PATH, Image, Scene
from tests.support.processes import remove_shared_memory
from tests.support.programs import Installation, client_for
from tests.support.servers import QUICK_AND_CLEAN, default_installation, without_pg_variables
from tests.support.workspace import give, run_user, workspace

PORT = 5432
DATA = "/var/lib/postgresql/data"
SOCKETS = "/var/run/postgresql"


def postgres_image(
    installation: Installation | None = None,
    *,
    settings: Mapping[str, object] | None = None,
    path: tuple[Path, ...] = (),
) -> Image:
    """Return an image that runs this PostgreSQL.

    As in the official image: POSTGRES_USER (postgres), POSTGRES_PASSWORD and POSTGRES_DB (the user's name)
    say what is created in an empty PGDATA; connections through the socket are trusted, others need the
    password. A container whose command or args do not begin with ``postgres`` runs those instead. ``path``
    are the folders of PATH, by default those of PostgreSQL and the machine's.
    """
    chosen = installation or default_installation()
    client = client_for(chosen.major).bin_dir
    wanted: dict[str, object] = {**QUICK_AND_CLEAN, **(settings or {})}

    def prepare(scene: Scene) -> None:
        _prepare(scene, chosen, wanted)

    return Image(
        command=("postgres",),
        env={"PGDATA": DATA, "PGHOST": SOCKETS, "PG_MAJOR": str(chosen.major)},
        path=path or (client, chosen.bin_dir, MACHINE_PATH),
        private_paths={DATA: "d", SOCKETS: "r", "/backups": "b"},
        as_run_user=True,
        stop_signal=signal.SIGINT,
        prepare=prepare,
        ready=_ready,
        cleanup=_clean_up,
    )


def _prepare(scene: Scene, installation: Installation, settings: Mapping[str, object]) -> None:
    program, *arguments = scene.argv
    if Path(program).name != "postgres":
        return
    data = _data(scene)
    user = scene.env.get("POSTGRES_USER", "postgres")
    database = scene.env.get("POSTGRES_DB", user)
    if not (data / "PG_VERSION").exists():
        template = _template(installation, user, scene.env.get("POSTGRES_PASSWORD", ""), database)
        data.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{template}/.", data], check=True)
        give(data)
        data.chmod(0o700)
    (data / "postmaster.pid").unlink(missing_ok=True)
    own = {"listen_addresses": scene.address, "port": PORT, "unix_socket_directories": scene.path(SOCKETS)}
    options = [word for name, value in {**settings, **own}.items() for word in ("-c", f"{name}={value}")]
    scene.argv = [str(installation.bin_dir / "postgres"), "-D", str(data), *options, *arguments]


def _data(scene: Scene) -> Path:
    return Path(scene.env["PGDATA"])


def _is_server(scene: Scene) -> bool:
    return Path(scene.argv[0]).name == "postgres"


def _ready(scene: Scene) -> bool:
    if not _is_server(scene):
        return True
    try:
        lines = (_data(scene) / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _clean_up(scene: Scene) -> None:
    """Remove the shared memory that a killed postmaster leaves behind."""
    if not _is_server(scene):
        return
    try:
        words = (_data(scene) / "postmaster.pid").read_text().splitlines()[6].split()
        remove_shared_memory(int(words[1]))
    except (OSError, IndexError, ValueError):
        return


@functools.cache
def _template(installation: Installation, user: str, password: str, database: str) -> Path:
    """Return a data directory to copy, made once for each user, password and database."""
    number = len(list(workspace().glob("image-*")))
    folder = workspace() / f"image-{installation.major}-{number}"
    folder.mkdir(mode=0o755)
    data = folder / "data"
    secret = folder / "password"
    secret.write_text(f"{password or 'unused'}\n")
    secret.chmod(0o600)
    give(folder)
    give(secret)
    initdb = [
        str(installation.bin_dir / "initdb"),
        *("-D", str(data), "-U", user, f"--pwfile={secret}", "--no-sync"),
        *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"),
    ]
    _run(initdb, folder)
    secret.unlink()
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    if database != "postgres":
        single = [str(installation.bin_dir / "postgres"), "--single", "-D", str(data), "-c", "fsync=off", "postgres"]
        _run(single, folder, f'CREATE DATABASE "{database}"\n')
    return data


def _run(command: list[str], folder: Path, text: str | None = None) -> None:
    user = run_user()
    identity: dict[str, Any] = {}
    if user is not None:
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    environment = {**without_pg_variables(), "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=text or "", capture_output=True, text=True, check=False, **identity
    )
    if done.returncode:
        raise RuntimeError(f"{shutil.which(command[0])}: {done.stdout}\n{done.stderr}")
