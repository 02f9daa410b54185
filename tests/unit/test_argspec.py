"""Argument specs: they compose, and nothing that they refuse lets a secret out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import (
    CATALOG,
    CONNECTION,
    DATABASE,
    PROGRAMS,
    ArgumentSpec,
    between,
    duration,
    duration_or_size,
    filled,
    ratio,
    size,
    size_or_ratio,
    text,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._plan import Plan, no_option
from tests.support.module_args import patch_module_args

SECRET = "s3cret-of-the-test"
SPEC = ArgumentSpec({"format": {"type": "str", "choices": ["a", "b"]}, "other": {"type": "str"}})


def refuse(spec: ArgumentSpec, params: Mapping[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The answer of a module that does not take these parameters."""
    with patch_module_args(dict(params)), pytest.raises(SystemExit):
        spec.create_module()
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    assert found["failed"]
    return found


def test_merging_joins_options_and_constraints() -> None:
    first = ArgumentSpec({"a": {"type": "str"}}, required_together=[["a", "b"]])
    second = ArgumentSpec({"b": {"type": "int"}}, required_together=[["b", "c"]], mutually_exclusive=[["b", "d"]])
    merged = first.merge(second, ArgumentSpec({"c": {}, "d": {}}))
    assert merged.options.keys() == {"a", "b", "c", "d"}
    assert merged.constraints == {"required_together": [["a", "b"], ["b", "c"]], "mutually_exclusive": [["b", "d"]]}


def test_merging_leaves_the_parts_alone() -> None:
    first = ArgumentSpec({"a": {}}, required_together=[["a", "b"]])
    first.merge(ArgumentSpec({"b": {}}, required_together=[["b", "a"]]))
    assert (first.options, first.constraints) == ({"a": {}}, {"required_together": [["a", "b"]]})


def test_an_option_named_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="'db'"):
        SPEC.merge(DATABASE).merge(DATABASE)


def test_constraints_hold_in_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPEC.merge(ArgumentSpec({}, required_together=[["format", "other"]]))
    assert "required together" in refuse(spec, {"format": "a"}, capsys)["msg"]


def test_every_module_supports_check_mode() -> None:
    with patch_module_args({"_ansible_check_mode": True}):
        module = SPEC.create_module()
    assert isinstance(module, AnsibleModule)
    assert module.check_mode
    assert module.supports_check_mode


@pytest.mark.parametrize(
    ("params", "option", "value"),
    [
        ({}, "login_port", 5432),
        ({"port": "5433"}, "login_port", 5433),
        ({"host": "db"}, "login_host", "db"),
        ({"login": "app"}, "login_user", "app"),
        ({"login_db": "x"}, "db", "x"),
        ({"database": "x"}, "db", "x"),
        ({"ssl_rootcert": "/ca"}, "ca_cert", "/ca"),
        ({"connect_params": {"keepalives": 1}}, "connect_params", {"keepalives": 1}),
    ],
)
def test_the_words_of_community_postgresql_are_understood(params: dict[str, Any], option: str, value: object) -> None:
    spec = CONNECTION.merge(DATABASE, CATALOG, PROGRAMS)
    needed = {"backup_dir": "/b"} if option == "db" else {"backup_dir": "/b", "db": "postgres"}
    with patch_module_args({**needed, **params}):
        assert spec.create_module().params[option] == value


