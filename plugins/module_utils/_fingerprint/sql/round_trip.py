# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What loads a printed definition once more, and prints it again. Floor: PostgreSQL 13."""

from __future__ import annotations

CARRIER = "pg_runbook_carrier"
# Event triggers see what is done here, and may refuse it, or write it down.
EVENT_TRIGGERS = "SELECT evtname FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'"
SETTINGS = "SET LOCAL check_function_bodies = off; SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '10s'"
VIEW = f"""
SELECT pg_get_viewdef(c.oid) AS text,
       (SELECT string_agg(concat_ws(' ', format_type(a.atttypid, a.atttypmod), nullif(a.attcollation, 0)::regcollation), ', '
                          ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) AS types
FROM pg_class c WHERE c.relname = '{CARRIER}' AND c.relnamespace = pg_my_temp_schema()
"""
TRIGGER = """
SELECT pg_get_triggerdef(g.oid) AS text, '' AS types
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE format('DROP TRIGGER %%I ON %%I.%%I', g.tgname, n.nspname, c.relname) = %s
"""
RULE = """
SELECT pg_get_ruledef(r.oid) AS text, '' AS types
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE format('DROP RULE %%I ON %%I.%%I', r.rulename, n.nspname, c.relname) = %s
"""
ARGUMENTS = """
SELECT pg_get_function_arguments(p.oid) AS text, '' AS types FROM pg_proc p WHERE p.pronamespace = pg_my_temp_schema()
"""
BODY = """
SELECT pg_get_function_sqlbody(p.oid) AS text, '' AS types FROM pg_proc p WHERE p.pronamespace = pg_my_temp_schema()
"""


def as_query(expression: str, context: str) -> str:
    """An expression as a query on its context, a FROM clause, if it has one."""
    return f"SELECT ({expression}) AS value" + (f" FROM {context}" if context else "")
