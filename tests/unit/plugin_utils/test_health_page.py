"""Pages of health: what they say and how, whatever the names are; and the figures for Prometheus."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _health_fleet, _health_page, _prometheus
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._charts import Bar, BarPart, Chart, bars, stack
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._charts import line as line_over_time
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._health import HostHealth, build
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._health_findings import command
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._templates import environment
from tests.support.health_samples import GIB, HOSTILE, NOW, bad_night, finding, history, section
from tests.unit.plugin_utils.test_report import NAMES, Page, cells_of_markdown

CATALOG: dict[str, Any] = {
    "backups": [
        {"id": "shop_2", "state": "unreadable", "age_s": 60},
        {"id": "shop_1", "state": "complete", "age_s": 7200, "size_bytes": GIB},
    ],
    "databases": [{"database": "shop", "newest": "shop_2", "newest_usable": "shop_1"}],
    "incomplete": [],
    "total_size_bytes": GIB,
}


def with_backups() -> dict[str, Any]:
    """A bad night with a catalog."""
    result = bad_night()
    result["sections"]["backups"] = section("warning", "1 backup.", CATALOG)
    result["findings"].append(finding("warning", "backup_rpo", "backups", "shop", "Old."))
    return result


def host(result: dict[str, Any] | None = None, **over: Any) -> HostHealth:
    """The health of a host, that of a bad night unless told otherwise."""
    words: dict[str, Any] = {"now": NOW, "database": "shop", **over}
    return build(words.pop("name", "db1"), bad_night() if result is None else result, **words)


def pages(known: HostHealth) -> list[str]:
    """The HTML of a host and of the overview."""
    return [_health_page.texts(known)["html"], _health_fleet.texts([known], NOW)["html"]]


# --- what is said ---------------------------------------------------------------------------------------


def test_the_worst_is_told_first_with_what_to_do_and_what_to_type() -> None:
    page = _health_page.texts(host())["html"]
    told = re.findall(r'<li class="finding (\w+)">', page)
    assert told == ["critical", "critical", "warning", "warning", "info"]
    assert "2 critical findings, 2 warnings." in page
    assert "<code>ansible-playbook godel.postgres_runbook.disk_space --limit db1</code>" in page
    assert page.index('id="findings"') < page.index('id="server"')
    assert page.index("Passed checks") < page.index("87 of 97 connections available to ordinary roles")


def test_a_command_has_the_option_that_the_remedy_names() -> None:
    remedy = "Run the playbook godel.postgres_runbook.vacuum with -e vacuum_freeze=true."
    typed = "ansible-playbook godel.postgres_runbook.vacuum --limit db1 -e vacuum_freeze=true"
    assert command("db1", remedy) == typed
    assert command("db1", f"{remedy[:-1]} -e postgres_db=crm_2. Then see.") == f"{typed} -e postgres_db=crm_2"
    assert command("db1", f"{remedy[:-1]} -e postgres_db='my db'.") == ""  # half of it would vacuum another database
    assert command("db1", "Restart the server.") == ""
    drop = "Run the playbook godel.postgres_runbook.disk_space with -e disk_space_drop_slot=standby_2."
    assert command("db1", drop) == "ansible-playbook godel.postgres_runbook.disk_space --limit db1"


def test_a_name_that_a_shell_or_ansible_would_read_otherwise_is_not_offered_for_typing() -> None:
    page = _health_page.texts(host(name="db1:!db2;reboot"))["html"]
    assert "ansible-playbook" not in page
    assert "Run the playbook godel.postgres_runbook.disk_space." in page


def test_the_json_has_everything_and_its_promised_names() -> None:
    document = json.loads(host(with_backups()).as_json())
    assert set(document) >= {"findings", "sections", "collected_at", "severity", "host", "reachable", "schema_version"}
    assert document["collected_at"] == NOW
    assert document["sections"]["storage"] == bad_night()["sections"]["storage"]
    assert [each["severity"] for each in document["findings"]][:2] == ["critical", "critical"]
    assert {each["section"] for each in document["findings"]} >= {"disk", "replication", "backups"}


def test_facts_are_those_of_the_worst_disk_replica_and_backup() -> None:
    facts = host(with_backups()).facts
    assert (facts["disk_used_ratio"], facts["disk_free_bytes"]) == (0.96, 4 * GIB)
    assert (facts["lag_bytes"], facts["lag_s"]) == (900 * 1024**2, 212.0)
    assert facts["backup_age_s"] == 7200  # not that of the newest, which is of no use
    assert (facts["connections"], facts["max_connections"]) == (87, 100)
    assert host(with_backups()).sections["backups"]["data"]["total_size_bytes"] == GIB


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({}, "there is no result"),
        ({"unreachable": True, "msg": "No route."}, "Ansible could not reach the host: No route."),
        ({"failed": True, "msg": "Boom.", "error": {"remedy": "Mend it.", "subject": "x"}}, "Boom."),
    ],
)
def test_a_host_without_a_result_has_a_page_that_says_why(result: dict[str, Any], told: str) -> None:
    known = build("db1", result, now=NOW)
    assert (known.severity, known.reachable, known.worst and known.worst["check"]) == ("critical", False, "health_host")
    for text in (*pages(known), _health_page.texts(known)["md"], _health_fleet.texts([known], NOW)["md"]):
        assert told in text


def test_an_overview_has_the_worst_host_first_and_says_how_many_are_critical() -> None:
    well = build("db0", {**bad_night(), "findings": []}, now=NOW)
    hosts = _health_fleet.sort([well, host(), build("db9", {}, now=NOW)])
    assert [each.host for each in hosts] == ["db1", "db9", "db0"]
    document = json.loads(_health_fleet.texts(hosts, NOW)["json"])
    assert document["message"] == "3 hosts: 2 critical."
    assert [row["severity"] for row in document["sections"]["hosts"]] == ["critical", "critical", "ok"]
    assert {each["host"] for each in document["findings"]} == {"db1", "db9"}
    assert document["collected_at"] == NOW
    assert "No problems found on 1 host." in _health_fleet.texts([well], NOW)["html"]


def test_lines_over_time_begin_with_the_third_point_and_say_it_in_words() -> None:
    few = _health_page.texts(host(history=history(1)))["html"]
    many = _health_page.texts(host(history=history(30)))["html"]
    assert ("polyline" in few, many.count("<polyline")) == (False, 4)
    assert "<title>Connections over time: 30 to 87 in 36 d; lowest 30, highest 87</title>" in many


def test_a_damaged_history_takes_no_page_away() -> None:
    odd = [
        {"collected_at": NOW, "connections": "many"},
        {"collected_at": NOW, "connections": True},
        {"collected_at": NOW},
    ]
    assert "polyline" not in _health_page.texts(host(history=odd))["html"]


# --- charts ---------------------------------------------------------------------------------------------


def drawn_as(chart: Chart | None) -> str:
    """The HTML of a chart."""
    return str(environment().get_template("charts.html.j2").module.draw(chart))


def test_a_bar_never_leaves_its_track_and_every_figure_is_a_text() -> None:
    drawn = drawn_as(bars("T", [Bar("a", 0.25, "1"), Bar("b", 7.0, "many"), Bar("c", -1, "none")]))
    assert re.findall(r'class="fill" width="([\d.]+)%"', drawn) == ["25.00", "100.00", "0.00"]
    assert Page(drawn).cells[:3] == ["a", "1", ""]
    assert bars("T", []) is None


def test_parts_of_a_bar_lie_side_by_side_and_end_where_it_ends() -> None:
    drawn = drawn_as(stack("T", [BarPart("a", 50, "50"), BarPart("b", 80, "80")], 100, "free 0"))
    assert re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', drawn) == [("0.00", "50.00"), ("50.00", "50.00")]
    assert stack("T", [], 10, "") is stack("T", [BarPart("a", 1, "1")], 0, "") is None


def test_a_line_stays_in_its_picture_even_when_nothing_changes() -> None:
    for points in ([(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)], [(1.0, 5.0), (2.0, 1e12), (3.0, -4.0)]):
        drawn = drawn_as(line_over_time("T", points, "told", 10))
        numbers = [
            float(each)
            for each in re.findall(r'polyline class="line" points="([^"]+)"', drawn)[0].replace(",", " ").split()
        ]
        assert all(0 <= x <= 600 for x in numbers[::2])
        assert all(0 <= y <= 90 for y in numbers[1::2])


# --- hostile names --------------------------------------------------------------------------------------


def check_harmless(source: str) -> None:
    """No markup came through, and nothing can be loaded or run."""
    page = Page(source)
    assert page.elements.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "b"})
    assert not {name for name, dummy in page.attributes} & {"src", "onerror", "onload", "onclick", "style"}
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(re.fullmatch(r"#[\w-]+|data:,|\.\./health\.html|[^/:]+/health\.html", link) for link in links), links
    assert re.search(r"(https?:)?//", source) is None
    assert "default-src 'none'" in source
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", source)


def test_hostile_names_are_shown_harmlessly_everywhere() -> None:
    known = host(bad_night(HOSTILE), name=HOSTILE, database=HOSTILE)
    for source in pages(known):
        check_harmless(source)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    for source in (_health_page.texts(known)["md"], _health_fleet.texts([known], NOW)["md"]):
        cells_of_markdown(source)
        assert "\x1b" not in source
    assert json.loads(known.as_json())["host"] == HOSTILE


@settings(max_examples=25)
@given(NAMES)
def test_any_name_is_harmless(name: str) -> None:
    known = host(bad_night(name), name=name, database=name)
    for source in pages(known):
        check_harmless(source)


def test_a_megabyte_of_query_is_cut_for_people_only() -> None:
    result = bad_night()
    result["sections"]["queries"]["data"]["queries"][0]["query"] = "x" * 1_000_000
    known = host(result)
    assert len(_health_page.texts(known)["html"]) < 100_000
    assert len(_health_page.texts(known)["md"]) < 100_000
    assert "x" * 1_000_000 in known.as_json()


# --- Prometheus -----------------------------------------------------------------------------------------

LINE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\} (-?[0-9.e+]+)')


def parsed(source: str) -> dict[str, list[tuple[str, float]]]:
    """The samples by metric; every line has to be valid, and every metric has its help and type once, before them."""
    found: dict[str, list[tuple[str, float]]] = {}
    known = ""
    assert source.endswith("\n")
    lines = source[:-1].split("\n")
    for number, line in enumerate(lines):
        if line.startswith("# HELP "):
            known = line.split(" ")[2]
            assert known not in found
            assert re.fullmatch(rf"# TYPE {known} (gauge|counter)", lines[number + 1])
            found[known] = []
        elif not line.startswith("# TYPE "):
            match = LINE.fullmatch(line)
            assert match, line
            assert match[1] == known
            found[known].append((match[2], float(match[3])))
    return found


def test_figures_have_names_with_units_and_types() -> None:
    found = parsed(_prometheus.render([host(), build("db2", {}, now=NOW)]))
    assert found["godel_postgres_up"] == [('host="db1"', 1), ('host="db2"', 0)]
    assert found["godel_postgres_health_severity"] == [('host="db1"', 3), ('host="db2"', 3)]
    assert found["godel_postgres_replication_lag_seconds"] == [('host="db1"', 212)]
    assert ('host="db1",check="disk_used",severity="critical"', 1) in found["godel_postgres_findings"]
    assert ('host="db1",datname="shop"', 52 * GIB) in found["godel_postgres_database_size_bytes"]
    assert all(name.startswith("godel_postgres_") for name in found)
    assert "godel_postgres_backup_age_seconds" not in found  # not known is not 0


@given(NAMES)
@settings(max_examples=25)
def test_any_label_is_valid_and_no_series_is_there_twice(name: str) -> None:
    found = parsed(_prometheus.render([host(bad_night(name), name=name)]))
    for samples in found.values():
        series = [labels for labels, dummy in samples]
        assert len(series) == len(set(series))


def test_quotes_backslashes_and_line_ends_of_a_label_are_escaped() -> None:
    found = parsed(_prometheus.render([host(name='a"b\\c\nd')]))
    assert found["godel_postgres_up"] == [('host="a\\"b\\\\c\\nd"', 1)]
