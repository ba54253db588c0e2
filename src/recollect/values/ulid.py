"""Snapshot ids: ULIDs, lower-case, from an injected clock and random source.

Source: https://github.com/ulid/spec (48 bits of milliseconds, 80 random bits, Crockford base 32).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PATTERN = re.compile(r"[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}")

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Returns that many random bytes: `os.urandom`, or a seeded generator's `randbytes`."""


def new_ulid(now: datetime, random_bytes: RandomBytes) -> str:
    """Return a new id; ids of later milliseconds sort after those of earlier ones."""
    number = int(now.timestamp() * 1000) << 80 | int.from_bytes(random_bytes(10), "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_ulid(text: str) -> bool:
    """Tell whether the text is an id in the form that `new_ulid` makes."""
    return _PATTERN.fullmatch(text) is not None


def successor(ulid: str) -> str:
    """Return the id that sorts directly after another: for several of one millisecond, in order."""
    number = 0
    for letter in ulid:
        number = number << 5 | _ALPHABET.index(letter)
    return "".join(_ALPHABET[(number + 1) >> shift & 31] for shift in range(125, -1, -5))
