# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the messages of a WebSocket server: https://www.rfc-editor.org/rfc/rfc6455#section-5.2

websocket-client reads each frame in four steps and more, which took as much time as everything else in a large stream.
"""

from __future__ import annotations

from typing import Any

_BUFFER_BYTES = 128 * 1024
CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
_FIN, _CONTROL = 0x80, 0x08


class FrameReader:
    """The frames that come through a socket whose handshake is done."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._buffer = bytearray(_BUFFER_BYTES)
        self._start = self._end = 0
        self._message: tuple[int, bytes] | None = None  # what has come of one that is in several frames

    def read(self) -> tuple[int, bytes]:
        """The opcode and the content of the next message. When time is up (`socket.timeout`), it can be called again.

        Raises:
            OSError: the connection ended, or did not give anything in time.
        """
        while True:
            found = self._parse()
            if found is None:
                self._receive()
                continue
            first, data = found
            opcode = first & 0x0F
            if opcode & _CONTROL:  # it may stand between the frames of a message
                return opcode, data
            if opcode == CONTINUATION and self._message is not None:
                opcode, data = self._message[0], self._message[1] + data
            self._message = None if first & _FIN else (opcode, data)
            if self._message is None:
                return opcode, data

    def _parse(self) -> tuple[int, bytes] | None:
        """The first byte and the payload of a frame that is there as a whole."""
        buffer, start, have = self._buffer, self._start, self._end - self._start
        if have < 2:
            return None
        length, head = buffer[start + 1] & 0x7F, 2
        if length > 125:
            head = 4 if length == 126 else 10
            if have < head:
                return None
            length = int.from_bytes(buffer[start + 2 : start + head], "big")
        if have < head + length:
            if head + length > len(buffer):
                self._buffer = buffer + bytes(head + length - len(buffer))
            return None
        at = start + head
        self._start = at + length
        return buffer[start], bytes(memoryview(buffer)[at : at + length])

    def _receive(self) -> None:
        if self._start:
            rest = bytes(memoryview(self._buffer)[self._start : self._end])
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        size = self._socket.recv_into(memoryview(self._buffer)[self._end :])
        if not size:
            raise ConnectionResetError("the connection ended")
        self._end += size
