"""Who may connect, how many, and how fast: networks, counts by address, token buckets."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from recollect.compat.nvecd.config.settings import PerformanceSettings, RateLimitSettings

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Sequence[str]) -> tuple[list[Network], list[str]]:
    """Return the networks, and the entries that are none; nvecd skips those and says so in its log."""
    networks: list[Network] = []
    wrong: list[str] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            wrong.append(text)
    return networks, wrong


class Admission:
    """Counts connections and tells whether one more is welcome. For one thread.

    No network listed means nobody: a file that forgets the setting does not open the server.
    """

    def __init__(self, networks: Sequence[Network], settings: PerformanceSettings) -> None:
        self._networks = networks
        self._settings = settings
        self._by_address: dict[str, int] = {}
        self._count = 0

    def enter(self, address: str) -> bool:
        """Take a connection from an address, empty for a unix socket, if it is welcome."""
        if self._count >= self._settings.max_connections:
            return False
        if address:
            limit = self._settings.max_connections_per_ip
            if not self._is_allowed(address) or (limit and self._by_address.get(address, 0) >= limit):
                return False
            self._by_address[address] = self._by_address.get(address, 0) + 1
        self._count += 1
        return True

    def leave(self, address: str) -> None:
        """Note that a connection which entered is gone."""
        self._count -= 1
        if address:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]

    def _is_allowed(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


class RateLimiter:
    """Token buckets by address; the one that was not seen for longest is forgotten first. For one thread."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._settings = settings
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now_s: float) -> bool:
        """Take a token for one request, if there is one."""
        if not self._settings.enable or not address:
            return True
        capacity = float(self._settings.capacity)
        tokens, then_s = self._buckets.pop(address, (capacity, now_s))
        tokens = min(capacity, tokens + (now_s - then_s) * self._settings.refill_rate)
        is_granted = tokens >= 1.0
        self._buckets[address] = (tokens - is_granted, now_s)
        while len(self._buckets) > self._settings.max_clients:
            self._buckets.popitem(last=False)
        return is_granted
