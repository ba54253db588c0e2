"""The REST face: HTTP/1.1 with keep-alive, JSON in Qdrant's envelope."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from recollect.testing.qdrant_server.access import Keys, key_of
from recollect.testing.qdrant_server.cluster import PEER_ID
from recollect.testing.qdrant_server.failures import ServerError, bad_request
from recollect.testing.qdrant_server.faults import DropConnection, Faults
from recollect.testing.qdrant_server.routes import (
    Accepted,
    Raw,
    Request,
    Route,
    RouteTable,
    Streamed,
    Upload,
)
from recollect.testing.qdrant_server.storage import Storage


class RestFace:
    """A listening HTTP server; one thread for each connection."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        table: RouteTable,
        port: int = 0,
        *,
        peer_id: int = PEER_ID,
        faults: Faults | None = None,
    ) -> None:
        self._connections: set[socket.socket] = set()
        members = {
            "storage": storage,
            "keys": keys,
            "table": table,
            "face": self,
            "peer_id": peer_id,
            "faults": faults or storage.faults,
        }
        handler = type("Handler", (_Handler,), members)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening and break the connections that are open."""
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # gone already
                continue
        self._server.server_close()

    def opened(self, connection: socket.socket) -> None:
        """Remember a connection, to break it at the end."""
        self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        self._connections.discard(connection)


class _Handler(BaseHTTPRequestHandler):
    """Handles the calls of one connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body; two of them meet delayed acknowledgements: 40 ms a call
    disable_nagle_algorithm = True
    storage: Storage
    keys: Keys
    table: RouteTable
    face: RestFace
    peer_id: int
    faults: Faults

    def setup(self) -> None:
        super().setup()
        self.face.opened(self.connection)

    def finish(self) -> None:
        self.face.closed(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Stay silent."""

    def do_GET(self) -> None:
        """Serve a call; the same for every method."""
        started = time.perf_counter()  # noqa: TID251 - the envelope's `time` member
        try:
            status, answer = 200, self._call()
        except DropConnection:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        except ServerError as error:
            status, answer = error.status, error
        except (KeyError, TypeError, AttributeError) as error:
            status, answer = 400, bad_request(f"Format error in JSON body: {error!r}")
        if isinstance(answer, Streamed):
            self._stream(answer)
        else:
            self._answer(status, answer, time.perf_counter() - started)  # noqa: TID251

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as above

    def _call(self) -> Any:
        parts = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        try:
            route, path = self.table.find(self.command, parts.path)
        except ServerError:
            self.rfile.read(length)
            raise
        body = self._body(route, length)
        self.keys.check(key_of(self.headers.get("api-key"), self.headers.get("authorization")), route.access)
        name = f"{route.method} {route.path}"
        self.faults.before(name)
        request = Request(path, dict(parse_qsl(parts.query)), body, self.peer_id, self.faults)
        answer = route.function(self.storage, request)
        self.faults.after(name)
        return answer

    def _body(self, route: Route, length: int) -> Any:
        if route.body == "upload":
            self.close_connection = True  # a refusal may leave a part of the body unread
            return Upload(self.rfile, length, self.headers.get("content-type") or "")
        content = self.rfile.read(length)
        if not content:
            return None
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            raise bad_request(f"Format error in JSON body: {error}") from error

    def _answer(self, status: int, answer: Any, seconds: float) -> None:
        if isinstance(answer, Raw):
            status, body, kind = answer.status, answer.body, answer.content_type
        elif isinstance(answer, ServerError) and status == 401:
            body, kind = answer.message.encode(), "text/plain; charset=utf-8"
        elif isinstance(answer, ServerError):
            envelope = {"status": {"error": answer.message}, "time": seconds}
            body, kind = msgspec.json.encode(envelope), "application/json"
        elif isinstance(answer, Accepted):
            status = 202
            body, kind = msgspec.json.encode({"status": "accepted", "time": seconds}), "application/json"
        else:
            envelope = {"result": answer, "status": "ok", "time": seconds}
            body, kind = msgspec.json.encode(envelope), "application/json"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: Streamed) -> None:
        """Send a body piece by piece; the connection ends with it, in time or not."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("connection", "close")
        if answer.length is not None:
            self.send_header("content-length", str(answer.length))
        self.end_headers()
        try:
            for piece in answer.pieces:
                self.wfile.write(piece)
        except OSError:  # the reader has gone
            return
