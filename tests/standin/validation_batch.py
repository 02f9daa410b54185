"""What the API server refuses in Jobs and CronJobs: pkg/apis/batch/validation of Kubernetes 1.32, robfig/cron 3."""

from __future__ import annotations

import calendar
import re
import zoneinfo
from collections.abc import Iterator, Mapping

from tests.standin import names, validation_pods
from tests.standin.causes import Cause, invalid, negative, required, unsupported
from tests.standin.matching import Object

_NAME_CHARACTERS = 52  # 63, less what the name of a Job has more
_ZONE = re.compile(r"[A-Za-z0-9.\-_+]{1,14}(/[A-Za-z0-9.\-_+]{1,14})*")
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name.lower(): (number + 1) % 7 for number, name in enumerate(calendar.day_abbr)}
_FIELDS: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _DAYS),
)  # fmt: skip


def job(item: Object, before: Object | None) -> Iterator[Cause]:
    """What is wrong with a Job."""
    spec = item["spec"]
    # Its name becomes a label of its pods.
    name = item["metadata"].get("name") or ""
    yield from (invalid("spec.template.labels", name, each) for each in names.label_value(name) if len(name) > 63)
    yield from job_spec("spec", spec)
    if before is not None:
        for field in ("completions", "selector", "template"):
            if spec.get(field) != before["spec"].get(field):
                yield invalid(f"spec.{field}", spec.get(field), "field is immutable")


def job_spec(field: str, spec: Object) -> Iterator[Cause]:
    """What is wrong with the spec of a Job, alone or in a CronJob."""
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    for name in counts:
        yield from negative(f"{field}.{name}", spec.get(name))
    yield from validation_pods.template(f"{field}.template", spec.get("template") or {}, "OnFailure", "Never")


def cron_job(item: Object, _before: Object | None) -> Iterator[Cause]:
    """What is wrong with a CronJob."""
    spec = item["spec"]
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        yield required("spec.schedule")
    elif "TZ" in schedule:
        both = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        alone = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        yield invalid("spec.schedule", schedule, alone if zone is None else both)
    elif told := wrong_schedule(schedule):
        yield invalid("spec.schedule", schedule, told)
    if zone is not None:
        yield from (invalid("spec.timeZone", zone, each) for each in _wrong_zone(zone))
    policy = spec.get("concurrencyPolicy") or "Allow"
    if policy not in ("Allow", "Forbid", "Replace"):
        yield unsupported("spec.concurrencyPolicy", policy, "Allow", "Forbid", "Replace")
    for name in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from negative(f"spec.{name}", spec.get(name))
    yield from job_spec("spec.jobTemplate.spec", (spec.get("jobTemplate") or {}).get("spec") or {})
    name = item["metadata"].get("name") or ""
    if len(name) > _NAME_CHARACTERS:
        yield invalid("metadata.name", name, f"must be no more than {_NAME_CHARACTERS} characters")


def _wrong_zone(zone: str) -> list[str]:
    if not zone:
        return ["timeZone must be nil or non-empty string"]
    if zone.lower() == "local":
        return ["timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"]
    if not _ZONE.fullmatch(zone) or zone not in zoneinfo.available_timezones():
        return [f"unknown time zone {zone}"]
    return []


def wrong_schedule(schedule: str) -> str:
    """What cron says of a schedule that it cannot read; empty for a right one."""
    if schedule.startswith("@"):
        known = schedule in _DESCRIPTORS or re.fullmatch(r"@every (\d+(\.\d+)?(h|m|s|ms|us|ns))+", schedule)
        return "" if known else f"unrecognized descriptor: {schedule}"
    parts = schedule.split()
    if len(parts) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"
    for part, (low, high, words) in zip(parts, _FIELDS, strict=True):
        for each in part.split(","):
            try:
                _read_range(each, low, high, words)
            except ValueError as exc:
                return str(exc)
    return ""


def _read_range(text: str, low: int, high: int, words: Mapping[str, int]) -> None:
    span, *steps = text.split("/")
    ends = span.split("-")
    if ends[0] in ("*", "?"):
        start, end = low, high
    else:
        start = _number(ends[0], words)
        end = _number(ends[1], words) if len(ends) == 2 else start
        if len(ends) > 2:
            raise ValueError(f"too many hyphens: {text}")
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    step = _number(steps[0], {}) if steps else 1
    if steps and len(ends) == 1:
        end = high
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")


def _number(text: str, words: Mapping[str, int]) -> int:
    if text.lower() in words:
        return words[text.lower()]
    if not re.fullmatch("[+-]?[0-9]+", text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise ValueError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)
