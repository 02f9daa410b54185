"""Messages of a WebSocket server, however they are cut on their way."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    FrameReader,
)


def frame(opcode: int, data: bytes, *, final: bool = True) -> bytes:
    """A frame as a server sends it."""
    first = opcode | (0x80 if final else 0)
    if len(data) < 126:
        return bytes((first, len(data))) + data
    if len(data) < 1 << 16:
        return struct.pack(">BBH", first, 126, len(data)) + data
    return struct.pack(">BBQ", first, 127, len(data)) + data


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; ours waits for ten seconds."""
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(10)
        yield here, there


MESSAGES = [
    (BINARY, b""),
    (BINARY, b"1" * 125),
    (TEXT, b"2" * 126),
    (BINARY, b"3" * 32_769),
    (BINARY, b"4" * 65_535),
    (PING, b"ping"),
    (BINARY, b"5" * 65_536),
    (BINARY, random.Random(1).randbytes(700_000)),  # more than the buffer holds
    (CLOSE, b"\x03\xe8"),
]


@pytest.mark.parametrize("most", [1, 7, 4_096, 1_000_000])
def test_messages_of_all_sizes_come_through_pieces_of_all_sizes(
    line: tuple[socket.socket, socket.socket], most: int
) -> None:
    here, there = line
    messages = MESSAGES if most > 10 else MESSAGES[:4]
    data = b"".join(frame(*message) for message in messages)
    chance = random.Random(most)

    def send() -> None:
        at = 0
        while at < len(data):
            size = chance.randint(1, most)
            there.sendall(data[at : at + size])
            at += size

    sender = threading.Thread(target=send)
    sender.start()
    reader = FrameReader(here)
    assert [reader.read() for dummy in messages] == messages
    sender.join()


def test_a_message_in_several_frames_is_one_and_others_may_come_between(
    line: tuple[socket.socket, socket.socket],
) -> None:
    here, there = line
    there.sendall(frame(BINARY, b"one ", final=False) + frame(PING, b"?") + frame(CONTINUATION, b"two ", final=False))
    there.sendall(frame(CONTINUATION, b"three") + frame(BINARY, b"four"))
    reader = FrameReader(here)
    assert [reader.read() for dummy in range(3)] == [(PING, b"?"), (BINARY, b"one two three"), (BINARY, b"four")]


def test_what_has_come_stays_when_time_is_up(line: tuple[socket.socket, socket.socket]) -> None:
    here, there = line
    reader = FrameReader(here)
    whole = frame(BINARY, b"x" * 200)
    here.settimeout(0.05)
    for at in (0, 1, 3, 100):
        there.sendall(whole[at : {0: 1, 1: 3, 3: 100, 100: 203}[at]])
        with pytest.raises(TimeoutError):
            reader.read()
    there.sendall(whole[203:])
    assert reader.read() == (BINARY, b"x" * 200)


def test_the_end_of_the_connection_is_an_error(line: tuple[socket.socket, socket.socket]) -> None:
    here, there = line
    there.sendall(frame(BINARY, b"whole") + frame(BINARY, b"cut off")[:5])
    there.close()
    reader = FrameReader(here)
    assert reader.read() == (BINARY, b"whole")
    with pytest.raises(ConnectionResetError):
        reader.read()
