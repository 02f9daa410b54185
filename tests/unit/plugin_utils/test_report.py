"""Reports: what they say, and that they show any name as it is."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._report import ReportHeader, build
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._text import label, labels, text
from tests.conftest import ROOT

WHOSE = {
    "playbook": "backup_status",
    "title": "Backups of app",
    "host": "db1",
    "time": "2026-02-06T03:04:05Z",
    "database": "app",
}
# Names as PostgreSQL allows them: nothing that cannot be sent, and no NUL.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`code` *bold* _it_ __x__ ~~no~~",
    "[link](javascript:alert(1))",
    "<!-- --> & &lt; &#60;",
    "{{ 7 * 7 }} {% raw %}",
    "# head",
    "\\| \\",
    "http://example.com www.example.com",
    "$x$",
    "line\nbreak\ttab\x1b[31mred\u202eabc",
]


def finding(severity: str, **over: Any) -> dict[str, Any]:
    """A finding as a module returns it."""
    known = {
        "check": "backup_rpo",
        "subject": "app",
        "value": 1,
        "threshold": 2,
        "message": f"It is {severity}.",
        "remedy": "",
    }
    return {**known, "severity": severity, **over}


def rendered(result: dict[str, Any], columns: dict[str, list[str]] | None = None, **over: str) -> dict[str, str]:
    """The three texts of a result."""
    found = build(result, ReportHeader(**{**WHOSE, **over}), columns)
    return {"json": found.as_json(), "md": found.as_markdown(), "html": found.as_html()}


class Page(HTMLParser):
    """Collects the texts of a page's cells, and the elements it has."""

    def __init__(self, source: str) -> None:
        """Read a whole page."""
        super().__init__()
        self.cells: list[str] = []
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; a cell begins a new text."""
        self.elements.add(tag)
        self.attributes += attrs
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        """Add to the cell that is open."""
        if self.cells:
            self.cells[-1] += data


def cells_of_html(source: str) -> list[str]:
    """The texts of all cells of a page."""
    return [cell.strip() for cell in Page(source).cells]


def cells_of_markdown(source: str) -> list[str]:
    """The texts of all cells, as a reader of the rendered Markdown sees them; no markup may have come through."""
    found = []
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    for before, token in itertools.pairwise(tokens):
        if token.type == "inline" and before.type in ("td_open", "th_open"):
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token.content
            found.append("".join(child.content for child in token.children or []))
    return found


# --- what a report says ----------------------------------------------------------------------------------


def test_findings_come_worst_first_and_the_worst_is_the_severity() -> None:
    document = json.loads(
        rendered({"findings": [finding(word) for word in ("ok", "critical", "info", "warning")]})["json"]
    )
    assert [each["severity"] for each in document["findings"]] == ["critical", "warning", "info", "ok"]
    assert document["severity"] == "critical"


def test_a_result_without_findings_is_ok() -> None:
    assert json.loads(rendered({"msg": "Done."})["json"])["severity"] == "ok"


def test_a_failed_result_is_a_critical_finding_with_its_remedy() -> None:
    error = {"kind": "ConnectionFailed", "subject": "database 'app'", "remedy": "Start the server."}
    texts = rendered({"failed": True, "msg": "Cannot connect.", "error": error, "findings": [finding("ok")]})
    document = json.loads(texts["json"])
    assert (document["severity"], document["message"]) == ("critical", "Cannot connect.")
    worst = document["findings"][0]
    told = ["database 'app'", "Cannot connect.", "Start the server."]
    assert [worst[name] for name in ("subject", "message", "remedy")] == told
    for words in (cells_of_markdown(texts["md"]), cells_of_html(texts["html"])):
        assert words[5:10] == ["critical", "backup_status", *told]


def test_a_failure_that_is_not_ours_is_a_critical_finding_too() -> None:
    document = json.loads(rendered({"failed": True, "msg": "MODULE FAILURE", "rc": 1})["json"])
    assert (document["severity"], document["findings"][0]["subject"]) == ("critical", "app")


def test_the_json_has_every_value_and_nothing_of_ansible() -> None:
    data = {"total_size_bytes": 7, "backups": [{"id": "app_1", "deep": {"a": [1, None]}}], "empty": []}
    extra = {
        "invocation": {"module_args": {}},
        "changed": True,
        "failed": False,
        "_ansible_no_log": False,
        "warnings": ["x"],
    }
    document = json.loads(rendered({**data, **extra, "msg": "One."})["json"])
    assert {name: document[name] for name in data} == data
    assert "invocation" not in document
    assert document["changed"] is True
    assert {name: document[name] for name in WHOSE} == WHOSE
    assert document["schema_version"] == 1


@pytest.mark.parametrize("module", sorted((ROOT / "plugins" / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_no_return_value_is_hidden_by_what_a_report_says_itself(module: Path) -> None:
    returned = yaml.safe_load(re.findall(r'^RETURN = r"""(.*?)"""', module.read_text(), re.S | re.M)[0])
    own = json.loads(rendered({})["json"]).keys() - {"findings", "severity", "changed"}
    assert returned.keys() & own == set()


def test_tables_have_the_chosen_columns_in_their_order_and_all_of_them_when_none_are_chosen() -> None:
    backups = [{"id": "app_2", "size_bytes": 2048, "verdict": None}, {"id": "app_1", "age_s": 90}]
    chosen = rendered({"backups": backups}, columns={"backups": ["verdict", "id", "size_bytes"]})
    every = rendered({"backups": backups})
    for cells in (cells_of_markdown, cells_of_html):
        form = "md" if cells is cells_of_markdown else "html"
        assert cells(chosen[form]) == ["Verdict", "ID", "Size", "–", "app_2", "2.0 KiB", "–", "app_1", "–"]
        assert cells(every[form])[:4] == ["ID", "Size", "Verdict", "Age"]
        assert cells(every[form])[-1] == "1 min 30 s"


def test_groups_lists_and_single_figures_have_their_places() -> None:
    result = {
        "verdict": "verified",
        "removed": ["/backups/a", "/backups/b"],
        "steps": {"files_s": 0.02, "restore_s": 61},
    }
    markdown = rendered(result)["md"]
    assert "## Figures\n\n|  |  |\n| --- | --- |\n| Verdict | verified |" in markdown
    assert "## Removed\n\n- /backups/a\n- /backups/b" in markdown
    assert "| Files | 20 ms |\n| Restore | 1 min 1 s |" in markdown


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("size_bytes", 1536, "1.5 KiB"),
        ("duration_s", 125, "2 min 5 s"),
        ("rows", 1234567, "1,234,567"),
        ("changed", True, "yes"),
        ("verdict", None, "–"),
        ("tables", [], "–"),
        ("fingerprint", {"rows": 1000, "large_objects": 0}, "rows 1,000, large objects 0"),
        ("tags", ["a", "b"], "a, b"),
        ("name", "a\nb\x1b[0m", "a\\nb\\x1b[0m"),
    ],
)
def test_a_value_is_told_for_people(key: str, value: object, told: str) -> None:
    assert text(key, value) == told


@pytest.mark.parametrize(
    ("key", "told"),
    [("size_bytes", "Size"), ("id", "ID"), ("verified_at", "Verified at"), ("lsn", "LSN"), ("change_id", "Change ID")],
)
def test_a_name_becomes_a_heading(key: str, told: str) -> None:
    assert label(key) == told


# --- hostile names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_as_it_is_and_does_nothing(name: str) -> None:
    texts = rendered(
        {"findings": [finding("critical", subject=name)], "names": [name], "msg": name}, title=name, database=name
    )
    assert json.loads(texts["json"])["findings"][0]["subject"] == name
    shown = text("", name)
    assert cells_of_html(texts["html"])[7] == shown.strip()
    assert cells_of_markdown(texts["md"])[7] == shown.strip()
    page = Page(texts["html"])
    assert page.elements.isdisjoint({"script", "img", "a", "link", "iframe", "b"})
    assert not {name for name, dummy in page.attributes} & {"src", "href", "onerror", "onclick"}


@given(NAMES)
def test_any_name_comes_through_html_and_markdown_unchanged(name: str) -> None:
    texts = rendered({"findings": [finding("critical", subject=name)]})
    shown = " ".join(text("", name).split())  # blanks side by side are one blank to a reader
    assert " ".join(cells_of_html(texts["html"])[7].split()) == shown
    assert " ".join(cells_of_markdown(texts["md"])[7].split()) == shown


def test_a_page_loads_nothing_and_forbids_it() -> None:
    page = rendered({"msg": "Fine.", "findings": [finding("ok")]})["html"]
    assert "default-src 'none'" in page
    assert re.search(r"(https?:)?//", page) is None
    assert "<script" not in page


@pytest.mark.parametrize(
    "result",
    [{}, {"changed": False, "skipped": True}, {"changed": False, "unreachable": True, "msg": "No route."}],
    ids=["none", "skipped", "unreachable"],
)
def test_a_report_of_nothing_is_critical(result: dict[str, Any]) -> None:
    report = build(result, ReportHeader(**WHOSE))
    assert report.severity == "critical"
    assert [each["severity"] for each in report.findings] == ["critical"]


def test_columns_of_one_table_have_names_of_their_own() -> None:
    keys = ["application", "written_lag_bytes", "written_lag_s", "reply_age_s"]
    assert labels(keys) == ["Application", "Written lag (size)", "Written lag (time)", "Reply age"]
    assert labels(["size_bytes", "size"]) == ["Size (size)", "Size"]
