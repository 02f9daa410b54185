"""Interpreters for modules that do not run as the tests do."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

# Without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, modes of files hold for root, too. 24 is PR_CAPBSET_DROP.
_DROP = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def started_by(path: Path, *command: str) -> str:
    """Write a script that starts our Python by this command, and return its path. Either path may have blanks in it."""
    words = " ".join(map(shlex.quote, (*command, sys.executable)))
    return _script(path, f'exec {words} "$@"')


def that_minds_modes(path: Path) -> str:
    """Write a Python for which modes of files hold, although the tests may run as root, and return its path."""
    if os.geteuid() != 0:
        return started_by(path)
    return _script(path, f'exec {shlex.quote(sys.executable)} -c {shlex.quote(_DROP)} "$@"')


def _script(path: Path, line: str) -> str:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)
