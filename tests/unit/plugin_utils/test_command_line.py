"""The hosts and the tags that a run was called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _command_line
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._command_line import CollectionRun, Inventory, ours
from tests.conftest import ROOT

GROUPS = {"all": ["db1", "db2", "web1"], "postgres": ["db1", "db2"], "web": ["web1"], "retired": [], "ungrouped": []}


def inventory(groups: Mapping[str, Sequence[str]] | None = None, sources: Sequence[str] = ()) -> Inventory:
    """An inventory in which a pattern is the name of a group or a host."""
    groups = GROUPS if groups is None else groups
    return Inventory(sources, groups, lambda part: groups.get(part, [part] if part in groups.get("all", ()) else []))


def load(path: str) -> object:
    return yaml.safe_load(Path(path).read_text())


@pytest.mark.parametrize(
    "parts", [["postgres"], ["db1", "web"], ["all", "!web"], ["postgres", "!retired"], ["&web", "all"]]
)
def test_hosts_that_are_there_are_fine(parts: list[str]) -> None:
    assert not _command_line.wrong_hosts(inventory(), parts, ["db1"], given=True)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["postgre"], "Did you mean 'postgres'?"),
        (["db1", "db22"], "Did you mean 'db2'?"),
        (["all", "!wbe"], "Did you mean 'web'?"),
        (["postgres", "&retierd"], "Did you mean 'retired'?"),
        (["retired"], "'retired' is a group without hosts"),
        ([], "it is empty"),
    ],
)
def test_each_part_has_to_match(parts: list[str], said: str) -> None:
    message = _command_line.wrong_hosts(inventory(), parts, ["db1"], given=True)
    assert message.startswith("Invalid target_hosts: ")
    for text in (said, "Nothing was done", "3 hosts", "postgres, retired, web"):
        assert text in message


def test_the_default_group_is_explained() -> None:
    message = _command_line.wrong_hosts(inventory({"all": ["a"], "postgresql": ["a"]}), ["postgres"], [], given=False)
    for text in ("No host to work on", "Did you mean 'postgresql'?", "1 host and the group postgresql", "target_hosts"):
        assert text in message
    nothing = _command_line.wrong_hosts(inventory({}, ["/nix/inventory.yml"]), ["postgres"], [], given=False)
    assert "The inventory /nix/inventory.yml does not exist." in nothing
    assert "has no hosts" in _command_line.wrong_hosts(inventory({}, ["/"]), ["postgres"], [], given=False)
    assert "leaves no host" in _command_line.wrong_hosts(inventory(), ["postgres", "&web"], [], given=True)


def test_a_limit_has_to_leave_a_host() -> None:
    assert not _command_line.wrong_limit(inventory(), ["postgres"], ["db1"], ["db1"])
    assert "leaves no host of 'postgres'" in _command_line.wrong_limit(inventory(), ["postgres"], ["web1"], [])
    assert "Did you mean 'db2'?" in _command_line.wrong_limit(
        inventory(), ["postgres"], ["all", "!bd2"], ["db1", "db2"]
    )


@pytest.mark.parametrize(("chosen", "skipped"), [([], []), (["daily", "always"], []), (["all"], ["monthly"])])
def test_tags_that_are_there_are_fine(chosen: list[str], skipped: list[str]) -> None:
    assert not _command_line.wrong_tags(CollectionRun(["maintenance"]), chosen, skipped)


@pytest.mark.parametrize(
    ("playbook", "chosen", "skipped", "said"),
    [
        (
            "maintenance",
            ["daily", "wekly"],
            [],
            "Invalid --tags: 'wekly' selects no task of maintenance. Did you mean 'weekly'?",
        ),
        (
            "maintenance",
            ["all"],
            ["monthyl"],
            "Invalid --skip-tags: 'monthyl' selects no task of maintenance. Did you mean",
        ),
        ("backup", ["daily"], [], "These playbooks have no tags."),
    ],
)
def test_a_tag_that_chooses_nothing_is_told(playbook: str, chosen: list[str], skipped: list[str], said: str) -> None:
    assert said in _command_line.wrong_tags(CollectionRun([playbook]), chosen, skipped)


def test_a_run_of_our_playbooks_alone_is_known(tmp_path: Path) -> None:
    by_path = str(ROOT / "playbooks" / "backup.yml")
    assert ours([by_path, "godel.postgres_runbook.restore"], load) == CollectionRun(["backup", "restore"])
    assert ours(["godel.postgres_runbook.nothing"], load) is None
    nightly = tmp_path / "nightly.yml"
    nightly.write_text(
        "- import_playbook: godel.postgres_runbook.backup\n  tags: [nightly]\n- import_playbook: more.yml\n"
    )
    more = tmp_path / "more.yml"
    more.write_text("- ansible.builtin.import_playbook: godel.postgres_runbook.maintenance\n  tags: slow,late\n")
    run = ours([str(nightly)], load)
    assert run == CollectionRun(["backup", "maintenance"], frozenset({"nightly", "slow", "late"}))
    assert run is not None
    assert run.all_tags == {"nightly", "slow", "late", "daily", "weekly", "monthly"}
    assert run.roles >= {"backup", "maintenance", "vacuum", "reindex", "backup_verify"}
    more.write_text("- hosts: web\n  tasks: []\n")  # a play of the user's own, with tags and hosts of its own
    assert ours([str(nightly)], load) is None
    more.write_text("- [broken")
    assert ours([str(nightly)], load) is None
