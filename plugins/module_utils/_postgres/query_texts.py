# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of statements: what kind of statement one is, and which parts of it must not be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MASK = "********"
_BLANKS = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)*")
_PLANNED = re.compile(r"(?:\(\s*)*(SELECT|WITH|VALUES|TABLE|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)

# What a text is made of, as named in https://www.postgresql.org/docs/current/sql-syntax-lexical.html. One that was
# cut ends anywhere.
_TOKEN = re.compile(
    r"""(?P<blank> \s+ | --[^\n]*)
    | (?P<comment> /\*)
    | (?P<literal> [eE]'(?:[^'\\] | '' | \\(?:.|\Z))*(?:'|\Z)
        | (?:[uU]&|[bBnNxX])?'(?:[^'] | '')*(?:'|\Z)
        | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<word> "(?:[^"] | "")*(?:"|\Z) | [^\W\d][\w$]*)
    | (?P<other> \d+ | [=:>]+ | .)""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT_SIGN = re.compile(r"/\*|\*/")
_PASSWORD = re.compile("password", re.IGNORECASE)
_NAMED_SO = re.compile(r'.*password"?', re.IGNORECASE | re.DOTALL)
_QUOTE = re.compile(r"'|\$(?!\d)")
# A URL's password ends at the last @ before the path: it may have others in it.
_IN_URL = re.compile(r"""(?P<start>://[^:/@\s'"]*:)[^/'"]+(?=@|\Z)""")


def is_planned(text: str) -> bool:
    """Whether it is a statement that has a plan. pg_stat_statements keeps the literals of all others only."""
    blanks = _BLANKS.match(text)
    return _PLANNED.match(text, blanks.end() if blanks else 0) is not None


def without_secrets(text: str) -> str:
    """The text without its passwords, those in connection strings and in code among them.

    A literal that is the password itself is replaced. If one only contains the word, or if it is not clear what becomes
    of it, nothing of the text is shown from there on.
    """
    return _IN_URL.sub(rf"\g<start>{_MASK}", _without_literals(text))


def _without_literals(text: str) -> str:
    planned = is_planned(text) and ";" not in text  # a column may be called so, too
    last_quote = max((quote.start() for quote in _QUOTE.finditer(text)), default=-1)
    shown: list[str] = []
    named = expected = False  # whether a literal here is a password, and whether there was none yet
    for kind, start, end in _tokens(text):
        piece = text[start:end]
        if kind == "literal" and named:
            expected = False  # but another one may continue it
            shown.append(f"'{_MASK}'")
            continue
        if kind == "literal" and (word := _PASSWORD.search(piece)):
            return "".join(shown) + piece[: word.end()] + _MASK
        if kind == "word" and _NAMED_SO.fullmatch(piece):
            named = expected = True
        elif kind not in ("blank", "comment") and piece.upper() != "TO" and not set(piece) <= set("=:>"):
            if expected and not planned and piece.upper() != "NULL" and start <= last_quote:
                return "".join(shown) + _MASK
            named = expected = False
        shown.append(piece)
    return "".join(shown)


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """What it is made of: the kind of each part, where it begins, and where it ends."""
    at = 0
    while match := _TOKEN.match(text, at):
        end = _comment_end(text, at) if match.lastgroup == "comment" else match.end()
        yield str(match.lastgroup), at, end
        at = end


def _comment_end(text: str, start: int) -> int:
    """Where a comment ends, which may have others in it."""
    depth = 0
    for sign in _COMMENT_SIGN.finditer(text, start):
        depth += 1 if sign[0] == "/*" else -1
        if depth == 0:
            return sign.end()
    return len(text)
