"""The comparison of fingerprints: equal ones have no difference, and any single change is exactly that difference."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import (
    Difference,
    Fingerprint,
    LargeObjects,
    SequenceFigure,
    TableFigure,
    compare,
)

SOURCE = Fingerprint(
    mode="content",
    algorithm="record-3",
    server_major=15,
    tables={"public.a": TableFigure(3, "-12"), "public.b": TableFigure(0, "0")},
    sequences={"public.s": SequenceFigure(7, 7)},
    objects={"index public.i": "0123456789abcdef", "table public.a": "fedcba9876543210"},
    large_objects=LargeObjects(2, "99"),
)


def without(name: str, figures: Any) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key != name}


def test_a_fingerprint_equals_itself() -> None:
    assert compare(SOURCE, SOURCE) == []


SINGLE_CHANGES = {
    "a table is missing": (
        replace(SOURCE, tables=without("public.a", SOURCE.tables)),
        Difference("table", "public.a", "3 rows", None),
    ),
    "a table too many": (
        replace(SOURCE, tables={**SOURCE.tables, "public.c": TableFigure(0, "0")}),
        Difference("table", "public.c", None, "0 rows"),
    ),
    "a row is missing": (
        replace(SOURCE, tables={**SOURCE.tables, "public.a": TableFigure(2, "-13")}),
        Difference("rows of table", "public.a", 3, 2),
    ),
    "a row differs": (
        replace(SOURCE, tables={**SOURCE.tables, "public.a": TableFigure(3, "-13")}),
        Difference("content of table", "public.a", "-12", "-13"),
    ),
    "the digest of a table is missing": (
        replace(SOURCE, tables={**SOURCE.tables, "public.a": TableFigure(3)}),
        Difference("content of table", "public.a", "-12", None),
    ),
    "a sequence is missing": (replace(SOURCE, sequences={}), Difference("sequence", "public.s", 7, None)),
    "a sequence too many": (
        replace(SOURCE, sequences={**SOURCE.sequences, "public.t": SequenceFigure(1, 1)}),
        Difference("sequence", "public.t", None, 1),
    ),
    "a sequence stands elsewhere": (
        replace(SOURCE, sequences={"public.s": SequenceFigure(8, 8)}),
        Difference("value of sequence", "public.s", "7", 8),
    ),
    "an object is missing": (
        replace(SOURCE, objects=without("index public.i", SOURCE.objects)),
        Difference("object", "index public.i", "present", None),
    ),
    "an object too many": (
        replace(SOURCE, objects={**SOURCE.objects, "view public.v": "00"}),
        Difference("object", "view public.v", None, "present"),
    ),
    "a definition differs": (
        replace(SOURCE, objects={**SOURCE.objects, "index public.i": "0123456789abcdee"}),
        Difference("definition of", "index public.i", "0123456789abcdef", "0123456789abcdee"),
    ),
    "a large object is missing": (
        replace(SOURCE, large_objects=LargeObjects(1, "98")),
        Difference("large objects", "count", 2, 1),
    ),
    "a large object differs": (
        replace(SOURCE, large_objects=LargeObjects(2, "98")),
        Difference("large objects", "content", "99", "98"),
    ),
    "the digest of the large objects is missing": (
        replace(SOURCE, large_objects=LargeObjects(2)),
        Difference("large objects", "content", "99", None),
    ),
}


@pytest.mark.parametrize("name", SINGLE_CHANGES)
def test_each_kind_of_difference_is_named(name: str) -> None:
    copy, difference = SINGLE_CHANGES[name]
    assert compare(SOURCE, copy) == [difference]


def test_a_source_without_a_digest_is_not_equal_to_a_copy_with_one() -> None:
    # A manifest that leaves digests out must not pass, even if it was signed again.
    bare = replace(SOURCE, tables={name: TableFigure(figure.rows) for name, figure in SOURCE.tables.items()})
    assert [each.kind for each in compare(bare, SOURCE)] == ["content of table"] * 2
    assert [each.kind for each in compare(replace(SOURCE, large_objects=LargeObjects(2)), SOURCE)] == ["large objects"]


def test_counts_are_compared_without_digests() -> None:
    counted = replace(
        SOURCE,
        mode="counts",
        tables={name: TableFigure(figure.rows) for name, figure in SOURCE.tables.items()},
        large_objects=LargeObjects(2),
    )
    assert compare(counted, counted) == []
    fewer = replace(counted, tables={**counted.tables, "public.a": TableFigure(2)})
    assert compare(counted, fewer) == [Difference("rows of table", "public.a", 3, 2)]


def test_other_majors_compare_which_objects_there_are_but_not_how_they_are_printed() -> None:
    copy = replace(SOURCE, server_major=16, objects=dict.fromkeys(SOURCE.objects, "printed differently"))
    assert compare(SOURCE, copy) == []
    copy = replace(copy, objects=without("index public.i", copy.objects))
    assert compare(SOURCE, copy) == [Difference("object", "index public.i", "present", None)]


@pytest.mark.parametrize(
    ("figure", "admitted", "refused"),
    [
        (SequenceFigure(7, 7), [7], [6, 8, -7]),
        (SequenceFigure(7, 12), [7, 9, 12], [6, 13]),
        (SequenceFigure(-7, -12, increment=-1), [-7, -9, -12], [-6, -13]),
        (SequenceFigure(12, 7, increment=1), [7, 12], [6, 13]),  # a session set it back meanwhile
        (SequenceFigure(28, 3, increment=5, cycles=True), [3, 28, 100], []),  # it wrapped around meanwhile
        (SequenceFigure(-28, -3, increment=-5, cycles=True), [-28, -3, 7], []),
        (SequenceFigure(3, 28, increment=5, cycles=True), [3, 28], [2, 29]),
        (SequenceFigure(0, 0), [0], [1]),  # never called: one increment before its start
    ],
)
def test_a_sequence_may_stand_anywhere_between_its_values_before_and_after(
    figure: SequenceFigure, admitted: list[int], refused: list[int]
) -> None:
    assert all(figure.admits(position) for position in admitted)
    assert not any(figure.admits(position) for position in refused)


def test_a_sequence_that_a_standby_could_not_read_is_not_compared() -> None:
    name = "public.s"
    source = Fingerprint("content", "record-3", 15, unread=[name])
    copy = Fingerprint("content", "record-3", 15, sequences={name: SequenceFigure(0, 0)})
    for one, other in ((source, copy), (copy, source)):
        assert compare(one, other) == []


def test_the_range_of_a_busy_sequence_is_told() -> None:
    busy = replace(SOURCE, sequences={"public.s": SequenceFigure(7, 12)})
    copy = replace(SOURCE, sequences={"public.s": SequenceFigure(13, 13)})
    [difference] = compare(busy, copy)
    assert str(difference) == "value of sequence public.s: 7 to 12 in the source, 13 in the copy"


def test_differences_read_as_sentences() -> None:
    texts = [str(difference) for _copy, difference in SINGLE_CHANGES.values()]
    assert "table public.a is missing" in texts
    assert "table public.c is not in the source" in texts
    assert "rows of table public.a: 3 in the source, 2 in the copy" in texts


NAMES = st.text(min_size=1, max_size=8)
BIG = st.integers(-(2**127), 2**127)
FINGERPRINTS = st.builds(
    Fingerprint,
    mode=st.just("content"),
    algorithm=st.sampled_from(["record-3", "text-3"]),
    server_major=st.integers(13, 18),
    tables=st.dictionaries(NAMES, st.builds(TableFigure, st.integers(0, 2**63 - 1), BIG.map(str)), max_size=5),
    sequences=st.dictionaries(
        NAMES,
        st.builds(lambda at, by: SequenceFigure(at, at, by), st.integers(-(2**63), 2**63), st.integers(1, 99)),
        max_size=5,
    ),
    objects=st.dictionaries(NAMES, st.text("0123456789abcdef", min_size=16, max_size=16), max_size=5),
    large_objects=st.builds(LargeObjects, st.integers(0, 2**31), BIG.map(str)),
)


@given(FINGERPRINTS)
@settings(max_examples=50)
def test_a_fingerprint_survives_json(fingerprint: Fingerprint) -> None:
    again = Fingerprint.from_dict(json.loads(json.dumps(fingerprint.as_dict())))
    assert again == fingerprint
    assert compare(fingerprint, again) == []


@given(FINGERPRINTS, st.data())
@settings(max_examples=100)
def test_any_single_change_is_exactly_one_difference(fingerprint: Fingerprint, data: st.DataObject) -> None:
    group = data.draw(st.sampled_from(["tables", "sequences", "objects"]))
    figures = getattr(fingerprint, group)
    assume(figures)
    name = data.draw(st.sampled_from(sorted(figures)))
    if data.draw(st.booleans()):
        changed = without(name, figures)
    else:
        figure = figures[name]
        altered = {
            "tables": lambda: replace(figure, digest=str(int(figure.digest) + 1)),
            "sequences": lambda: SequenceFigure(figure.first + 1, figure.last + 1, figure.increment),
            "objects": lambda: figure[:-1] + ("0" if figure[-1] != "0" else "1"),
        }[group]()
        changed = {**figures, name: altered}
    copy = replace(fingerprint, **{group: changed})
    [difference] = compare(fingerprint, copy)
    assert difference.subject == name
    assert len(compare(copy, fingerprint)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.pop("tables"),
        lambda document: document.update(tables=[]),
        lambda document: document.update(tables={"a": {"rows": 1, "more": 2}}),
        lambda document: document.update(server_major="fifteen"),
        lambda document: document.update(sequences={"a": {"first": 1}}),
        lambda document: document.update(large_objects=None),
        lambda document: document.update(objects=7),
    ],
)
def test_what_is_no_fingerprint_is_refused(damage: Any) -> None:
    document = SOURCE.as_dict()
    damage(document)
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Fingerprint.from_dict(document)


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("file", "files"),
        ("size of file", "files"),
        ("content of file", "files"),
        ("table", "rows"),
        ("rows of table", "rows"),
        ("content of table", "rows"),
        ("sequence", "rows"),
        ("value of sequence", "rows"),
        ("large objects", "rows"),
        ("object", "definitions"),
        ("definition of", "definitions"),
    ],
)
def test_a_difference_says_what_is_hurt(kind: str, group: str) -> None:
    assert Difference(kind, "x", 1, 2).group == group
