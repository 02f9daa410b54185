"""A process that forks programs: all that Python imports for them is there already, which is most of what they cost.

Its arguments are what it forks (modules, runs of ansible-playbook, or Pythons that run modules as Ansible packs them) and the
descriptor of a socket that listens. Who connects there sends one message with the program's input, output and errors as
descriptors, gets its process id and then its exit status, and may send signals for it meanwhile; the program ends
with the connection. Nothing of this is in the tests' own process: it starts as bare as the programs do, and ends when
its standard input does.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib.machinery
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import warnings
import zipimport
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
OF_COLLECTIONS = ("ansible.builtin", "godel.postgres_runbook")
COMPILED = "compiled"
OF_PAYLOADS = ("kubernetes", "psycopg2.extras", "runpy", "yaml", "zipfile")
LARGEST = 256 * 1024
STREAMS = 3


class Children:
    """The programs at work, by the connections of those that wait for them."""

    def __init__(self) -> None:
        """Have ``wake`` become readable when one has ended."""
        self.pids: dict[socket.socket, int] = {}
        self.wake, self._woken = os.pipe()
        for each in (self.wake, self._woken):
            os.set_blocking(each, False)
        signal.set_wakeup_fd(self._woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def add(self, connection: socket.socket, pid: int) -> None:
        """Tell the id of a new one."""
        self.pids[connection] = pid
        _tell(connection, pid)

    def reap(self) -> None:
        """Tell the exit status of those that have ended."""
        os.read(self.wake, 4096)
        for connection, pid in list(self.pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.pids[connection]
                _tell(connection, os.waitstatus_to_exitcode(status))
                connection.close()

    def signal(self, connection: socket.socket) -> None:
        """Pass on a signal; the end of a connection is one, too."""
        if connection in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pids[connection], int(connection.recv(LARGEST) or signal.SIGKILL))

    def forget(self) -> None:
        """In one of them: it has no part in this."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (self.wake, self._woken):
            os.close(number)
        for each in self.pids:
            each.close()


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it may have been closed
        connection.send(str(number).encode())


def serve() -> list[str]:
    """Fork a process for each message; returns the program's arguments in the child, and ends this process otherwise."""
    children = Children()
    parent = os.dup(0)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    with socket.socket(fileno=int(sys.argv[2])) as listener:
        while True:
            ready = select.select([parent, listener, children.wake, *children.pids], [], [])[0]
            if parent in ready:
                sys.exit()
            if children.wake in ready:
                children.reap()
            for connection in {*ready} & {*children.pids}:
                children.signal(connection)
            if listener not in ready:
                continue
            connection = listener.accept()[0]
            message, streams = _receive(connection)
            if not message:  # killed at once
                continue
            wanted = json.loads(message)
            for name in wanted["imports"]:
                importlib.import_module(name)
            pid = os.fork()
            if pid == 0:
                os.close(parent)
                connection.close()
                children.forget()
                return _become(wanted, streams)
            for number in streams:
                os.close(number)
            children.add(connection, pid)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    numbers = array.array("i")
    message, ancillary, _flags, _address = connection.recvmsg(LARGEST, socket.CMSG_LEN(STREAMS * numbers.itemsize))
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


def modules() -> None:
    """Import the modules, and be one of them in each child."""
    folder = Path(str(importlib.import_module(PACKAGE).__path__[0]))
    found = {path.stem: importlib.import_module(f"{PACKAGE}.{path.stem}") for path in folder.glob("*.py")}
    gc.freeze()  # so that children do not copy what they only look at
    found[serve()[0]].main()


def playbooks() -> None:
    """Import Ansible with the configuration that the environment names, and run a playbook in each child.

    They share a temporary folder, and in it the modules as Ansible packs them.
    """
    for name in OF_PLAYBOOKS:
        importlib.import_module(name)
    from ansible import constants
    from ansible.cli.playbook import main
    from ansible.plugins import loader
    from ansible.utils.path import cleanup_tmp_file

    loader.init_plugin_loader()
    warnings.filterwarnings("ignore", message="AnsibleCollectionFinder has already been configured")
    for name in OF_COLLECTIONS:
        importlib.import_module(f"ansible_collections.{name}")
    for loaded in (loader.inventory_loader, loader.vars_loader, loader.filter_loader, loader.test_loader):
        list(loaded.all(class_only=True))
    Path(constants.DEFAULT_LOCAL_TMP).mkdir(exist_ok=True)
    gc.freeze()
    serve()
    atexit.unregister(cleanup_tmp_file)  # it is the parent's
    main()


def payloads() -> None:
    """Be a Python in each child that runs a module as Ansible packs it, from a file or from standard input.

    All that Ansible packs is imported from the archive as on any host, but what is there word for word as in the files
    of Ansible and of this checkout is not compiled again.
    """
    for name in OF_PAYLOADS:
        importlib.import_module(name)
    _compile_once()
    gc.freeze()
    file = serve()[0]
    if file == "-":
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), vars(sys.modules["__main__"]))
    else:
        runpy.run_path(file, run_name="__main__")


def _compile_once() -> None:
    """Have zipimport take the code of a text from where Python keeps it for the file with the same text."""
    loaders = {}
    for package in ("ansible.module_utils", PACKAGE.rpartition(".")[0]):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for path in Path(next(iter(spec.submodule_search_locations or ()))).rglob("*.py"):
            loaders[path.read_bytes()] = importlib.machinery.SourceFileLoader(COMPILED, str(path))
    plain = zipimport._compile_source

    def compile_source(name: str, source: bytes) -> Any:
        loader = loaders.get(source)
        return loader.get_code(COMPILED) if loader else plain(name, source)

    zipimport._compile_source = compile_source


if __name__ == "__main__":
    {"modules": modules, "payloads": payloads, "playbooks": playbooks}[sys.argv[1]]()
