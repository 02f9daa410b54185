# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a plain script: go on after a refused statement where that is safe, and stop at once where it is not.

psql takes the rows of a COPY that was refused for statements, and runs them: rows are written by users of the
application, and the load is a superuser's. So psql stops at the first error from the first COPY to the end of the last
one, and goes on before and after: where the harmless errors are (DROP of what is not there, CREATE SCHEMA public,
owners and rights).

For that, two commands are put into the script at lines where they seem to stand between statements. Only psql can tell:
inside of the body of a function they are text, and change it. So each prints a mark. If one is missing, the script is
loaded once more as it is, and the first error ends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from .._target.base import Target
from .loaders import Dump, LoaderEnd, RestoreRefused, Runner
from .refusals import Refusal, from_psql

_STOPPED = 3  # psql's status after an error under ON_ERROR_STOP
# Prints for each line of interest its number, and then what it is. $1 file, $2 unpacker or nothing.
# Rows are left out, but for a line that looks like COPY and the line that ends them.
_BLANKS = "[[:space:]]*"
_COPY = "[Cc][Oo][Pp][Yy][[:space:]]"
_STDIN = "[Ss][Tt][Dd][Ii][Nn]"
_ROWS = rf"/^COPY .* FROM stdin;{_BLANKS}$/,/^\\\.{_BLANKS}$/"
_SURVEY = (
    "sed -n"
    f" -e '{_ROWS}{{' -e '/^COPY .* FROM stdin;{_BLANKS}$/{{=;s/.*/copy/;p;}}'"
    rf" -e '/^\\\.{_BLANKS}$/{{=;s/.*/end/;p;}}' -e d -e '}}'"
    f" -e '/^{_BLANKS}{_COPY}[^;]*$/{{=;s/.*/copy/;p;d;}}' -e '/{_COPY}.*{_STDIN}/{{=;s/.*/copy/;p;d;}}'"
    r" -e '/^\\restrict /{=;p;}' -e '/^\\connect /{=;s/.*/connect/;p;}'"
)
_SURVEYED = f'if [ -n "$2" ]; then "$2" -dc -- "$1"; else cat -- "$1"; fi | {_SURVEY}'

_MARKS = re.compile(r"^(?:rows|rest|end)-[0-9a-f]{32}$\n?", re.M)


@dataclass(frozen=True)
class Layout:
    """Where things are in a script, by number of line; 0 where there is none.

    Attributes:
        first_copy: of the first line that may be a COPY from standard input.
        last_copy: of the last such line.
        last_end: of the last line that ends rows.
        key: that of psql's command restrict, which allows no other command until it is said again; else empty.
        connects: whether the script enters a database of its own.
    """

    first_copy: int = 0
    last_copy: int = 0
    last_end: int = 0
    key: str = ""
    connects: bool = False


def layout_of(target: Target, dump: Dump) -> Layout:
    """Read through a script once."""
    lines = target.run(["/bin/sh", "-c", _SURVEYED, "survey", dump.path, dump.unpacker or ""]).text.splitlines()
    found = list(zip(lines[::2], lines[1::2]))
    copies = [int(number) for number, what in found if what == "copy"]
    ends = [int(number) for number, what in found if what == "end"]
    keys = [what.split()[-1] for dummy, what in found if what.startswith("\\")]
    return Layout(
        first_copy=copies[0] if copies else 0,
        last_copy=copies[-1] if copies else 0,
        last_end=ends[-1] if ends else 0,
        key=keys[0] if keys else "",
        connects=any(what == "connect" for dummy, what in found),
    )


def load(target: Target, run: Runner, psql: Sequence[str], dump: Dump, *, knows_restrict: bool) -> list[Refusal] | None:
    """Load a script, going on after refused statements where that is safe. Returns these statements.

    `psql` is the program with its connection; `knows_restrict` says whether it knows that command. None: the script has
    to be loaded once more, with `strict`, into an empty database.

    Raises:
        RestoreRefused: the script did not load to its end.
    """
    layout = layout_of(target, dump)
    if not knows_restrict:
        layout = replace(layout, key="")
    if layout.first_copy == 1 or (layout.connects and not dump.enters):
        return strict(run, psql, dump)
    edits = {}
    if layout.first_copy:
        edits["rows"] = layout.first_copy - 1
        if layout.last_end > layout.last_copy:
            edits["rest"] = layout.last_end
    marks = {name: f"{name}-{uuid4().hex}" for name in edits}
    for name, mark in marks.items():
        run.write(name, _command(layout.key, mark, stop=name == "rows"))
    end = f"end-{uuid4().hex}"
    ended = _psql(run, psql, dump, end, stop=False, edit="\n".join(f"{line}r {name}" for name, line in edits.items()))
    # When psql stopped at a refused COPY, it did not come to the second mark.
    needed = list(marks.values()) if ended.status == 0 else list(marks.values())[:1]
    if any(mark not in ended.text for mark in needed):
        return None
    return _judged(ended, end)


def strict(run: Runner, psql: Sequence[str], dump: Dump) -> list[Refusal]:
    """Load a script as it is. The first refused statement ends it, with RestoreRefused."""
    end = f"end-{uuid4().hex}"
    return _judged(_psql(run, psql, dump, end, stop=True), end)


def _command(key: str, mark: str, *, stop: bool) -> bytes:
    r"""Lines that let psql stop at errors, or go on; wrapped where `\restrict` allows no other command."""
    lines = [f"\\set ON_ERROR_STOP {int(stop)}", f"\\echo {mark}"]
    if key:
        lines = [f"\\unrestrict {key}", *lines, f"\\restrict {key}"]
    return "".join(f"{line}\n" for line in lines).encode()


def _psql(run: Runner, psql: Sequence[str], dump: Dump, end: str, *, stop: bool, edit: str = "") -> LoaderEnd:
    """Run psql to its end. The script gets one more line, which prints `end`.

    It is obeyed only if all before it was complete: inside of a string, of a body or of the rows of COPY it is no
    command.
    """
    options = [f"--set=ON_ERROR_STOP={int(stop)}", "--set=VERBOSITY=verbose", "--echo-errors", "--output=/dev/null"]
    ended = run.run([*psql, *options, "--file=-"], dump, more=f"\\n\\\\echo {end}\\n", edit=edit)
    if ended.status not in (0, _STOPPED) or ended.lost():
        raise ended.refused()
    return ended


def _judged(ended: LoaderEnd, end: str) -> list[Refusal]:
    refusals = from_psql(_MARKS.sub("", ended.text))
    if ended.status == _STOPPED:
        why = str(refusals[-1]) if refusals else "psql names no statement"
    elif end not in ended.text:
        why = "the script is truncated"
    else:
        return refusals
    raise RestoreRefused(why, program=ended.program, status=ended.status, refusals=refusals)
