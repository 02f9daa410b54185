"""The playbooks ``connections`` and ``terminate_sessions``, run as a user runs them."""

from __future__ import annotations

from tests.integration.site import Site
from tests.support.sessions import crowd

NOW = {"connections_blocking_warning": "0", "connections_waiters_critical": 1}


def test_the_report_names_the_blocker_and_its_remedy_ends_it(site: Site) -> None:
    with crowd(site.database) as people:
        root, waiter = people.join("<i>root</i>"), people.join("waiter")
        root.run("BEGIN; UPDATE users SET name = 'a' WHERE id = 1")
        waiter.begin("UPDATE users SET name = 'b' WHERE id = 1")
        people.waiting(waiter)
        seen = site.run("connections", report=True, **NOW)
        assert seen.ok, seen.output
        assert seen.changed() == 0
        artifact = seen.stats["connections_result"]["db1"]
        assert (artifact["failed"], artifact["severity"], artifact["reachability"]) == (False, "critical", "accepting")
        assert artifact["blockers"] == [root.pid]
        report = site.report("connections")
        assert [(row["pid"], row["relation"]) for row in report["blocking"]] == [
            (root.pid, ""),
            (waiter.pid, "public.users"),
        ]
        assert "<i>root" not in (site.reports / "db1" / "connections.html").read_text()

        named = {"terminate_sessions_pid": root.pid, "terminate_sessions_backend_start": root.start}
        rehearsal = site.run("terminate_sessions", "--check", "--diff", **named)
        assert rehearsal.ok, rehearsal.output
        assert (rehearsal.changed(), f"-pid {root.pid} " in rehearsal.output, root.alive()) == (1, True, True)
        first = site.run("terminate_sessions", report=True, **named)
        assert first.ok, first.output
        assert first.changed() == 1
        assert (first.stats["terminate_sessions_result"]["db1"]["terminated"], root.alive()) == (1, False)
        [row] = site.report("terminate_sessions")["sessions"]
        assert (row["pid"], row["outcome"]) == (root.pid, "terminated")
        again = site.run("terminate_sessions", **named)
        assert again.ok, again.output
        assert again.changed() == 0


def test_without_a_rule_and_without_a_server_the_play_fails(site: Site) -> None:
    unnamed = site.run("terminate_sessions")
    assert (unnamed.returncode, "neither says which sessions to end" in unnamed.output) == (2, True)
    for condition, empty in (("application", ""), ("database", None)):
        words = {"terminate_sessions_idle_in_transaction_over": "0", f"terminate_sessions_{condition}": empty}
        wide = site.run("terminate_sessions", "--check", **words)
        assert (wide.returncode, f"Invalid rule.{condition} ('')" in wide.output) == (2, True), wide.output
    site.hosts["db1"]["postgres_login"]["login_port"] = 1
    away = site.run("connections", report=True)
    assert away.returncode == 2
    artifact = away.stats["connections_result"]["db1"]
    assert (artifact["failed"], artifact["reachability"], artifact["severity"]) == (True, "no response", "critical")
    assert site.report("connections")["findings"][0]["check"] == "server_unreachable"
