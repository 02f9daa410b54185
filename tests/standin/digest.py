"""Whether the tests of this package have passed with all of it as it is: the package, its tests and its recordings.

`python -m tests.standin.digest` notes that they have; `make test-standin` runs it after them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
NOTE = HERE / "tested.sha256"


def digest() -> str:
    """A digest of the names and the content of all files but the note."""
    files = sorted(path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".pyc" and path != NOTE)
    told = (f"{path.relative_to(HERE)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    return hashlib.sha256("".join(told).encode()).hexdigest()


if __name__ == "__main__":
    NOTE.write_text(f"{digest()}\n")
