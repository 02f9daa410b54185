"""Which backups stay: example tables of every rule, and laws that hold for every catalog and every policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.retention import (
    CLOCK_SKEW_S,
    Decision,
    Policy,
    RetentionCandidate,
    decide,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
DAY_S = 86400.0


def made(text: str, **over: object) -> RetentionCandidate:
    """A backup taken at this time, for example `2026-03-14 03:00`, and called so."""
    taken = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return replace(RetentionCandidate(text, taken), **over)  # type: ignore[arg-type]


def kept(decision: Decision) -> list[str]:
    return [each.backup.id for each in decision.kept]


def deleted(decision: Decision) -> list[str]:
    return [each.backup.id for each in decision.deleted]


def reasons(decision: Decision, id_: str) -> list[str]:
    return next(each.reasons for each in decision.kept if each.backup.id == id_)


# --- the rules, by example ----------------------------------------------------------------------------

DAYS = [
    "2026-03-15 09:00",  # a Sunday: the last day of ISO week 11
    "2026-03-15 03:00",
    "2026-03-14 23:59",
    "2026-03-14 00:00",
    "2026-03-10 03:00",  # no backup from the 11th to the 13th
    "2026-03-09 00:00",  # Monday, the first day of week 11
    "2026-03-08 23:59",  # Sunday, the last day of week 10
    "2026-03-01 03:00",
    "2026-02-28 23:00",
    "2026-01-31 03:00",
    "2025-12-31 03:00",  # ISO week 1 of 2026, month December of 2025
    "2025-12-28 03:00",  # ISO week 52 of 2025
]
TABLE = {
    "the newest of all": ({"keep_last": 1}, [0]),
    "the three newest": ({"keep_last": 3}, [0, 1, 2]),
    "more than there are": ({"keep_last": 99}, range(12)),
    "the newest of each of two days": ({"keep_daily": 2}, [0, 2]),
    "days without a backup do not count": ({"keep_daily": 3}, [0, 2, 4]),
    "a day ends at midnight UTC": ({"keep_daily": 5}, [0, 2, 4, 5, 6]),
    "weeks are ISO weeks, from Monday": ({"keep_weekly": 2}, [0, 6]),
    "the week of new year belongs to the new year": ({"keep_weekly": 6}, [0, 6, 7, 9, 10, 11]),
    "months": ({"keep_monthly": 4}, [0, 8, 9, 10]),
    "rules add up": ({"keep_last": 2, "keep_daily": 3, "keep_monthly": 2}, [0, 1, 2, 4, 8]),
    "0 is no rule": ({"keep_last": 0, "keep_daily": 1}, [0]),
}


@pytest.mark.parametrize(("rules", "expected"), TABLE.values(), ids=TABLE.keys())
def test_rules_keep(rules: dict[str, int], expected: list[int]) -> None:
    decision = decide([made(text) for text in DAYS], Policy(**rules), NOW)
    assert kept(decision) == [DAYS[number] for number in expected]
    assert kept(decision) + deleted(decision) == sorted(
        DAYS, key=lambda text: (text not in kept(decision), DAYS.index(text))
    )


def test_every_reason_is_given() -> None:
    decision = decide(
        [made("2026-03-15 09:00", verdict="verified"), made("2026-03-14 09:00"), made("2026-03-13 09:00")],
        Policy(keep_last=2, keep_daily=1, keep_weekly=1, keep_monthly=1),
        NOW,
    )
    assert reasons(decision, "2026-03-15 09:00") == [
        "keep_last: 1 of 2",
        "keep_daily: 2026-03-15",
        "keep_weekly: 2026-W11",
        "keep_monthly: 2026-03",
        "newest verified",
        "newest",
    ]
    assert reasons(decision, "2026-03-14 09:00") == ["keep_last: 2 of 2"]
    assert [each.reasons for each in decision.deleted] == [["no rule keeps it"]]


def test_the_newest_verified_backup_stays_beside_the_rules() -> None:
    backups = [made(text) for text in DAYS[:4]] + [made(text, verdict="verified") for text in DAYS[4:6]]
    decision = decide(backups, Policy(keep_last=1), NOW)
    assert kept(decision) == [DAYS[0], DAYS[4]]
    assert reasons(decision, DAYS[4]) == ["newest verified"]


def test_nothing_young_goes() -> None:
    decision = decide([made(text) for text in DAYS], Policy(keep_last=1, min_age_s=2 * DAY_S), NOW)
    assert kept(decision) == DAYS[:4]
    assert reasons(decision, DAYS[3]) == ["younger than min_age"]


def test_as_old_as_min_age_is_old_enough() -> None:
    backups = [made("2026-03-15 09:00"), made("2026-03-14 12:00")]
    assert deleted(decide(backups, Policy(keep_last=1, min_age_s=DAY_S), NOW)) == ["2026-03-14 12:00"]
    assert deleted(decide(backups, Policy(keep_last=1, min_age_s=DAY_S + 1), NOW)) == []


@pytest.mark.parametrize(
    "broken",
    [{"verdict": "failed"}, {"readable": False, "damaged": True, "size_bytes": None}],
    ids=["failed", "unreadable"],
)
class TestWhatCannotBeUsed:
    policy = Policy(keep_last=1, keep_unreadable=False)

    def test_does_not_satisfy_a_rule(self, broken: dict[str, object]) -> None:
        backups = [made(DAYS[0], **broken), made(DAYS[1]), made(DAYS[2])]
        assert kept(decide(backups, self.policy, NOW)) == DAYS[:2]

    def test_goes_when_a_newer_backup_is_proven(self, broken: dict[str, object]) -> None:
        decision = decide([made(DAYS[0], verdict="verified"), made(DAYS[1], **broken)], self.policy, NOW)
        assert deleted(decision) == [DAYS[1]]
        assert "a newer backup" in decision.deleted[0].reasons[0]

    def test_goes_although_a_rule_would_keep_one_more(self, broken: dict[str, object]) -> None:
        policy = replace(self.policy, keep_last=9)
        assert deleted(decide([made(DAYS[0], verdict="verified"), made(DAYS[1], **broken)], policy, NOW)) == [DAYS[1]]

    def test_stays_while_it_is_the_newest(self, broken: dict[str, object]) -> None:
        assert deleted(decide([made(DAYS[0], **broken), made(DAYS[1])], self.policy, NOW)) == []

    def test_stays_when_nothing_else_is_there(self, broken: dict[str, object]) -> None:
        assert deleted(decide([made(text, **broken) for text in DAYS], self.policy, NOW)) == []

    def test_stays_while_it_is_young(self, broken: dict[str, object]) -> None:
        policy = replace(self.policy, min_age_s=DAY_S)
        assert deleted(decide([made(DAYS[0], verdict="verified"), made(DAYS[1], **broken)], policy, NOW)) == []


@pytest.mark.parametrize("newer", [None, "inconclusive", "incomplete", "failed"])
def test_what_failed_stays_while_no_newer_backup_is_proven(newer: str | None) -> None:
    backups = [made(DAYS[0]), made(DAYS[1], verdict=newer), made(DAYS[2], verdict="failed"), made(DAYS[3])]
    decision = decide([*backups, made(DAYS[4], verdict="verified")], Policy(keep_last=1), NOW)
    assert "no newer backup is verified" in reasons(decision, DAYS[2])[0]
    assert DAYS[3] in deleted(decision)


def test_what_is_damaged_goes_without_a_proof() -> None:
    damaged = made(DAYS[1], verdict="failed", readable=False, damaged=True)
    decision = decide([made(DAYS[0]), damaged], Policy(keep_last=1, keep_unreadable=False), NOW)
    assert deleted(decision) == [DAYS[1]]


def test_clusters_do_not_push_out_each_others_backups() -> None:
    backups = [made(text, cluster="12"[number % 2]) for number, text in enumerate(DAYS[:6])]
    backups[3] = replace(backups[3], verdict="verified")
    decision = decide(backups, Policy(keep_last=1), NOW)
    assert kept(decision) == [DAYS[0], DAYS[1], DAYS[3]]
    assert reasons(decision, DAYS[1]) == ["keep_last: 1 of 1", "newest"]
    assert deleted(decision) == [DAYS[2], DAYS[4], DAYS[5]]


def test_what_does_not_say_of_which_cluster_it_is_counts_as_of_the_only_one() -> None:
    policy = Policy(keep_last=1, keep_unreadable=False)
    unknown = made(DAYS[1], readable=False, damaged=True)
    assert deleted(decide([made(DAYS[0], cluster="1"), unknown, made(DAYS[2], cluster="1")], policy, NOW)) == DAYS[1:3]
    mixed = [made(DAYS[0], cluster="1"), unknown, made(DAYS[2], cluster="2")]
    assert deleted(decide(mixed, policy, NOW)) == []


def test_the_unreadable_stay_unless_told_otherwise() -> None:
    backups = [made(DAYS[0]), made(DAYS[1], readable=False, damaged=True)]
    assert reasons(decide(backups, Policy(keep_last=1), NOW), DAYS[1]) == ["unreadable"]


def test_what_only_we_cannot_read_stays_always() -> None:
    backups = [made(DAYS[0]), made(DAYS[1], readable=False)]
    assert reasons(decide(backups, Policy(keep_last=1, keep_unreadable=False), NOW), DAYS[1]) == ["cannot be examined"]


def test_what_is_in_use_stays() -> None:
    decision = decide([made(DAYS[0]), made(DAYS[1], user="a restore")], Policy(keep_last=1), NOW)
    assert reasons(decision, DAYS[1]) == ["in use: a restore"]


def test_a_wrong_clock_does_not_push_out_the_real_backups() -> None:
    backups = [
        made("2036-01-01 00:00", verdict="verified"),
        made(DAYS[0]),
        made(DAYS[1], verdict="verified"),
        made(DAYS[2]),
    ]
    decision = decide(backups, Policy(keep_last=1), NOW)
    assert kept(decision) == ["2036-01-01 00:00", DAYS[0], DAYS[1]]
    assert reasons(decision, "2036-01-01 00:00") == ["dated in the future"]


def test_clocks_may_differ_a_little() -> None:
    soon = RetentionCandidate("soon", NOW + timedelta(seconds=CLOCK_SKEW_S))
    assert reasons(decide([soon, made(DAYS[0])], Policy(keep_last=1), NOW), "soon") == ["keep_last: 1 of 1", "newest"]


def test_other_time_zones_make_no_difference() -> None:
    east = timezone(timedelta(hours=14))
    there = [replace(each, taken=each.taken.astimezone(east)) for each in map(made, DAYS)]
    policy = Policy(keep_daily=3, keep_weekly=2, keep_monthly=2)
    assert kept(decide(there, policy, NOW.astimezone(east))) == kept(decide(map(made, DAYS), policy, NOW))


@pytest.mark.parametrize("policy", [Policy(), Policy(0, 0, 0, 0), Policy(keep_daily=0), Policy(min_age_s=DAY_S)])
def test_a_policy_that_keeps_nothing_is_refused(policy: Policy) -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        decide([], policy, NOW)


def test_an_empty_catalog_is_no_problem() -> None:
    assert decide([], Policy(keep_last=1), NOW) == Decision()


# --- laws ---------------------------------------------------------------------------------------------


@st.composite
def candidates(draw: st.DrawFn) -> list[RetentionCandidate]:
    # Quarters of a day: several on one day are common, and so are days, weeks and months without any.
    quarters = draw(st.sets(st.integers(-8, 400), max_size=25))
    cluster = draw(st.sampled_from([None, "1"]))
    kinds = st.sampled_from(
        ["plain", "plain", "verified", "failed", "inconclusive", "incomplete", "damaged", "unknown"]
    )
    found = []
    for quarter in draw(st.permutations(sorted(quarters))):
        kind = draw(kinds)
        verdict = kind if kind in ("verified", "failed", "inconclusive", "incomplete") else None
        if kind in ("damaged", "unknown"):
            verdict = draw(st.sampled_from([None, "verified"]))
        found.append(
            RetentionCandidate(
                id=f"b{quarter}",
                taken=NOW - timedelta(hours=6 * quarter),
                verdict=verdict,
                readable=kind not in ("damaged", "unknown"),
                damaged=kind == "damaged",
                size_bytes=1,
                user=draw(st.sampled_from([None] * 9 + ["a restore"])),
                cluster=cluster if kind not in ("damaged", "unknown") else None,
            )
        )
    return found


COUNTS = st.none() | st.integers(0, 8)
POLICIES = st.builds(
    Policy, COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from([0.0, 0.5 * DAY_S, 3 * DAY_S, 40 * DAY_S]), st.booleans()
).filter(lambda each: any((each.keep_last, each.keep_daily, each.keep_weekly, each.keep_monthly)))


def usable(backups: list[RetentionCandidate]) -> list[RetentionCandidate]:
    """A second implementation on purpose: newest first, what a person would restore from today."""
    fine = [each for each in backups if each.readable and each.verdict != "failed" and each.taken <= NOW]
    return sorted(fine, key=lambda each: each.taken, reverse=True)


@given(candidates(), POLICIES)
def test_every_backup_is_judged_once_and_has_a_reason(backups: list[RetentionCandidate], policy: Policy) -> None:
    decision = decide(backups, policy, NOW)
    assert sorted(kept(decision) + deleted(decision)) == sorted(each.id for each in backups)
    assert all(each.reasons and all(each.reasons) for each in decision.kept + decision.deleted)


@given(candidates(), POLICIES)
def test_the_newest_verified_backup_is_never_deleted(backups: list[RetentionCandidate], policy: Policy) -> None:
    verified = [each for each in usable(backups) if each.verdict == "verified"]
    assert not {each.id for each in verified[:1]} & set(deleted(decide(backups, policy, NOW)))


@given(candidates(), POLICIES)
def test_the_last_backup_is_never_deleted(backups: list[RetentionCandidate], policy: Policy) -> None:
    decision = decide(backups, policy, NOW)
    assert not {each.id for each in usable(backups)[:1]} & set(deleted(decision))
    assert bool(decision.kept) == bool(backups)
    if not usable(backups):
        assert not decision.deleted


@given(candidates(), POLICIES)
def test_protected_backups_are_never_deleted(backups: list[RetentionCandidate], policy: Policy) -> None:
    for each in decide(backups, policy, NOW).deleted:
        backup = each.backup
        assert (NOW - backup.taken).total_seconds() >= policy.min_age_s
        assert backup.taken <= NOW
        assert backup.user is None
        assert backup.readable or (backup.damaged and not policy.keep_unreadable)
        assert backup.taken < usable(backups)[0].taken


@given(candidates(), POLICIES)
def test_as_many_usable_backups_stay_as_were_asked_for(backups: list[RetentionCandidate], policy: Policy) -> None:
    decision = decide(backups, policy, NOW)
    left = usable([each.backup for each in decision.kept])
    assert len(left) >= min(policy.keep_last or 0, len(usable(backups)))
    for wanted, form in (
        (policy.keep_daily, "%Y-%m-%d"),
        (policy.keep_weekly, "%G-%V"),
        (policy.keep_monthly, "%Y-%m"),
    ):
        there = {each.taken.strftime(form) for each in usable(backups)}
        assert len({each.taken.strftime(form) for each in left}) >= min(wanted or 0, len(there))


@given(candidates(), candidates(), POLICIES)
def test_no_cluster_minds_another_one(
    some: list[RetentionCandidate], others: list[RetentionCandidate], policy: Policy
) -> None:
    ours = [replace(each, id=f"a{each.id}", cluster="1") for each in some]
    theirs = [replace(each, id=f"z{each.id}", cluster="2") for each in others]
    assert set(deleted(decide(ours + theirs, policy, NOW))) == {
        *deleted(decide(ours, policy, NOW)),
        *deleted(decide(theirs, policy, NOW)),
    }


@given(candidates(), POLICIES)
def test_what_failed_goes_only_after_a_proof(backups: list[RetentionCandidate], policy: Policy) -> None:
    proofs = [each.taken for each in usable(backups) if each.verdict == "verified"]
    for each in decide(backups, policy, NOW).deleted:
        if each.backup.readable and each.backup.verdict == "failed":
            assert each.backup.taken < max(proofs)


@given(candidates(), POLICIES)
def test_a_second_run_deletes_nothing(backups: list[RetentionCandidate], policy: Policy) -> None:
    first = decide(backups, policy, NOW)
    second = decide([each.backup for each in first.kept], policy, NOW)
    assert second.kept == first.kept
    assert second.deleted == []


@given(
    candidates(),
    POLICIES,
    st.sampled_from(["keep_last", "keep_daily", "keep_weekly", "keep_monthly"]),
    st.integers(1, 5),
)
def test_a_more_generous_rule_deletes_no_more(
    backups: list[RetentionCandidate], policy: Policy, rule: str, more: int
) -> None:
    generous = replace(policy, **{rule: (getattr(policy, rule) or 0) + more})
    assert set(deleted(decide(backups, generous, NOW))) <= set(deleted(decide(backups, policy, NOW)))


@given(candidates(), POLICIES, st.floats(0, 40 * DAY_S))
def test_a_longer_min_age_deletes_no_more(backups: list[RetentionCandidate], policy: Policy, more: float) -> None:
    generous = replace(policy, min_age_s=policy.min_age_s + more)
    assert set(deleted(decide(backups, generous, NOW))) <= set(deleted(decide(backups, policy, NOW)))


@given(candidates(), POLICIES, st.integers(0, 400))
def test_what_may_go_now_may_go_later(backups: list[RetentionCandidate], policy: Policy, hours: int) -> None:
    later = NOW + timedelta(hours=hours)
    assert set(deleted(decide(backups, policy, NOW))) <= set(deleted(decide(backups, policy, later)))


@given(candidates(), POLICIES)
def test_the_order_of_the_list_makes_no_difference(backups: list[RetentionCandidate], policy: Policy) -> None:
    assert decide(reversed(backups), policy, NOW) == decide(backups, policy, NOW)
