"""Values as text for people: sizes, counts, durations, times and tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

SHORT_ID_LENGTH = 12
"""Characters of a snapshot id in tables: all of its time and two random ones; unique in practice."""

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(byte_size: int) -> str:
    """Render bytes in binary units: `512 B`, `1.2 MiB`."""
    if byte_size < 1024:
        return f"{byte_size} B"
    power = min((byte_size.bit_length() - 1) // 10, len(_UNITS))
    return f"{byte_size / 1024**power:.1f} {_UNITS[power - 1]}"


def count_text(count: int, noun: str = "") -> str:
    """Render a count with thousands separators, and a noun in its number: `1 record`, `1,200 records`."""
    number = f"{count:,}"
    if not noun:
        return number
    return f"{number} {noun if count == 1 else noun + 's'}"


def seconds_text(seconds: float) -> str:
    """Render a duration: `0.42 s`, `1:05`, `2:03:04`."""
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_text(instant: datetime) -> str:
    """Render an instant in UTC, to the second; tables say in their head that it is UTC."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def printable(text: str) -> str:
    """Replace characters that could move the cursor or hide text on a terminal; names come from outside."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def table_text(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Render an aligned table without lines or a trailing space; columns named in `right` align right.

    Nothing is cut or wrapped: what is piped on stays whole.
    """
    cells = [[printable(cell) for cell in row] for row in [list(head), *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, head, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
