"""Blocks: about 1 MiB of raw values as streams, each encoded the way that is smallest.

A block is a directory (8 bytes per stream: stored length, codec) and its streams, padded with
zeros to a multiple of 8 bytes. Which streams there are follows from the encodings, which
stand in the file's block table. Format: docs/format.md#encodings
"""

from __future__ import annotations

import struct
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recollect.codec import planes, stream
from recollect.errors import IntegrityError

Bytes = npt.NDArray[np.uint8]

PLAIN = 0
SPLIT = 1
FLOAT16 = 2
BFLOAT16 = 3
PLANES = 4

STREAM_COUNTS = {PLAIN: 1, SPLIT: 3, FLOAT16: 2, BFLOAT16: 2, PLANES: 4}
"""Streams of an array by its encoding; SPLIT of float16 elements has two (`stream_count`)."""

WORTH_MATCHING = 0.8
"""Whole values are searched for repeats if a sample promises this share of what planes take."""

_DIRECTORY = struct.Struct("<II")
ALIGNMENT = 8


class Piece(NamedTuple):
    """One encoded array: its encoding and its streams as (codec, stored bytes)."""

    encoding: int
    streams: list[tuple[int, Bytes]]

    @property
    def stored_size(self) -> int:
        """Return the bytes that the streams take."""
        return sum(len(data) for _, data in self.streams)


class _Scratch(threading.local):
    """Planes that one thread reuses; they grow to the largest block it has seen."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, dtype=np.uint8)

    def take(self, size: int) -> Bytes:
        """Return `size` bytes of any content; the next call gives the same memory again."""
        if len(self.buffer) < size:
            self.buffer = np.empty(size, dtype=np.uint8)
        return self.buffer[:size]


_SCRATCH = _Scratch()


def encode_floats(values: npt.NDArray[np.generic]) -> Piece:
    """Encode float32, float16 or 8-bit elements the smallest way. Shapes: (n,), C-contiguous.

    The streams may lie in scratch memory: they are valid until this thread's next call.
    """
    raw = values.view(np.uint8)
    if values.dtype.itemsize == 1:
        return Piece(PLAIN, [stream.encode_plane(raw)])
    piece = _encode_halves(values.view(np.uint16)) if values.dtype.itemsize == 2 else _encode_words(values)
    if stream.repeats_ratio(raw) * len(raw) < WORTH_MATCHING * piece.stored_size:
        plain = Piece(PLAIN, [stream.encode_repetitive(raw)])
        if plain.stored_size < piece.stored_size:
            return plain
    return piece


def decode_floats(encoding: int, streams: list[tuple[int, Bytes]], target: npt.NDArray[np.generic]) -> None:
    """Decode elements into `target`. Shapes: target (n,), C-contiguous, of the element type."""
    count, width = len(target), target.dtype.itemsize
    if encoding == PLAIN:
        target.view(np.uint8)[:] = stream.decode_stream(*streams[0], count * width)
    elif encoding == SPLIT and width == 4:
        low = stream.decode_stream(*streams[0], 2 * count).view("<u2")
        middle = stream.decode_stream(*streams[1], count)
        exponents = stream.decode_stream(*streams[2], count)
        planes.join_words(low, middle, exponents, target.view(np.uint32))
    elif encoding == SPLIT and width == 2:
        planes.join_halves(*_byte_planes(streams, count), target.view(np.uint16))
    elif encoding == BFLOAT16 and width == 4:
        planes.join_upper(*_byte_planes(streams, count), target.view(np.uint32))
    elif encoding == FLOAT16 and width == 4:
        planes.join_float16(*_byte_planes(streams, count), target.view(np.uint32))
    else:
        raise IntegrityError(
            f"a vector column's block has encoding {encoding}, unknown for {width}-byte elements"
        )


def encode_integers(values: npt.NDArray[np.uint32]) -> Piece:
    """Encode counts or index deltas as four byte planes. Shapes: (n,) uint32."""
    rows = np.empty((4, len(values)), dtype=np.uint8)
    planes.split_bytes(values, rows)
    return Piece(PLANES, [stream.encode_plane(row) for row in rows])


def decode_integers(streams: list[tuple[int, Bytes]], count: int) -> npt.NDArray[np.uint32]:
    """Decode four byte planes; the inverse of `encode_integers`."""
    return planes.join_bytes([stream.decode_stream(*item, count) for item in streams])


def stream_count(encoding: int, width: int) -> int:
    """Return how many streams an array of `width`-byte elements has in this encoding."""
    if encoding == SPLIT and width == 2:
        return 2
    if encoding not in (PLAIN, SPLIT, FLOAT16, BFLOAT16):
        raise IntegrityError(f"a vector column's block has the unknown encoding {encoding}")
    return STREAM_COUNTS[encoding]


def join_streams(pieces: list[Piece]) -> list[Bytes]:
    """Return what a block consists of, in order: directory, streams, padding."""
    streams = [item for piece in pieces for item in piece.streams]
    directory = b"".join(_DIRECTORY.pack(len(data), codec) for codec, data in streams)
    size = len(directory) + sum(len(data) for _, data in streams)
    padding = np.zeros(-size % ALIGNMENT, dtype=np.uint8)
    return [np.frombuffer(directory, dtype=np.uint8), *(data for _, data in streams), padding]


def cut_streams(data: Bytes, count: int) -> list[tuple[int, Bytes]]:
    """Cut a block into its `count` streams; the inverse of `join_streams`.

    Raises:
        IntegrityError: The directory does not describe the block's bytes.
    """
    offset = count * _DIRECTORY.size
    if len(data) < offset:
        raise IntegrityError("a vector column's block is shorter than its directory")
    streams = []
    for length, codec in _DIRECTORY.iter_unpack(data[:offset].data):
        streams.append((codec, data[offset : offset + length]))
        offset += length
    if not 0 <= len(data) - offset < ALIGNMENT:
        raise IntegrityError("a vector column's block does not hold what its directory says")
    return streams


def _encode_words(values: npt.NDArray[np.generic]) -> Piece:
    words = values.view(np.uint32)
    count = len(words)
    bits_seen = int(np.bitwise_or.reduce(words)) if count else 0
    scratch = _SCRATCH.take(4 * count)
    middle, exponents = scratch[2 * count : 3 * count], scratch[3 * count :]
    if planes.is_bfloat16(bits_seen):
        planes.split_upper(words, middle, exponents)
        return Piece(BFLOAT16, [stream.encode_plane(middle), stream.encode_plane(exponents)])
    if planes.may_be_float16(bits_seen) and planes.split_float16(words, middle, exponents):
        return Piece(FLOAT16, [stream.encode_plane(middle), stream.encode_plane(exponents)])
    low = scratch[: 2 * count]
    planes.split_words(words, low.view("<u2"), middle, exponents)
    return Piece(
        SPLIT, [stream.encode_plane(low), stream.encode_plane(middle), stream.encode_plane(exponents)]
    )


def _encode_halves(halves: npt.NDArray[np.uint16]) -> Piece:
    count = len(halves)
    scratch = _SCRATCH.take(2 * count)
    low, high = scratch[:count], scratch[count:]
    planes.split_halves(halves, low, high)
    return Piece(SPLIT, [stream.encode_plane(low), stream.encode_plane(high)])


def _byte_planes(streams: list[tuple[int, Bytes]], count: int) -> tuple[Bytes, Bytes]:
    return stream.decode_stream(*streams[0], count), stream.decode_stream(*streams[1], count)
