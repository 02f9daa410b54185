"""A controller in a folder of its own: an inventory, and ansible-playbook as a user runs it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import children, until
from tests.support.workspace import REPOSITORY

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 30.0
HOST = "demo"
INVENTORY = "inventory.yml"
PASSWORD_VARIABLE = "DEMO_PASSWORD"
LOCAL = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}
SETTINGS = """\
[defaults]
home = {folder}/ansible
local_tmp = {folder}/ansible/tmp
remote_tmp = {folder}/ansible/tmp
collections_path = {collections}
nocolor = true
nocows = true
forks = 10
"""


@dataclass(frozen=True)
class Played:
    """One run of ansible-playbook; ``duration_s`` is its wall time."""

    returncode: int
    output: str
    duration_s: float

    @property
    def recap(self) -> str:
        """The line of the host in the play recap."""
        lines = [line for line in self.output.splitlines() if line.startswith(f"{HOST} ")]
        return " ".join(lines[-1].split()) if lines else ""


class Controller:
    """Runs playbooks from ``folder``, which has its inventory and all that Ansible writes besides."""

    def __init__(
        self,
        folder: Path,
        login: Mapping[str, Any],
        variables: Mapping[str, Any],
        hosts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write the inventory; ``login`` is as Server.login() makes it, its password stays in the environment.

        ``hosts`` has the hosts with what is their own; without it there is one.
        """
        self.folder = folder
        self._password = str(login["login_password"])
        words = {name: value for name, value in login.items() if name.startswith("login_")}
        words["login_password"] = "{{ lookup('ansible.builtin.env', '" + PASSWORD_VARIABLE + "') }}"
        host = {**LOCAL, "postgres_login": words, **variables}
        everybody = {name: {**host, **own} for name, own in (hosts or {HOST: {}}).items()}
        self.inventory = yaml.safe_dump({"postgres": {"hosts": everybody}}, sort_keys=False, width=1000)
        (folder / INVENTORY).write_text(self.inventory)
        settings = SETTINGS.format(folder=folder, collections=REPOSITORY / ".venv" / "collections")
        (folder / "ansible.cfg").write_text(settings)

    def command(self, playbook: str, extra: Mapping[str, object] | None = None) -> list[str]:
        """Return the command as a user in the folder types it."""
        options = [f"{name}={shlex.quote(str(value))}" for name, value in (extra or {}).items()]
        return [
            "ansible-playbook",
            playbook,
            "-i",
            INVENTORY,
            *(word for each in options for word in ("-e", each)),
        ]

    def run(self, playbook: str, extra: Mapping[str, object] | None = None) -> Played:
        """Run a playbook to its end. When that is interrupted, the playbook is too, and has ended on return."""
        adopt_orphans()
        before = set(children(os.getpid()))
        started = time.monotonic()
        process = subprocess.Popen(
            self.command(playbook, extra),
            executable=Path(sys.executable).with_name("ansible-playbook"),
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and we end the run in order
        )
        try:
            output, dummy = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGINT)  # Ansible hands it on to the module, and the module cleans up
            end_children(before)
            process.wait()
            raise
        return Played(process.returncode, output, time.monotonic() - started)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PG"))}
        return {**kept, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), PASSWORD_VARIABLE: self._password}


def report(folder: Path, playbook: str) -> dict[str, Any]:
    """Return the report that a playbook wrote below ``postgres_report_dir``."""
    document: dict[str, Any] = json.loads((folder / HOST / f"{playbook}.json").read_text())
    return document


def interrupt_on_signals() -> None:
    """Have a signal that asks us to end raise KeyboardInterrupt, once, so that everything is stopped in order.

    Its argument is the signal's number. A second signal does not disturb that.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(signum: int, _frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signum)

    for each in signals:
        signal.signal(each, interrupt)


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind, so that nothing is out of sight."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children(spared: Collection[int]) -> None:
    """Wait until all our children but these have ended; kill them when that takes too long."""

    def left() -> list[int]:
        return [pid for pid in children(os.getpid()) if pid not in spared]

    if not until(lambda: not left(), GRACE_S):
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not left(), GRACE_S)
