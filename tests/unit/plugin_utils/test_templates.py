"""Templates: found wherever the collection lies, strict about names, and escaping in the language of their names."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jinja2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _templates
from tests.conftest import ROOT

TEMPLATES = ROOT / "plugins" / "plugin_utils" / "templates"
PAGE = """
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _health_fleet, _health_page, _report
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._health import build
host = build("db1", {}, now="2026-02-06T03:04:05Z")
report = _report.build({"msg": "Done."}, _report.ReportHeader("backup", "Backup", "db1", "app", "now"))
for text in (_health_page.texts(host)["html"], _health_page.texts(host)["md"], _health_fleet.texts([host], "now")["html"],
             _health_fleet.texts([host], "now")["md"], report.as_html(), report.as_markdown()):
    assert "db1" in text
print(_health_page.__file__)
"""


def test_pages_are_made_from_a_collection_in_an_archive_whose_path_has_a_blank(tmp_path: Path) -> None:
    archive = tmp_path / "the collection.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        inside = Path("ansible_collections/godel/postgres_runbook/plugins")
        for folder in (*reversed(inside.parents[:-1]), inside):
            packed.mkdir(folder.as_posix())  # a package without __init__.py is found by its folder's own entry
        for name in ("plugin_utils", "module_utils"):
            for file in (ROOT / "plugins" / name, *sorted((ROOT / "plugins" / name).rglob("*"))):
                if "__pycache__" not in file.parts:
                    packed.write(file, inside / file.relative_to(ROOT / "plugins"))
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r})\n{PAGE}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(archive))


@pytest.mark.parametrize("file", sorted(TEMPLATES.rglob("*.j2")), ids=lambda file: file.name)
def test_every_template_compiles_and_escapes_by_its_name(file: Path) -> None:
    name = file.relative_to(TEMPLATES).as_posix()
    assert name.endswith((".html.j2", ".md.j2"))
    _templates.environment().get_template(name)
    # A value that is marked as safe would go by all escaping.
    assert not re.search(r"\|\s*safe\b|autoescape", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("x.html.j2", "&lt;b&gt;|*a*\\n"), ("x.md.j2", "\\<b\\>\\|\\*a\\*\\\\n")],
)
def test_a_value_is_escaped_in_the_language_of_its_template(name: str, shown: str) -> None:
    environment = _templates.environment().overlay(loader=jinja2.DictLoader({name: "{{ value }}"}))
    assert environment.get_template(name).render(value="<b>|*a*\n") == shown


def test_a_name_that_a_template_does_not_know_is_an_error() -> None:
    environment = _templates.environment().overlay(loader=jinja2.DictLoader({"x.md.j2": "{{ missing }}"}))
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        environment.get_template("x.md.j2").render()
