"""What a login hands to libpq, for sessions of ours and for programs."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import APPLICATION, Login


@pytest.mark.parametrize(
    ("login", "program", "name"),
    [
        (Login(), "", "pg_runbook"),
        (Login(work="backup"), "", "pg_runbook backup"),
        (Login(work="backup"), "pg_dump", "pg_runbook backup (pg_dump)"),
        (Login(work="backup", connect_params={"application_name": "nightly"}), "", "pg_runbook backup, nightly"),
    ],
)
def test_every_session_says_which_procedure_it_belongs_to(login: Login, program: str, name: str) -> None:
    assert login.parameters("shop", program)["application_name"] == name
    assert f"application_name='{name}'" in login.conninfo("shop", program)
    assert name.startswith(APPLICATION)
