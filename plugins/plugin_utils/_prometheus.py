# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of all hosts for Prometheus, as node_exporter's textfile collector reads it.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..module_utils._findings import SEVERITIES
from ..module_utils._units import from_rfc3339
from ._health import HostHealth, data_of
from ._health_sections.all_sections import SECTIONS
from ._health_sections.section import LabelledValue

_PREFIX = "godel_postgres_"


def render(hosts: Sequence[HostHealth]) -> str:
    """The whole file. What is not known of a host is left out, and never 0."""
    return "".join(
        line + "\n" for name, kind, text, samples in _metrics(hosts) for line in _metric(name, kind, text, samples)
    )


def _metrics(hosts: Sequence[HostHealth]) -> Iterator[tuple[str, str, str, list[LabelledValue]]]:
    yield (
        "up",
        "gauge",
        "Whether the server could be reached, 0 or 1.",
        [(_of(host), int(host.reachable)) for host in hosts],
    )
    yield (
        "health_severity", "gauge", "The worst finding: 0 ok, 1 info, 2 warning, 3 critical.",
        [(_of(host), SEVERITIES.index(host.severity)) for host in hosts],
    )  # fmt: skip
    yield (
        "collected_timestamp_seconds", "gauge", "Time of the last collection, in seconds since 1970.",
        [(_of(host), int(from_rfc3339(host.collected_at).timestamp())) for host in hosts],
    )  # fmt: skip
    yield "findings", "gauge", "Findings by check and severity.", [each for host in hosts for each in _findings(host)]
    for section in SECTIONS:
        for metric in section.metrics:
            yield (
                metric.name, metric.kind, metric.help,
                [
                    (_of(host, **labels), value)
                    for host in hosts
                    for labels, value in metric.samples(data_of(host.sections, section.name), host.facts)
                ],
            )  # fmt: skip


def _of(host: HostHealth, **labels: object) -> dict[str, object]:
    return {"host": host.host, **labels}


def _findings(host: HostHealth) -> Iterator[LabelledValue]:
    counted = Counter((str(each["check"]), str(each["severity"])) for each in host.findings if each["severity"] != "ok")
    for (check, severity), count in sorted(counted.items()):
        yield _of(host, check=check, severity=severity), count


def _metric(name: str, kind: str, text: str, samples: Sequence[LabelledValue]) -> Iterator[str]:
    known: dict[str, float] = {}
    for labels, value in samples:
        if isinstance(value, (int, float)):
            # The same series twice would make the collector refuse the whole file.
            known.setdefault(",".join(f'{label}="{_escape(str(told))}"' for label, told in labels.items()), value)
    if known:
        yield f"# HELP {_PREFIX}{name} {text}"
        yield f"# TYPE {_PREFIX}{name} {kind}"
        for series, value in known.items():
            yield f"{_PREFIX}{name}{{{series}}} {float(value)!r}"


def _escape(told: str) -> str:
    text = told.encode("utf-8", "replace").decode()  # a name that is not UTF-8 would make the file unreadable
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
