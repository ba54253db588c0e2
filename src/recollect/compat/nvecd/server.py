"""The line protocol on TCP and on a unix socket: one event loop in a thread of its own, and a pool.

Chosen by measurement, see docs/decisions/0062-nvecd-server.md: a thread per connection costs a
switch for each command, an event loop handles a pipeline of commands in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recollect.compat.nvecd.access import Admission, RateLimiter, parse_networks
from recollect.compat.nvecd.connection import Connection
from recollect.compat.nvecd.face import Face
from recollect.errors import RequestError, UnavailableError

_SCAN_QUICK = 2_000_000
"""Elements that a search may look at in the event loop: about half a millisecond."""

_SWEEP_S = 1.0
_BACKLOG = 1024
_SOCKET_MODE = 0o600
_DRAIN_POLL_S = 0.01
_SLOW = frozenset({b"DUMP"})
_SEARCH = frozenset({b"SIM ", b"SIMV"})
_WRITES = frozenset({b"EVEN", b"VECS", b"VECD", b"META"})


class LineServer:
    """Serves one face. `start` returns once it listens; `stop` drains.

    Args:
        is_durable: Whether a write waits for a disk.
        note: Told what an operator should know.
    """

    def __init__(self, face: Face, *, is_durable: bool, note: Callable[[str], None]) -> None:
        self.face = face
        self._settings = face.settings
        self._is_durable = is_durable
        self._note = note
        networks, wrong = parse_networks(face.settings.network.allow_cidrs)
        for text in wrong:
            note(f"network.allow_cidrs: {text!r} is not a network; it is left out")
        self._admission = Admission(networks, face.settings.performance)
        self._limiter = RateLimiter(face.settings.api.rate_limiting)
        threads = face.settings.performance.thread_pool_size or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="nvecd")
        self._connections: set[Connection] = set()
        self._buffered = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self._idle = asyncio.Event()
        self.port = 0

    def start(self) -> None:
        """Listen.

        Raises:
            UnavailableError: The address is taken, or not ours.
        """
        ready = threading.Event()
        problems: list[Exception] = []
        self._thread = threading.Thread(
            target=self._serve, args=(ready, problems), name="nvecd-server", daemon=True
        )
        self._thread.start()
        ready.wait()
        if problems:
            self._thread.join()
            self._pool.shutdown()
            tcp = self._settings.api.tcp
            raise UnavailableError(
                f"cannot listen on {tcp.bind}:{tcp.port}: {problems[0]}",
                "stop whoever has the port, or choose another one in api.tcp",
            ) from problems[0]

    def stop(self) -> None:
        """Take no more clients, finish what was asked, hang up. Safe to call twice."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(self._drain(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        self._pool.shutdown()
        self._remove_socket()

    def enter(self, connection: Connection) -> bool:
        """Take a connection, if it is welcome."""
        if not self._admission.enter(connection.address):
            return False
        self._connections.add(connection)
        self.face.statistics.note_connection()
        return True

    def leave(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        self._admission.leave(connection.address)
        self._connections.discard(connection)
        self.face.statistics.note_disconnection()

    def grant(self, connection: Connection) -> bool:
        """Tell whether the client may have one more command run now."""
        return self._limiter.take(connection.address, asyncio.get_running_loop().time())

    def note_buffered(self, change: int) -> bool:
        """Note bytes that wait; False if there are too many altogether."""
        self._buffered += change
        return self._buffered <= self._settings.performance.reactor_max_total_buffered_bytes

    def is_slow(self, line: bytes) -> bool:
        """Tell whether a command must not run in the event loop."""
        word = line.lstrip()[:4].upper()
        if word in _SLOW:
            return True
        if word in _SEARCH:
            vectors = self.face.database.vectors
            return len(vectors) * (vectors.dimension or 0) > _SCAN_QUICK
        if word in _WRITES:
            return self._is_durable or self.face.gate.is_loading or self.face.gate.is_saving_locked
        return False

    def run_in_pool(self, connection: Connection, lines: list[bytes]) -> None:
        """Run commands in the pool."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                replies = self.face.execute(lines, connection.session)
            except BaseException:
                loop.call_soon_threadsafe(connection.abort)
                raise
            loop.call_soon_threadsafe(connection.finish, replies)

        self._pool.submit(run)

    def _serve(self, ready: threading.Event, problems: list[Exception]) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        try:
            loop.run_until_complete(self._listen(loop))
        except (OSError, RequestError) as error:
            problems.append(error)
            loop.close()
            return
        finally:
            ready.set()
        loop.call_later(_SWEEP_S, self._sweep, loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        performance, api = self._settings.performance, self._settings.api

        def connect() -> Connection:
            return Connection(self, loop, performance.max_query_length)

        server = await loop.create_server(connect, api.tcp.bind, api.tcp.port, backlog=_BACKLOG)
        self._servers.append(server)
        self.port = int(server.sockets[0].getsockname()[1])
        if api.unix_socket.path:
            self._remove_socket()
            listening = _private_socket(api.unix_socket.path)
            self._servers.append(await loop.create_unix_server(connect, sock=listening, backlog=_BACKLOG))

    async def _drain(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.performance.shutdown_timeout_ms / 1000
        self._idle = asyncio.Event()
        loop.call_soon(self._watch, loop, deadline)
        await self._idle.wait()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    def _watch(self, loop: asyncio.AbstractEventLoop, deadline_s: float) -> None:
        """Look now and then whether everything was answered, or time is up."""
        if loop.time() >= deadline_s or all(one.is_idle for one in self._connections):
            self._idle.set()
        else:
            loop.call_later(_DRAIN_POLL_S, self._watch, loop, deadline_s)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hang up on clients of whom nothing was heard for too long."""
        oldest = loop.time() - self._settings.performance.connection_timeout_sec
        for connection in list(self._connections):
            if connection.active_at_s < oldest and connection.is_idle:
                connection.abort()
        loop.call_later(_SWEEP_S, self._sweep, loop)

    def _remove_socket(self) -> None:
        """Remove the unix socket that a server before left, and nothing else."""
        path = self._settings.api.unix_socket.path
        if not path:
            return
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(Path(path).lstat().st_mode):
                raise RequestError(
                    f"api.unix_socket.path: {path} exists and is not a socket", "choose another path"
                )
            Path(path).unlink()


def _private_socket(path: str) -> socket.socket:
    """Bind a socket that only the owner can open from its first moment: who opens it may do everything."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), _SOCKET_MODE)  # Linux gives the file the mode of the unbound socket
        listening.bind(path)
        Path(path).chmod(_SOCKET_MODE)  # elsewhere
    except BaseException:
        listening.close()
        raise
    return listening
