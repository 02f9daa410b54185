"""SPDY/3.1, as much of it as Kubernetes uses: streams with headers, data, and ends.

kubectl port-forward speaks it, inside a websocket since 1.30, and kubectl exec falls back to it.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
VERSION = 0x8003
QUEUE = 64

# The dictionary that the specification gives for the compression of headers.
_WORDS = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
]
_MORE_WORDS = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS, *_MORE_WORDS)) + _TEXT.encode()


class Stream:
    """One stream of a connection."""

    def __init__(self, connection: Connection, number: int, headers: dict[str, str]) -> None:
        self._connection = connection
        self.number = number
        self.headers = headers
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self._closed = False

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send data, and with ``last`` say that no more will come."""
        if not self._closed:
            self._closed = last
            head = struct.pack(">II", self.number, (FIN << 24 if last else 0) | len(data))
            await self._connection.write(head + data)

    async def close(self) -> None:
        """Say that no more will come."""
        await self.send(b"", last=True)

    async def read(self) -> bytes:
        """Return what has come; b'' at the end."""
        data = await self.received.get()
        self._connection.taken(len(data))
        return data


class Connection:
    """The server's side of a connection: bytes come in by `feed`, and go out by a coroutine."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        accept: Callable[[Stream], None],
        flow: Callable[[bool], None] = lambda dummy: None,
    ) -> None:
        """Call ``accept`` for each new stream, and ``flow`` with False when too much waits, with True later."""
        self.write = write
        self._accept = accept
        self._flow = flow
        self._buffer = bytearray()
        self._streams: dict[int, Stream] = {}
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting = 0
        self._stopped = False

    async def answer(self) -> None:
        """Send the replies that frames ask for; run it as a task."""
        while (frame := await self._answers.get()) is not None:
            await self.write(frame)

    def taken(self, count: int) -> None:
        """So many bytes have been read by whoever uses the streams."""
        self._waiting -= count
        if self._stopped and self._waiting < 256 * 1024:
            self._stopped = False
            self._flow(True)

    def feed(self, data: bytes) -> None:
        """Take in bytes from the client."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                return
            content = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            flags = second >> 24
            if first >> 31:
                self._control(first & 0xFFFF, flags, content)
            else:
                self._data(first, flags, content)

    def end(self) -> None:
        """The client has gone: every stream is at its end."""
        for stream in self._streams.values():
            stream.received.put_nowait(b"")
        self._answers.put_nowait(None)

    def _data(self, number: int, flags: int, content: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if content:
            self._waiting += len(content)
            stream.received.put_nowait(content)
            if self._waiting > 1024 * 1024 and not self._stopped:
                self._stopped = True
                self._flow(False)
        if flags & FIN:
            stream.received.put_nowait(b"")

    def _control(self, kind: int, flags: int, content: bytes) -> None:
        if kind == SYN_STREAM:
            (number,) = struct.unpack_from(">I", content)
            stream = self._streams[number] = Stream(self, number, self._headers(content[10:]))
            reply = struct.pack(">I", number) + self._no_headers()
            self._answers.put_nowait(struct.pack(">HHI", VERSION, SYN_REPLY, len(reply)) + reply)
            self._accept(stream)
            if flags & FIN:
                stream.received.put_nowait(b"")
        elif kind == RST_STREAM:
            (number,) = struct.unpack_from(">I", content)
            if number in self._streams:
                self._streams.pop(number).received.put_nowait(b"")
        elif kind == PING:
            self._answers.put_nowait(struct.pack(">HHI", VERSION, PING, len(content)) + content)
        elif kind == HEADERS:
            self._headers(content[4:])

    def _headers(self, compressed: bytes) -> dict[str, str]:
        block = self._inflate.decompress(compressed)
        (count,) = struct.unpack_from(">I", block)
        position, words = 4, []
        for dummy in range(2 * count):
            (length,) = struct.unpack_from(">I", block, position)
            words.append(block[position + 4 : position + 4 + length].decode())
            position += 4 + length
        return dict(zip(words[::2], words[1::2], strict=True))

    def _no_headers(self) -> bytes:
        return self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
