"""A line client, and servers on free ports, for the tests."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recollect.compat.nvecd.config.settings import ApiSettings, NvecdSettings, TcpSettings
from recollect.compat.nvecd.face import Face
from recollect.compat.nvecd.server import LineServer
from tests.nvecd.faces import open_face, settings_in


class Client:
    """Speaks lines over a socket."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> str:
        """Read one line; an empty one if the server hung up."""
        while b"\r\n" not in self._rest:
            part = self.socket.recv(65536)
            if not part:
                return ""
            self._rest += part
        line, self._rest = self._rest.split(b"\r\n", 1)
        return line.decode()

    def ask(self, command: str) -> str:
        """Send one command and read the first line of its reply."""
        self.send(command.encode() + b"\r\n")
        return self.line()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def is_closed(self) -> bool:
        """Tell whether the server hangs up."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()


def served_settings(directory: Path, **changes: object) -> NvecdSettings:
    """Return settings for a free port; `changes` replaces whole sections."""
    settings = settings_in(directory)
    api = msgspec.structs.replace(settings.api, tcp=TcpSettings(port=0))
    return msgspec.structs.replace(settings, api=api, **changes)


@contextlib.contextmanager
def serve(settings: NvecdSettings, *, is_durable: bool = False) -> Iterator[tuple[LineServer, Face]]:
    """Serve an empty database in memory; messages for the operator are not expected."""
    notes: list[str] = []
    with open_face(settings) as face:
        server = LineServer(face, is_durable=is_durable, note=notes.append)
        server.start()
        try:
            yield server, face
        finally:
            server.stop()
    assert not notes


@contextlib.contextmanager
def connect(server: LineServer) -> Iterator[Client]:
    """Connect one client."""
    client = Client(server.port)
    try:
        yield client
    finally:
        client.close()


__all__ = ["ApiSettings", "Client", "connect", "serve", "served_settings"]
