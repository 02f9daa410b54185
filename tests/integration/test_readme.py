"""The playbook of the README, as it stands there."""

from __future__ import annotations

import re

import yaml

from tests.conftest import ROOT
from tests.integration.site import Site


def test_the_playbook_of_the_readme_works_in_check_mode_and_really(site: Site) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
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
