"""PostgreSQL as process 1 adopts what exec leaves behind, and does what was recorded when that ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.standin import Standin, lab, postgres_image
from tests.standin.recorder import V5, Client, exec_path, execute
from tests.support.workspace import workspace

ROWS = lab.recording("exec-orphans-under-postgres.json")["rows"]
# The recorded client dropped the connection; then this was done in the container.
AFTERWARDS = {
    "gzip": "kill -KILL $(cat sh.pid); sleep 0.1; pkill -TERM -x gzip -u $(id -u) -g $(cat sh.pid)",
    "traps": "kill -TERM -$(cat sh.pid)",
    "plain exec'd pipeline shell": "kill -TERM -$(cat sh.pid)",
    "SIGKILL, it has a running child": "kill -KILL $(cat sh.pid); sleep 0.1; kill -TERM -$(cat sh.pid)",
}
DATABASE = """
apiVersion: v1
kind: Pod
metadata: {name: database, labels: {app: database}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
    - {name: postgres, image: lab/postgres:15, env: [{name: POSTGRES_PASSWORD, value: dummy}]}
"""


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with Standin(workspace() / "orph", images={"lab/postgres:15": postgres_image()}) as running:
        running.apply(DATABASE)
        running.ready_pod(selector="app=database")
        yield running


def connect(standin: Standin, patience_s: float = 20) -> Any:
    """Connect; the crash of the test before may still close a connection or two."""
    host, port = standin.address("database", 5432)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return psycopg2.connect(host=host, port=port, user="postgres", password="dummy", connect_timeout=5)
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def ready(standin: Standin) -> bool:
    with contextlib.suppress(psycopg2.OperationalError), contextlib.closing(connect(standin, 0)):
        return True
    return False


def postmaster(standin: Standin) -> int:
    return int(standin.path("database", "/var/lib/postgresql/data/postmaster.pid").read_text().split()[0])


def parentage(stat: Path) -> tuple[str, int]:
    """Return a process's name and the number of its parent; nothing, once it has ended."""
    try:
        name, dummy, rest = stat.read_text().partition("(")[2].rpartition(")")
    except OSError:
        return "", 0
    return name, int(rest.split()[1])


def calm(standin: Standin) -> bool:
    """Say whether no orphan of the test before is left: the end of a second one is one more crash."""
    try:
        parent = postmaster(standin)
    except OSError:
        return False
    orphans = [name for name, ppid in map(parentage, Path("/proc").glob("[0-9]*/stat")) if ppid == parent]
    return not set(orphans) - {"postgres", "python"} and ready(standin)  # a Python is the stand-in's own


def quicker(command: str) -> str:
    """Shorten the pauses, and give the sleepers that are looked for a number of their own."""
    command = command.replace("/tmp/", "").replace("sleep 1;", "sleep 0.2;").replace("(sleep 2;", "(sleep 0.3;")
    return re.sub(r"\b9([5-8])\b", lambda found: f"{os.getpid() % 10_000}{found[1]}", command)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_an_orphan_ends_and_postgresql_does_as_recorded(standin: Standin, row: Any) -> None:
    standin.until(lambda: calm(standin))
    before = len(standin.log("database"))
    with contextlib.closing(connect(standin)) as other:
        _do(standin, row)
        crashed = _crashes(standin, before, 0.9)
        assert crashed is row["server_crash_restarted"]
        assert _is_lost(other) is row["server_crash_restarted"]
    told = standin.log("database")[before:]
    for line in row["server_log"]:
        text = re.sub(r"PID \d+", "PID N", line.partition("LOG:  ")[2])
        if "terminated by signal 15" in text and "gzip" in row["case"]:
            continue  # which of the two ends first, and by which signal, is chance
        assert text in re.sub(r"PID \d+", "PID N", told)


def _do(standin: Standin, row: Any) -> None:
    after = next((what for words, what in AFTERWARDS.items() if words in row["case"]), None)
    if after is None:
        seen = execute(standin, "default", "database", "bash", "-c", quicker(row["command"]))
        assert seen.channel(1).decode() == row["output"]
        assert json.loads(seen.channel(3))["status"] == "Success"
        return
    standin.path("database", "sh.pid").unlink(missing_ok=True)
    command = [("command", word) for word in ("bash", "-c", quicker(row["command"]))]
    client = Client(standin, exec_path("default", "database"), [*command, ("stdout", "true")], [V5])
    standin.until(lambda: standin.path("database", "sh.pid").exists())
    time.sleep(0.2)
    client.close()
    execute(standin, "default", "database", "bash", "-c", after)


def _crashes(standin: Standin, before: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if "terminating any other active server processes" in standin.log("database")[before:]:
            standin.until(lambda: "ready to accept connections" in standin.log("database")[before:])
            return True
        time.sleep(0.02)
    return False


def _is_lost(connection: Any) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error:
        return True
    return False


def test_an_adopted_process_is_a_child_of_the_postmaster(standin: Standin) -> None:
    standin.until(lambda: ready(standin))
    script = "sleep 55 </dev/null >/dev/null 2>&1 & echo $!"
    pid = int(execute(standin, "default", "database", "bash", "-c", script).channel(1))
    assert parentage(Path(f"/proc/{pid}/stat"))[1] == postmaster(standin)


def test_data_survive_a_restart_of_the_container(standin: Standin) -> None:
    standin.until(lambda: ready(standin))
    with contextlib.closing(connect(standin)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        connection.commit()
    before = len(standin.log("database"))
    standin.restart_container("database")
    standin.until(lambda: "ready to accept connections" in standin.log("database")[before:])
    standin.until(lambda: ready(standin))
    with contextlib.closing(connect(standin)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT answer FROM kept")
        assert cursor.fetchone() == (42,)
