"""The playbooks ``restore``, ``restore_rollback`` and ``restore_discard``, run as a user runs them."""

from __future__ import annotations

import contextlib
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.site import COLLECTION, Site
from tests.support.catalogs import add_verdict, ago
from tests.support.restores import family, named, remove, rows
from tests.support.verifications import forge


@pytest.fixture(name="restorable")
def _restorable(site: Site) -> Iterator[Site]:
    """A site whose database has 250 users, and a verified backup of it with 100."""
    site.database.execute(
        "DROP TABLE users CASCADE", "CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n"
    )
    assert site.run("backup").ok
    [entry] = site.entries()
    add_verdict(site.backup_dir, site.database.name, entry.name, "verified", ago(seconds=1))
    site.database.execute("INSERT INTO users SELECT generate_series(101, 250)")
    yield site
    remove(site.database)


@contextlib.contextmanager
def application(*answers: tuple[int, str]) -> Iterator[str]:
    """An application that gives these answers one after the other, and the last one from then on; its URL.

    The first request comes before anything is done, and gets an answer of its own.
    """
    left = [(503, "before the restore"), *answers]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *dummy: Any) -> None:
            """It is not needed."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/health"
        finally:
            server.shutdown()


def commands(log: Path) -> dict[str, Any]:
    """An application that is stopped and started by commands, which write down that they were called."""
    script = f"open({str(log)!r}, 'a').write"
    return {f"{what}_command": [sys.executable, "-c", f"{script}('{what} ')"] for what in ("stop", "start")}


def test_check_mode_a_restore_nothing_to_do_a_rollback_and_the_removal(restorable: Site) -> None:
    site, prod = restorable, restorable.database
    rehearsal = site.run("restore", "--check", "--diff")
    assert rehearsal.ok, rehearsal.output
    assert "public.users: 250 rows" in rehearsal.output
    assert "public.users: 100 rows" in rehearsal.output
    assert (rows(prod), family(prod)) == (250, [prod.name])

    first = site.run("restore", report=True, restore_smoke_queries=[{"query": "SELECT count(*) FROM users"}])
    assert first.ok, first.output
    assert rows(prod) == 100
    artifact = first.stats["restore_result"]["db1"]
    assert artifact["failed"] is False
    assert 0 < artifact["downtime_s"] < 5
    assert artifact["staged_s"] > 0
    assert rows(named(prod, artifact["replaced"])) == 250
    report = site.report("restore")
    assert report["swap"]["downtime_s"] == artifact["downtime_s"]
    assert (
        "1 table has a different number of rows in production than in the backup: public.users 250 -> 100."
        in first.output
    )
    assert "not touched" not in artifact["message"]
    assert "public.users 250 -> 100" in artifact["message"]

    again = site.run("restore")
    assert again.ok, again.output
    assert (again.changed(), rows(prod)) == (0, 100)

    rehearsal = site.run("restore_rollback", "--check")
    assert rehearsal.ok, rehearsal.output
    assert rows(prod) == 100
    assert rehearsal.stats["restore_rollback_result"]["db1"]["changed"] is True
    for changed, left, told in ((1, 250, "The previous database is"), (0, 250, "already in the requested state")):
        back = site.run("restore_rollback", report=True, restore_rollback_keep_old="0")
        assert back.ok, back.output
        assert (back.changed(), rows(prod)) == (changed, left)
        assert told in back.stats["restore_rollback_result"]["db1"]["message"]

    rehearsal = site.run("restore_discard", "--check")
    assert rehearsal.changed() == 1
    for changed in (1, 0):
        discarded = site.run("restore_discard", report=True)
        assert discarded.ok, discarded.output
        assert (discarded.changed(), family(prod)) == (changed, [prod.name])


def test_the_application_is_stopped_and_started_and_has_to_be_well(restorable: Site) -> None:
    log = restorable.folder / "application"
    with application((503, "starting"), (200, "not yet"), (200, '{"status": "well"}')) as url:
        run = restorable.run(
            "restore",
            restore_application=commands(log),
            restore_health_url=url,
            restore_health_body='"well"',
            restore_health_delay_s=0,
            restore_safety_backup="true",  # as -e restore_safety_backup=true gives it
        )
    assert run.ok, run.output
    assert log.read_text().split() == ["stop", "start"]
    assert rows(restorable.database) == 100
    assert len(restorable.entries()) == 2  # the safety backup

    # A second time there is nothing to do: is healthy, so that it is neither stopped nor started.
    with application((200, "well")) as url:
        again = restorable.run("restore", restore_application=commands(log), restore_health_url=url)
    assert again.ok, again.output
    assert (again.changed(), log.read_text().split()) == (0, ["stop", "start"])
    log.unlink()
    for changed, called in ((1, ["stop", "start"]), (0, ["stop", "start", "start"])):
        back = restorable.run("restore_rollback", restore_rollback_application=commands(log))
        assert back.ok, back.output
        assert log.read_text().split() == called  # without a URL it is not known whether it runs
        assert bool(back.changed()) == bool(changed)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://no-such-host.invalid/health", "Correct the URL."),
        ("http://127.0.0.1:9/health", "application_down"),
    ],
)
def test_a_health_url_that_nothing_answers_ends_the_restore_before_it_begins(
    restorable: Site, url: str, said: str
) -> None:
    log = restorable.folder / "application"
    down = "invalid" in url  # then the name is wrong all the same
    run = restorable.run(
        "restore", restore_application=commands(log), restore_health_url=url, restore_application_down=down
    )
    assert run.returncode == 2
    assert (log.exists(), family(restorable.database), rows(restorable.database)) == (
        False, [restorable.database.name], 250
    )  # fmt: skip
    message = run.stats["restore_result"]["db1"]["message"]
    for text in (f"Invalid health_url: {url} does not answer", "Nothing was done", said):
        assert text in message


@pytest.mark.parametrize("answer", [(503, "no"), (200, "nothing of it")])
def test_an_application_that_never_becomes_well_gets_its_former_database_back(
    restorable: Site, answer: tuple[int, str]
) -> None:
    log = restorable.folder / "application"
    well = (200, '{"status": "well"}')
    with application(answer, answer, well) as url:
        run = restorable.run(
            "restore",
            report=True,
            restore_application=commands(log),
            restore_health_url=url,
            restore_health_body='"well"',
            restore_health_retries=1,
            restore_health_delay_s=0,
        )
    assert run.returncode == 2
    assert log.read_text().split() == ["stop", "start", "stop", "start"]
    assert rows(restorable.database) == 250
    artifact = run.stats["restore_result"]["db1"]
    assert artifact["failed"] is True
    for text in (
        "The previous database was swapped back",
        "is healthy",
        "The restored database is kept as",
    ):
        assert text in artifact["message"], artifact["message"]
    assert "swapped back" in run.output
    assert restorable.report("restore")["severity"] == "critical"


def test_an_application_that_died_of_the_restored_data_gets_its_former_database_back(restorable: Site) -> None:
    # Its stop command fails when it does not run, and it runs only with 250 users.
    log, runs = restorable.folder / "application", restorable.folder / "runs"
    runs.touch()
    count = f"import os, psycopg2; c = psycopg2.connect({restorable.database.dsn!r}).cursor(); c.execute('TABLE users')"
    words = commands(log)
    words["stop_command"][-1] += f"; __import__('os').remove({str(runs)!r})"
    words["start_command"][-1] += f"; {count}; c.rowcount == 250 and open({str(runs)!r}, 'w').close()"
    with application((503, "no"), (503, "no"), (200, "well")) as url:
        run = restorable.run(
            "restore",
            restore_application=words,
            restore_health_url=url,
            restore_health_retries=1,
            restore_health_delay_s=0,
        )
    assert run.returncode == 2
    assert log.read_text().split() == ["stop", "start", "stop", "start"]
    assert (rows(restorable.database), runs.exists()) == (250, True)
    message = run.stats["restore_result"]["db1"]["message"]
    for text in (
        "unhealthy",
        "could not be stopped",
        "No such file",
        "was swapped back",
        "The application was started again and is healthy",
    ):
        assert text in message


def test_each_failure_is_told_as_one_and_the_next_restore_of_the_play_begins_anew(restorable: Site) -> None:
    site, log = restorable, restorable.folder / "application"
    # The former of two restores fails after its swap. What it found is not what the latter has found.
    with application((503, "no")) as url:
        wrong = {"restore_health_url": url, "restore_health_retries": 1, "restore_health_delay_s": 0}
        role = {"ansible.builtin.include_role": {"name": f"{COLLECTION}.restore"}}
        rescued = {"block": [{**role, "vars": wrong}], "rescue": [{"ansible.builtin.debug": {"msg": "go on"}}]}
        play = site.play(roles=[], tasks=[rescued, role])
        both = site.run(play, report=True)
    assert both.returncode == 0, both.output
    assert both.recap["db1"]["rescued"] >= 1
    artifact = both.stats["restore_result"]["db1"]
    assert (artifact["failed"], rows(site.database)) == (False, 100)
    assert "swapped back" not in artifact["message"]
    assert site.report("restore")["severity"] == "ok"

    # An application that an interrupted run has stopped is started by the next one, which fails when that fails.
    for playbook, prefix in (("restore", "restore"), ("restore_rollback", "restore_rollback")):
        with application((503, "no")) as url:
            words = {
                f"{prefix}_application": commands(log),
                f"{prefix}_health_url": url,
                f"{prefix}_health_retries": 1,
                f"{prefix}_health_delay_s": 0,
            }
            if playbook == "restore_rollback":
                assert site.run(playbook).ok
            run = site.run(playbook, report=True, **words)
        assert run.returncode == 2
        artifact = run.stats[f"{playbook}_result"]["db1"]
        assert artifact["failed"] is True
        assert "The application is unhealthy" in artifact["message"]
        assert site.report(playbook)["severity"] == "critical"
        assert log.read_text().split() == ["start"]
        log.unlink()


def test_a_safety_backup_that_fails_is_told_and_stops_nothing(restorable: Site) -> None:
    site, log = restorable, restorable.folder / "application"
    site.database.execute(  # of which no backup can be taken
        "CREATE FUNCTION broken() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE pg_proc SET prolang = 4000000 WHERE proname = 'broken'",
    )
    run = site.run("restore", report=True, restore_safety_backup=True, restore_application=commands(log))
    assert run.returncode == 2
    artifact = run.stats["restore_result"]["db1"]
    assert artifact["failed"] is True
    assert "The application was neither stopped nor started" in artifact["message"]
    assert site.report("restore")["severity"] == "critical"
    assert (log.exists(), rows(site.database)) == (False, 250)


def test_one_that_is_not_even_well_with_its_former_database_is_told(restorable: Site) -> None:
    with application((503, "no")) as url:
        run = restorable.run("restore", restore_health_url=url, restore_health_retries=1, restore_health_delay_s=0)
    assert run.returncode == 2
    assert rows(restorable.database) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert "was swapped back" in message, message
    assert "failed, too" in message


def test_a_damaged_backup_stops_nothing(restorable: Site) -> None:
    log = restorable.folder / "application"
    [entry] = restorable.entries()
    data = max(entry.glob("data/*.dat*"), key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[:-1])
    run = restorable.run("restore", report=True, restore_application=commands(log))
    assert run.returncode == 2
    assert "The backup is damaged" in run.output
    assert not log.exists()
    assert (rows(restorable.database), family(restorable.database)) == (250, [restorable.database.name])
    assert run.stats["restore_result"]["db1"]["failed"] is True


def test_a_command_that_fails_keeps_production(restorable: Site) -> None:
    broken = {"stop_command": [sys.executable, "-c", "raise SystemExit(3)"], "start_command": ["true"]}
    run = restorable.run("restore", restore_application=broken)
    assert run.returncode == 2
    assert rows(restorable.database) == 250
    assert "Nothing was swapped" in run.stats["restore_result"]["db1"]["message"]


def test_what_a_restored_database_lacks_is_said_before_the_swap(restorable: Site) -> None:
    [entry] = restorable.entries()
    forge(entry, lambda document: document["fingerprint"]["objects"].update({"view public.more": "0" * 32}))
    run = restorable.run("restore", restore_backup=entry.name, restore_accept=["definitions"])
    assert run.ok, run.output
    said, swapped = (
        run.output.index(words) for words in ("although it lacks", "Swap the staged database into production")
    )
    assert said < swapped
    assert "view public.more is missing" in run.output
    assert run.stats["restore_result"]["db1"]["lost"] == ["object view public.more is missing"]
    assert rows(restorable.database) == 100


def test_a_duration_that_cannot_be_understood_is_refused_before_anything_is_done(site: Site) -> None:
    run = site.run("restore", restore_keep_old="7x")
    assert run.returncode == 2
    assert "Invalid keep_old" in run.stats["restore_result"]["db1"]["message"]
    assert "Restore the backup next to production" not in run.output


def test_defaults_of_a_play_reach_the_modules_that_the_procedure_runs(site: Site) -> None:
    login = site.hosts["db1"].pop("postgres_login")  # that of the play counts
    with application((200, "well")) as url:
        for defaults, said in (
            ({}, "backup"),  # it gets as far as the catalog, which is empty
            ({"ansible.builtin.uri": {"unix_socket": "/no/such/socket"}}, "Invalid health_url"),
        ):
            play = site.play(roles=["restore"], module_defaults={f"group/{COLLECTION}.all": login, **defaults})
            run = site.run(play, "-vvv", restore_health_url=url)
            assert run.returncode == 2
            message = run.stats["restore_result"]["db1"]["message"]
            assert said in message, run.output
            assert ("Invalid" in message) is bool(defaults)
