"""How a catalog is judged: each finding, its severity at the threshold and on both sides of it, and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.status import (
    Backup,
    DatabaseState,
    Incomplete,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.status_judgement import (
    BackupStandards,
    describe,
    judge,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.verifications import Verification
from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import Finding
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.cluster_id import ClusterIdentity
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
HOUR_S = 3600


def made(age_s: int, verdict: str | None = None, verified_age_s: int = 0, problem: str = "") -> Backup:
    """A backup of this age; a negative one is dated in the future."""
    found = (
        Verification(verdict, to_rfc3339(NOW - timedelta(seconds=verified_age_s)), "it says why.", {})
        if verdict
        else None
    )
    summary = {} if problem else {"size_bytes": 1024}
    taken = NOW - timedelta(seconds=age_s)
    return Backup(f"app_{age_s}", "app", f"/b/app/app_{age_s}", taken, age_s, summary, problem, found)


def of(cluster: str | None, *ages_s: int) -> list[Backup]:
    """Backups of these ages, of this cluster."""
    return [replace(made(age_s), cluster=cluster) for age_s in ages_s]


def state(*backups: Backup, incomplete: Sequence[Incomplete] = (), busy: str | None = None) -> DatabaseState:
    return DatabaseState("app", backups, incomplete, busy)


def finding(
    check: str, found: DatabaseState, rpo_s: float | None = None, verified_within_s: float | None = None
) -> Finding:
    """The one finding of this kind."""
    (only,) = [
        each for each in judge([found], BackupStandards(rpo_s, verified_within_s), NOW, "/b") if each.check == check
    ]
    return only


# --- RPO ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "severity"), [(0, "ok"), (HOUR_S - 1, "ok"), (HOUR_S, "ok"), (HOUR_S + 1, "critical")]
)
def test_the_rpo_is_broken_only_past_it(age_s: int, severity: str) -> None:
    found = finding("backup_rpo", state(made(age_s)), rpo_s=HOUR_S)
    assert (found.severity, found.subject, found.value, found.threshold) == (severity, "app", age_s, HOUR_S)
    assert (found.remedy == "") == (severity == "ok")


def test_a_broken_rpo_says_how_old_how_old_it_may_be_and_what_to_do() -> None:
    found = finding("backup_rpo", state(made(2 * HOUR_S)), rpo_s=HOUR_S)
    assert found.message == "The newest usable backup of 'app' is 2 h old (app_7200); at most 1 h are allowed."
    assert "godel.postgres_runbook.backup." in found.remedy


def test_no_backup_breaks_any_rpo() -> None:
    for rpo_s in (HOUR_S, None):
        found = finding("backup_rpo", state(), rpo_s=rpo_s)
        assert (found.severity, found.value, found.threshold) == ("critical", None, rpo_s)
        assert "godel.postgres_runbook.backup." in found.remedy


@pytest.mark.parametrize(
    "bad", [made(60, "failed"), made(60, problem="torn"), made(-HOUR_S)], ids=["failed", "unreadable", "future"]
)
def test_what_cannot_be_used_does_not_count_for_the_rpo(bad: Backup) -> None:
    assert finding("backup_rpo", state(bad), rpo_s=HOUR_S).severity == "critical"
    assert finding("backup_rpo", state(bad, made(2 * HOUR_S)), rpo_s=HOUR_S).value == 2 * HOUR_S
    assert finding("backup_rpo", state(bad, made(HOUR_S)), rpo_s=HOUR_S).severity == "ok"


@pytest.mark.parametrize("verdict", [None, "verified", "inconclusive", "incomplete"])
def test_what_is_not_known_to_be_bad_counts_for_the_rpo(verdict: str | None) -> None:
    assert finding("backup_rpo", state(made(60, verdict)), rpo_s=HOUR_S).severity == "ok"


def test_a_clock_a_little_ahead_does_no_harm() -> None:
    found = finding("backup_rpo", state(made(-60)), rpo_s=HOUR_S)
    assert (found.severity, found.value) == ("ok", -60)
    assert "0 ms old" in found.message


# --- verification -------------------------------------------------------------------------------------

OLD = 48 * HOUR_S
VERIFICATION = {
    # newest first; then without `verified_within`, then with 24 h
    "never": ([made(60), made(OLD)], "warning", "warning"),
    "newest verified": ([made(60, "verified"), made(OLD, "failed")], "ok", "ok"),
    "newest verified, long ago": ([made(OLD, "verified", OLD)], "ok", "warning"),
    "newest failed": ([made(60, "failed"), made(OLD, "verified")], "critical", "critical"),
    "newest inconclusive": ([made(60, "inconclusive"), made(OLD, "verified")], "warning", "warning"),
    "newest incomplete": ([made(60, "incomplete"), made(OLD, "verified")], "warning", "warning"),
    "newest never, the last one incomplete": ([made(60), made(OLD, "incomplete", 60)], "warning", "warning"),
    "newest never, one before it lately": ([made(60), made(OLD, "verified", 60)], "warning", "ok"),
    "newest never, one before it long ago": ([made(60), made(OLD, "verified", OLD)], "warning", "warning"),
    "newest never, the last one failed": (
        [made(60), made(OLD, "failed", 60), made(OLD + 1, "verified", 99)],
        "critical",
        "critical",
    ),
    "newest never, an older verdict failed": (
        [made(60), made(OLD, "failed", 99), made(OLD + 1, "verified", 60)],
        "warning",
        "ok",
    ),
    "newest never, the last one inconclusive": ([made(60), made(OLD, "inconclusive", 60)], "warning", "warning"),
    "newest unreadable": ([made(60, problem="torn"), made(OLD, "verified", 60)], "ok", "ok"),
    "an unreadable one's verdict": ([made(60), made(OLD, "verified", 60, problem="torn")], "warning", "warning"),
}


@pytest.mark.parametrize(("backups", "alone", "within"), VERIFICATION.values(), ids=VERIFICATION.keys())
def test_the_verdict_is_judged(backups: list[Backup], alone: str, within: str) -> None:
    first = finding("backup_verified", state(*backups))
    second = finding("backup_verified", state(*backups), verified_within_s=24 * HOUR_S)
    assert (first.severity, second.severity) == (alone, within)
    for found in (first, second):
        assert ("godel.postgres_runbook.backup_verify" in found.remedy) == (found.severity != "ok")
    assert second.threshold == 24 * HOUR_S


def test_a_failed_verification_names_the_backup_and_the_reason() -> None:
    found = finding("backup_verified", state(made(60, "failed")))
    assert found.message == "Backup app_60 failed its verification at 2026-03-15T12:00:00Z: it says why."
    assert found.value == "failed"
    assert "Do not restore it" in found.remedy


@pytest.mark.parametrize(("age_s", "severity"), [(HOUR_S, "ok"), (HOUR_S + 1, "warning")])
def test_the_last_verification_may_be_as_old_as_was_said(age_s: int, severity: str) -> None:
    assert finding("backup_verified", state(made(60, "verified", age_s)), verified_within_s=HOUR_S).severity == severity


def test_without_a_readable_backup_there_is_no_verdict_to_judge() -> None:
    findings = judge([state(made(60, problem="torn"))], BackupStandards(), NOW, "/b")
    assert [each.check for each in findings] == ["backup_rpo", "backup_unreadable"]


# --- entries ------------------------------------------------------------------------------------------


def test_an_unreadable_backup_is_critical_and_says_why() -> None:
    found = finding("backup_unreadable", state(made(60), made(90, problem="It is torn.")))
    assert (found.severity, found.subject) == ("critical", "app_90")
    assert "It is torn." in found.message
    assert "/b/app/app_90" in found.remedy


def test_a_backup_from_the_future_is_a_warning_about_the_clock() -> None:
    found = finding("backup_clock", state(made(-HOUR_S), made(60)))
    assert (found.severity, found.subject, found.value) == ("warning", "app_-3600", -HOUR_S)


@pytest.mark.parametrize(
    ("backups", "severities"),
    [
        ([*of("1", 10, 20), *of(None, 30)], []),
        ([*of("2", 10), *of("1", 20, 30)], ["warning"]),
        ([*of("2", 10), *of(None, 15), *of("2", 17), *of("1", 20)], ["warning"]),
        ([*of("2", 10), *of("1", 20), *of("2", 30)], ["critical"]),
        ([*of("3", 10), *of("2", 20), *of("1", 30), *of("2", 40)], ["critical"]),
    ],
    ids=["one", "moved", "moved, one says nothing", "side by side", "both"],
)
def test_clusters_that_share_a_directory_are_told(backups: list[Backup], severities: list[str]) -> None:
    found = [each for each in judge([state(*backups)], BackupStandards(), NOW, "/b") if each.check == "backup_clusters"]
    assert [each.severity for each in found] == severities
    for each in found:
        assert "app_10 of" in each.message
        assert ("postgres_backup_dir" in each.remedy) == (each.severity == "critical")


def test_what_a_dead_run_left_is_a_warning() -> None:
    left = Incomplete("/b/app/x.partial", "app", 99, in_progress=False)
    found = finding("backup_incomplete", state(made(60), incomplete=[left]))
    assert (found.severity, found.subject, found.value) == ("warning", "/b/app/x.partial", 99)
    assert "removes it" in found.remedy


def test_what_is_being_written_is_no_warning() -> None:
    left = Incomplete("/b/app/x.partial", "app", 0, in_progress=True)
    found = finding("backup_incomplete", state(made(60), incomplete=[left], busy="backup of 'app' by process 7"))
    assert (found.severity, found.remedy) == ("info", "")
    assert "backup of 'app' by process 7" in found.message


def test_each_database_is_judged_by_itself() -> None:
    other = replace(state(), database="other")
    found = [
        each
        for each in judge([state(made(60)), other], BackupStandards(HOUR_S), NOW, "/b")
        if each.check == "backup_rpo"
    ]
    assert [(each.subject, each.severity) for each in found] == [("app", "ok"), ("other", "critical")]


# --- standards, sums, words ---------------------------------------------------------------------------


def test_the_sums_name_the_newest_of_each_kind() -> None:
    backups = [made(1, problem="torn"), made(2, "failed"), made(3), made(4, "verified"), made(5, "verified")]
    assert state(*backups).as_dict() == {
        "database": "app",
        "backups": 5,
        "total_size_bytes": 4096,
        "newest": "app_1",
        "newest_usable": "app_3",
        "newest_verified": "app_4",
        "busy": None,
        "clusters": [],
    }


def test_the_message_counts_and_says_what_is_not_well() -> None:
    states = [state(made(60, "verified"))]
    assert describe(states, judge(states, BackupStandards(), NOW, "/b"), "/b") == "1 backup in /b, 1.0 KiB."
    states = [state(made(60, problem="A."), made(61, problem="B."), made(62, problem="C."), made(63, problem="D."))]
    text = describe(states, judge(states, BackupStandards(), NOW, "/b"), "/b")
    assert text.startswith("4 backups in /b, 0 B. There is no usable backup of 'app'. Backup app_60 cannot be used: A.")
    assert text.endswith(" And 2 more.")


def test_an_empty_catalog_is_critical() -> None:
    [found] = judge([], BackupStandards(60.0), NOW, "/b")
    assert (found.check, found.severity, found.subject) == ("backup_rpo", "critical", "/b")


# --- whose backups they are ---------------------------------------------------------------------------


def of_server(cluster: str, *backups: Backup, there: bool | None = True, named: bool = False) -> DatabaseState:
    """The database as a server sees it that is this cluster."""
    return replace(state(*backups), cluster=cluster, on_server=there, named=named)


def checks(*states: DatabaseState, server: ClusterIdentity | None = None) -> list[tuple[str, str, str]]:
    """Check, severity and subject of all findings, verdicts aside."""
    found = judge(states, BackupStandards(HOUR_S), NOW, "/b", server)
    return [(each.check, each.severity, each.subject) for each in found if each.check != "backup_verified"]


def test_backups_of_another_cluster_do_not_count_for_a_server() -> None:
    theirs = of("2", 10, 20)
    for there, named in ((True, False), (True, True), (False, True), (None, True)):
        only_theirs = of_server("1", *theirs, there=there, named=named)
        assert checks(only_theirs)[0] == ("backup_rpo", "critical", "app")
        assert (only_theirs.newest_usable, only_theirs.as_dict()["newest"]) == (None, None)
        [rpo] = [each for each in judge([only_theirs], BackupStandards(), NOW, "/b") if each.check == "backup_rpo"]
        assert "of this server (cluster 1)" in rpo.message
        assert "2 backups here are of cluster 2" in rpo.message
    stale = of_server("1", *theirs, *of("1", 2 * HOUR_S))
    assert checks(stale) == [("backup_rpo", "critical", "app"), ("backup_clusters", "info", "app")]
    mixed = of_server("1", *of("2", 10), *of("1", 20), *of("2", 30))
    assert checks(mixed) == [("backup_rpo", "ok", "app"), ("backup_clusters", "warning", "app")]
    unknown = of_server("1", *of(None, 10), *of("2", 20))
    assert checks(unknown)[0] == ("backup_rpo", "ok", "app")


def test_a_shared_catalog_is_well_only_if_something_in_it_is_of_the_server() -> None:
    theirs = of_server("1", *of("2", 10), there=False)
    found = checks(theirs)
    assert found[0] == ("backup_rpo", "critical", "/b")
    mine = replace(of_server("1", *of("1", 10)), database="mine")
    assert [each for each in checks(theirs, mine) if each[1] in ("warning", "critical")] == []


def test_without_a_server_each_cluster_that_goes_on_is_judged_by_itself() -> None:
    mixed = state(*of("2", 10), *of("1", 2 * HOUR_S), *of("2", 3 * HOUR_S))
    assert checks(mixed) == [
        ("backup_rpo", "ok", "app of cluster 2"),
        ("backup_rpo", "critical", "app of cluster 1"),
        ("backup_clusters", "critical", "app"),
    ]
    assert (mixed.newest_usable, mixed.newest_verified) == (None, None)
    moved = state(*of("2", 10), *of("1", 2 * HOUR_S))
    assert checks(moved) == [("backup_rpo", "ok", "app"), ("backup_clusters", "warning", "app")]
    [rpo] = [each for each in judge([moved], BackupStandards(), NOW, "/b") if each.check == "backup_rpo"]
    assert "of cluster 2" in rpo.message


def test_databases_of_the_server_without_a_backup_are_named_unless_one_was_asked_for() -> None:
    server = ClusterIdentity("1", frozenset({"app", "postgres", "sales", "crm"}))
    found = judge([of_server("1", *of("1", 10))], BackupStandards(), NOW, "/b", server)
    [missing] = [each for each in found if each.check == "backup_missing"]
    assert (missing.severity, missing.value) == ("info", 2)
    assert missing.message.endswith("crm, sales.")
    named = judge([of_server("1", *of("1", 10), named=True)], BackupStandards(), NOW, "/b", server)
    assert "backup_missing" not in [each.check for each in named]
    assert judge([], BackupStandards(), NOW, "/b", server)[0].severity == "critical"


def test_another_clusters_unreadable_backup_is_no_alarm_here() -> None:
    torn = replace(made(10, problem="torn"), cluster="2")
    found = judge([of_server("1", *of("1", 20), torn)], BackupStandards(), NOW, "/b")
    assert [each.severity for each in found if each.check == "backup_unreadable"] == ["info"]


def test_a_verdict_of_incomplete_is_no_proof() -> None:
    for within_s in (None, HOUR_S):
        found = finding("backup_verified", state(made(60, "incomplete", 30)), verified_within_s=within_s)
        assert (found.severity, found.value) == ("warning", "incomplete")
