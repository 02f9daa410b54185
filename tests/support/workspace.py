"""The OS user that PostgreSQL runs as, and a temporary folder that this user can enter."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLACE_VARIABLE = "RUNBOOK_TEST_DIR"
"""Environment variable that names a folder for the servers, say on a disk that a benchmark is about."""
ROOMY_BYTES = 8 * 1024**3


@functools.cache
def run_user() -> pwd.struct_passwd | None:
    """Return the user to start PostgreSQL as when we are root, because it refuses root; else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("PostgreSQL refuses to run as root, and neither user 'postgres' nor 'nobody' exists")


def can_enter(path: Path) -> bool:
    """Tell whether the user of PostgreSQL may walk into this folder and read it."""
    user = run_user()
    if user is None:
        return os.access(path, os.R_OK | os.X_OK)
    groups = {user.pw_gid, *os.getgrouplist(user.pw_name, user.pw_gid)}

    def allows(folder: Path, wanted: int) -> bool:
        status = folder.stat()
        if status.st_uid == user.pw_uid:
            mode = status.st_mode >> 6
        elif status.st_gid in groups:
            mode = status.st_mode >> 3
        else:
            mode = status.st_mode
        return mode & wanted == wanted

    path = path.resolve()
    return allows(path, 0o5) and all(allows(parent, 0o1) for parent in path.parents)


def give(path: Path) -> None:
    """Make the user of PostgreSQL the owner of this file or folder."""
    user = run_user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


@functools.cache
def workspace() -> Path:
    """Return this process's temporary folder, which goes when the process ends, however it ends."""
    folder = Path(tempfile.mkdtemp(prefix="pgtest-", dir=_parent()))
    folder.chmod(0o755)
    # Waits for the end of its input, that is of us, and then cleans up after us.
    remove = 'cat; for _ in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$0" && exit; sleep 0.2; done'
    janitor = subprocess.Popen(
        ["sh", "-c", remove, folder],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    owner = os.getpid()

    def clean_up() -> None:
        if os.getpid() == owner:  # not in a forked child
            janitor.communicate()
            shutil.rmtree(folder, ignore_errors=True)  # a test may have killed the janitor with other children

    atexit.register(clean_up)
    return folder


def _parent() -> Path:
    """Choose where: what the environment says, memory if there is plenty, the usual place."""
    wanted = os.environ.get(PLACE_VARIABLE)
    if wanted:
        return Path(wanted)
    memory = Path("/dev/shm")
    if memory.is_dir() and can_enter(memory) and _is_roomy(memory):
        return memory
    usual = Path(tempfile.gettempdir())
    fits = len(str(usual)) < 40  # the path of a socket has 107 bytes at most
    return usual if fits and can_enter(usual) else Path("/tmp")


def _is_roomy(memory: Path) -> bool:
    """Tell whether programs may run in this file system, and whether it and the machine have room."""
    state = os.statvfs(memory)
    return not state.f_flag & os.ST_NOEXEC and min(state.f_bavail * state.f_frsize, _available()) > ROOMY_BYTES


def _available() -> int:
    """Bytes of memory that programs could get: more than what is free, since a cache makes room."""
    with open("/proc/meminfo", encoding="ascii") as figures:
        told = dict(line.split(":") for line in figures)
    return int(told["MemAvailable"].split()[0]) * 1024
