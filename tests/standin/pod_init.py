"""Run one container: its process 1, the processes that exec starts beside it, and what they leave behind.

Started as a program, with the standard library only::

    supervisor                  ends everything when process 1 has ended, or when the stand-in goes away
      process 1                 for instance PostgreSQL: a subreaper, so it adopts orphans as in a container
        spawner                 starts what exec asks for; hidden from process 1 as long as it lives
          exec'd process        known to the spawner; its children, when left alone, go to process 1

So a left-over process that ends with status 2 or by a signal is seen by the real postmaster, which does
what it does in a pod: it takes it for a crashed backend.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import termios
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)
DEFAULTS = (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ, signal.SIGCHLD)


def drop_root(config: dict[str, Any]) -> None:
    if config["uid"] is not None:
        os.setgroups([])
        os.setgid(config["gid"])
        os.setuid(config["uid"])


def child_signals() -> int:
    """Return a descriptor that becomes readable when a child ends."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *dummy: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def ended_children() -> list[tuple[int, int]]:
    """Reap, and return (process id, exit status; negative for a signal)."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def become(argv: list[str], env: dict[str, str], cwd: str, report: int) -> None:
    """Replace this process by a program; on failure, write the error number and end."""
    try:
        for number in DEFAULTS:
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.chdir(cwd)
        run(argv, env)
    except OSError as error:
        os.write(report, str(error.errno).encode())
    os._exit(127)


def run(argv: list[str], env: dict[str, str]) -> None:
    """Replace this process, with the search path of the new environment; raises OSError.

    os.execvpe() would import a module, which may be out of reach for the user that we are by now.
    """
    folders = [""] if "/" in argv[0] else env.get("PATH", os.defpath).split(":")
    reason: int = errno.ENOENT
    for folder in folders:
        try:
            os.execve(os.path.join(folder, argv[0]), argv, env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                reason = error.errno or reason
    raise OSError(reason, os.strerror(reason))


# --- the spawner


def spawn(request: dict[str, Any], streams: list[int]) -> tuple[int, int]:
    """Start a process; returns its id and 0, or 0 and an error number."""
    readable, writable = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        if request["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        become(request["argv"], request["env"], request["cwd"], writable)
    os.close(writable)
    error = os.read(readable, 16)
    os.close(readable)
    return (0, int(error)) if error else (pid, 0)


def take_request(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return what is asked for, and the streams for it; end when the stand-in has closed the channel."""
    message, descriptors, dummy, dummy = socket.recv_fds(channel, 16, 4)
    if not message:
        os._exit(0)
    for descriptor in descriptors:  # else a process would hold its own streams twice
        os.set_inheritable(descriptor, False)
    request_file, *streams = descriptors
    with os.fdopen(request_file) as file:
        return json.load(file), streams


def serve(channel: socket.socket) -> None:
    """Start what is asked for and report what ended, until the stand-in closes the channel."""
    ended = child_signals()
    known: dict[int, int] = {}
    while True:
        ready, dummy, dummy = select.select([channel.fileno(), ended], [], [])
        answers = []
        if channel.fileno() in ready:
            request, streams = take_request(channel)
            pid, error = spawn(request, streams)
            for stream in streams:
                os.close(stream)
            if pid:
                known[pid] = request["id"]
            answers.append({"id": request["id"], "pid": pid, "error": error})
        if ended in ready:
            drain(ended)
        gone = ended_children()
        answers += [{"id": known.pop(pid), "status": status} for pid, status in gone if pid in known]
        for answer in answers:
            with contextlib.suppress(OSError):
                channel.send(json.dumps(answer).encode())


# --- process 1


def start_process_one(config: dict[str, Any], life: socket.socket, channel: socket.socket, report: int) -> None:
    """In the child: start the spawner below us, then become process 1 of the container."""
    os.setsid()
    drop_root(config)
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.fork() == 0:
        os.setsid()
        life.close()
        os.close(report)
        serve(channel)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(config["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    become(config["argv"], config["env"], config["cwd"], report)


# --- the supervisor


def descendants() -> list[int]:
    """Return every process below us, those that have ended and wait to be reaped included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, wanted = [], [os.getpid()]
    while wanted:
        below = children.get(wanted.pop(), [])
        found += below
        wanted += below
    return found


def end_all() -> None:
    """Kill every process below us, as the kernel does when process 1 of a container ends."""
    for dummy in range(2_000):
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended_children()
        if not descendants():
            return
        time.sleep(0.002)


def abandon(process_one: int) -> int:
    """After the end of the stand-in: give process 1 a moment to clean up (PostgreSQL shuts down at once on SIGQUIT)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_one, signal.SIGQUIT)
    for dummy in range(100):
        if any(pid == process_one for pid, dummy in ended_children()):
            break
        time.sleep(0.01)
    return -signal.SIGKILL


def watch(life: socket.socket, process_one: int) -> int:
    """Wait for the end of process 1 and return its status; pass signals on to it; end it when told by a hang-up."""
    ended = child_signals()
    while True:
        for pid, status in ended_children():
            if pid == process_one:
                return status
        ready, dummy, dummy = select.select([life.fileno(), ended], [], [])
        if ended in ready:
            drain(ended)
        if life.fileno() in ready:
            message = life.recv(64)
            if not message:
                return abandon(process_one)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_one, int(message))


def main() -> None:
    life, channel = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    with os.fdopen(int(sys.argv[3])) as file:
        config = json.load(file)
    for each in (life, channel):
        each.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    readable, writable = os.pipe2(os.O_CLOEXEC)
    process_one = os.fork()
    if process_one == 0:
        start_process_one(config, life, channel, writable)
    os.close(writable)
    channel.close()
    error = os.read(readable, 16)
    answer = {"error": int(error)} if error else {"pid": process_one}
    with contextlib.suppress(OSError):
        life.send(json.dumps(answer).encode())
    status = 127 if error else watch(life, process_one)
    end_all()
    with contextlib.suppress(OSError):
        life.send(json.dumps({"status": status}).encode())


if __name__ == "__main__":
    main()
