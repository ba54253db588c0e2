"""From a stream of bytes to lines, within a limit."""

from __future__ import annotations

from recollect.errors import RequestError

TOO_LARGE = "Request too large"


class LineBuffer:
    """Collects bytes and gives out lines that end in LF or CRLF. One per connection.

    nvecd looks for CRLF in its whole buffer before it looks for LF, so what a client gets that
    mixes both depends on how its packets arrive; here the first line end counts.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._rest = b""

    @property
    def byte_size(self) -> int:
        """Bytes that wait for their line end."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the lines that they complete, without line ends; empty ones are left out.

        Raises:
            RequestError: A line is longer than allowed. The lines before it are lost; close the connection.
        """
        if b"\n" not in data:
            self._rest += data
            lines: list[bytes] = []
        else:
            *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._line_bytes_max + 1:  # a CR may yet belong to the line end
            raise RequestError(TOO_LARGE)
        found = []
        for line in lines:
            stripped = line[:-1] if line.endswith(b"\r") else line
            if len(stripped) > self._line_bytes_max:
                raise RequestError(TOO_LARGE)
            if stripped:
                found.append(stripped)
        return found
