"""What a run leaves in the pod of PostgreSQL: nothing. To kill an orphan there makes the server restart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.kubernetes.place_base import Place

_PATIENCE_S = 15.0
# Each process that is none of the server's: number, parent, name, arguments. Not the shell that asks, nor what it runs.
# The stand-in's pods share the machine's processes, of which those of a pod have its PGDATA in their environment.
_LISTED = r"""
for f in /proc/[0-9]*/stat; do
    read -r line <"$f" || continue
    pid=${line%% *} name=${line#*(} rest=${line##*) }
    name=${name%)*} rest=${rest#* }
    [ "$pid" = "$$" ] || [ "$name" = postgres ] && continue
    [ -z "${PGDATA-}" ] || tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "PGDATA=$PGDATA" || continue
    printf '%s\t%s\t%s\t%s\n' "$pid" "${rest%% *}" "$name" "$(tr '\0\n\t' '   ' <"/proc/$pid/cmdline")"
done 2>/dev/null
exit 0
"""


class Process(NamedTuple):
    """A process of the container that does not belong to the server."""

    pid: int
    is_orphan: bool
    name: str
    arguments: str


def processes(place: Place) -> dict[int, Process]:
    """What runs in the pod beside the server, but for shells that wait for their scripts at an open connection."""
    found = _here(place) if place.standin is not None else _there(place)
    return {each.pid: each for each in found if each.is_orphan or each.arguments != "sh"}


def _there(place: Place) -> Iterator[Process]:
    for line in place.here.run(["sh", "-c", _LISTED]).text.splitlines():
        pid, parent, name, arguments = line.split("\t")
        yield Process(int(pid), parent == "1", name, arguments.strip())


def _here(place: Place) -> Iterator[Process]:
    """The stand-in's pods share this machine's processes: those of the pod have its PGDATA in their environment."""
    assert place.standin is not None
    data = place.standin.environment(place.pod, place.namespace)["PGDATA"]
    first = (Path(data) / "postmaster.pid").read_text().split()[0]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"PGDATA={data}\0".encode() not in (folder / "environ").read_bytes():
                continue
            before, dummy, after = (folder / "stat").read_text(errors="replace").rpartition(") ")
            name, state, parent = before.partition("(")[2], *after.split()[:2]
            if name != "postgres" and state not in "ZX":
                arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield Process(int(folder.name), parent == first, name, arguments.strip())


@contextmanager
def none_left(place: Place) -> Iterator[None]:
    """Raise if a process that was not there before is still there soon afterwards."""
    before = processes(place)
    yield
    left: dict[int, Process] = {}

    def is_clean() -> bool:
        nonlocal left
        left = {pid: each for pid, each in processes(place).items() if pid not in before}
        return not left

    with contextlib.suppress(AssertionError):
        place.until(is_clean, _PATIENCE_S * place.pace.factor)
    assert not left, f"left in the pod of PostgreSQL: {list(left.values())}"