@pytest.mark.parametrize("missing", ["db", "backup_dir"])
def test_what_is_required_is_named(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    params = {"db": "a", "backup_dir": "/b"}
    del params[missing]
    assert missing in refuse(DATABASE.merge(CATALOG), params, capsys)["msg"]


@pytest.mark.parametrize(
    "params",
    [
        {"format": "nonsense"},
        {"unknown_option": 1},
        {"login_port": "many"},
        {"ssl_mode": "sometimes"},
    ],
)
@pytest.mark.parametrize("connect_params", [{"password": SECRET}, f"password={SECRET}", f"password {SECRET}", [SECRET]])
def test_refused_parameters_print_no_secret(
    params: dict[str, Any], connect_params: object, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refuse(
        SPEC.merge(CONNECTION), {**params, "connect_params": connect_params, "login_password": "0ther-s3cret"}, capsys
    )
    assert SECRET not in json.dumps(found)
    assert "0ther-s3cret" not in json.dumps(found)


def test_the_log_of_the_host_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, msg, log_args=None: logged.append(f"{msg} {log_args}"))
    params = {"connect_params": {"password": SECRET, "keepalives_idle": "17"}, "login_password": "0ther-s3cret"}
    with patch_module_args(params):
        SPEC.merge(CONNECTION).create_module()
    assert "keepalives_idle" in logged[0]
    assert SECRET not in "".join(logged)
    assert "0ther-s3cret" not in "".join(logged)


TYPED = ArgumentSpec(
    {
        "timeout": duration("15m"),
        "limit": size(),
        "share": ratio(0.5),
        "jobs": between(1, 8),
        "inner": {"type": "dict", "options": {"age": duration()}},
        "rules": {"type": "list", "elements": "dict", "options": {"age": duration()}},
    }
)


def test_a_typed_option_is_a_plain_one_to_ansible() -> None:
    assert TYPED.options["timeout"] == {"type": "str", "default": "15m"}
    assert TYPED.options["jobs"] == {"type": "int"}
    assert TYPED.options["inner"] == {"type": "dict", "options": {"age": {"type": "str"}}}


def test_typed_options_are_read_at_every_depth_and_an_empty_one_is_none() -> None:
    params = {
        "timeout": "15m",
        "limit": "",
        "share": 0.5,
        "jobs": None,
        "inner": {"age": "1h"},
        "rules": [{"age": "1s"}, {"age": None}],
        "other": "1h",
    }
    assert TYPED.read(params) == {
        **params,
        "timeout": 900.0,
        "limit": None,
        "inner": {"age": 3600.0},
        "rules": [{"age": 1.0}, {"age": None}],
    }


def test_a_dictionary_that_is_a_default_has_the_defaults_of_its_options() -> None:
    spec = ArgumentSpec({"inner": {"type": "dict", "default": {}, "options": {"age": duration("1h"), "name": text()}}})
    with patch_module_args({}):
        assert spec.read(spec.create_module().params) == {"inner": {"age": 3600.0, "name": None}}
    with patch_module_args({"inner": {"name": "x"}}):
        assert spec.read(spec.create_module().params) == {"inner": {"age": 3600.0, "name": "x"}}


CHOICES = ArgumentSpec(
    {
        "lag": duration_or_size(),
        "free": size_or_ratio(),
        "wait": duration("6h", least="1s", most="1d"),
        "rule": {
            "type": "dict",
            "options": {"user": filled(text(), "it would mean all"), "over": filled(duration(), "")},
        },
    }
)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"lag": "64MB"}, (None, 64 * 1024**2)),
        ({"lag": "5m"}, (300.0, None)),
        ({"free": "10%"}, (None, 0.1)),
        ({"free": "20GB"}, (20 * 1024**3, None)),
        ({"free": 1024}, (1024, None)),
        ({"wait": "1s"}, 1.0),
        ({"wait": "1d"}, 86400.0),
        ({"rule": {"user": "a", "over": "1m"}}, {"user": "a", "over": 60.0}),
        ({"rule": {"user": None, "over": None}}, {"user": None, "over": None}),
    ],
)
def test_choices_of_kinds_and_bounds_are_read(given: Mapping[str, Any], found: object) -> None:
    [name] = given
    assert CHOICES.read({**dict.fromkeys(CHOICES.options), **given})[name] == found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lag": "100"}, "Invalid lag ('100'): it is neither a duration nor a size. Write a number with a unit,"),
        ({"lag": "much"}, "Invalid lag ('much'): it is neither"),
        ({"free": "100%"}, "Invalid free ('100%'): it is out of range. Use 0% to 99%, or a size."),
        ({"free": "x%"}, "Invalid free ('x%'): it is out of range."),
        ({"free": "much"}, "Invalid free ('much'): it is not a size."),
        ({"wait": "999ms"}, "Invalid wait ('999ms'): it is out of range. Use 1s to 1d."),
        ({"wait": "2d"}, "Invalid wait ('2d'): it is out of range."),
        ({"wait": ""}, "Invalid wait (''): it is not a duration."),
        ({"rule": {"user": " "}}, "Invalid rule.user (' '): it would mean all. Give it a value, or leave it out."),
        ({"rule": {"over": ""}}, "Invalid rule.over ('')."),
        ({"rule": {"over": "soon"}}, "Invalid rule.over ('soon'): it is not a duration."),
    ],
)
def test_what_choices_and_bounds_refuse_is_told_in_one_form(given: Mapping[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        CHOICES.read({**dict.fromkeys(CHOICES.options), **given})
    assert caught.value.message.startswith(told)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"timeout": "soon"}, "timeout"),
        ({"limit": "much"}, "limit"),
        ({"share": 1.1}, "share"),
        ({"jobs": 0}, "jobs"),
        ({"jobs": 9}, "jobs"),
        ({"inner": {"age": "x"}}, "inner.age"),
        ({"rules": [{"age": "x"}]}, "rules.age"),
    ],
)
def test_what_a_typed_option_cannot_mean_is_refused_by_its_full_name(given: Mapping[str, Any], names: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{names}\b") as caught:
        TYPED.read({**dict.fromkeys(TYPED.options), **given})
    assert caught.value.remedy


@dataclass(frozen=True)
class _Plan(Plan):
    timeout_s: float
    limit_bytes: int | None
    jobs: int | None = None


def test_a_plan_takes_each_field_from_the_option_of_its_name() -> None:
    assert _Plan.from_params({"timeout": 1.0, "limit": 2, "jobs": 3, "more": 4}) == _Plan(1.0, 2, 3)
    assert _Plan.from_params({"timeout": 1.0, "limit": 2}, jobs=5) == _Plan(1.0, 2, 5)


@dataclass(frozen=True)
class _Extended(_Plan):
    limit: int = no_option(7)
    found: int = no_option(0)


def test_what_is_no_option_keeps_its_default_unless_it_is_given() -> None:
    params = {"timeout": 1.0, "limit": 2, "jobs": 3}
    assert _Extended.from_params(params) == _Extended(1.0, 2, 3, 7, 0)
    assert _Extended.from_params(params, found=5).found == 5


def test_a_field_without_an_option_is_a_mistake_even_where_it_has_a_default() -> None:
    with pytest.raises(LookupError, match=r"_Plan\.jobs"):
        _Plan.from_params({"timeout": 1.0, "limit": 2})
