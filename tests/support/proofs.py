"""Compare a database with its restored copy as a verification does, without a backup around it."""

from __future__ import annotations

from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture, definitions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.definitions import Original
from tests.support.backups import our_server
from tests.support.databases import Database
from tests.support.programs import client_for


def client_major(database: Database) -> int:
    """The major version of the pg_dump that serves this database."""
    server = database.server
    return server.major if server.installation.has_clients else client_for(server.major).major


def original(database: Database, algorithm: str | None = None) -> Original:
    """What a backup of this database would know of it."""
    recorder = capture.Recorder(
        our_server(database), database.name, mode="content", workers=2, algorithm=algorithm, alone=True
    )
    with recorder.open():
        recorder.record()
        texts = definitions.unpacked(definitions.packed(recorder.definitions))
        return Original(recorder.finish(), lambda: texts, client_major(database))


def proven_differences(source: Original, copy: Database) -> list[str]:
    """The differences that a verification would tell of this copy."""
    server, known = our_server(copy), source.fingerprint
    taken = capture.take(server, copy.name, mode=known.mode, workers=2, algorithm=known.algorithm)
    return [str(each) for each in definitions.differences(server, copy.name, source, taken)]
