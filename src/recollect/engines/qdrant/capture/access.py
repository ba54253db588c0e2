"""How servers of one cluster are reached, in a form that another process can be given.

It names the secret and does not hold it: a process that is handed this asks for the key itself.
"""

from __future__ import annotations

from recollect.clock import Clock
from recollect.engines.qdrant.address import Address, Secrets, parse_address
from recollect.engines.qdrant.connection import Connection


class Access:
    """Opens connections with the key that a source's URL names. Safe to share between threads."""

    def __init__(self, url: str, secrets: Secrets, clock: Clock) -> None:
        self.url = url
        self._secrets = secrets
        self.clock = clock

    @property
    def address(self) -> Address:
        """The server of the URL."""
        return parse_address(self.url, self._secrets)[0]

    def connect(self, address: Address | None = None) -> Connection:
        """Return a new connection to a node, or to the server of the URL; the caller closes it."""
        own, api_key = parse_address(self.url, self._secrets)
        return Connection(address or own, api_key, self.clock)
