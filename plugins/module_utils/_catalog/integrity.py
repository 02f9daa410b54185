# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the files of a backup with its manifest, before anything is read out of them."""

from __future__ import annotations

from collections.abc import Sequence

from .._fingerprint.figures import Difference
from .._target.base import FileInfo, Files
from .manifest import FILE_NAME, FileRecord, Manifest

# Beside the data: neither stands in the list of files that the manifest keeps.
_OWN = (FILE_NAME, "verifications/")


def check_files(files: Files, path: str, manifest: Manifest, jobs: int) -> list[Difference]:
    """Every way in which the files of a backup are not those that were written, cheapest checks first."""
    differences = check_sizes(files, path, manifest)
    if differences:
        return differences
    digests = files.sha256([f"{path}/{name}" for name in manifest.files], jobs)
    return [
        Difference("content of file", name, record.sha256, digests[f"{path}/{name}"])
        for name, record in manifest.files.items()
        if digests[f"{path}/{name}"] != record.sha256
    ]


def check_sizes(files: Files, path: str, manifest: Manifest) -> list[Difference]:
    """Files that are missing or of another size, and what does not belong there."""
    [(dummy, found)] = files.trees([path])
    return compare_sizes(path, files.walk(path) if found is None else found, manifest)  # walk says why it cannot


def compare_sizes(path: str, found: Sequence[FileInfo], manifest: Manifest) -> list[Difference]:
    """The same for a list that is there already, of all below the backup's path."""
    odd = next((info for info in found if info.irregular), None)
    if odd is not None:
        return [Difference("file", odd.path[len(path) + 1 :], "a regular file", "a link or a special file")]
    sizes = {info.path[len(path) + 1 :]: info.size_bytes for info in found}
    return _compare_lists(manifest, {name: size for name, size in sizes.items() if not name.startswith(_OWN)})


def _compare_lists(manifest: Manifest, found: dict[str, int]) -> list[Difference]:
    differences = []
    names: Sequence[str] = sorted(manifest.files.keys() | found.keys())
    for name in names:
        record: FileRecord | None = manifest.files.get(name)
        size = found.get(name)
        if record is None:
            differences.append(Difference("file", name, None, size))
        elif size is None:
            differences.append(Difference("file", name, f"{record.size_bytes} bytes", None))
        elif size != record.size_bytes:
            differences.append(Difference("size of file", name, record.size_bytes, size))
    return differences
