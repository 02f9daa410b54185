# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module ships to a host: its own file and all of `module_utils` that it imports, at any depth.

ansible-core packs a module so, imports inside functions among them (ansible.executor.module_common). Fails when a
module ships more than LIMIT_BYTES, so that the largest does not grow unnoticed.
"""

from __future__ import annotations

import ast
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

PLUGINS = Path(__file__).parents[1] / "plugins"
LIMIT_BYTES = 720_000  # before compression; pg_restore and pg_health_info are the largest


def imported(file: Path) -> Iterator[Path]:
    """Files of the collection that one file imports by relative imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for found in (base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)):
                if found.is_file():
                    yield found


def payload(module: Path) -> set[Path]:
    """The files that go to a host for one module."""
    found: set[Path] = set()
    left = [module]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += imported(file)
    return found


def zipped(files: set[Path]) -> int:
    """Bytes of these files as a compressed archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files):
            archive.write(file)
    return buffer.tell()


def main() -> int:
    """Print a table, the largest first, and return 1 if one is too large."""
    sizes = []
    for module in PLUGINS.glob("modules/*.py"):
        files = payload(module)
        sizes.append((sum(file.stat().st_size for file in files), len(files), zipped(files), module.stem))
    sizes.sort(reverse=True)
    print("| module | files | kB | kB zipped |\n|---|---:|---:|---:|")
    for size, number, packed, name in sizes:
        print(f"| {name} | {number} | {size / 1000:.0f} | {packed / 1000:.0f} |")
    print(f"| all | | {sum(size for size, *dummy in sizes) / 1000:.0f} | {sum(each[2] for each in sizes) / 1000:.0f} |")
    too_large = [f"{name} ({size} bytes)" for size, *dummy, name in sizes if size > LIMIT_BYTES]
    if too_large:
        print(f"More than {LIMIT_BYTES} bytes: {', '.join(too_large)}. See who imports what: docs/architecture.md.")
    return bool(too_large)


if __name__ == "__main__":
    sys.exit(main())
