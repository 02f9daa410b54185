# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that compose and are typed: constraints and meanings travel with the options they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Union

from ansible.module_utils.basic import AnsibleModule

from ._errors import InvalidInput
from ._units import parse_duration, parse_size


@dataclass(frozen=True)
class Typed:
    """An option whose value means more than Ansible's types can say.

    Attributes:
        spec: the option as AnsibleModule takes it.
        read: from its value and its name to what plans hold.
        empty: whether an empty text is a value. With a default it is one in any case: it would not stand for None.
    """

    spec: Mapping[str, Any]
    read: Callable[[Any, str], Any]
    empty: bool = False

    def lacks(self, value: object) -> bool:
        """Whether this is no value, so that plans get None."""
        return value is None or (value == "" and not self.empty and "default" not in self.spec)


def duration(default: str | None = None, *, least: str | None = None, most: str | None = None, **spec: Any) -> Typed:
    """A duration such as `15m`, from `least` to `most` (both included), which becomes seconds (float)."""
    return Typed(_text(default, spec), _bounded(parse_duration, least, most))


def size(default: str | None = None, **spec: Any) -> Typed:
    """A size such as `64MB`, which becomes bytes (int)."""
    return Typed(_text(default, spec), parse_size)


def duration_or_size(default: str | None = None, **spec: Any) -> Typed:
    """A duration or a size, which becomes (seconds, None) or (None, bytes). A bare number is neither."""

    def read(value: object, option: str) -> tuple[float | None, int | None]:
        if not str(value).strip().isdigit():
            with suppress(InvalidInput):
                return None, parse_size(value, option)
            with suppress(InvalidInput):
                return parse_duration(value, option), None
        raise InvalidInput(
            f"Invalid {option}",
            subject=repr(value),
            why="it is neither a duration nor a size",
            remedy="Write a number with a unit, for example 30s or 64MB.",
        )

    return Typed(_text(default, spec), read)


def size_or_ratio(default: str | None = None, **spec: Any) -> Typed:
    """A size or a percentage such as `10%`, which becomes (bytes, None) or (None, a share from 0 to 1)."""

    def read(value: object, option: str) -> tuple[int | None, float | None]:
        stripped = str(value).strip()
        if not stripped.endswith("%"):
            return parse_size(value, option), None
        with suppress(ValueError):
            percent = float(stripped[:-1])
            if 0 <= percent < 100:
                return None, percent / 100
        raise _out_of_range(value, option, "0%", "99%, or a size")

    return Typed(_text(default, spec), read)


def filled(option: Typed, why: str) -> Typed:
    """An option that must have a value when it is given, as when a variable of a script is not set.

    Args:
        why: what an empty text would mean, for the error.
    """

    def read(value: object, name: str) -> Any:
        if not str(value).strip():
            raise InvalidInput(
                f"Invalid {name}", subject=repr(value), why=why, remedy="Give it a value, or leave it out."
            )
        return option.read(value, name)

    return Typed(option.spec, read, empty=True)


def ratio(default: float | None = None, **spec: Any) -> Typed:
    """A share from 0 to 1 (float)."""
    return between(0, 1, default, type="float", **spec)


def between(least: float, most: float | None, default: float | None = None, **spec: Any) -> Typed:
    """A number from `least` to `most`, both included; None for any. An int unless `type` says float."""
    known = {"type": "int", **({} if default is None else {"default": default}), **spec}

    def read(value: float, option: str) -> float:
        if value < least or (most is not None and value > most):
            raise _out_of_range(value, option, least, most)
        return value

    return Typed(known, read)


def _bounded(
    parse: Callable[[object, str], float], least: str | None, most: str | None
) -> Callable[[object, str], float]:
    def read(value: object, option: str) -> float:
        found = parse(value, option)
        if (least is not None and found < parse(least, option)) or (most is not None and found > parse(most, option)):
            raise _out_of_range(value, option, least, most)
        return found

    return read


def _out_of_range(value: object, option: str, least: object, most: object) -> InvalidInput:
    if most is None:
        remedy = f"Use {least} or more."
    else:
        remedy = f"Use at most {most}." if least is None else f"Use {least} to {most}."
    return InvalidInput(f"Invalid {option}", subject=repr(value), why="it is out of range", remedy=remedy)


def text(default: str | None = None, **spec: Any) -> Typed:
    """Any text; for the helpers that ask more of it."""
    return Typed(_text(default, spec), lambda value, _option: value)


def _text(default: str | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "str", **({} if default is None else {"default": default}), **spec}


Options = Mapping[str, Union[Typed, dict[str, Any]]]


class _Module(AnsibleModule):  # type: ignore[misc]  # ansible has no types
    """Hides the secrets of `connect_params`, which may carry any libpq parameter, from all that Ansible writes.

    An option's `no_log` would hide the harmless ones too, and with them every `5` and `require` in the output.
    """

    def _log_invocation(self) -> None:  # to syslog or the journal, before the module has the parameters
        self._hide_secrets()
        super()._log_invocation()

    def fail_json(self, msg: str, **kwargs: Any) -> None:  # also called for parameters that do not fit the spec
        self._hide_secrets()
        super().fail_json(msg, **kwargs)

    def _hide_secrets(self) -> None:
        given = self.params.get("connect_params")
        if isinstance(given, (str, list)):  # it could not even be parsed
            self.no_log_values.update([given] if isinstance(given, str) else map(str, given))
        elif isinstance(given, dict):
            secrets = {str(value) for name, value in given.items() if "password" in str(name).lower() and value}
            self.no_log_values.update(secrets)


