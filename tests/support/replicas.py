"""A streaming replica of a throwaway server."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from tests.support.processes import until
from tests.support.servers import Server
from tests.support.workspace import give

REPLICA_TIMEOUT_S = 60.0


@contextlib.contextmanager
def replica_of(primary: Server, name: str = "standby1", **settings: object) -> Iterator[Server]:
    """A replica that streams under this name. The primary's user may replicate, by its own pg_hba.conf."""
    replica = Server(primary.installation, settings={**primary.settings, **settings})
    try:
        replica.socket_dir.mkdir(mode=0o700)
        give(replica.socket_dir)
        replica._log_file.touch()
        give(replica._log_file)
        # --write-recovery-conf takes the name from the connection string
        primary.run(
            "pg_basebackup",
            f"--dbname=application_name={name}",
            f"--pgdata={replica.data_dir}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )
        for path in (replica.data_dir, *replica.data_dir.rglob("*")):
            give(path)
        replica.start()
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s AND replay_lsn IS NOT NULL"
        assert until(lambda: primary.query(streaming, name) == [(1,)], REPLICA_TIMEOUT_S), replica.log()
        yield replica
    finally:
        replica.remove()
        shutil.rmtree(replica.folder, ignore_errors=True)
