"""A process that forks programs: all that Python imports for them is there already, which is most of what they cost.

Its argument is what it forks: modules, or runs of ansible-playbook. It gets one message for each on the socket that is its
standard input, with four descriptors: the program's input, output and errors, and a socket for its process id and, in the
end, its exit status. Nothing of it is in the tests' own process: it starts as bare as the programs do, and ends when
the socket is closed.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

PACKAGE = "ansible_collections.godel.postgres_runbook.plugins.modules"
OF_PLAYBOOKS = (
    "ansible.cli.playbook",
    "ansible.executor.task_executor",
    "ansible.executor.module_common",
    "ansible.plugins.strategy.linear",
    "ansible.plugins.connection.local",
    "ansible.plugins.shell.sh",
    "ansible.plugins.action.normal",
)
LARGEST = 256 * 1024
DESCRIPTORS = 4


class Children:
    """The programs at work: each has a socket that receives its exit status."""

    def __init__(self) -> None:
        """Have ``wake`` become readable when one has ended."""
        self._sockets: dict[int, socket.socket] = {}
        self.wake, self._woken = os.pipe()
        for each in (self.wake, self._woken):
            os.set_blocking(each, False)
        signal.set_wakeup_fd(self._woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def add(self, pid: int, status: socket.socket) -> None:
        """Tell the id of a new one."""
        self._sockets[pid] = status
        with contextlib.suppress(OSError):  # the client may have closed its end
            status.send(json.dumps(pid).encode())

    def reap(self) -> None:
        """Tell the exit status of those that have ended."""
        os.read(self.wake, 4096)
        for pid in list(self._sockets):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self._sockets.pop(pid) as told, contextlib.suppress(OSError):
                    told.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())

    def forget(self) -> None:
        """In one of them: it has no part in this."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (self.wake, self._woken):
            os.close(number)
        for each in self._sockets.values():
            each.close()


def serve(control: socket.socket) -> list[str]:
    """Fork a process for each message; returns the program's arguments in the child, and ends this process otherwise."""
    children = Children()
    while True:
        ready = select.select([control, children.wake], [], [])[0]
        if children.wake in ready:
            children.reap()
        if control not in ready:
            continue
        message, descriptors = _receive(control)
        if not message:
            sys.exit()
        wanted = json.loads(message)
        for name in wanted["imports"]:
            importlib.import_module(name)
        status = socket.socket(fileno=descriptors.pop())
        pid = os.fork()
        if pid == 0:
            for each in (control, status):
                each.close()
            children.forget()
            return _become(wanted, descriptors)
        for number in descriptors:
            os.close(number)
        children.add(pid, status)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    numbers = array.array("i")
    message, ancillary, _flags, _address = control.recvmsg(LARGEST, socket.CMSG_LEN(DESCRIPTORS * numbers.itemsize))
    for _level, _kind, data in ancillary:
        numbers.frombytes(data)
    return message, numbers.tolist()


def _become(wanted: dict[str, Any], descriptors: list[int]) -> list[str]:
    """Become the process in which the program runs."""
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wanted["env"])
    time.tzset()
    os.chdir(wanted["cwd"])
    sys.argv = list(wanted["argv"])
    return sys.argv


def modules(control: socket.socket) -> None:
    """Import the modules, and be one of them in each child."""
    folder = Path(str(importlib.import_module(PACKAGE).__path__[0]))
    found = {path.stem: importlib.import_module(f"{PACKAGE}.{path.stem}") for path in folder.glob("*.py")}
    gc.freeze()  # so that children do not copy what they only look at
    found[serve(control)[0]].main()


def playbooks(control: socket.socket) -> None:
    """Import Ansible with the configuration that the environment names, and run a playbook in each child.

    They share a temporary folder, and in it the modules as Ansible packs them.
    """
    for name in OF_PLAYBOOKS:
        importlib.import_module(name)
    from ansible import constants
    from ansible.cli.playbook import main
    from ansible.utils.path import cleanup_tmp_file

    Path(constants.DEFAULT_LOCAL_TMP).mkdir(exist_ok=True)
    gc.freeze()
    serve(control)
    atexit.unregister(cleanup_tmp_file)  # it is the parent's
    main()


def main() -> None:
    """In each child this ends as any Python does."""
    control = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    {"modules": modules, "playbooks": playbooks}[sys.argv[1]](control)


if __name__ == "__main__":
    main()
