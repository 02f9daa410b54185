"""An image of an execution environment: this checkout and its .venv."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.conftest import COLLECTIONS
from tests.standin.defaults import TOKEN_PATH
from tests.standin.images import MACHINE_PATH, Image, Scene


def runbook_image(url: Callable[[], str]) -> Image:
    """Return an image whose programs find the API server at this address.

    A pod of the stand-in has no /var/run of its own, where a client looks for its service account. So a kubeconfig
    names the mounted token instead; the rights are the account's all the same.
    """

    def prepare(scene: Scene) -> None:
        account = scene.mounts[TOKEN_PATH]
        cluster = {"server": url(), "certificate-authority": str(account / "ca.crt")}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "x", "cluster": cluster}],
            "users": [{"name": "x", "user": {"tokenFile": str(account / "token")}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        config = scene.folder / "account.kubeconfig"
        config.write_text(yaml.safe_dump(content))
        scene.env["KUBECONFIG"] = str(config)

    return Image(
        path=(Path(sys.executable).parent, MACHINE_PATH),
        env={"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8"},
        prepare=prepare,
    )
