# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about the settings of a server that the content of a database can depend on."""

from __future__ import annotations

# A session can set each of these, and a database can compute or accept other values under it. Settings of pg_dump in each
# load (standard_conforming_strings, check_function_bodies, row_security, client_encoding ...) are not among them, and
# neither are array_nulls and transform_null_equals, under which a load takes what pg_dump has printed for something else.
# https://www.postgresql.org/docs/current/runtime-config-client.html
# https://www.postgresql.org/docs/current/runtime-config-compatible.html
CONTENT = (
    "DateStyle", "IntervalStyle", "TimeZone", "timezone_abbreviations", "extra_float_digits", "bytea_output",
    "lc_monetary", "lc_numeric", "lc_time", "default_text_search_config", "icu_validation_level",
    "xmlbinary", "xmloption", "backslash_quote", "quote_all_identifiers",
    "lo_compat_privileges", "max_stack_depth", "default_table_access_method",
    "default_toast_compression", "session_preload_libraries", "local_preload_libraries",
)  # fmt: skip

# Settings that ALTER DATABASE SET and ALTER ROLE SET of the login hide from this session.
_LAYERED = """
SELECT lower(split_part(setting, '=', 1)) FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
  AND (s.setdatabase, s.setrole) <> (0, 0)
"""

# `reset_val` is what a session began with, whatever it has set since. `at_start`: only the start of the server sets it.
# https://www.postgresql.org/docs/current/view-pg-settings.html
KNOWN = f"""
SELECT name, reset_val AS value, context IN ('postmaster', 'sighup', 'internal') AS at_start
FROM pg_settings
WHERE source <> 'client' AND reset_val IS NOT NULL
  AND (name = ANY (%(content)s) OR (strpos(name, '.') > 0 AND reset_val IS DISTINCT FROM boot_val))
  AND lower(name) NOT IN ({_LAYERED})
"""

# A custom setting without a library is in no view. The files and the command line of the server have them.
# https://www.postgresql.org/docs/current/runtime-config-custom.html
IN_FILES = """
SELECT name, setting AS value FROM pg_file_settings
WHERE applied AND strpos(name, '.') > 0 AND name NOT IN (SELECT name FROM pg_settings)
"""
ON_THE_COMMAND_LINE = """
SELECT found[1] AS name, current_setting(found[1], true) AS value
FROM pg_catalog.regexp_matches(
  pg_catalog.encode(pg_catalog.pg_read_binary_file('postmaster.opts', 0, 1000000, true), 'escape'),
  '"(?:--|-c)?([A-Za-z_][A-Za-z0-9_$]*(?:[.][A-Za-z_][A-Za-z0-9_$]*)+)=', 'g') AS found
WHERE found[1] NOT IN (SELECT name FROM pg_settings)
"""

# Only those who may read all settings see it. https://www.postgresql.org/docs/current/runtime-config-client.html
PRELOADED = "SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'"
