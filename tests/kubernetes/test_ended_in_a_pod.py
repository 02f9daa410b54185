"""What runs in a pod is ended, by us or for want of us, and PostgreSQL as its process 1 does not notice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.database.target_files_contract import shell
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.standin import Standin
from tests.support.modules import COLLECTIONS

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# The arguments of all processes that have $WORD in them; this search has it in its environment only. With $PGDATA,
# only of this pod: those of the stand-in see all processes of this machine.
LISTED = """
for p in $(printf %s "$WORD" | grep -lsF -f - /proc/[0-9]*/cmdline); do
    [ -n "$EVERYWHERE" ] || grep -qsF "PGDATA=$PGDATA" "${p%cmdline}environ" || continue
    p=${p%/cmdline}; printf '%s %s\\n' "${p#/proc/}" "$(tr '\\0\\n' '  ' <"$p/cmdline")"
done
exit 0
"""
# What a controller does that is killed in the middle of it; its words come by standard input.
PREAMBLE = """
import importlib, json, sys
root = "ansible_collections.godel.postgres_runbook.plugins."
kubernetes = importlib.import_module(root + "module_utils._target.kubernetes")
words = json.load(sys.stdin)
"""
RESTORE = """
cluster, db, restore, programs = (
    importlib.import_module(root + "module_utils." + name) for name in ("_kube.cluster", "_postgres.connection", "_load.load", "_postgres.programs")
)
options = cluster.ClusterOptions(words["namespace"], kubeconfig=words["kubeconfig"])
target = kubernetes.KubernetesTarget.of(options, words["workload"], None, words["lease_s"])
server = db.Server(target, db.Login(user=words["user"], password=words["password"]))
found = programs.find(target, words["major"], bin_dir=None, needed=programs.CLIENT, purpose="a test")
dump = restore.Dump(words["dump"], "plain")
restore.load(target, server, found, dump, words["database"], jobs=1, work_dir=words["folder"])
"""
VERIFY = """
kubernetes.KubernetesTarget.of.__func__.__defaults__ = (words["lease_s"],)
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": words["params"]}).encode()
basic._ANSIBLE_PROFILE = "legacy"
importlib.import_module(root + "modules.pg_restore_verify").main()
"""
BEGIN = (
    "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.1\n-- Dumped by pg_dump version 15.1\n\n"
)
END = "--\n-- PostgreSQL database dump complete\n--\n\n"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("end") as prepared:
        yield prepared


@pytest.fixture
def folder(place: Place) -> Iterator[str]:
    path = place.new_folder()
    with place.unnoticed():
        yield path
    place.here.files.remove_tree(path)


@pytest.fixture
def target(place: Place) -> Iterator[KubernetesTarget]:
    with place.target(lease_s=20) as target:
        yield target


def listed(place: Place, word: str, everywhere: bool = False) -> list[str]:
    """Process ids and arguments of those in the pod that have this word in their arguments."""
    environment = {"WORD": word, "EVERYWHERE": "yes" if everywhere else ""}
    return place.here.run(["sh", "-c", LISTED], env=environment).text.splitlines()


def test_what_a_killed_controller_was_loading_ends_and_postgresql_does_not_notice(place: Place, folder: str) -> None:
    rows = "INSERT INTO t SELECT 1 FROM pg_sleep(0.1);\n" * 3000
    lease_s = place.pace.lease_s
    running = []
    place.here.run(["chmod", "711", folder])  # the account of the scratch server has to pass through what root made
    for name, code in (("restore", RESTORE), ("verify", VERIFY)):
        work = f"{folder}/{name}"
        place.here.files.make_dir(work)
        place.here.files.write(f"{work}/{DATABASE}.sql", f"{BEGIN}CREATE TABLE t (a int);\n{rows}{END}".encode())
        params = {
            "login_user": USER, "login_password": PASSWORD, "db": DATABASE, "backup_dir": work, "scratch": "pod-local",
            "backup": f"{work}/{DATABASE}.sql", "scratch_dir": folder, "kubernetes": place.options(),
        }  # fmt: skip
        words = {
            "namespace": place.namespace, "kubeconfig": place.kubeconfig, "workload": place.workload, "user": USER,
            "password": PASSWORD, "database": DATABASE, "major": place.major(), "lease_s": lease_s, "folder": work,
            "dump": f"{work}/{DATABASE}.sql", "params": params,
        }  # fmt: skip
        running.append((work, _controller(PREAMBLE + code, words)))
    try:
        for work, process in running:
            place.until(lambda w=work, p=process: _loads(place, w, p))  # type: ignore[misc]
    finally:
        for dummy, process in running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    place.until(lambda: not listed(place, folder), 20 + 5 * lease_s)


def _controller(code: str, words: dict[str, Any]) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(words))
    process.stdin.close()
    return process


def _loads(place: Place, work: str, process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    if process.poll() is not None:
        raise AssertionError(process.stdout.read())
    return any("--file=-" in line for line in listed(place, work))


def test_a_pipeline_whose_programs_are_slow_to_end_is_stopped(
    place: Place, folder: str, target: KubernetesTarget
) -> None:
    marks = [str(random.randrange(10_000, 10**8)) for dummy in range(2)]
    pipeline = '{ sleep "$1"; echo "$?"; } | { shift; "$@" && cat; }'
    job = target.spawn(shell(pipeline, marks[0], "sleep", marks[1]), log=f"{folder}/log")
    place.until(lambda: all(any(f" sleep {mark}" in line for line in listed(place, mark)) for mark in marks))
    [slow] = [line.split()[0] for line in listed(place, marks[1]) if line.split()[1] == "sleep"]
    place.here.run(["sh", "-c", 'kill -s STOP "$1"', "sh", slow])  # it gets no time, as under a limit of CPU
    woken = threading.Timer(0.6, place.here.run, (["sh", "-c", 'kill -s CONT "$1"', "sh", slow],))
    woken.start()
    job.stop()
    woken.join()
    assert job.poll() == -15
    assert not listed(place, marks[1])


def test_who_starts_children_faster_than_they_are_ended_ends_too(place: Place, target: KubernetesTarget) -> None:
    # Its process list never shows it without a child.
    script = "trap '' TERM; while :; do sleep 0.03 & sleep 0.02; done"
    job = target.spawn(shell(script), log="/dev/null")
    assert job.poll() is None
    with place.unnoticed():
        job.stop(grace_s=0.2)
    assert job.poll() == -9


def test_a_read_that_is_cut_leaves_nothing_in_the_pod(
    standin: Standin, place: Place, folder: str, target: KubernetesTarget
) -> None:
    data = random.randbytes(3_000_000)
    target.files.write(f"{folder}/data", data)
    shells = len(_shells(place))
    for dummy in range(2):
        target.close()
        standin.faults.cut(200_000, "out")
        assert target.files.read(f"{folder}/data") == data
    target.close()
    place.until(lambda: not listed(place, f"{folder}/data") and len(_shells(place)) < shells)


def _shells(place: Place) -> list[str]:
    """Those that wait for scripts."""
    return [line for line in listed(place, "sh") if line.split()[1:] == ["sh"]]
