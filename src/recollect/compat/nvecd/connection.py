"""One connection of the line protocol: bytes to lines, lines to the face, replies in order.

Quick commands run in the event loop's thread, since handing one over costs more than it does. Slow
ones (DUMP, searches over many vectors, writes that wait for a disk) run in a pool; the
connection's next commands wait for them, other connections do not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from recollect.compat.nvecd.face import Face, Session
from recollect.compat.nvecd.protocol import reply
from recollect.compat.nvecd.protocol.lines import LineBuffer
from recollect.errors import RequestError

LINES_AT_ONCE = 256
"""Commands that one connection runs before others get their turn, and that may share a commit."""

PENDING_LINES_MAX = 4 * LINES_AT_ONCE
"""Commands that may wait; while there are more, nothing is read."""


class Host(Protocol):
    """What a connection needs of its server."""

    face: Face

    def is_slow(self, line: bytes) -> bool:
        """Tell whether a command must not run in the event loop."""
        ...

    def run_in_pool(self, connection: Connection, lines: list[bytes]) -> None:
        """Run commands in the pool; `Connection.finish` gets the replies."""
        ...

    def enter(self, connection: Connection) -> bool:
        """Take a connection, if it is welcome."""
        ...

    def leave(self, connection: Connection) -> None:
        """Note that a connection that was taken is gone."""
        ...

    def grant(self, connection: Connection) -> bool:
        """Tell whether the client may have one more command run now."""
        ...

    def note_buffered(self, change: int) -> bool:
        """Note bytes that wait; False if there are too many altogether."""
        ...


class Connection(asyncio.Protocol):
    """A client. Everything here runs in the event loop's thread.

    Attributes:
        address: The client's, empty for a unix socket.
        is_busy: Commands are running in the pool.
        active_at_s: When something was last heard of it, by the loop's clock.
    """

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop, line_bytes_max: int) -> None:
        self._host = host
        self._loop = loop
        self._buffer = LineBuffer(line_bytes_max)
        self._pending: deque[bytes] = deque()
        self._session = Session()
        self._transport: asyncio.Transport | None = None
        self._is_taken = False
        self._is_ending = False
        self._farewell = b""
        self._is_write_paused = False
        self._is_reading = True
        self._is_scheduled = False
        self._buffered = 0
        self.address = ""
        self.is_busy = False
        self.active_at_s = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client, or hang up on one that is not welcome: without a word, as nvecd does."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) and peer else ""
        self._is_taken = self._host.enter(self)
        if not self._is_taken:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client; why it went does not matter."""
        del exc
        self._transport = None
        self._pending.clear()
        self._host.note_buffered(-self._buffered)
        self._buffered = 0
        if self._is_taken:
            self._host.leave(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and run what they complete."""
        if self._is_ending or self._transport is None:
            return
        self.active_at_s = self._loop.time()
        try:
            self._pending.extend(self._buffer.feed(data))
        except RequestError as error:
            self.end(reply.error(error.message))
        self._note_buffered()
        self._pump()

    def eof_received(self) -> bool:
        """Answer what was asked, then hang up."""
        self.end(b"")
        self._pump()
        return True

    def pause_writing(self) -> None:
        """Stop running commands: the client does not read its replies."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_write_paused = False
        self._pump()

    def finish(self, replies: bytes) -> None:
        """Take the replies of what ran in the pool, and go on."""
        self.is_busy = False
        self.active_at_s = self._loop.time()
        self._write(replies)
        self._pump()

    def end(self, farewell: bytes) -> None:
        """Read no more; hang up after what is pending, with a last reply."""
        if not self._is_ending:
            self._is_ending, self._farewell = True, farewell
            if self._transport is not None and self._is_reading:
                self._transport.pause_reading()
                self._is_reading = False

    def drain(self) -> None:
        """Finish what is pending and hang up."""
        self.end(b"")
        self._pump()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked and nothing is to be sent."""
        waiting = self._transport is not None and self._transport.get_write_buffer_size()
        return not (self.is_busy or self._pending or waiting)

    def _pump(self) -> None:
        """Run pending commands as far as that goes now."""
        self._is_scheduled = False
        if self.is_busy or self._is_write_paused or self._transport is None:
            return
        lines = self._take()
        if lines and self._host.is_slow(lines[0]):
            self.is_busy = True
            self._host.run_in_pool(self, lines)
        elif lines:
            self._write(self._host.face.execute(lines, self._session))
            if self._pending:
                self._schedule()
        self._note_buffered()
        self._regulate()
        if self._is_ending and not self.is_busy and not self._pending:
            self._write(self._farewell)
            self._farewell = b""
            if self._transport is not None:
                self._transport.close()

    def _take(self) -> list[bytes]:
        """Take the next commands: all quick ones in a row, or all slow ones, some at a time."""
        taken: list[bytes] = []
        while self._pending and len(taken) < LINES_AT_ONCE:
            line = self._pending[0]
            if not self._host.grant(self):
                if taken:
                    break
                self._pending.popleft()
                self._write(reply.error("Rate limit exceeded"))
                continue
            if taken and self._host.is_slow(line) != self._host.is_slow(taken[0]):
                break
            taken.append(self._pending.popleft())
        return taken

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._pump)

    def _regulate(self) -> None:
        """Read only as long as what was read is being worked on."""
        if self._transport is None or self._is_ending:
            return
        wanted = len(self._pending) < PENDING_LINES_MAX
        if wanted and not self._is_reading:
            self._transport.resume_reading()
        elif not wanted and self._is_reading:
            self._transport.pause_reading()
        self._is_reading = wanted

    def _note_buffered(self) -> None:
        """Keep the sum of all waiting bytes; the connection that makes it too large is ended."""
        now = self._buffer.byte_size + sum(map(len, self._pending))
        change, self._buffered = now - self._buffered, now
        if not self._host.note_buffered(change) and change > 0:
            self._pending.clear()
            self.end(reply.error("Request too large"))

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    @property
    def session(self) -> Session:
        """What the connection remembers."""
        return self._session
