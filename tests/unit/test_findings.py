"""Findings: what every report speaks."""

from __future__ import annotations

import itertools
import json

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import SEVERITIES, Finding, worst


def made(severity: str) -> Finding:
    return Finding("backup_rpo", severity, "app", 7200, 3600.0, "It is old.", "Take one.")


def test_severities_go_from_harmless_to_critical() -> None:
    assert SEVERITIES == ("ok", "info", "warning", "critical")


@pytest.mark.parametrize("severities", list(itertools.product(SEVERITIES, repeat=2)))
def test_the_worst_of_two_is_the_higher(severities: tuple[str, str]) -> None:
    assert SEVERITIES.index(worst(map(made, severities))) == max(map(SEVERITIES.index, severities))


def test_nothing_found_is_ok() -> None:
    assert worst([]) == "ok"


def test_an_unknown_severity_does_not_pass_for_a_harmless_one() -> None:
    with pytest.raises(ValueError, match="tuple"):
        worst([made("ok"), made("fatal")])


def test_a_finding_becomes_plain_data_with_every_field() -> None:
    assert json.loads(json.dumps(made("critical").as_dict())) == {
        "check": "backup_rpo",
        "severity": "critical",
        "subject": "app",
        "value": 7200,
        "threshold": 3600.0,
        "message": "It is old.",
        "remedy": "Take one.",
    }
