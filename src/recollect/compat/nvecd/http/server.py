"""HTTP/1.1 over the standard library's server: a thread per connection, bounded.

The API is for administration and small clients; the line protocol is the fast one. So the standard
library serves, behind limits of its own: connections, body size, time. See docs/decisions/0063-nvecd-http.md
"""

from __future__ import annotations

import base64
import binascii
import io
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from recollect.clock import Clock
from recollect.compat.nvecd.access import Admission, RateLimiter, parse_networks
from recollect.compat.nvecd.face import Face
from recollect.compat.nvecd.http.routes import Answer, Routes, failure
from recollect.errors import UnavailableError

_BACKLOG = 128
_LENGTH_DIGITS_MAX = 18  # more are too large whatever they say, and dear to read
_POLL_S = 0.05  # how long `stop` waits at most for the server to notice


class HttpServer:
    """Serves one face. `start` returns once it listens; `stop` waits for running requests."""

    def __init__(self, face: Face, note: Callable[[str], None]) -> None:
        settings = face.settings
        networks, wrong = parse_networks(settings.network.allow_cidrs)
        for text in wrong:
            note(f"network.allow_cidrs: {text!r} is not a network; it is left out")
        self._settings = settings.api.http
        self._shared = _Shared(face, Admission(networks, settings.performance))
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 if it does not."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen.

        Raises:
            UnavailableError: The address is taken, or not ours.
        """
        http = self._settings
        try:
            self._server = _Server((http.bind, http.port), _Handler, self._shared)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {http.bind}:{http.port} for HTTP: {error}",
                "stop whoever has the port, or choose another one in api.http",
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="nvecd-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and end those that run. Safe to call twice."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None


class _Shared:
    """What all connections share."""

    def __init__(self, face: Face, admission: Admission) -> None:
        settings = face.settings
        self.routes = Routes(face)
        self.http = settings.api.http
        self.body_bytes_max = settings.performance.max_query_length
        self.clock: Clock = face.clock
        self._admission = admission
        self._limiter = RateLimiter(settings.api.rate_limiting)
        self._lock = threading.Lock()

    def enter(self, address: str) -> bool:
        with self._lock:
            return self._admission.enter(address)

    def leave(self, address: str) -> None:
        with self._lock:
            self._admission.leave(address)

    def grant(self, address: str) -> bool:
        with self._lock:
            return self._limiter.take(address, self.clock.monotonic())


class Arriving(io.RawIOBase):
    """What a client sends, as long as its time lasts: a byte now and then wins it none. For one thread."""

    def __init__(self, connection: socket.socket, clock: Clock, timeout_s: float) -> None:
        super().__init__()
        self._connection = connection
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Start the time of a request."""
        self._deadline_s = self._clock.monotonic() + self._timeout_s

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there; TimeoutError once the request's time is over."""
        left_s = self._deadline_s - self._clock.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request took too long to arrive")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], shared: _Shared
    ) -> None:
        super().__init__(address, handler)
        self.shared = shared

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, if it is welcome."""
        if self.shared.enter(client_address[0]):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.shared.leave(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "nvecd"
    sys_version = ""

    def setup(self) -> None:
        """Bound the time that a client may take."""
        super().setup()
        shared = self.server.shared
        self._arriving = Arriving(self.connection, shared.clock, shared.http.timeout_sec)
        self.rfile = io.BufferedReader(self._arriving)

    def handle_one_request(self) -> None:
        """Give the next request its time."""
        self._arriving.begin()
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer GET."""
        self._serve()

    def do_POST(self) -> None:
        """Answer POST."""
        self._serve()

    def do_DELETE(self) -> None:
        """Answer DELETE."""
        self._serve()

    def do_OPTIONS(self) -> None:
        """Answer a browser that asks whether it may ask."""
        self._send(Answer(HTTPStatus.NO_CONTENT, b""))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request of ours as everything else is refused, and hang up."""
        del explain  # prose for browsers
        self.close_connection = True
        self._send(failure(code, message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Say nothing: the counters tell."""

    def _serve(self) -> None:
        shared = self.server.shared
        if not shared.grant(self.client_address[0]):
            self._send(failure(HTTPStatus.TOO_MANY_REQUESTS, "Rate limit exceeded"))
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._send(failure(HTTPStatus.BAD_REQUEST, "Content-Length is required"))
            return
        if len(length) > _LENGTH_DIGITS_MAX or int(length) > shared.body_bytes_max:
            self.close_connection = True
            self._send(failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request too large"))
            return
        data = self.rfile.read(int(length))
        path = self.path.split("?", 1)[0]
        self._send(shared.routes.answer(self.command, path, data, password=self._password()))

    def _password(self) -> bytes | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and value:
            return value.encode("utf-8", "surrogateescape")
        if scheme == "Basic" and value:
            try:
                user_and_password = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                return None
            return user_and_password.partition(b":")[2] if b":" in user_and_password else user_and_password
        return None

    def _send(self, answer: Answer) -> None:
        http = self.server.shared.http
        self.connection.settimeout(http.timeout_sec)
        self.send_response(answer.status)
        if answer.body:
            self.send_header("Content-Type", answer.content_type)
        if http.enable_cors and http.cors_allow_origin:
            self.send_header("Access-Control-Allow-Origin", http.cors_allow_origin)
            self.send_header("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Content-Type, Authorization")
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
