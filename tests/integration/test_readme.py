"""The quick start and the playbook of the README, run as written."""

from __future__ import annotations

import re
import shlex

import yaml

from tests.conftest import ROOT
from tests.integration.site import Site

README = (ROOT / "README.md").read_text()


def test_the_commands_of_the_quick_start_work_and_a_second_run_changes_nothing(site: Site) -> None:
    quick_start = README.partition("## Quick start")[2].partition("### ")[0]
    commands = [shlex.split(line) for line in re.findall(r"^ +(ansible-playbook .*)$", quick_start, re.MULTILINE)]
    playbooks = [(words[3].rpartition(".")[2], words[4:]) for words in commands]
    assert [name for name, _options in playbooks] == ["backup", "backup", "backup_verify", "backup_status"]
    for name, options in playbooks:
        run = site.run(name, *options, report=True)
        assert run.ok, run.output
        assert len(site.entries()) == (0 if options else 1)
    assert site.report("backup_verify")["verdict"] == "verified"
    for name in ("backup", "backup_verify"):
        assert site.run(name).changed() == 0


def test_the_playbook_of_the_readme_works_in_check_mode_and_really(site: Site) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    [play] = next(each for each in map(yaml.safe_load, blocks) if isinstance(each, list) and "tasks" in each[0])
    login = site.hosts["db1"]["postgres_login"]
    defaults = {**login, "db": site.database.name, "backup_dir": str(site.backup_dir)}
    play["module_defaults"] = dict.fromkeys(play["module_defaults"], defaults)
    path = site.folder / "readme.yml"
    path.write_text(yaml.safe_dump([play]))
    for arguments, backups in ((["--check"], 0), ([], 1)):
        run = site.run(path, *arguments)
        assert run.ok, run.output
        assert len(site.entries()) == backups
