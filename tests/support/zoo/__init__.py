"""Databases to work on: one with every hostile feature, a realistic one, and one of many tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2

from tests.support.zoo import names, objects, rules, tables, types
from tests.support.zoo.app import build_app, build_many_tables
from tests.support.zoo.feature import Availability, Feature, identifier
from tests.support.zoo.names import HOSTILE_DATABASE_NAMES, HOSTILE_NAMES, HOSTILE_TEXTS
from tests.support.zoo.objects import READER
from tests.support.zoo.unfaithful import CHAINED_GRANTS, UNFAITHFUL, Unfaithful, build_unfaithful, unfaithful_on

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

__all__ = [
    "CHAINED_GRANTS",
    "FEATURES",
    "HOSTILE_DATABASE_NAMES",
    "HOSTILE_NAMES",
    "HOSTILE_TEXTS",
    "READER",
    "UNFAITHFUL",
    "Feature",
    "Unfaithful",
    "Zoo",
    "build_app",
    "build_many_tables",
    "build_unfaithful",
    "build_zoo",
    "unfaithful_on",
]

SCHEMAS = "CREATE SCHEMA zoo; CREATE SCHEMA zoo_types; CREATE SCHEMA zoo_ext"
FEATURES: tuple[Feature, ...] = (
    *names.FEATURES,
    *types.FEATURES,
    *tables.FEATURES,
    *rules.FEATURES,
    *objects.FEATURES,
)


@dataclass(frozen=True)
class Zoo:
    """What was built, and what this server cannot have."""

    features: tuple[str, ...]
    lacking: dict[str, str]
    """Feature, and why it is not there."""


def build_zoo(connection: Connection) -> Zoo:
    """Fill an empty database with every feature; the connection is a superuser's, with autocommit.

    The settings of the database (DateStyle, search_path ...) hold for connections made afterwards.
    """
    available = Availability(connection)
    built: list[str] = []
    lacking: dict[str, str] = {}
    with connection.cursor() as cursor:
        cursor.execute(objects.ROLES)
        cursor.execute(SCHEMAS)
        for feature in FEATURES:
            reason = available.reason_against(feature)
            if reason:
                lacking[feature.name] = reason
                continue
            try:
                for statement in feature.statements:
                    cursor.execute(statement)
            except psycopg2.Error as error:
                raise RuntimeError(f"the zoo's feature {feature.name!r}: {error}") from error
            built.append(feature.name)
        try:
            cursor.execute(rules.INVALID_INDEX)
        except psycopg2.errors.UniqueViolation:
            built.append("an invalid index")
        database = identifier(connection.info.dbname)
        for setting in objects.DATABASE_SETTINGS:
            cursor.execute(setting.format(db=database))
    return Zoo(tuple(built), lacking)
