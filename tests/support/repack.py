"""pg_repack beside a copy of the machine's PostgreSQL 15, from Debian's package; nothing is installed on the machine."""

from __future__ import annotations

from tests.support import extended
from tests.support.extended import MAJOR
from tests.support.programs import Installation

__all__ = ["MAJOR", "installation"]


def installation() -> Installation:
    """A PostgreSQL with pg_repack, for as long as this process lives."""
    return extended.installation("repack", "repack")
