"""The arguments of a module within the tests' process, under every supported ansible-core."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ansible.module_utils import basic


@contextmanager
def patch_module_args(args: Mapping[str, Any]) -> Iterator[None]:
    """Have an AnsibleModule that is made meanwhile get these, as `ansible.module_utils.testing` does since 2.17."""
    told = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
    with mock.patch.multiple(basic, create=True, _ANSIBLE_ARGS=told, _ANSIBLE_PROFILE="legacy"):
        yield
