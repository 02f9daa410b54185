"""``report_history`` in a play of a user's own."""

from __future__ import annotations

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.site import COLLECTION, Site
from tests.support.health_samples import bad_night
from tests.support.processes import until


def test_samples_are_kept_on_the_controller_and_not_in_check_mode(site: Site) -> None:
    words = {"directory": str(site.reports), "name": "../sizes"}
    tasks: list[dict[str, Any]] = [
        {f"{COLLECTION}.report_history": {**words, "sample": {"name": "<b>\n\u00e4", "size_bytes": 1}}},
        {f"{COLLECTION}.report_history": {**words, "older_than": "7d"}, "register": "history"},
        {"ansible.builtin.set_stats": {"data": {"history": "{{ history }}"}, "per_host": False}},
    ]
    play = site.play(roles=[], tasks=tasks)
    path = site.reports / "db1" / "history" / ".._sizes.jsonl"

    rehearsal = site.run(play, "--check")
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.stats["history"]["samples"], rehearsal.stats["history"]["baseline"]) == ([], None)
    assert not site.reports.exists()

    first = site.run(play)
    assert first.ok, first.output
    assert first.changed() == 0
    history = first.stats["history"]
    [kept] = history["samples"]
    assert (kept["name"], kept["size_bytes"], history["path"]) == ("<b>\n\u00e4", 1, str(path))
    assert history["baseline"] == kept
    assert [json.loads(line) for line in path.read_text().splitlines()] == [kept]

    path.write_text(path.read_text() + "{half")
    again = site.run(play)
    assert again.ok, again.output
    assert len(again.stats["history"]["samples"]) == 2
    assert not again.stats["history"]["notes"]  # the write before it has left the damaged line out


def test_two_runs_of_health_at_once_lose_no_sample(site: Site) -> None:
    task = {f"{COLLECTION}.write_health": {"directory": str(site.reports), "results": {"db1": bad_night()}}}
    play = site.play(roles=[], tasks=[task])
    folder = site.reports / "db1" / "history"
    folder.mkdir(parents=True)
    other = json.dumps({"collected_at": "2026-02-06T03:00:00Z", "connections": 1}) + "\n"
    handle = os.open(folder, os.O_RDONLY)
    with ThreadPoolExecutor(1) as pool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # the other run is about to write what it has read before
            running = pool.submit(site.run, play)
            assert until((site.reports / "db1" / "health.html").exists, 60)
            (folder / "health.jsonl").write_text(other)
        finally:
            os.close(handle)
        done = running.result()
    assert done.ok, done.output
    kept = [json.loads(line) for line in (folder / "health.jsonl").read_text().splitlines()]
    assert [sample["connections"] for sample in kept] == [1, 87]