class ArgumentSpec:
    """Options of a module together with the constraints between them.

    Args:
        options: the options, each as AnsibleModule takes it or `Typed`; so are the `options` of a dictionary.
        constraints: `required_if`, `mutually_exclusive`, `required_together` or `required_one_of` lists.
    """

    def __init__(self, options: Options, **constraints: Sequence[Any]) -> None:
        self.typed: dict[str, Typed | dict[str, Any]] = dict(options)
        self.constraints = {name: list(rules) for name, rules in constraints.items()}

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """The options as AnsibleModule takes them."""
        return _plain(self.typed)

    def merge(self, *others: ArgumentSpec) -> ArgumentSpec:
        """A new spec with the options and constraints of all; an option named twice is a mistake in the code."""
        merged = ArgumentSpec(self.typed, **self.constraints)
        for other in others:
            twice = merged.typed.keys() & other.typed.keys()
            if twice:
                raise ValueError(f"options named twice: {sorted(twice)}")
            merged.typed.update(other.typed)
            for name, rules in other.constraints.items():
                merged.constraints.setdefault(name, []).extend(rules)
        return merged

    def create_module(self) -> AnsibleModule:
        """The Ansible module with this spec. Every module of the collection supports check mode."""
        return _Module(argument_spec=self.options, supports_check_mode=True, **self.constraints)

    def read(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a module with each typed option in what it means: seconds, bytes, a number in its range.

        Raises:
            InvalidInput: an option says nothing that can be understood; the message names it.
        """
        return _read(self.typed, params, "")


def _plain(options: Options) -> dict[str, dict[str, Any]]:
    found = {}
    for name, option in options.items():
        spec = dict(option.spec if isinstance(option, Typed) else option)
        if "options" in spec:
            spec["options"] = _plain(spec["options"])
        found[name] = spec
    return found


def _read(options: Options, params: Mapping[str, Any], above: str) -> dict[str, Any]:
    found = dict(params)
    for name, option in options.items():
        value, path = params.get(name), f"{above}{name}"
        if isinstance(option, Typed):
            found[name] = None if option.lacks(value) else option.read(value, path)
        elif value is not None and "options" in option:
            inner = option["options"]
            if isinstance(value, list):
                found[name] = [_read(inner, each, f"{path}.") for each in value]
            else:  # Ansible does not fill in a dictionary that is itself a default
                found[name] = _read(inner, {**_defaults(inner), **value}, f"{path}.")
    return found


def _defaults(options: Options) -> dict[str, Any]:
    return {name: spec.get("default") for name, spec in _plain(options).items()}


# The words of community.postgresql:
# https://docs.ansible.com/ansible/latest/collections/community/postgresql/postgresql_query_module.html
CONNECTION = ArgumentSpec(
    {
        "login_host": {"type": "str", "default": "", "aliases": ["host"]},
        "login_port": {"type": "int", "default": 5432, "aliases": ["port"]},
        "login_user": {"type": "str", "default": "postgres", "aliases": ["login"]},
        "login_password": {"type": "str", "default": "", "no_log": True},
        "login_unix_socket": {"type": "path", "default": "", "aliases": ["unix_socket"]},
        "ssl_mode": {
            "type": "str",
            "default": "prefer",
            "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
        },
        "ca_cert": {"type": "path", "aliases": ["ssl_rootcert"]},
        "ssl_cert": {"type": "path"},
        "ssl_key": {"type": "path", "no_log": False},
        "connect_params": {"type": "dict", "default": {}},
    }
)

# The words of kubernetes.core:
# https://docs.ansible.com/ansible/latest/collections/kubernetes/core/k8s_module.html
KUBERNETES = ArgumentSpec(
    {
        "kubernetes": {
            "type": "dict",
            "options": {
                "namespace": {"type": "str", "required": True},
                "workload": {"type": "str", "required": True},
                "container": {"type": "str"},
                "kubeconfig": {"type": "raw"},
                "context": {"type": "str"},
                "host": {"type": "str"},
                "api_key": {"type": "str", "no_log": True},
                "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
                "client_cert": {"type": "path", "aliases": ["cert_file"]},
                "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
                "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
                "proxy": {"type": "str"},
                "no_proxy": {"type": "str"},
            },
        }
    }
)

PROGRAMS = ArgumentSpec({"bin_dir": {"type": "path"}})

CATALOG = ArgumentSpec({"backup_dir": {"type": "path", "required": True}})

DATABASE = ArgumentSpec({"db": {"type": "str", "required": True, "aliases": ["login_db", "database"]}})

LOAD_LIMITS = ArgumentSpec(
    {
        "max_replica_lag": duration_or_size(),
        "max_wal_size": size(),
        "max_transaction_age": duration(),
        "min_free": size_or_ratio(),
        "window": {
            "type": "dict",
            "options": {
                "days": {
                    "type": "list",
                    "elements": "str",
                    "choices": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                },
                "start": {"type": "str", "required": True},
                "end": {"type": "str", "required": True},
                "timezone": {"type": "str", "default": "UTC"},
            },
        },
    }
)
