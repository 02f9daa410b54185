"""What a node is called, how quick it is, and what runs on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.standin.container import Container
from tests.standin.images import Image, Scene

NODE = "lab"
LABELS = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}


@dataclass
class Timing:
    """How long things take, in seconds; the defaults are much quicker than a real cluster."""

    schedule_s: float = 0.02
    create_s: float = 0.05
    probe_s: float = 0.05
    stop_s: float = 0.1
    """From the deletion of a pod until its processes are asked to end."""
    gone_s: float = 0.1
    """From the end of a pod's processes until it is no longer listed."""
    restart_s: float = 0.1
    controller_s: float = 0.03
    """Between a change and what a controller does about it."""
    job_end_s: float = 0.2
    """From the end of a Job's pod until the Job says so."""


@dataclass
class Running:
    """A container that runs, as exec needs it."""

    name: str
    container: Container
    scene: Scene
    image: Image

    @property
    def env(self) -> dict[str, str]:
        return self.scene.env

    @property
    def cwd(self) -> Path:
        return self.scene.folder

    @property
    def translate(self) -> Callable[[str], str]:
        return self.scene.translate
