"""What process 1 of a container has written."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from aiohttp import web

from tests.standin.errors import bad_request
from tests.standin.faults import Request
from tests.standin.kubelet import PodRunner

TRUE = ("true", "1", "True")
CHUNK = 64 * 1024


async def serve(request: web.Request, record: Request, runner: PodRunner, container: str) -> web.StreamResponse:
    """Answer with a log: tailLines, limitBytes, previous and follow are known; the others are not looked at."""
    files = runner.log_files(container)
    if record.asked("previous") in TRUE:
        if len(files) < 2:
            raise bad_request(f'previous terminated container "{container}" in pod not found')
        files = files[:-1]
    if not files:
        raise bad_request(f'container "{container}" in pod is waiting to start: ContainerCreating')
    file = files[-1]
    response = web.StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await _write(response, record, runner, container, file)
    return response


async def _write(response: web.StreamResponse, record: Request, runner: PodRunner, container: str, file: Path) -> None:
    content = file.read_bytes()
    position = len(content)
    if record.asked("tailLines"):
        lines = content.splitlines(keepends=True)
        count = int(record.asked("tailLines"))
        content = b"".join(lines[len(lines) - min(count, len(lines)) :])
    if record.asked("limitBytes"):
        content = content[: int(record.asked("limitBytes"))]
    for start in range(0, len(content), CHUNK):
        await response.write(content[start : start + CHUNK])
    while record.asked("follow") in TRUE:
        over = container not in runner.running
        with contextlib.suppress(FileNotFoundError), file.open("rb") as log:
            log.seek(position)
            while more := log.read(CHUNK):
                position += len(more)
                await response.write(more)
        if over:
            return
        await asyncio.sleep(0.05)
