"""A site whose one database is in a pod, for playbooks as a user calls them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import Catalog
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.verifications import Verification
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339
from tests.integration.site import Site
from tests.kubernetes.place_base import DATABASE, PASSWORD, USER, Place
from tests.support.workspace import workspace

LOGIN = {"login_user": USER, "login_password": PASSWORD}


@dataclass(frozen=True)
class InAPod:
    """What a site wants to know of a database."""

    name: str = DATABASE

    def login(self) -> dict[str, str]:
        """Connection options, named as in community.postgresql."""
        return LOGIN


@contextmanager
def site_of(place: Place, catalog: str) -> Iterator[Site]:
    """A site with the catalog at this path of the pod."""
    folder = Path(tempfile.mkdtemp(prefix="pod-", dir=workspace()))
    folder.chmod(0o755)
    made = Site(folder, Path(catalog), InAPod())  # type: ignore[arg-type]
    made.hosts["db1"].update(postgres_kubernetes=place.options())
    try:
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def entries(place: Place, catalog: str) -> list[str]:
    """The names of what is in the database's directory of a catalog in the pod, but for locks."""
    return [path.rpartition("/")[2] for path in place.glob(f"{catalog}/*/*")]


def judge(place: Place, catalog: str, backup: str, verdict: str, at: datetime) -> None:
    """Record a verdict on a backup in the pod."""
    found = Catalog(place.here, catalog)
    found.record(found.find(DATABASE, backup), Verification(verdict, to_rfc3339(at), "by a test", {}))


def params(place: Place, catalog: str, **over: Any) -> dict[str, Any]:
    """The parameters of a module that works in the pod."""
    return {**LOGIN, "db": DATABASE, "backup_dir": catalog, "kubernetes": place.options(), **over}


def fill_slow_to_load(place: Place) -> None:
    """Make tables whose load takes so long that a test comes into the middle of it."""
    place.execute(
        "CREATE TABLE users AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 5000) n",
        f"CREATE TABLE slow (id int CHECK (pg_sleep({3 * place.pace.factor})::text = ''))",
        "INSERT INTO slow VALUES (1)",
    )
