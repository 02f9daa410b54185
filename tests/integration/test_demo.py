"""``make demo``: it ends well, it notices when something is not as promised, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.processes import command_lines, until
from tests.support.workspace import PLACE_VARIABLE, workspace

DEMO = ROOT / "tools" / "demo.py"
SIZE = ("--size", "3")
REPORTS = "reports"
TIMEOUT_S = 180
# A demo that damages nothing, and so must not be believed.
WITHOUT_DAMAGE = f"""
import runpy, sys
demo = runpy.run_path({str(DEMO)!r})
demo["tell"].__globals__["flip_one_bit"] = lambda backup: "nothing"
sys.exit(demo["main"](sys.argv[1:]))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for all that the demo writes, which has to be empty again afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="d-", dir=workspace()))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo, with all its temporary files below the place."""
    return subprocess.Popen(
        [sys.executable, *arguments, "--reports", str(place / REPORTS)],
        env={**os.environ, PLACE_VARIABLE: str(place), "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(demo: subprocess.Popen[str]) -> str:
    """Wait for its end; returns what it printed."""
    try:
        return demo.communicate(timeout=TIMEOUT_S)[0]
    finally:
        if demo.poll() is None:
            demo.kill()


def assert_nothing_left(place: Path) -> None:
    """Every process of the demo had the place in its command line, and every file was below it."""

    def left() -> list[str]:
        return [line for line in command_lines().values() if str(place) in line]

    assert until(lambda: not left(), 5), left()
    assert {path.name for path in place.iterdir()} <= {REPORTS}


def test_the_demo_verifies_refuses_a_damaged_copy_restores_and_leaves_its_reports_alone(place: Path) -> None:
    demo = start(place, str(DEMO), *SIZE)
    output = finish(demo)
    assert demo.returncode == 0, output
    short = output.partition("In short")[2]
    assert re.search(r"^  verified +The restored copy equals the source: [1-9][\d,]* rows in 3 tables", short, re.M), (
        output
    )
    assert re.search(r"^  damaged copy +refused, because of the content of file data/\S+;", short, re.M), output
    assert re.search(r"^    public.events +([\d,]+)  (-?\d+) +\2 +equal$", output, re.M), output
    assert re.search(r"^  restore +[1-9][\d,]* lost rows are back; the database was unavailable for ", short, re.M), (
        output
    )
    assert re.search(r"^  health +\d+ critical", short, re.M), output
    for playbook in ("backup", "backup_verify", "restore", "health"):
        assert f"$ ansible-playbook godel.postgres_runbook.{playbook} -i inventory.yml" in output
        assert (place / REPORTS / "demo" / f"{playbook}.html").is_file()
    assert f"open {place / REPORTS / 'health.html'}" in " ".join(output.split())
    assert_nothing_left(place)


def test_a_copy_that_is_not_refused_fails_the_demo(place: Path) -> None:
    demo = start(place, "-c", WITHOUT_DAMAGE, *SIZE)
    output = finish(demo)
    assert demo.returncode == 1, output
    assert "The demo FAILED: godel.postgres_runbook.backup_verify ended with status 0" in output
    assert_nothing_left(place)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_the_playbook_and_leaves_nothing(place: Path, signum: signal.Signals) -> None:
    demo = start(place, str(DEMO), *SIZE)
    assert demo.stdout is not None
    for line in demo.stdout:  # until the first playbook runs
        if "$ ansible-playbook" in line:
            break
    assert until(lambda: any("AnsiballZ" in line and str(place) in line for line in command_lines().values()), 60)
    demo.send_signal(signum)
    output = finish(demo)
    assert demo.returncode == 128 + signum, output
    assert "Interrupted. The server is stopped and everything removed." in output
    assert_nothing_left(place)
