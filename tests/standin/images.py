"""What a container image is here: a command, an environment, and hooks around process 1."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.workspace import workspace

MACHINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Scene:
    """One container that is about to run; what the hooks of an image get. They may change env, argv and ports."""

    pod: Mapping[str, Any]
    name: str
    folder: Path
    address: str
    mounts: dict[str, Path]
    env: dict[str, str]
    argv: list[str]
    ports: dict[int, int] = field(default_factory=dict)
    """Ports of the pod that are really other ones of its address."""

    def path(self, path: str) -> Path:
        """Return where a path of the container really is."""
        return Path(self.translate(path))

    def translate(self, text: str) -> str:
        """Put real paths for the paths of volumes, and the pod's address for its localhost.

        There are no namespaces here: what a client sends in a command is translated, what programs print
        is not. Text on standard input is not either.
        """
        # In one pass: a real path may begin with a path of the container, say /tmp, and is left as it is.
        paths = {str(workspace()): workspace(), **self.mounts}
        longest_first = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
        text = re.sub(rf"(?<![\w./-])({longest_first})(?![\w.-])", lambda found: str(paths[found[1]]), text)
        return re.sub(r"(?<![\w./-])(localhost|127\.0\.0\.1)(?![\w-]|\.\w)", self.address, text)


@dataclass(frozen=True)
class Image:
    """What starts in a container of this image.

    Attributes:
        entrypoint: the program, as ENTRYPOINT; a container's `command` replaces it.
        command: its arguments, as CMD; a container's `args` replace them.
        env: environment of every process in it.
        path: the folders of PATH; the machine's own when empty. A folder of links makes programs missing.
        private_paths: paths of its own file system, and the folder in the container's where they are.
        as_run_user: whether it runs as the user of PostgreSQL when the tests run as root.
        user: as USER; empty is root, which a pod with `runAsNonRoot` does not start.
        stop_signal: what asks process 1 to end.
        prepare: called in a thread before process 1 starts.
        ready: called in a thread until it is true; then the container's readiness probe decides, if it has one.
        cleanup: called in a thread after process 1 has ended.
    """

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ("sleep", "infinity")
    env: Mapping[str, str] = field(default_factory=dict)
    path: Sequence[str | Path] = ()
    private_paths: Mapping[str, str] = field(default_factory=dict)
    as_run_user: bool = False
    user: str = ""
    stop_signal: int = signal.SIGTERM
    prepare: Callable[[Scene], None] | None = None
    ready: Callable[[Scene], bool] | None = None
    cleanup: Callable[[Scene], None] | None = None

    def argv(self, command: Sequence[str] | None, args: Sequence[str] | None) -> list[str]:
        """Return what process 1 is, by the rules for command and args."""
        if command:
            return [*command, *(args or ())]
        return [*self.entrypoint, *(args or self.command)]

    def search_path(self) -> str:
        return ":".join(map(str, self.path)) or MACHINE_PATH


def toolbox(folder: Path, *programs: str | Path) -> Path:
    """Fill a folder with links to programs of this machine, for an image that has just these; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        found = shutil.which(str(program))
        if found is None:
            raise LookupError(f"{program} is not on this machine")
        (folder / Path(program).name).symlink_to(found)
    return folder
