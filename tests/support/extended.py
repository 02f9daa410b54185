"""A copy of the machine's PostgreSQL 15 with further extensions beside it; nothing is installed on the machine."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from tests.support.debian import NoPackage, unpacked
from tests.support.programs import Installation
from tests.support.workspace import REPOSITORY, workspace

MAJOR = 15
SYSTEM = Path("/usr")
COPIED = ("postgres", "initdb")  # they find their files by where they lie themselves
LIB, SHARE = Path(f"lib/postgresql/{MAJOR}"), Path(f"share/postgresql/{MAJOR}")
OWN_EXTENSIONS = REPOSITORY / "tests" / "corpus" / "extensions"


@functools.cache
def installation(name: str, *packages: str) -> Installation:
    """PostgreSQL 15 with the extensions of `tests/corpus` and of Debian packages, for as long as this process lives.

    Args:
        name: tells copies apart.
        packages: extensions to add, without their prefix: `repack` is the package `postgresql-15-repack`.
    """
    wanted = tuple(f"postgresql-{MAJOR}-{package}" for package in packages)
    if not (SYSTEM / LIB / "bin" / "postgres").exists():
        raise NoPackage(f"The tests need Debian's PostgreSQL {MAJOR}: apt-get install postgresql-{MAJOR}")
    root = workspace() / name
    for folder in (LIB / "bin", LIB / "lib", SHARE, SHARE / "extension"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for file in (SYSTEM / folder).iterdir():
            if file.name in COPIED:
                shutil.copy(file, root / folder)
            elif file.name != "extension":
                (root / folder / file.name).symlink_to(file)
    for file in OWN_EXTENSIONS.iterdir():
        shutil.copy(file, root / SHARE / "extension")
    for package in wanted:
        _add(package, root)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    added = "".join(f", {package}" for package in packages)
    return Installation(MAJOR, root / LIB / "bin", f"of this machine{added}", has_clients=True)


def _add(package: str, root: Path) -> None:
    files = unpacked((package,), root.with_name(f"{root.name}-{package}"), "debian") / "usr"
    for folder in (LIB / "bin", LIB / "lib", SHARE / "extension"):
        for file in (files / folder).rglob("*") if (files / folder).is_dir() else ():
            at = root / folder / file.relative_to(files / folder)
            if file.is_file():
                at.parent.mkdir(parents=True, exist_ok=True)
                at.unlink(missing_ok=True)
                shutil.copy(file, at)
