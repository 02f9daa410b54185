"""pg_repack beside a copy of the machine's PostgreSQL 15, from Debian's package; nothing is installed on the machine."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from tests.support.debian import NoPackage, unpacked
from tests.support.programs import Installation
from tests.support.workspace import workspace

MAJOR = 15
PACKAGE = f"postgresql-{MAJOR}-repack"
SYSTEM = Path("/usr")
COPIED = ("postgres", "initdb")  # they find their files by where they lie themselves


@functools.cache
def installation() -> Installation:
    """A PostgreSQL with pg_repack, for as long as this process lives."""
    lib, share = Path(f"lib/postgresql/{MAJOR}"), Path(f"share/postgresql/{MAJOR}")
    if not (SYSTEM / lib / "bin" / "postgres").exists():
        raise NoPackage(f"pg_repack needs Debian's PostgreSQL {MAJOR}: apt-get install postgresql-{MAJOR} {PACKAGE}")
    root = workspace() / "repack"
    for folder in (lib / "bin", lib / "lib", share, share / "extension"):
        (root / folder).mkdir(parents=True)
        for file in (SYSTEM / folder).iterdir():
            if file.name in COPIED:
                shutil.copy(file, root / folder)
            elif file.name != "extension":
                (root / folder / file.name).symlink_to(file)
    package = unpacked((PACKAGE,), root.with_name("repack-package"), "repack")
    for folder in (lib / "bin", lib / "lib", share / "extension"):
        for file in (package / "usr" / folder).glob("pg_repack*"):
            (root / folder / file.name).unlink(missing_ok=True)
            shutil.copy(file, root / folder)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return Installation(MAJOR, root / lib / "bin", "of this machine, with pg_repack", has_clients=True)
