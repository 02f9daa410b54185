"""The arithmetic of the benchmarks: which promises hold, and where the tables go."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BEGIN, END, megabytes, write
from tests.benchmarks.measure import Sample, Series
from tests.benchmarks.tables import Bar, bars, bars_table

MIB = 1024**2


def series(*seconds: float, peak: int | None = None) -> Series:
    return Series([Sample(each, peak_bytes=peak) for each in seconds])


def judged(**times: float) -> list[Bar]:
    backups = {key: series(value, peak=60 * MIB) for key, value in times.items()}
    return bars(backups, {}, {}, "fast")


def test_a_series_counts_by_its_median_and_its_largest_peak() -> None:
    runs = Series([Sample(9, peak_bytes=5), Sample(1, peak_bytes=7), Sample(2, peak_bytes=6)])
    assert (runs.seconds, runs.spread, runs.peak_bytes) == (2, (1, 9), 7)


def test_bars_hold_on_their_own_side_of_the_limit() -> None:
    times = {"runbook": 40, "playbook": 10, "fast": 10, "none": 10.5, "counts": 13.6, "content": 13.5, "beside": 9}
    assert [(promise.limit, promise.holds) for promise in judged(**times)] == [
        (4, True),  # times faster than the runbook
        (1.05, True),  # fingerprint none
        (1.35, False),  # counts
        (1.35, True),  # content
        (1.1, False),  # beside the digest queries
        (100, True),  # memory
    ]
    assert not judged(**{**times, "playbook": 10.1})[0].holds


def test_work_in_a_pod_has_bars_of_its_own() -> None:
    times = {"kubectl-dump": 10, "pod-none": 11.1, "kubectl-cat": 9, "stream": 10, "pod-ping": 1, "pod-status": 3.1}
    found = bars({}, {}, {}, "fast", {key: series(value) for key, value in times.items()})
    assert [(promise.limit, promise.holds) for promise in found] == [(1.1, False), (0.9, True), (2, False)]
    assert found[2].show(found[2].reached) == "2.10 s"


def test_what_was_left_out_has_no_bar() -> None:
    assert [promise.limit for promise in judged(runbook=40, fast=10, content=11)] == [1.35, 100]
    assert bars({}, {}, {"ping": series(1)}, "fast") == []


def test_a_missed_bar_stands_out_in_the_table() -> None:
    lines = bars_table([Bar("speed", 4, False, 3.996, "x", "a"), Bar("memory", 100, True, 61.2, "MiB", "b")])
    assert lines[2:] == [
        "| speed | at least 4.00x | 4.00x | **missed** | a |",
        "| memory | at most 100 MiB | 61 MiB | holds | b |",
    ]


@pytest.mark.parametrize(("text", "expected"), [("500", 500), ("500MB", 500), ("2GB", 2048), (" 2 gb ", 2048)])
def test_sizes_are_read_as_megabytes(text: str, expected: int) -> None:
    assert megabytes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "2TB", "1.5GB", "GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size"):
        megabytes(text)


def test_only_what_stands_between_the_marks_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    bare = tmp_path / "bare.md"
    write(bare, "new\n")
    assert bare.read_text() == "new\n"
