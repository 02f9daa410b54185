# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages and reports from the files in `templates/`. Templates have layout and words, their callers have the figures.

Each value that a template prints is escaped in the language of the template, by its name: HTML, or the Markdown of
GitHub and GitLab. What is not defined is an error.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from ..module_utils._findings import SEVERITIES
from ._text import text

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
# An underscore inside a word emphasises nothing and is left readable.
_SPECIAL = re.compile(r"[\\`*|<>\[\]~&#$]|(?<![^\W_])_|_(?![^\W_])")


def render(template: str, **view: object) -> str:
    """A whole document. `view` are the names that the template knows."""
    return environment().get_template(template).render(view)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The one environment of all templates."""
    found = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals["SEVERITIES"] = SEVERITIES
    return found


def _source(name: str) -> tuple[str, str, None] | None:
    """A template by the loader of this module, which knows whether the collection is a directory or an archive."""
    path = os.path.join(_FOLDER, *name.split("/"))
    spec: Any = __spec__
    content = spec.loader.get_data(path)
    return None if content is None else (content.decode("utf-8"), path, None)


@pass_context
def _escaped(context: Context, value: object) -> object:
    """A value as it is printed: readable, without control characters, and in Markdown without any markup.

    HTML is escaped by Jinja2 itself afterwards. Markup is what a macro has printed already.
    """
    if isinstance(value, Markup):
        return value
    shown = text("", value)
    if str(context.name).endswith(".md.j2"):
        return Markup(_SPECIAL.sub(lambda match: "\\" + match[0], shown))  # noqa: S704  # escaped right here
    return shown
