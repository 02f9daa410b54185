"""Quantities, such as ``500m`` and ``2Gi``: k8s.io/apimachinery/pkg/api/resource."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{sign: Decimal(1000) ** (power + 1) for power, sign in enumerate("kMGTPE")},
    **{f"{sign}i": Decimal(1024) ** (power + 1) for power, sign in enumerate("KMGTPE")},
}
_FORM = re.compile(r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?P<suffix>[eE][+-]?[0-9]+|[numkKMGTPE]?i?)")
WRONG_FORM = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
WRONG_SUFFIX = "unable to parse quantity's suffix"


def amount(text: object) -> Decimal:
    """The number that a quantity means. Raises ValueError with the words of the server."""
    found = _FORM.fullmatch(str(text))
    if not found:
        loosely = re.fullmatch(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*", str(text))
        raise ValueError(WRONG_SUFFIX if loosely else WRONG_FORM)
    number, suffix = Decimal(found["number"]), found["suffix"]
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return number.scaleb(int(suffix[1:]))
    if suffix not in _SUFFIXES:
        raise ValueError(WRONG_SUFFIX)
    return number * _SUFFIXES[suffix]
