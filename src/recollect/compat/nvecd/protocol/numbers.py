"""Numbers as nvecd's C++ reads them (stoi, stof, stoull, strtoll, strtod), with its messages."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence

from recollect.errors import RequestError

INT_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?")
_NON_FINITE = re.compile(r"[+-]?(?:inf(?:inity)?|nan(?:\([0-9a-zA-Z_]*\))?)", re.IGNORECASE)
_BLANKS = " \t\n\v\f\r"
_FLOAT = struct.Struct("<f")
_PLAIN_MAX = 3e38  # just below the largest 32-bit number


def parse_integer(token: str) -> int:
    """Read a 32-bit integer.

    Raises:
        RequestError: There are no digits, too many, or something behind them.
    """
    stripped = token.lstrip(_BLANKS)
    match = _INTEGER.match(stripped)
    if match is None or len(match[0]) > 20 or not -INT_MAX - 1 <= int(match[0]) <= INT_MAX:
        raise RequestError(f"Failed to parse integer: {token}")
    if match.end() != len(stripped):
        raise RequestError(f"Invalid integer: {token}")
    return int(match[0])


def parse_timestamp(token: str) -> int:
    """Read `timestamp=<seconds>`."""
    if not token.startswith("timestamp="):
        raise RequestError(f"Invalid option: {token} (expected timestamp=<value>)")
    text = token.removeprefix("timestamp=")
    stripped = text.lstrip(_BLANKS)
    match = _INTEGER.match(stripped)
    if match is None or len(match[0]) > 21 or not 0 <= int(match[0]) <= INT64_MAX:
        raise RequestError(f"Failed to parse timestamp: {text}")
    if match.end() != len(stripped):
        raise RequestError(f"Invalid timestamp value: {text}")
    return int(match[0])


def parse_floats(tokens: Sequence[str]) -> tuple[float, ...]:
    """Read the elements of a vector; each must be finite in 32 bits."""
    try:
        found = tuple(map(float, tokens))
    except ValueError:
        return tuple(map(parse_float, tokens))
    # float() knows spellings that stof does not (1_0, other digits, blanks), and more range: rare, so what
    # may hold one is looked at element by element.
    joined = "".join(tokens)
    is_plain = joined.isascii() and "_" not in joined and len(joined.split()) == 1
    if is_plain and math.isfinite(sum(found)) and min(found) > -_PLAIN_MAX and max(found) < _PLAIN_MAX:
        return found
    return tuple(map(parse_float, tokens))


def parse_float(token: str) -> float:
    """Read one finite 32-bit number."""
    stripped = token.lstrip(_BLANKS)
    special = _NON_FINITE.match(stripped)
    if special is not None:
        raise RequestError(f"Invalid float: {token}")
    value, end = _number(stripped)
    if end == 0:
        raise RequestError(f"Failed to parse float: {token}")
    try:
        _FLOAT.pack(value)
    except OverflowError as error:
        raise RequestError(f"Failed to parse float: {token}") from error
    if not math.isfinite(value):
        raise RequestError(f"Failed to parse float: {token}")
    if end != len(stripped):
        raise RequestError(f"Invalid float: {token}")
    return value


def parse_value(text: str) -> bool | int | float | str:
    """Read a metadata value as the most special type that it can be: bool, integer, double, text.

    What is not finite stays text: such a double cannot be stored.
    """
    if text in {"true", "false"}:
        return text == "true"
    stripped = text.lstrip(_BLANKS)
    if _INTEGER.fullmatch(stripped) and len(stripped) <= 20 and -INT64_MAX - 1 <= int(stripped) <= INT64_MAX:
        return int(stripped)
    value, end = _number(stripped)
    if end and end == len(stripped) and math.isfinite(value):
        return value
    return text


def _number(text: str) -> tuple[float, int]:
    """Return the number at the beginning of the text and where it ends; 0 if there is none."""
    match = _HEXADECIMAL.match(text)
    if match is not None:
        try:
            return float.fromhex(match[0]), match.end()
        except OverflowError:
            return math.inf, match.end()
    match = _DECIMAL.match(text)
    return (float(match[0]), match.end()) if match is not None else (0.0, 0)
