"""Work in a pod, beside the same by `kubectl exec`: in a stand-in for a cluster, whose API server is one Python process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog import manifest as manifests
from tests.benchmarks.bench import PING_PLAYBOOK, SETTINGS, Bench, Contender
from tests.benchmarks.measure import Argv, BenchmarkError, Sample, module, pipe, run, size_of
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, NAMESPACE, PASSWORD, USER, StandinPlace
from tests.standin import postgres_image
from tests.support.catalogs import add_backup, ago
from tests.support.controller import Controller
from tests.support.servers import without_pg_variables
from tests.support.workspace import REPOSITORY, give

STATUS_PLAYBOOK = "godel.postgres_runbook.backup_status"
LOGIN = {"login_user": USER, "login_password": PASSWORD}
STREAM_BYTES = 1024**3
LARGE_BYTES = 5 * 1024**3
STATUS_ROUNDS = 2
CHUNK = 1024**2


@dataclass
class Pod:
    """PostgreSQL in a pod with the same database, a backup of it, and backups to fetch."""

    bench: Bench
    place: StandinPlace
    controller: Controller
    backup: dict[str, Any]
    stream: Path
    large: Path

    def kubectl(self, *argv: str) -> Argv:
        """Return the command that runs a program in the pod."""
        options = [f"--kubeconfig={self.place.kubeconfig}", f"--cache-dir={self.bench.folder}/kubectl"]
        return ["kubectl", *options, "exec", "-n", NAMESPACE, self.place.workload, "--", *argv]

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder of the pod, where it really is."""
        path = folder_in(self.place)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def params(self, folder: Path, **over: Any) -> dict[str, Any]:
        """The parameters of a module that works in the pod."""
        words = {"db": DATABASE, "backup_dir": str(folder), "kubernetes": self.place.options()}
        return {**LOGIN, **words, **over}


def folder_in(place: StandinPlace) -> Path:
    """Make an empty folder in the pod."""
    path = Path(tempfile.mkdtemp(dir=place.path("/backups")))
    give(path)
    return path


def own(folder: Path) -> None:
    """Give all of a folder to the user of the pod."""
    for each in (folder, *folder.rglob("*")):
        give(each)


