"""A stand-in for the Kubernetes API server and one node, for tests.

A pod is a folder and real processes, an exec runs a real program in it, and what a real server was seen to
do wrong can be switched on. Held against recordings of a real server by ``tests``, which run when this package changed (``digest``).
"""

from __future__ import annotations

from tests.standin.faults import Faults, Request
from tests.standin.images import Image, Scene, toolbox
from tests.standin.node import Timing
from tests.standin.postgres_image import postgres_image
from tests.standin.runbook_image import runbook_image
from tests.standin.server import ADMIN, Standin, StandinError
from tests.standin.streams import ExecSettings

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
