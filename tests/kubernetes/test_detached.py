"""Detached programs in a pod end by themselves in every case: every wait is bounded."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import snapshot
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.database.target_files_contract import shell
from tests.kubernetes import leftovers
from tests.kubernetes import place as places
from tests.kubernetes.place import Place

# Each test is followed by a look for processes that are left (`conftest._nothing_left`).
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
REMOVE = 'rm -rf -- "$1"'


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("det") as prepared:
        yield prepared


@pytest.fixture
def folder(place: Place) -> Iterator[str]:
    path = place.new_folder()
    with place.unnoticed():
        yield path
    place.here.files.remove_tree(path)


@pytest.fixture
def target(place: Place) -> Iterator[KubernetesTarget]:
    with place.target(lease_s=max(60.0, 10 * place.pace.lease_s)) as target:
        yield target


def running(place: Place, word: str) -> list[leftovers.Process]:
    return [each for each in leftovers.processes(place).values() if word in each.arguments]


def homes(target: KubernetesTarget) -> list[str]:
    """The directories for what runs detached."""
    text = 'ls -d "${TMPDIR:-/tmp}"/.pg_runbook_* 2>/dev/null; exit 0'
    return target.run(shell(text)).text.split()


@pytest.mark.parametrize("seconds", ["0", "0.2", "0.5", "0.7"])
def test_a_job_that_succeeds_leaves_no_watcher(target: KubernetesTarget, folder: str, seconds: str) -> None:
    for dummy in range(3):
        job = target.spawn(["sleep", seconds], log=f"{folder}/log")
        assert job.wait(60) == 0


def test_a_lock_that_is_let_go_leaves_no_holder(target: KubernetesTarget, folder: str) -> None:
    for dummy in range(3):
        with target.files.lock(f"{folder}/lock", "a test"):
            pass


def test_a_job_whose_directory_is_removed_ends(place: Place, target: KubernetesTarget, folder: str) -> None:
    seconds = str(random.randrange(10_000, 10**8))
    job = target.spawn(["sleep", seconds], log=f"{folder}/log")
    place.until(lambda: running(place, seconds))
    with place.target() as other:
        other.run(shell(REMOVE, *homes(other)))
    with pytest.raises(RunbookError, match=r"A program in the container was ended|The lock was lost"):
        job.wait(60)
    target._lease.release()  # as the end of the module does
    place.until(lambda: not running(place, seconds))


def test_a_job_whose_lease_is_removed_ends(place: Place, target: KubernetesTarget, folder: str) -> None:
    seconds = str(random.randrange(10_000, 10**8))
    target.spawn(["sleep", seconds], log=f"{folder}/log")
    place.until(lambda: running(place, seconds))
    with place.target() as other:
        other.run(shell(REMOVE, *(f"{home}/lease" for home in homes(other))))
    target._lease.release()
    place.until(lambda: not running(place, seconds))


def test_the_shell_beside_a_snapshot_ends_with_its_psql(place: Place, folder: str) -> None:
    # As psql runs it: below a process that is killed while the file is still there.
    waits = f"{snapshot._WAIT[3:]}'{folder}/flag'{snapshot._UNTIL_GONE}"
    script = 'trap "exit 0" TERM; : >"$1"; sh -c "$2" waits-for-"$1" & wait; exit 0'
    place.here.files.write(f"{folder}/flag", b"")
    with place.target() as target:
        job = target.spawn(["sh", "-c", script, "sh", f"{folder}/flag", waits], log=f"{folder}/log")
        place.until(lambda: running(place, f"waits-for-{folder}"))
        stop = (
            'for p in /proc/[0-9]*; do grep -qs "trap \\"exit [0]\\" TERM" "$p/cmdline" && kill "${p#/proc/}"; done; :'
        )
        target.run(shell(stop))
        assert job.wait(60) == 0
        place.until(lambda: not running(place, f"waits-for-{folder}"))
