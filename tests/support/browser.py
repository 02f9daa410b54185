"""A real Chromium without a window, driven over its DevTools protocol, on pages that are files.

Debian's package is installed when it is not there, which takes root. Nothing is skipped when that fails.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

PROGRAM = Path("/usr/bin/chromium")
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 30.0
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--remote-debugging-port=0", "--remote-allow-origins=*"),
)  # fmt: skip


class NoBrowser(Exception):
    """There is no Chromium, and it could not be installed."""


def program() -> Path:
    """Return the browser, which is installed by Debian's own tool if need be."""
    if PROGRAM.exists():
        return PROGRAM
    advice = "Install Debian's package by hand: apt-get install --no-install-recommends chromium"
    if os.geteuid() != 0:
        raise NoBrowser(f"{PROGRAM} is not there, and only root can install it. {advice}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=120", *words], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode or not PROGRAM.exists():
        raise NoBrowser(f"Chromium could not be installed: {done.stderr.strip()[-1000:]} {advice}")
    return PROGRAM


class Tab:
    """One page. Notes what the page asks the network for, and what it complains about."""

    def __init__(self, address: str) -> None:
        """Connect to the tab at this address of the protocol."""
        self._line = websocket.create_connection(address, timeout=ANSWER_TIMEOUT_S)
        self._number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return dict(message["result"])

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._line.recv())
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params["args"]))
        return message

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Load a file at a window's width, and wait until it is shown."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        self.requests.clear()
        self.complaints.clear()
        self.send("Page.navigate", url=page.as_uri())
        end = time.monotonic() + ANSWER_TIMEOUT_S
        while self.evaluate("location.href + document.readyState") != page.as_uri() + "complete":
            if time.monotonic() > end:
                raise AssertionError(f"{page} was not shown")
            time.sleep(0.01)

    def evaluate(self, expression: str) -> Any:
        """Run JavaScript in the page, which works although the page itself may run none."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, to: Path, *, whole: bool = True) -> None:
        """Save the page as PNG: all of it by default."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        to.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"])

    def close(self) -> None:
        """Leave the tab alone."""
        self._line.close()


@contextlib.contextmanager
def chromium() -> Iterator[Tab]:
    """A browser with one tab and a profile of its own; both are removed afterwards."""
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    command = [str(program()), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with (profile / "messages").open("wb") as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, start_new_session=True
        )
    try:
        port = _port(process, profile)
        tab = Tab(_address(port))
        try:
            yield tab
        finally:
            with contextlib.suppress(Exception):
                tab.send("Browser.close")
            tab.close()
    finally:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(profile, ignore_errors=True)


def _port(process: subprocess.Popen[bytes], profile: Path) -> int:
    """Wait for the file in which Chromium says where it listens."""
    file = profile / "DevToolsActivePort"
    end = time.monotonic() + START_TIMEOUT_S
    while not (file.exists() and file.read_text().strip()):
        if process.poll() is not None or time.monotonic() > end:
            text = (profile / "messages").read_text(errors="replace")
            raise NoBrowser(f"Chromium did not start: {text[-2000:]}")
        time.sleep(0.02)
    return int(file.read_text().split()[0])


def _address(port: int) -> str:
    """Ask for the address of the first tab, as the protocol's HTTP side tells it."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            connection.request("GET", "/json")
            pages = [each for each in json.loads(connection.getresponse().read()) if each["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
            if time.monotonic() > end:
                raise NoBrowser("Chromium has no tab")
            time.sleep(0.02)
    finally:
        connection.close()
