"""Ratios against named peers: side by side, in one run, on one server and one database."""

import sys
from pathlib import Path

# For `python -m tests.benchmarks`, which has no conftest.py to lay this path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".venv" / "collections"))
