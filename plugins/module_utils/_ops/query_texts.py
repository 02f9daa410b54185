# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of counted statements: what kind of statement one is, and which parts of it nobody should see."""

from __future__ import annotations

import re

_MASK = "********"
_BLANKS = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)*")
_PLANNED = re.compile(r"(?:\(\s*)*(SELECT|WITH|VALUES|TABLE|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)

# The server keeps the literals of all but planned statements: ALTER ROLE ... PASSWORD 'secret' stands there as it was.
_LITERAL = r"(?:[eE]|[uU]&)?'(?:[^'\\]|''|\\.)*(?:'|$)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)"
_PASSWORD = re.compile(rf"(?P<word>password\"?\s*)(?:{_LITERAL})", re.IGNORECASE | re.DOTALL)
_IN_CONNECTION = re.compile(r"(?P<word>password\s*=\s*)(?:''(?:[^']|$)*(?:''|$)|[^\s']+)", re.IGNORECASE)
_IN_URL = re.compile(r"(?P<word>://[^:/@\s']*:)[^@\s']+(?=@|$)")


def is_planned(text: str) -> bool:
    """Whether it is a statement that has a plan. The server has replaced the literals of these by parameters."""
    blanks = _BLANKS.match(text)
    return _PLANNED.match(text, blanks.end() if blanks else 0) is not None


def without_secrets(text: str) -> str:
    """The text without the passwords of other statements, those in connection strings of subscriptions among them."""
    if is_planned(text):
        return text
    text = _PASSWORD.sub(rf"\g<word>'{_MASK}'", text)
    text = _IN_CONNECTION.sub(rf"\g<word>{_MASK}", text)
    return _IN_URL.sub(rf"\g<word>{_MASK}", text)
