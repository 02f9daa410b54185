"""A stand-in for the Kubernetes API server and one node, for tests.

A pod is a folder and real processes, an exec runs a real program in it, and what a real server was seen to
do wrong can be switched on. Held against recordings of a real server by ``test_standin_*.py``.
"""

from __future__ import annotations

from tests.kubernetes.standin.faults import Faults, Request
from tests.kubernetes.standin.images import Image, Scene, toolbox
from tests.kubernetes.standin.node import Timing
from tests.kubernetes.standin.postgres_image import postgres_image
from tests.kubernetes.standin.runbook_image import runbook_image
from tests.kubernetes.standin.server import ADMIN, Standin, StandinError
from tests.kubernetes.standin.streams import ExecSettings

__all__ = [
    "ADMIN",
    "ExecSettings",
    "Faults",
    "Image",
    "Request",
    "Scene",
    "Standin",
    "StandinError",
    "Timing",
    "postgres_image",
    "runbook_image",
    "toolbox",
]
