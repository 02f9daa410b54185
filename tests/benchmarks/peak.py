"""Run a Python module as the main program, and write the largest memory that its process ever held to a file.

The kernel keeps that figure for this process alone, without the programs that it starts: VmHWM in
https://man7.org/linux/man-pages/man5/proc_pid_status.5.html. Usage: ``python -m tests.benchmarks.peak FILE MODULE``.
"""

import atexit
import re
import runpy
import sys


def _write(path: str) -> None:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status.read(), re.MULTILINE)
    with open(path, "w", encoding="ascii") as file:
        file.write(str(int(peak[1]) * 1024 if peak else 0))


if __name__ == "__main__":
    dummy, file, module = sys.argv
    del sys.argv[1:]  # a module takes its arguments from there, too
    atexit.register(_write, file)
    runpy.run_module(module, run_name="__main__")
