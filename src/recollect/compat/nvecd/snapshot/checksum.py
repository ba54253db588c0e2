"""CRC-32 as zlib has it, and the checksum of bytes joined from parts whose checksums are known.

So a file's checksum costs no second pass over its sections.
Source: zlib's crc32_combine (matrices over GF(2) that append zero bytes).
"""

from __future__ import annotations

from collections.abc import Iterable

try:
    from zlib_ng.zlib_ng import crc32 as _crc32  # four times as quick, and optional
except ImportError:
    from zlib import crc32 as _crc32

_POLYNOMIAL = 0xEDB88320


def crc32(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the CRC-32 of `data`, continued from `start`."""
    return _crc32(data, start)


def combine(left: int, right: int, right_size: int) -> int:
    """Return the CRC-32 of two byte strings, one after the other, from the checksum of each."""
    if right_size == 0:
        return left
    odd = [_POLYNOMIAL, *(1 << row for row in range(31))]  # appends one zero bit
    even = _square(odd)
    odd = _square(even)
    size = right_size
    while True:
        even = _square(odd)
        if size & 1:
            left = _times(even, left)
        size >>= 1
        if not size:
            break
        odd = _square(even)
        if size & 1:
            left = _times(odd, left)
        size >>= 1
        if not size:
            break
    return left ^ right


def combine_all(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of parts in a row, each given as (checksum, size)."""
    total = 0
    for checksum, size in parts:
        total = combine(total, checksum, size)
    return total


def _times(matrix: list[int], vector: int) -> int:
    total, row = 0, 0
    while vector:
        if vector & 1:
            total ^= matrix[row]
        vector >>= 1
        row += 1
    return total


def _square(matrix: list[int]) -> list[int]:
    return [_times(matrix, row) for row in matrix]
