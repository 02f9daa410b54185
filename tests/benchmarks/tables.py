"""The results as Markdown, and the bars: what the collection has to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import human_size
from tests.benchmarks.bench import Contender
from tests.benchmarks.measure import Series

Results = Mapping[str, Series]


@dataclass(frozen=True)
class Bar:
    """A promise. ``at_most`` tells on which side of the limit it holds; ``note`` says what was compared."""

    promise: str
    limit: float
    at_most: bool
    reached: float
    unit: str
    note: str

    @property
    def holds(self) -> bool:
        """Whether it is kept in this run."""
        return self.reached <= self.limit if self.at_most else self.reached >= self.limit

    def show(self, value: float) -> str:
        """A figure with its unit."""
        if self.unit == "x":
            return f"{value:.2f}x"
        return f"{value:.2f} {self.unit}" if self.unit in ("s", "points") else f"{value:.0f} {self.unit}"


def results_table(title: str, contenders: Sequence[Contender], results: Results, base: str) -> list[str]:
    """Return the lines of a table; ratios are to the contender ``base``."""
    known = [each for each in contenders if each.key in results]
    sized = any(results[each.key].size_bytes for each in known)
    lines = [f"| {title} | time | least to most | speed |" + (" size |" if sized else "")]
    lines.append("| --- | ---: | ---: | ---: |" + (" ---: |" if sized else ""))
    for each in known:
        series = results[each.key]
        least, most = series.spread
        ratio = results[base].seconds / series.seconds
        line = f"| {each.title} | {series.seconds:.2f} s | {least:.2f} to {most:.2f} | {ratio:.2f}x |"
        size = series.size_bytes
        lines.append(line + (f" {human_size(size) if size else ''} |" if sized else ""))
    return lines


def bars_table(bars: Sequence[Bar]) -> list[str]:
    """Return the lines of the table of promises."""
    lines = ["| promise | wanted | reached | | compared |", "| --- | ---: | ---: | --- | --- |"]
    for promise in bars:
        side = "at most" if promise.at_most else "at least"
        verdict = "holds" if promise.holds else "**missed**"
        lines.append(
            f"| {promise.promise} | {side} {promise.show(promise.limit)} | {promise.show(promise.reached)} | {verdict} | {promise.note} |"
        )
    return lines


def bars(backups: Results, restores: Results, idle: Results, bare: str, others: Results | None = None) -> list[Bar]:
    """Judge what was measured; what was left out has no bar."""
    found: list[Bar] = []
    pods = others or {}

    def judge(
        results: Results, promise: str, limit: float, one: str, other: str, note: str, *, at_most: bool = True
    ) -> None:
        if one in results and other in results:
            ratio = results[one].seconds / results[other].seconds
            found.append(Bar(promise, limit, at_most, ratio, "x", note))

    note = "whole playbook; at 2 GB or more"
    judge(backups, "backup faster than the runbook's", 4, "runbook", "playbook", note, at_most=False)
    for fingerprint, limit in (("none", 1.05), ("counts", 1.35), ("content", 1.35)):
        promise = f"backup with fingerprint {fingerprint} to bare `pg_dump`"
        judge(backups, promise, limit, fingerprint, bare, "module's process, same flags")
    promise = "backup to bare `pg_dump` beside the digest queries"
    judge(backups, promise, 1.1, "playbook", "beside", "whole playbook, same flags; at 2 GB or more")
    promise = "verification to bare `pg_restore` and digest queries"
    judge(restores, promise, 1.05, "verify", "digests", "module's process, equal scratch server")
    judge(idle, "backup with nothing to do to one ping", 1.3, "idle", "ping", "whole playbooks")
    judge(pods, "dump in a pod to the same by `kubectl exec`", 1.1, "pod-none", "kubectl-dump", "module's process")
    note = "1 GiB, with a SHA-256"
    judge(pods, "speed of a stream to `kubectl exec ... cat`", 0.9, "kubectl-cat", "stream", note, at_most=False)
    if "pod-status" in pods and "pod-ping" in pods:
        own = pods["pod-status"].seconds - pods["pod-ping"].seconds
        found.append(Bar("status of a pod's backups, less one ping", 2, True, own, "s", "whole playbooks"))
    judge(
        pods,
        "stage and proof to bare `pg_restore` and digest queries",
        1.1,
        "stage",
        "bare-stage",
        "into the same server",
    )
    if "down-swap" in pods:
        note = "the longest time without an answer, asked every 10 ms"
        found.append(Bar("time without the database in a swap", 1, True, pods["down-swap"].spread[1], "s", note))
    peak = max((series.peak_bytes for results in (backups, restores, pods) for series in results.values()), default=0)
    if peak:
        note = "largest resident memory of a module's own process"
        found.append(Bar("memory", 100, True, peak / 1024**2, "MiB", note))
    return found
