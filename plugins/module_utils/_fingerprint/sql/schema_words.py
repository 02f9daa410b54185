# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of SQL that the statements on definitions share, and what such a statement is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_USER_OID = 16384  # FirstNormalObjectId, src/include/access/transam.h
# How lists are sorted: by bytes, whatever the locale of a database makes of the same letters.
BYTEWISE = ' COLLATE pg_catalog."C"'

# How a printed text is loaded once more, to be printed again: see `_fingerprint/round_trip.py`.
EXPRESSION, QUERY, TRIGGER, RULE, ARGUMENTS, BODY = "expression", "query", "trigger", "rule", "arguments", "body"


@dataclass(frozen=True)
class Statement:
    """A statement on definitions. Each row has the kind and the identity of an object, then texts of its definition.

    Attributes:
        sql: the columns after `kind` and `identity` are called by what they say; NULL is nothing. A column `context`
            is no part of the definition: it is where its expressions are to be read. A statement with the columns
            `label` and `text` adds one text a row, with a label of its own, to an object.
        printed: the labels of texts that the server prints from a parsed form, and how each is loaded.
        since: the oldest major that knows it.
    """

    sql: str
    printed: Mapping[str, str] = field(default_factory=dict)
    since: int = 13


def no_extension(catalog: str, oid: str) -> str:
    """The condition that no extension has this object as a member."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass"
        f" AND e.objid = {oid} AND e.deptype = 'e')"
    )


def carried(schema: str) -> str:
    """The condition that pg_dump carries what is in the schema of this name. No other schema may begin with pg_."""
    return f"{schema} !~ '^pg_' AND {schema} <> 'information_schema'"


def acl(rights: str, letter: str, owner: str) -> str:
    """Who may do what, as text; `letter` is that of acldefault()."""
    # A restored ACL may have another order and other grantors, and NULL where the default was written out.
    return granted(f"coalesce({rights}, acldefault('{letter}', {owner}))" if letter != "c" else rights)


def granted(rights: str) -> str:
    """An aclitem[] as text, without the grantors."""
    return (
        "(SELECT string_agg(DISTINCT (coalesce(nullif(x.grantee, 0)::regrole::text, 'PUBLIC') || '=' || x.privilege_type"
        f" || CASE WHEN x.is_grantable THEN '*' ELSE '' END){BYTEWISE}, ', ') FROM aclexplode({rights}) x)"
    )


def in_order(array: str) -> str:
    """The texts of an array, sorted and joined."""
    return f"(SELECT string_agg(o, ', ' ORDER BY o{BYTEWISE}) FROM unnest({array}) o)"


def unquoted(array: str) -> str:
    """Settings whose lists of names have no quotes that they can do without.

    The server stores such a list as quote_all_identifiers had it quoted (flatten_set_variable_args in guc_funcs.c).
    """
    lists = "search_path|temp_tablespaces|local_preload_libraries|session_preload_libraries"
    return (
        f"ARRAY(SELECT CASE WHEN s ~ '^({lists})=' THEN regexp_replace(s, '\"([a-z_][a-z0-9_]*)\"', '\\1', 'g')"
        f" ELSE s END FROM unnest({array}) s)"
    )


def depends_on_extensions(catalog: str, oid: str) -> str:
    """The extensions that ALTER ... DEPENDS ON EXTENSION named for this object."""
    return (
        f"(SELECT string_agg(quote_ident(x.extname), ', ' ORDER BY x.extname{BYTEWISE}) FROM pg_depend e"
        f" JOIN pg_extension x ON x.oid = e.refobjid WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid}"
        " AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'x')"
    )


def opclass(oid: str) -> str:
    """The full name of an operator class."""
    return (
        "(SELECT format('%I.%I', opn.nspname, op.opcname) FROM pg_opclass op"
        f" JOIN pg_namespace opn ON opn.oid = op.opcnamespace WHERE op.oid = {oid})"
    )
