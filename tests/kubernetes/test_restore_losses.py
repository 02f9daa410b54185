"""A restore in a pod whose container restarts, or whose connection is lost for good: what is left, and the next run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import cluster
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import databases
from ansible_collections.godel.postgres_runbook.plugins.module_utils._module import Call
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import reconnect
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login, Server
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import stage_steps
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_restore
from tests.kubernetes import place as places
from tests.kubernetes.link import Link
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.kubernetes.sites import LOGIN, fill_slow_to_load
from tests.support.modules import Result, run_module, start_module

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOADS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_runbook %(pg_restore)'"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_runbook restore%'"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("rls") as prepared:
        fill_slow_to_load(prepared)
        yield prepared


@pytest.fixture
def words(place: Place) -> Iterator[dict[str, Any]]:
    """The parameters of pg_restore for a backup in the pod."""
    folder, scratch = place.new_folder(), place.new_folder()
    common = {**LOGIN, "db": DATABASE, "backup_dir": folder, "kubernetes": place.options()}
    taken = run_module("pg_backup", common)
    assert not taken["failed"], taken
    yield {**common, "backup": taken["backup"]["id"], "scratch_dir": scratch}
    for name in stages(place):
        ask(place, f'DROP DATABASE "{name}" WITH (FORCE)')
    place.here.files.remove_tree(folder)
    place.here.files.remove_tree(scratch)


def ask(place: Place, statement: str) -> list[Any]:
    """Ask the server on a connection of the tests' own."""
    with databases.connect_admin(Server(place.here, Login(user=USER, password=PASSWORD))) as session:
        return session.query(statement)


def stages(place: Place) -> dict[str, int]:
    """The databases beside production, and the OID of each."""
    rows = ask(place, "SELECT datname::text, oid::bigint FROM pg_database")
    return {name: oid for name, oid in rows if name.startswith(f"{DATABASE}_staged_")}


def test_a_container_that_restarts_in_the_load_leaves_nothing(place: Place, words: dict[str, Any]) -> None:
    running = start_module("pg_restore", words)
    place.until(lambda: ask(place, LOADS)[0][0] > 0 or running.process.poll() is not None)
    assert running.process.poll() is None
    place.restart_server()
    result = running.finish()
    assert result["failed"], result
    assert "The container was restarted" in result["msg"]
    assert "Production was not touched." in result["msg"]
    assert "the next restore" not in result["msg"]
    assert ask(place, f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'")
    assert stages(place) == {}
    again = run_module("pg_restore", words)
    assert not again["failed"], again
    assert (again["stage"]["verdict"], again["resumed"]) == ("verified", False)
    assert place.glob(f"{words['scratch_dir']}/*") == []


def at_once(place: Place, words: dict[str, Any], link: Link, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Result]:
    """A restore in this process, which goes through the link, and gives up a lost connection soon."""
    patience_s = 2 * place.pace.factor
    monkeypatch.setattr(reconnect.LostConnections.__init__, "__defaults__", (patience_s,))
    monkeypatch.setattr(cluster.patiently, "__defaults__", (patience_s,))
    monkeypatch.setattr(KubernetesTarget.of.__func__, "__defaults__", (max(patience_s, place.pace.lease_s),))  # type: ignore[attr-defined]
    defaults = {name: option.get("default") for name, option in pg_restore.SPEC.options.items()}
    options = {name: option.get("default") for name, option in pg_restore.SPEC.options["kubernetes"]["options"].items()}
    kubernetes = {**options, **place.options(kubeconfig=link.kubeconfig)}
    params = {**defaults, **words, "kubernetes": kubernetes}
    return lambda: dict(pg_restore.operation(Call(pg_restore.SPEC.read(params), False)).values)


@pytest.mark.parametrize("event", ["before analyze", "before smoke", "container"])
def test_what_is_loaded_when_the_connection_is_lost_for_good_is_not_loaded_again(
    place: Place, words: dict[str, Any], link: Link, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    where, step = (capture.Recorder, "_read_objects") if event == "container" else (stage_steps, event.split()[1])
    done = getattr(where, step)
    losses = [place.restart_server if event == "container" else link.end]

    def lost(*args: Any) -> Any:
        if losses:
            losses.pop()()
        return done(*args)

    monkeypatch.setattr(where, step, lost)
    words = {**words, "smoke_queries": [{"query": "SELECT count(*) FROM users", "expect": "5000"}]}
    with pytest.raises(RunbookError) as caught:
        at_once(place, words, link, monkeypatch)()
    assert not losses
    [(name, oid)] = stages(place).items()
    told = caught.value.message
    assert "Production was not touched." in told
    assert f"The backup is loaded as {name}: the next restore of this backup continues with it." in told
    if event == "container":
        assert "The container was restarted" in told
    place.until(lambda: ask(place, OURS)[0][0] == 0)
    result = run_module("pg_restore", words)
    assert not result["failed"], result
    assert (result["stage"]["verdict"], result["resumed"], result["removed"]) == ("verified", True, [])
    assert "restore_s" not in result["steps"]
    assert stages(place) == {name: oid}
