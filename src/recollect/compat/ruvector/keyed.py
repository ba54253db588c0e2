"""Dicts by record key that grow and are freed in small steps.

A plain dict moves all its entries at once when it grows, and frees them all at once, with the
interpreter's lock held: 8 ms at 200,000 entries, 30 ms at a million (measured), for which
the event loop would have to wait. In 256 parts no step takes longer than a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

_PARTS = 256

Value = TypeVar("Value")


class KeyedParts(Generic[Value]):
    """A dict of record keys, in parts. One thread at a time."""

    def __init__(self) -> None:
        self._parts: list[dict[bytes, Value]] = [{} for _ in range(_PARTS)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield from part

    def part(self, key: bytes) -> dict[bytes, Value]:
        """Return the part that has this key, or would have it."""
        return self._parts[hash(key) % _PARTS]

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Return the places of those keys that are not here."""
        parts = self._parts
        return [place for place, key in enumerate(keys) if key not in parts[hash(key) % _PARTS]]

    def add_all(self, keys: Sequence[bytes], value: Value) -> None:
        """Set many keys to one value."""
        for key in keys:
            self.part(key)[key] = value

    def merge(self, other: KeyedParts[Value]) -> None:
        """Take over everything of another one."""
        for mine, theirs in zip(self._parts, other._parts, strict=True):
            mine.update(theirs)

    def clear(self) -> None:
        """Forget everything, a part at a time."""
        for part in self._parts:
            part.clear()
