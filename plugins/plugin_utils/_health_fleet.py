# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of all hosts on one page, a row for each, the worst on top."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from ..module_utils._findings import SEVERITIES
from . import _health_html as html
from ._charts import clipped
from ._files import one_part
from ._health import SCHEMA_VERSION, HostHealth
from ._health_html import figure, percent
from ._html import safe
from ._markdown import as_table, escape
from ._report import NOTHING, Table

_HEAD = (
    "Severity",
    "Host",
    "Worst finding",
    "Connections",
    "Databases",
    "Disk used",
    "Lag",
    "PostgreSQL",
    "Last good backup",
)
_NUMERIC = (3, 4, 5, 6, 8)


def sort(hosts: Sequence[HostHealth]) -> list[HostHealth]:
    """The worst first, then those with most findings of that kind, then by name."""
    return sorted(
        hosts,
        key=lambda host: (
            -SEVERITIES.index(host.severity),
            -sum(each["severity"] == host.severity for each in host.findings),
            host.host,
        ),
    )


def severity(hosts: Sequence[HostHealth]) -> str:
    """The worst of all; without a host nothing is known, and that is never well."""
    return max((host.severity for host in hosts), key=SEVERITIES.index, default="critical")


def message(hosts: Sequence[HostHealth]) -> str:
    """How many of them need somebody."""
    if not hosts:
        return "No host was looked at: nothing is known."
    bad = sum(host.severity == "critical" for host in hosts)
    soon = sum(host.severity == "warning" for host in hosts)
    if not bad and not soon:
        return f"All is well on {len(hosts):,} {'host' if len(hosts) == 1 else 'hosts'}."
    parts = [f"{bad:,} need somebody now"] if bad else []
    parts += [f"{soon:,} need somebody soon"] if soon else []
    return f"Of {len(hosts):,} {'host' if len(hosts) == 1 else 'hosts'} {', '.join(parts)}."


def as_json(hosts: Sequence[HostHealth], now: str) -> str:
    """All rows for programs, and all findings that are more than a hint, each with its host."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "playbook": "health",
        "title": "Health of all hosts",
        "time": now,
        "collected_at": now,
        "severity": severity(hosts),
        "message": message(hosts),
        "findings": [
            {**each, "host": host.host}
            for word in ("critical", "warning")
            for host in hosts
            for each in host.findings
            if each["severity"] == word
        ],
        "sections": {
            "hosts": [
                {
                    "host": host.host,
                    "database": host.database,
                    "severity": host.severity,
                    "message": host.message,
                    "reachable": host.reachable,
                    "collected_at": host.collected_at,
                    "worst": dict(host.worst) if host.worst else None,
                    "page": _page(host),
                    **host.facts,
                }
                for host in hosts
            ]
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def _page(host: HostHealth) -> str:
    """A link, from the overview: a name may have any character."""
    return quote(one_part(host.host), errors="surrogateescape") + "/health.html"


def _cells(host: HostHealth) -> list[str]:
    facts = host.facts
    worst = host.worst
    version = str(facts["version"] or "").split(" ", maxsplit=1)[0]
    return [
        host.severity,
        host.host,
        clipped(str(worst["message"]), 240) if worst else NOTHING,
        percent(facts["connection_share"]),
        figure("size_bytes", facts["databases_size_bytes"]),
        percent(facts["disk_used_share"]),
        _lag(host),
        f"{version} {facts['role']}" if version else NOTHING,
        figure("age_s", facts["backup_age_s"]),
    ]


def _lag(host: HostHealth) -> str:
    size, age = host.facts["lag_bytes"], host.facts["lag_s"]
    if size is None:
        return NOTHING
    return figure("lag_bytes", size) + (f", {figure('lag_s', age)}" if age else "")


def render(hosts: Sequence[HostHealth], now: str) -> str:
    """The page."""
    counted = [(word, sum(host.severity == word for host in hosts)) for word in reversed(SEVERITIES)]
    head = [
        "<h1>Health of all hosts</h1>",
        f'<p class="about">{safe(now)}</p>',
        html.verdict(severity(hosts), message(hosts)),
        html.tiles([html.Tile(word.capitalize(), f"{count:,}", "", word if count else "") for word, count in counted]),
    ]
    return html.document(
        f"{severity(hosts)}: health of {len(hosts)} hosts",
        head,
        [*_table(hosts)],
        "Each host has a page of its own. The same for programs is in health.json beside this page.",
        "fleet",
    )


def _table(hosts: Sequence[HostHealth]) -> Iterator[str]:
    yield '<h2 id="hosts">Hosts</h2><div class="scroll" role="region" aria-labelledby="hosts" tabindex="0">'
    yield '<table class="data wide">'
    heads = (f'<th scope="col"{_class(at)}>{safe(cell)}</th>' for at, cell in enumerate(_HEAD))
    yield f"<thead><tr>{''.join(heads)}</tr></thead><tbody>"
    for host in hosts:
        cells = _cells(host)
        yield f"<tr><td>{html.badge(host.severity)}</td>"
        yield f'<th scope="row" class="host"><a href="{safe(_page(host))}">{safe(host.host)}</a></th>'
        yield "".join(f"<td{_class(at)}>{safe(cell)}</td>" for at, cell in enumerate(cells) if at > 1) + "</tr>"
    yield "</tbody></table></div>"


def _class(at: int) -> str:
    return (
        ' class="n"' if at in _NUMERIC else {1: ' class="host"', 2: ' class="worst"', 7: ' class="short"'}.get(at, "")
    )


def markdown(hosts: Sequence[HostHealth], now: str) -> str:
    """The same as text."""
    rows = as_table(Table("", _HEAD, [_cells(host) for host in hosts]))
    lines = [
        "# Health of all hosts",
        "",
        f"**{severity(hosts).upper()}** {escape(message(hosts))}",
        "",
        f"- Time: {escape(now)}",
    ]
    return "\n".join([*lines, "", *rows]) + "\n"
