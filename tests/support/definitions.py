"""What PostgreSQL says about every object of a database, to compare a database with its restored copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

Name = TypeVar("Name", bound="str | tuple[str, ...] | int")

PINNED_SETTINGS = """
    SET search_path = pg_catalog; SET quote_all_identifiers = off; SET standard_conforming_strings = on;
    SET extra_float_digits = 1; SET bytea_output = hex; SET xmlbinary = base64; SET TimeZone = 'UTC';
    SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
"""
"""Settings that change how values and definitions look as text."""

FIRST_OWN_OID = 16384  # what is created after initdb is numbered from here


class Key(NamedTuple):
    """A kind of text, and the object that it is about."""

    kind: str
    identity: str


class Fact(NamedTuple):
    """A kind of text, and the query for (identity, text) of every object that has it."""

    kind: str
    query: str
    since: int = 14


def _of(catalog: str, oid: str = "oid", column: str = "0") -> str:
    """Return SQL for the full name of an object."""
    catalog = catalog.removesuffix("_metadata")  # a large object's address is in pg_largeobject
    return f"(pg_identify_object('{catalog}'::regclass, {oid}, {column})).identity"


def _is_ours(namespace: str) -> str:
    schemas = ("pg_catalog", "information_schema", "pg_toast")
    return " AND ".join(f"{namespace} <> '{schema}'::regnamespace" for schema in schemas)


OUR_RELATIONS = f"(SELECT * FROM pg_class WHERE {_is_ours('relnamespace')}) AS pg_class"

#: Read from the parsed form that is stored; its text may change when it is parsed again.
DEPARSED = (
    Fact(
        "constraint",
        f"""
        SELECT {_of("pg_constraint")}, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE {_is_ours("connamespace")}
        """,
    ),
    Fact(
        "index",
        f"""
        SELECT {_of("pg_class", "indexrelid")}, pg_get_indexdef(indexrelid)
        FROM pg_index JOIN {OUR_RELATIONS} ON oid = indexrelid
        """,
    ),
    Fact(
        "view",
        f"SELECT {_of('pg_class')}, pg_get_viewdef(oid) FROM {OUR_RELATIONS} WHERE relkind IN ('v', 'm')",
    ),
    Fact(
        "rule",
        f"""
        SELECT {_of("pg_rewrite", "pg_rewrite.oid")}, pg_get_ruledef(pg_rewrite.oid) || ' ' || ev_enabled::text
        FROM pg_rewrite JOIN {OUR_RELATIONS} ON pg_class.oid = ev_class WHERE rulename <> '_RETURN'
        """,
    ),
    Fact(
        "trigger",
        f"""
        SELECT {_of("pg_trigger")}, pg_get_triggerdef(oid) || ' ' || tgenabled::text
        FROM pg_trigger WHERE NOT tgisinternal
        """,
    ),
    Fact(
        "function",
        f"""
        SELECT {_of("pg_proc")}, pg_get_functiondef(oid)
        FROM pg_proc WHERE prokind <> 'a' AND {_is_ours("pronamespace")}
        """,
    ),
    Fact(
        "default or generated",
        f"""
        SELECT {_of("pg_class", "adrelid", "adnum")}, pg_get_expr(adbin, adrelid)
        FROM pg_attrdef WHERE oid >= {FIRST_OWN_OID}
        """,
    ),
    Fact(
        "partition key",
        f"SELECT {_of('pg_class', 'partrelid')}, pg_get_partkeydef(partrelid) FROM pg_partitioned_table",
    ),
    Fact(
        "partition bound",
        f"""
        SELECT {_of("pg_class")}, pg_get_expr(relpartbound, oid)
        FROM pg_class WHERE relpartbound IS NOT NULL
        """,
    ),
    Fact("policy using", f"SELECT {_of('pg_policy')}, pg_get_expr(polqual, polrelid) FROM pg_policy"),
    Fact("policy check", f"SELECT {_of('pg_policy')}, pg_get_expr(polwithcheck, polrelid) FROM pg_policy"),
    Fact("statistics", f"SELECT {_of('pg_statistic_ext')}, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext"),
    Fact(
        "domain default",
        f"SELECT {_of('pg_type')}, pg_get_expr(typdefaultbin, 0) FROM pg_type WHERE typdefaultbin IS NOT NULL",
    ),
    Fact(
        "publication filter",
        f"SELECT {_of('pg_publication_rel')}, pg_get_expr(prqual, prrelid) FROM pg_publication_rel",
        since=15,
    ),
)


class _Acl(NamedTuple):
    """Where a catalogue has owners and rights."""

    catalog: str
    rights: str
    owner: str
    kind: str  # as acldefault() wants it
    which: str = "true"


ACLS = (
    _Acl(
        "pg_class",
        "relacl",
        "relowner",
        "CASE relkind WHEN 'S' THEN 's' ELSE 'r' END",
        _is_ours("relnamespace"),
    ),
    _Acl("pg_proc", "proacl", "proowner", "'f'", _is_ours("pronamespace")),
    _Acl("pg_namespace", "nspacl", "nspowner", "'n'", f"oid >= {FIRST_OWN_OID}"),
    _Acl(
        "pg_type",
        "typacl",
        "typowner",
        "'T'",
        f"{_is_ours('typnamespace')} AND typtype <> 'c' AND typelem = 0",
    ),
    _Acl("pg_language", "lanacl", "lanowner", "'l'"),
    _Acl("pg_foreign_server", "srvacl", "srvowner", "'S'"),
    _Acl("pg_foreign_data_wrapper", "fdwacl", "fdwowner", "'F'"),
    _Acl("pg_largeobject_metadata", "lomacl", "lomowner", "'L'"),
)


def _as_stored(acl: _Acl) -> Fact:
    return Fact(
        f"rights as stored, {acl.catalog}",
        f"""
        SELECT {_of(acl.catalog)}, concat_ws(' ', {acl.owner}::regrole, coalesce({acl.rights}::text, 'NULL'))
        FROM {acl.catalog} WHERE {acl.which}
        """,
    )


def _spelled_out(acl: _Acl) -> Fact:
    return Fact(
        f"rights spelled out, {acl.catalog}",
        f"""
        SELECT {_of(acl.catalog)}, concat_ws(' ', {acl.owner}::regrole, (
            SELECT string_agg(line, ' ' ORDER BY line) FROM (
                SELECT concat_ws('/', grantor::regrole, grantee::regrole, privilege_type, is_grantable) COLLATE "C"
                FROM aclexplode(coalesce({acl.rights}, acldefault(({acl.kind})::"char", {acl.owner})))
            ) AS lines (line)))
        FROM {acl.catalog} WHERE {acl.which}
        """,
    )


#: Read as it is stored.
STORED = (
    *(_as_stored(acl) for acl in ACLS),
    *(_spelled_out(acl) for acl in ACLS),
    Fact(
        "rights on columns",
        f"""
        SELECT {_of("pg_class", "attrelid", "attnum")}, attacl::text
        FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= {FIRST_OWN_OID}
        """,
    ),
    Fact("default rights", f"SELECT {_of('pg_default_acl')}, defaclacl::text FROM pg_default_acl"),
    Fact(
        "order of columns",
        f"""
        SELECT {_of("pg_class", "attrelid")}, string_agg(quote_ident(attname), ',' ORDER BY attnum)
        FROM pg_attribute JOIN {OUR_RELATIONS} ON oid = attrelid WHERE attnum > 0 AND NOT attisdropped
        GROUP BY attrelid
        """,
    ),
    Fact(
        "columns",
        f"""
        SELECT {_of("pg_class", "attrelid", "attnum")}, concat_ws(' ', format_type(atttypid, atttypmod),
            attnotnull, attstorage, attidentity, attgenerated, attislocal, attinhcount, nullif(attstattarget, -1),
            attoptions, attfdwoptions, attcollation::regcollation)
        FROM pg_attribute JOIN {OUR_RELATIONS} ON oid = attrelid WHERE attnum > 0 AND NOT attisdropped
        """,
    ),
    Fact(
        "relations",
        f"""
        SELECT {_of("pg_class", "pg_class.oid")}, concat_ws(' ', relkind, relpersistence, relrowsecurity,
            relforcerowsecurity, relispopulated, relreplident, relispartition, reloptions, amname)
        FROM {OUR_RELATIONS} LEFT JOIN pg_am ON pg_am.oid = relam
        """,
    ),
    Fact(
        "index states",
        f"""
        SELECT {_of("pg_class", "indexrelid")}, concat_ws(' ', indisvalid, indisready, indisclustered,
            indisreplident, indisprimary, indimmediate)
        FROM pg_index JOIN {OUR_RELATIONS} ON oid = indexrelid
        """,
    ),
    Fact(
        "inheritance",
        f"""
        SELECT {_of("pg_class", "inhrelid")}, string_agg({_of("pg_class", "inhparent")}, ' ' ORDER BY inhseqno)
        FROM pg_inherits GROUP BY inhrelid
        """,
    ),
    Fact(
        "sequences",
        f"""
        SELECT {_of("pg_class", "seqrelid")}, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax,
            seqmin, seqcache, seqcycle, pg_sequence_last_value(seqrelid))
        FROM pg_sequence
        """,
    ),
    Fact(
        "labels of enums",
        f"""
        SELECT {_of("pg_type", "enumtypid")}, string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
        FROM pg_enum GROUP BY enumtypid
        """,
    ),
    Fact(
        "numbers of enums' labels",
        f"""
        SELECT {_of("pg_type", "enumtypid")}, string_agg(enumsortorder::text, ',' ORDER BY enumsortorder)
        FROM pg_enum GROUP BY enumtypid
        """,
    ),
    Fact(
        "constraint states",
        f"""
        SELECT {_of("pg_constraint")}, concat_ws(' ', convalidated, condeferrable, condeferred, conislocal,
            coninhcount, connoinherit)
        FROM pg_constraint WHERE {_is_ours("connamespace")}
        """,
    ),
    Fact(
        "comments",
        f"""
        SELECT (pg_identify_object(classoid, objoid, objsubid)).type || ' ' ||
            (pg_identify_object(classoid, objoid, objsubid)).identity, description
        FROM pg_description WHERE objoid >= {FIRST_OWN_OID}
        """,
    ),
    Fact(
        "extensions",
        "SELECT extname, concat_ws(' ', extversion, extnamespace::regnamespace) FROM pg_extension",
    ),
)


def definitions(connection: Connection, *, stored: bool = False) -> dict[Key, str]:
    """Return the text of every definition, and with ``stored`` the other facts of the catalogues too."""
    major = connection.server_version // 10000
    found: dict[Key, str] = {}
    with connection.cursor() as cursor:
        cursor.execute(PINNED_SETTINGS)
        for fact in DEPARSED + (STORED if stored else ()):
            if major >= fact.since:
                cursor.execute(fact.query)
                found.update({Key(fact.kind, identity): text for identity, text in cursor.fetchall()})
    return found


def differences(source: Mapping[Name, str], copy: Mapping[Name, str]) -> dict[Name, tuple[str | None, str | None]]:
    """Return what is not the same: the source's text and the copy's (None: not there)."""
    names = sorted({*source, *copy})
    return {name: (source.get(name), copy.get(name)) for name in names if source.get(name) != copy.get(name)}
