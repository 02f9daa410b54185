"""The node: pods come, run and go, each as a folder and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.standin import kinds
from tests.standin.images import Image
from tests.standin.matching import Object
from tests.standin.node import Running, Timing
from tests.standin.pod_life import PodLife
from tests.standin.pod_status import ContainerState, PodStatus
from tests.standin.rbac import Access
from tests.standin.store import Event, Store, suffix
from tests.standin.volumes import Volumes
from tests.support.workspace import run_user


class Kubelet:
    """Every pod of the node."""

    def __init__(
        self,
        store: Store,
        access: Access,
        root: Path,
        images: Mapping[str, Image],
        timing: Timing,
        blame: Callable[[str], None],
    ) -> None:
        """``blame`` is called with failures of the stand-in itself."""
        self.store = store
        self.access = access
        self.root = root
        self.images = images
        self.timing = timing
        self._blame = blame
        self._runners: dict[str, PodRunner] = {}
        self._network = f"127.{random.randrange(64, 128)}.{random.randrange(256)}"
        self._addresses = itertools.count(1)
        store.observe(self._see)

    def address(self) -> str:
        """Return an address of this machine that no other pod has."""
        number = next(self._addresses)
        return f"{self._network}.{number}" if number < 255 else f"127.{64 + number % 64}.{number // 255}.{number % 255}"

    def runner(self, pod: Object) -> PodRunner:
        """Return what runs a pod."""
        return self._runners[pod["metadata"]["uid"]]

    def _see(self, event: Event) -> None:
        if event.kind is not kinds.POD:
            return
        item = event.after or event.before
        assert item is not None
        uid = item["metadata"]["uid"]
        if event.before is None:
            runner = self._runners[uid] = PodRunner(self, item)
            runner.task = asyncio.create_task(runner.run())
            runner.task.add_done_callback(lambda task: self._forget(uid, task))
        elif uid in self._runners:
            self._runners[uid].notice(event.after)

    def _forget(self, uid: str, task: asyncio.Task[None]) -> None:
        del self._runners[uid]
        if not task.cancelled() and task.exception():
            self._blame(f"a pod: {task.exception()!r}")

    async def close(self) -> None:
        """End every process of every pod."""
        for runner in list(self._runners.values()):
            runner.notice(None)
        tasks = [runner.task for runner in self._runners.values() if runner.task]
        await asyncio.gather(*tasks, return_exceptions=True)


class PodRunner:
    """One pod, from its creation to its end."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self.kubelet = kubelet
        self.task: asyncio.Task[None] | None = None
        self.ip = kubelet.address()
        self.folder = kubelet.root / "p" / suffix(6)
        self.folder.mkdir(parents=True)
        self.volumes = Volumes(kubelet.store, kubelet.access, kubelet.root, pod, self.folder)
        self.running: dict[str, Running] = {}
        self.status = PodStatus(kubelet.store, pod, self.ip)
        self._life = PodLife(self, pod)
        self._end_asked = asyncio.Event()
        self._force = False
        self._grace_s = 0.0

    def notice(self, pod: Object | None) -> None:
        """Take in a new state of the pod: it may have to end, and at once if the pod was removed already."""
        if pod is None:
            self._force = True
            self._grace_s = 0.0
            self._end_asked.set()
        elif "deletionTimestamp" in pod["metadata"]:
            self._grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._end_asked.set()

    @property
    def ending(self) -> bool:
        return self._end_asked.is_set()

    def address(self, port: int) -> tuple[str, int]:
        """Return where a port of the pod really is."""
        for running in self.running.values():
            if port in running.scene.ports:
                return self.ip, running.scene.ports[port]
        return self.ip, port

    def log_files(self, container: str) -> list[Path]:
        """Return the logs of a container, one for each of its starts, the newest last."""
        return sorted(self.folder.glob(f"l/{container}.*"), key=lambda file: int(file.suffix[1:]))

    async def run(self) -> None:
        """Bring the pod up, and down again when it is deleted."""
        life = asyncio.create_task(self._life.live())
        asked = asyncio.create_task(self._end_asked.wait())
        try:
            await asyncio.wait({life, asked}, return_when=asyncio.FIRST_COMPLETED)
            if life.done() and not life.cancelled() and life.exception():
                life.result()
            await asked
            await self._stop()
        finally:
            for task in (life, asked):
                task.cancel()
            await asyncio.gather(life, asked, return_exceptions=True)
            for running in list(self.running.values()):
                await running.container.close()
            await self._life.clean_up()
        if not self._force:
            self.status.stopped()
            self.status.publish()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.sleep(self.kubelet.timing.gone_s)
        self.status.remove()
        await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(self.folder, ignore_errors=True))

    async def _stop(self) -> None:
        """Ask every process 1 to end, and after the grace period do not ask any more."""
        if not self._force:
            await asyncio.sleep(self.kubelet.timing.stop_s)
        ends = []
        for running in self.running.values():
            if not self._force and self._grace_s:
                running.container.signal(running.image.stop_signal)
            ends.append(running.container.ended)
        if ends and self._grace_s and not self._force:
            await self._until_ended(ends)
        for running in list(self.running.values()):
            await running.container.close()
        await asyncio.sleep(0)  # the states of the containers follow

    async def _until_ended(self, ends: list[asyncio.Future[int]]) -> None:
        """Wait for process 1 of each; a forced deletion in between ends the waiting."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not self._force and loop.time() < start + self._grace_s:
            dummy, waiting = await asyncio.wait(ends, timeout=0.05)
            if not waiting:
                return

    def uids(self) -> tuple[int | None, int | None]:
        """Return the user and group of the containers that do not run as root."""
        user = run_user()
        return (None, None) if user is None else (user.pw_uid, user.pw_gid)

    def state(self, container: str) -> ContainerState:
        return self.status.containers[container]
