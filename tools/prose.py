# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reject words and sentence openings that hide the actor, in texts for users and for developers.

Looked at: Markdown outside of code, YAML of roles, playbooks and changelog fragments, Jinja2 templates, and in Python
the texts (documentation, messages, docstrings) and the comments. The list is in CONTRIBUTING.md as rules; here it is as
patterns.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SKIPPED = ("tests/corpus/", "tests/standin/recordings/", "CHANGELOG", "COPYING", "tools/prose.py")
# Pattern -> what to write instead.
WORDS = {
    r"(some|any|every|(?<!nor )(?<!postgres )(?<!nor ')no)body|whoever|someone|anyone|no one": "the one that acts",
    r"in the words of|in words of": "named as in ..., or: copied from ...",
    r"(is|are|was|were) (not )?to be had|can be had": "is (not) available",
    r"(is|are|was|were|be|been) told\b": "the server reports ..., the message says ...",
    r"for ever\b|anew\b": "forever; again",
    r"(is|are|becomes?|become|was) (not )?well(?=[.,;:)]|$)": "is healthy, passes its health check",
    r"(is|are|was|were) gone|has gone": "was removed, no longer exists, ended",
    r"rehears\w+": "check mode; a throwaway restore",
    r"brakes?": "load limit",
    r"made by hand|hand-?made": "a dump not taken by this collection",
    r"(?<!xmin )(?<!xmin_)(?<!`xmin )\bhorizon": "xmin horizon",
    r"shall be|shall have": "must be, should have",
    r"seldom": "rarely",
    r"foretold?": "predict",
}
OPENINGS = ("Of", "What", "That", "So", "Left", "Who", "Whoever", "Nobody", "Somebody")
_WORD = re.compile("|".join(rf"(?P<w{n}>\b(?:{pattern}))" for n, pattern in enumerate(WORDS)), re.IGNORECASE)
_OPENING = re.compile(rf"(?:^|(?<=[.!?:] )|(?<=[.!?]\) ))({'|'.join(OPENINGS)}) (?=[a-z`*])")
PHRASE = "\0"  # marks a line that need not be a sentence
_CODE = re.compile(r"```.*?```|~~~.*?~~~", re.DOTALL)
_INLINE = re.compile(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+|[CVEOMP]\([^)]*\)")


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", "·", match[0])


def markdown(text: str) -> Iterator[tuple[int, str]]:
    """The lines of prose: no code, no headings."""
    for number, line in enumerate(_CODE.sub(_blank, text).splitlines(), 1):
        if not line.startswith("#"):
            yield number, re.sub(r"^\s*(?:[-*|]|\d+\.)\s*", "", line)


def yaml(text: str) -> Iterator[tuple[int, str]]:
    """The lines, without keys and markers."""
    for number, line in enumerate(text.splitlines(), 1):
        yield number, re.sub(r"^\s*(?:#\s*|-\s*)*(?:[\w.]+:\s+)?[>|-]*[\"']?", "", line)


def python(text: str) -> Iterator[tuple[int, str]]:
    """Comments, and the lines of all texts. Openings count in texts alone: a docstring may be a phrase."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], PHRASE + token.string.lstrip("# ")
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                plain = re.sub(r"^\s*(?:- )?(?:\w+: )?", "", line)
                yield node.lineno + offset, PHRASE + plain if id(node) in docstrings else plain


def template(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a Jinja2 template, without tags, expressions and comments."""
    plain = re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", _blank, text, flags=re.DOTALL)
    for number, line in enumerate(plain.splitlines(), 1):
        yield number, line.lstrip(" #*|·-")


READERS = {".md": markdown, ".yml": yaml, ".yaml": yaml, ".py": python, ".j2": template}


def findings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, what was found, what to write instead."""
    for number, line in READERS[path.suffix](path.read_text(encoding="utf-8")):
        prose = _INLINE.sub(_blank, line)
        if prose == "nobody":  # the operating system account
            continue
        for match in _WORD.finditer(prose):
            [group] = [name for name, value in match.groupdict().items() if value]
            yield number, match[0], list(WORDS.values())[int(group[1:])]
        for match in () if line.startswith(PHRASE) else _OPENING.finditer(prose):
            yield number, f"{match[1]} ...", "begin with the subject"


def main() -> int:
    """Print what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", action="store_true", help="print a count for each file")
    parser.add_argument("paths", nargs="*", help="files or folders; all of the repository by default")
    options = parser.parse_args()
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *options.paths],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    counts: Counter[str] = Counter()
    for name in listed:
        path = ROOT / name
        if path.suffix not in READERS or name.startswith(SKIPPED) or not path.is_file():
            continue
        for number, found, instead in sorted(set(findings(path))):
            counts[name] += 1
            if not options.count:
                print(f"{name}:{number}: {found!r} -> {instead}")
    if options.count:
        for name, number in counts.most_common():
            print(f"{number:5} {name}")
    if counts:
        print(f"{sum(counts.values())} in {len(counts)} files")
    return bool(counts)


if __name__ == "__main__":
    sys.exit(main())
