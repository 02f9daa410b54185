# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all pages of health are made of: the document around them, badges, findings, tables and notes.

Like the other reports they load nothing and run nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..module_utils._findings import SEVERITIES
from ._charts import clipped
from ._health_style import STYLE
from ._html import safe
from ._report import NOTHING, Table, text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_SIGNS = {"critical": "\u2715", "warning": "\u25b2", "info": "\u25cf", "ok": "\u2713"}
_SETTING = "-e (?:[a-z_]+=true|postgres_db=[A-Za-z0-9_]+)\\b"
_PLAYBOOK = re.compile(rf"\b(godel\.postgres_runbook\.[a-z_]+)(?: with ({_SETTING}(?: {_SETTING})*))?")
_PLAIN_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST = 300
_MOST_FINDINGS = 100


def document(title: str, head: Sequence[str], body: Sequence[str], foot: str, kind: str = "host") -> str:
    """A whole page. `title` is a plain text; the rest is HTML."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Should anything ever slip through the escaping, it still cannot run or call home.
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<link rel="icon" href="data:,">',  # or a browser asks the server of the page for one
            f"<title>{safe(clipped(title, 120))}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            f'<body class="{kind}">',
            '<a class="skip" href="#main">Skip to the findings</a>',
            "<header>",
            *head,
            "</header>",
            '<main id="main">',
            *body,
            "</main>",
            f"<footer><p>{foot}</p></footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def badge(word: str) -> str:
    """A severity as a word with a sign and a colour: never by the colour alone."""
    known = word if word in SEVERITIES else "info"
    return f'<span class="badge {known}"><span aria-hidden="true">{_SIGNS[known]}</span> {safe(word)}</span>'


def verdict(severity: str, message: str) -> str:
    """The one line to read at three in the morning."""
    known = severity if severity in SEVERITIES else "info"
    return f'<p class="verdict {known}">{badge(severity)} <span>{safe(message)}</span></p>'


@dataclass(frozen=True)
class Tile:
    """A figure at a glance: its name, the figure, a word about it, and how bad it is where it comes from."""

    name: str
    figure: str
    small: str = ""
    severity: str = "ok"


def tiles(facts: Sequence[Tile]) -> str:
    """Figures at a glance."""
    cells = [
        f'<div class="{safe(each.severity)}"><dt>{safe(each.name)}</dt><dd>{safe(each.figure)}'
        f"{f'<small>{safe(each.small)}</small>' if each.small else ''}</dd></div>"
        for each in facts
    ]
    return f'<dl class="tiles">{"".join(cells)}</dl>' if cells else ""


def findings(host: str, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """All findings as they come, each with what to do; those that say that something is well in a short list."""
    wrong = [each for each in found if each["severity"] != "ok"]
    if not wrong:
        yield "<p>Nothing was found that needs anybody.</p>"
    else:
        yield from _wrong(host, wrong)
    well = [each for each in found if each["severity"] == "ok"][:_MOST_FINDINGS]
    if well:
        told = "".join(f"<li>{safe(clipped(str(each['message']), _LONGEST))}</li>" for each in well)
        yield f"<h3>What is well {badge('ok')}</h3><ul>{told}</ul>"


def _wrong(host: str, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield '<ol class="findings">'
    for each in found[:_MOST_FINDINGS]:
        severity = str(each["severity"])
        where = f"{each.get('section') or ''} \u00b7 {clipped(str(each['subject']), 120)}".strip(" \u00b7")
        yield (
            f'<li class="finding {safe(severity)}"><p>{badge(severity)}<span class="where">{safe(where)}</span></p>'
            f'<p class="what">{safe(clipped(str(each["message"]), 1000))}</p>'
            f"{_remedy(host, str(each.get('remedy') or ''))}</li>"
        )
    yield "</ol>"
    if len(found) > _MOST_FINDINGS:
        yield f"<p>{len(found) - _MOST_FINDINGS:,} more are in health.json.</p>"


def command(host: str, remedy: str) -> str:
    """What to type when the remedy is a playbook of this collection; empty otherwise.

    A name, as that of a slot to drop, is for people to type; so is a command with a database whose name needs quotes.
    """
    match = _PLAYBOOK.search(remedy)
    if not match or not _PLAIN_HOST.fullmatch(host) or remedy.startswith(" -e", match.end()):
        return ""
    return " ".join(part for part in ("ansible-playbook", match[1], "--limit", host, match[2]) if part)


def _remedy(host: str, remedy: str) -> str:
    if not remedy:
        return ""
    typed = command(host, remedy)
    line = f"<br><code>{safe(typed)}</code>" if typed else ""
    return f'<p class="do"><strong>What to do:</strong> {safe(clipped(remedy, 1000))}{line}</p>'


def notes(told: Sequence[object]) -> str:
    """What could not be seen, and how figures are to be read."""
    if not told:
        return ""
    return '<ul class="notes">' + "".join(f"<li>{safe(clipped(str(each), _LONGEST))}</li>" for each in told) + "</ul>"


def table(found: Table, most: int, *, level: int = 3) -> Iterator[str]:
    """A table of a section; a wide one scrolls in itself, by keyboard, too."""
    title = safe(found.title)
    yield f"<h{level}>{title}</h{level}>"
    rows = found.rows[:most]
    if found.head:
        numeric = [_is_numeric([row[at] for row in rows]) for at in range(len(found.head))]
        wide = " wide" if len(found.head) > 4 else ""
        yield f'<div class="scroll" role="region" aria-label="{title}" tabindex="0"><table class="data{wide}">'
        cells = (f'<th scope="col"{_class(numeric[at], at)}>{safe(cell)}</th>' for at, cell in enumerate(found.head))
        yield f"<thead><tr>{''.join(cells)}</tr></thead><tbody>"
        for row in rows:
            cells = (
                f"<td{_class(numeric[at], at)}>{safe(clipped(cell, _LONGEST))}</td>" for at, cell in enumerate(row)
            )
            yield f"<tr>{''.join(cells)}</tr>"
        yield "</tbody></table></div>"
    elif rows and len(rows[0]) == 1:
        yield "<ul>" + "".join(f"<li>{safe(clipped(row[0], _LONGEST))}</li>" for row in rows) + "</ul>"
    else:
        facts = (f"<div><dt>{safe(name)}</dt><dd>{safe(clipped(value, _LONGEST))}</dd></div>" for name, value in rows)
        yield f'<dl class="facts">{"".join(facts)}</dl>'
    if len(found.rows) > most:
        yield f'<p class="muted">{len(found.rows) - most:,} more are in health.json.</p>'


def _is_numeric(cells: Sequence[str]) -> bool:
    told = [cell for cell in cells if cell != NOTHING]
    return bool(told) and all(re.fullmatch(r"-?[0-9][0-9.,]*( ?[A-Za-z%]+)?( [0-9]+ [a-z]+)?", cell) for cell in told)


def _class(numeric: bool, at: int) -> str:
    return ' class="n"' if numeric else (' class="name"' if at == 0 else "")


def percent(share: object) -> str:
    """A share for people."""
    return f"{share:.0%}" if isinstance(share, (int, float)) else NOTHING


def figure(key: str, value: object) -> str:
    """A figure for people, by its name."""
    return text(key, value)
