"""Bring one file from a pod into a file here, with its SHA-256: what `pg_backup_fetch` does, but for all around it.

Usage: ``python -m tests.benchmarks.stream KUBERNETES PATH SIZE DESTINATION``, the first one as JSON.
"""

import hashlib
import json
import sys

from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import KUBERNETES
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.factory import create_target

if __name__ == "__main__":
    given, path, size, destination = sys.argv[1:]
    words = dict.fromkeys(KUBERNETES.options["kubernetes"]["options"])
    digest = hashlib.sha256()
    with open(destination, "wb", buffering=0) as file:

        def sink(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        create_target({"kubernetes": {**words, **json.loads(given)}}).files.stream({path: int(size)}, sink)
    print(digest.hexdigest())
