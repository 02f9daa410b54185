"""How a pod comes up and what happens while it runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.standin import kinds
from tests.standin.container import Container, Launch, StartError
from tests.standin.images import Image, Scene
from tests.standin.matching import Object
from tests.standin.node import LABELS, NODE, Running
from tests.standin.pod_status import ContainerState
from tests.standin.store import now
from tests.standin.volumes import NotYet, environment, expand
from tests.support.workspace import give

if TYPE_CHECKING:
    from tests.standin.kubelet import PodRunner

FOR_EVER = 1e9
RETRY_S = 0.1
NO_START = 128


class PodLife:
    """One pod from its creation until its containers have ended for good."""

    def __init__(self, runner: PodRunner, pod: Object) -> None:
        self._runner = runner
        self._pod = pod
        self._status = runner.status
        self._kubelet = runner.kubelet
        self._timing = runner.kubelet.timing
        self._to_clean: list[tuple[Image, Scene]] = []

    async def live(self) -> None:
        """Schedule, create and run; returns when nothing will be started again."""
        await asyncio.sleep(self._timing.schedule_s)
        if not self._schedule():
            await asyncio.sleep(FOR_EVER)
        await asyncio.sleep(self._timing.create_s / 2)
        self._status.started_at = now()
        self._status.publish()
        await self._make_volumes()
        await asyncio.sleep(self._timing.create_s / 2)
        self._status.sandbox = True
        for state in self._status.init.values():
            if not await self._run(state, is_init=True):
                self._status.phase = "Failed"
                self._status.publish()
                return
        self._status.initialized = True
        await asyncio.gather(*(self._run(state) for state in self._status.containers.values()))
        failed = any(state.exit_code for state in self._status.containers.values())
        self._status.phase = "Failed" if failed else "Succeeded"
        self._status.publish()

    def _schedule(self) -> bool:
        wanted = self._pod["spec"].get("nodeSelector") or {}
        if not wanted.items() <= LABELS.items():
            told = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
            self._status.unschedulable = told
            self._status.publish()
            return False

        def place(item: Object) -> None:
            item["spec"]["nodeName"] = NODE

        self._status.scheduled = True
        self._kubelet.store.change(kinds.POD, self._pod, place)
        self._status.publish()
        return True

    async def _make_volumes(self) -> None:
        images = [self._kubelet.images.get(each["image"]) for each in self._pod["spec"]["containers"]]
        as_run_user = any(image is not None and image.as_run_user for image in images)
        while True:
            try:
                self._runner.volumes.make(as_run_user)
            except NotYet:
                await asyncio.sleep(RETRY_S)
            else:
                return

    # --- one container

    async def _run(self, state: ContainerState, is_init: bool = False) -> bool:
        """Run a container until it is not to be started again; tells whether it ended well."""
        policy = self._pod["spec"]["restartPolicy"]
        while True:
            started = await self._start(state)
            if started is not None:
                await self._watch(state, started, is_init)
            code = state.exit_code
            if self._runner.ending:
                await asyncio.sleep(FOR_EVER)
            over = code == 0 and (is_init or policy != "Always")
            if over or policy == "Never":
                return code == 0
            self._status.publish()
            if state.restarts:
                state.wait("CrashLoopBackOff", "back-off restarting failed container")
                self._status.publish()
            await asyncio.sleep(self._timing.restart_s * min(2**state.restarts, 32))
            state.restarts += 1

    async def _start(self, state: ContainerState) -> Running | None:
        """Start a container; None when its program cannot be run."""
        image = await self._image(state)
        name = state.spec["name"]
        if told := self._refused_user(state.spec, image):
            await self._wait_for_good(state, "CreateContainerConfigError", told)
        scene = await self._set(state, image)
        if image.prepare is not None:
            self._to_clean.append((image, scene))
            await asyncio.get_running_loop().run_in_executor(None, image.prepare, scene)
        uid, gid = self._runner.uids() if image.as_run_user else (None, None)
        log = self._log_file(name, state.restarts)
        container = Container(Launch(scene.argv, scene.env, scene.folder, log, uid, gid))
        try:
            await container.start()
        except StartError as error:
            await container.close()
            told = f'exec: "{scene.argv[0]}": {os.strerror(error.number)}: unknown'
            state.end(NO_START, "StartError", f"failed to create containerd task: {told}")
            return None
        running = self._runner.running[name] = Running(name, container, scene, image)
        container.ended.add_done_callback(lambda future: self._ended(state, future.result()))
        state.run()
        return running

    async def _image(self, state: ContainerState) -> Image:
        name = state.spec["image"]
        repository = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
        if repository != repository.lower():
            told = f'Failed to apply default image tag "{name}": '
            told += f'couldn\'t parse image name "{name}": '  # codespell:ignore
            told += f"invalid reference format: repository name ({repository}) must be lowercase"
            await self._wait_for_good(state, "InvalidImageName", told)
        if name not in self._kubelet.images:
            if state.spec.get("imagePullPolicy") == "Never":
                told = f'Container image "{name}" is not present with pull policy of Never'
                await self._wait_for_good(state, "ErrImageNeverPull", told)
            told = f'Back-off pulling image "{name}": ErrImagePull: not found'
            await self._wait_for_good(state, "ImagePullBackOff", told)
        return self._kubelet.images[name]

    async def _wait_for_good(self, state: ContainerState, reason: str, message: str) -> None:
        """Say why a container is not started; nothing in here changes that."""
        state.wait(reason, message)
        self._status.publish()
        await asyncio.sleep(FOR_EVER)

    def _refused_user(self, container: dict[str, Any], image: Image) -> str:
        """Why a container with `runAsNonRoot` is not created (pkg/kubelet/kuberuntime/security_context.go)."""
        wanted = {**(self._pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
        if not wanted.get("runAsNonRoot"):
            return ""
        meta = self._pod["metadata"]
        which = f'(pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", container: {container["name"]})'
        user = wanted.get("runAsUser")
        if user is not None:
            return f"container's runAsUser breaks non-root policy {which}" if user == 0 else ""
        if image.user in ("", "0"):
            return f"container has runAsNonRoot and image will run as root {which}"
        if not image.user.isdigit():
            told = f"container has runAsNonRoot and image has non-numeric user ({image.user}), cannot verify user is"
            return f"{told} non-root {which}"
        return ""

    async def _set(self, state: ContainerState, image: Image) -> Scene:
        """Make the folder and the environment of a container; waits for Secrets and ConfigMaps."""
        spec, name = state.spec, state.spec["name"]
        folder = self._runner.folder / "c" / name
        folder.mkdir(parents=True, exist_ok=True)
        mounts = self._runner.volumes.mounts(spec)
        own = {path: folder / inner for path, inner in image.private_paths.items()}
        own["/tmp"] = own.get("/tmp", folder / "tmp")
        for path in (folder, *own.values(), *mounts.values()):
            path.mkdir(parents=True, exist_ok=True)
            if image.as_run_user:
                give(path)
        if "/tmp" not in image.private_paths:
            del own["/tmp"]
        asked = await self._environment(state)
        env = {
            "PATH": image.search_path(),
            "HOSTNAME": self._pod["metadata"]["name"],
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            **image.env,
            **asked,
        }
        argv = [expand(word, env) for word in image.argv(spec.get("command"), spec.get("args"))]
        scene = Scene(self._pod, name, folder, self._runner.ip, {**own, **mounts}, env, argv)
        scene.env = {key: value if key == "PATH" else scene.translate(value) for key, value in env.items()}
        scene.argv = [scene.translate(word) for word in argv]
        return scene

    async def _environment(self, state: ContainerState) -> dict[str, str]:
        while True:
            try:
                return environment(self._kubelet.store, self._pod, state.spec, self._runner.ip)
            except NotYet as missing:
                state.wait("CreateContainerConfigError", str(missing))
                self._status.publish()
                await asyncio.sleep(RETRY_S)

    def _log_file(self, name: str, restarts: int) -> Path:
        file = self._runner.folder / "l" / f"{name}.{restarts}"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        give(file)
        return file

    def _ended(self, state: ContainerState, code: int) -> None:
        self._runner.running.pop(state.spec["name"], None)
        state.end(code)

    async def _watch(self, state: ContainerState, running: Running, is_init: bool) -> None:
        """Wait for the end of a container that runs, and find out when it is ready."""
        if not is_init:
            self._status.phase = "Running"
        probe = running.image.ready or state.spec.get("readinessProbe")
        state.ready = not probe and not is_init
        self._status.publish()
        probing = asyncio.create_task(self._until_ready(state, running)) if probe and not is_init else None
        await asyncio.wait({running.container.ended})
        if probing is not None:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        if running.image.cleanup is not None:
            await asyncio.get_running_loop().run_in_executor(None, running.image.cleanup, running.scene)

    # --- readiness

    async def _until_ready(self, state: ContainerState, running: Running) -> None:
        while not await self._is_ready(state, running):
            await asyncio.sleep(self._timing.probe_s)
        state.ready = True
        self._status.publish()

    async def _is_ready(self, state: ContainerState, running: Running) -> bool:
        if running.image.ready is not None:
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(None, running.image.ready, running.scene):
                return False
        probe = state.spec.get("readinessProbe")
        if probe is None:
            return True
        if "exec" in probe:
            return await self._runs_well(probe["exec"]["command"], running)
        where = probe.get("httpGet") or probe.get("tcpSocket") or {}
        return await self._listens(state, where.get("port"))

    async def _runs_well(self, command: list[str], running: Running) -> bool:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        argv = [running.translate(word) for word in command]
        try:
            process = await running.container.spawn(argv, running.env, running.cwd, [nothing] * 3)
            return await process.exited == 0
        except StartError:
            return False
        finally:
            os.close(nothing)

    async def _listens(self, state: ContainerState, port: Any) -> bool:
        if isinstance(port, str):
            named = [each for each in state.spec.get("ports") or [] if each.get("name") == port]
            port = named[0]["containerPort"]
        try:
            dummy, writer = await asyncio.open_connection(*self._runner.address(port))
        except OSError:
            return False
        writer.close()
        return True

    async def clean_up(self) -> None:
        """Have the images clean up after containers that have ended."""
        for image, scene in self._to_clean:
            if image.cleanup is not None:
                await asyncio.get_running_loop().run_in_executor(None, image.cleanup, scene)
        self._to_clean.clear()