def add_zeros(catalog: Path, size: int) -> None:
    """Add a backup with one large file that takes no disk."""
    backup = add_backup(catalog, DATABASE, ago(hours=1), files={"data.dump": b""})
    os.truncate(backup / "data.dump", size)
    digest = hashlib.sha256()
    for dummy in range(size // CHUNK):
        digest.update(bytes(CHUNK))
    path = backup / manifests.FILE_NAME
    found = manifests.load(path.read_bytes(), str(path))
    files = {"data.dump": manifests.FileRecord(size, digest.hexdigest())}
    path.write_bytes(manifests.dump(replace(found, files=files, size_bytes=size)))


@contextlib.contextmanager
def prepared(bench: Bench) -> Iterator[Pod]:
    """Start a cluster, with the database of the bench in a pod."""
    image = postgres_image(bench.server.installation, settings=SETTINGS)
    with places.prepared("pods", {"lab/postgres:15": image}) as place:
        host, port = place.standin.address(place.pod, 5432, NAMESPACE)
        env = {**without_pg_variables(), "PGHOST": host, "PGPORT": str(port), "PGUSER": USER, "PGPASSWORD": PASSWORD}
        run([bench.client("pg_restore"), f"-j{bench.jobs}", "--no-owner", "-d", DATABASE, bench.dump], env)
        run([bench.client("psql"), "-Xqc", "VACUUM ANALYZE", "-c", "CHECKPOINT", "-d", DATABASE], env)
        folder = bench.folder / "pod"
        folder.mkdir()
        shutil.copy(bench.folder / PING_PLAYBOOK, folder)
        catalog = folder_in(place)
        variables = {
            "postgres_db": DATABASE,
            "postgres_backup_dir": str(catalog),
            "postgres_kubernetes": place.options(),
        }
        made = Pod(bench, place, Controller(folder, LOGIN, variables), {}, folder_in(place), folder_in(place))
        dummy, result = module("pg_backup", made.params(catalog, jobs=bench.jobs))
        made.backup = result["backup"]
        add_backup(made.stream, DATABASE, ago(hours=1), files={"data.dump": secrets.token_bytes(STREAM_BYTES)})
        add_zeros(made.large, LARGE_BYTES)
        own(made.stream)
        own(made.large)
        yield made


def dumps(pod: Pod) -> list[Contender]:
    """Return ways to dump in the pod."""
    level = str(pod.backup["compression"])
    level = level.rpartition(":")[2] if level.startswith("gzip") else level
    bare = f"pg_dump -Fd -j{pod.bench.jobs} -Z{level}"
    return [
        Contender("kubectl-dump", f"`kubectl exec ... {bare}`", _bare_dump(pod, level)),
        Contender("pod-none", "**module `pg_backup` in the pod, fingerprint none**", _dump(pod, "none")),
        Contender("pod-content", "**module `pg_backup` in the pod, fingerprint content**", _dump(pod, "content")),
    ]


def streams(pod: Pod) -> list[Contender]:
    """Return ways to bring a file of 1 GiB from the pod, and one of 5 GiB."""
    [path] = pod.stream.glob("*/*/data.dump")
    cat = pod.kubectl("cat", str(path))
    return [
        Contender("kubectl-cat", "`kubectl exec ... cat` into a file", _cat(cat)),
        Contender("stream", "**stream into a file, with its SHA-256**", _stream(pod, path)),
        Contender(
            "kubectl-sum", "`kubectl exec ... cat`, then `sync` and `sha256sum` of the file", _cat(cat, proven=True)
        ),
        Contender("fetch", "**module `pg_backup_fetch`**", _fetch(pod, pod.stream)),
        Contender("fetch-large", "**module `pg_backup_fetch`, 5 GiB**", _fetch(pod, pod.large)),
    ]


def playbooks(pod: Pod) -> list[Contender]:
    """Return the playbook that tells the state of the backups in the pod, and a ping."""

    def play(name: str) -> Callable[[Bench, Path], Sample]:
        def act(_bench: Bench, _folder: Path) -> Sample:
            played = pod.controller.run(name)
            if played.returncode:
                raise BenchmarkError(f"{name}:\n{played.output}")
            return Sample(played.duration_s)

        return act

    return [
        Contender("pod-ping", "a play with one `ping` task", play(PING_PLAYBOOK), STATUS_ROUNDS),
        Contender("pod-status", "**playbook `backup_status` in the pod**", play(STATUS_PLAYBOOK), STATUS_ROUNDS),
    ]


def _bare_dump(pod: Pod, level: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, _folder: Path) -> Sample:
        with pod.folder() as folder:
            options = ["-U", USER, "-Fd", f"-j{bench.jobs}", f"-Z{level}", "-f", f"{folder}/dump", DATABASE]
            return Sample(run(pod.kubectl("pg_dump", *options)), size_of(folder))

    return act


def _dump(pod: Pod, fingerprint: str) -> Callable[[Bench, Path], Sample]:
    def act(bench: Bench, _folder: Path) -> Sample:
        with pod.folder() as folder:
            wanted = pod.params(folder, jobs=bench.jobs, fingerprint=fingerprint)
            sample, result = module("pg_backup", wanted)
            return Sample(sample.seconds, result["backup"]["size_bytes"], sample.peak_bytes)

    return act


def _cat(argv: Argv, *, proven: bool = False) -> Callable[[Bench, Path], Sample]:
    def act(_bench: Bench, folder: Path) -> Sample:
        path = folder / "data.dump"
        seconds = pipe([argv], path, dict(os.environ))
        if proven:
            seconds += run(["sync", path]) + run(["sha256sum", path])
        return Sample(seconds, size_of(path))

    return act


def _stream(pod: Pod, path: Path) -> Callable[[Bench, Path], Sample]:
    def act(_bench: Bench, folder: Path) -> Sample:
        wanted = [json.dumps(pod.place.options()), str(path), str(STREAM_BYTES), str(folder / "data.dump")]
        seconds = run([sys.executable, "-m", "tests.benchmarks.stream", *wanted], cwd=REPOSITORY)
        return Sample(seconds, size_of(folder))

    return act


def _fetch(pod: Pod, catalog: Path) -> Callable[[Bench, Path], Sample]:
    def act(_bench: Bench, folder: Path) -> Sample:
        sample, result = module("pg_backup_fetch", pod.params(catalog, dest=str(folder / "fetched")))
        return Sample(sample.seconds, result["fetched_bytes"], sample.peak_bytes)

    return act
