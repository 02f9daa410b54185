"""A Python for modules in playbooks: it hands its streams to a process that is forked for it, and ends as that ends.

Its first argument is the socket of ``fork_server.py``. It is kept small, for it starts once for each task.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Raises SystemExit with the other's exit status; signals reach the other, and kill this one as they kill that one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(sys.argv[1])
        wanted = {"argv": sys.argv[2:] or ["-"], "env": dict(os.environ), "cwd": os.getcwd(), "imports": []}
        socket.send_fds(server, [json.dumps(wanted).encode()], [0, 1, 2])
        if not server.recv(64):
            sys.exit("the process that forks has ended")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: server.send(str(int(number)).encode()))
        status = int(server.recv(64) or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
