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

_STREAM_COUNTS = {(PLAIN, 1): 1, (SPLIT, 4): 3, (SPLIT, 2): 2, (FLOAT16, 4): 2, (BFLOAT16, 4): 2}
"""Streams of an array by its encoding and the bytes of an element."""

_DIRECTORY = struct.Struct("<II")
ALIGNMENT = 8


class Piece(NamedTuple):
    """One encoded array: its encoding and its streams as (codec, stored bytes)."""

    encoding: int
    streams: list[tuple[int, Bytes]]


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
    if values.dtype.itemsize == 1:
        return Piece(PLAIN, [stream.encode_noisy(values.view(np.uint8))])
    if values.dtype.itemsize == 2:
        return _encode_halves(values.view(np.uint16))
    return _encode_words(values.view(np.uint32))


def decode_floats(encoding: int, streams: list[tuple[int, Bytes]], target: npt.NDArray[np.generic]) -> None:
    """Decode elements into `target`; `stream_count` knows the encoding.

    Shapes: target (n,), C-contiguous, of the element type.
    """
    count, width = len(target), target.dtype.itemsize
    low = stream.decode_stream(*streams[0], 2 * count if (encoding, width) == (SPLIT, 4) else count)
    if encoding == PLAIN:
        target.view(np.uint8)[:] = low
        return
    middle = stream.decode_stream(*streams[1], count)
    if encoding == BFLOAT16:
        planes.join_upper(low, middle, target.view(np.uint32))
    elif encoding == FLOAT16:
        planes.join_float16(low, middle, target.view(np.uint32))
    elif width == 2:
        planes.join_halves(low, middle, target.view(np.uint16))
    else:
        exponents = stream.decode_stream(*streams[2], count)
        planes.join_words(low.view("<u2"), middle, exponents, target.view(np.uint32))


def encode_integers(values: npt.NDArray[np.uint32]) -> Piece:
    """Encode counts or index deltas as four byte planes. Shapes: (n,) uint32."""
    rows = np.empty((4, len(values)), dtype=np.uint8)
    planes.split_bytes(values, rows)
    return Piece(PLANES, [stream.encode_skewed(row) for row in rows])


def decode_integers(streams: list[tuple[int, Bytes]], count: int) -> npt.NDArray[np.uint32]:
    """Decode four byte planes; the inverse of `encode_integers`."""
    return planes.join_bytes([stream.decode_stream(*item, count) for item in streams])


def stream_count(encoding: int, width: int) -> int:
    """Return how many streams an array of `width`-byte elements has in this encoding.

    Raises:
        IntegrityError: There is no such encoding of such elements.
    """
    if (encoding, width) not in _STREAM_COUNTS:
        raise IntegrityError(
            f"a vector column's block has encoding {encoding}, unknown for {width}-byte elements"
        )
    return _STREAM_COUNTS[encoding, width]


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


def _encode_words(words: npt.NDArray[np.uint32]) -> Piece:
    count = len(words)
    bits_seen = int(np.bitwise_or.reduce(words)) if count else 0
    scratch = _SCRATCH.take(4 * count)
    middle, exponents = scratch[2 * count : 3 * count], scratch[3 * count :]
    if planes.is_bfloat16(bits_seen):
        planes.split_upper(words, middle, exponents)
        return _two_planes(BFLOAT16, middle, exponents)
    if planes.may_be_float16(bits_seen) and planes.split_float16(words, middle, exponents):
        return _two_planes(FLOAT16, middle, exponents)
    low = scratch[: 2 * count]
    planes.split_words(words, low.view("<u2"), middle, exponents)
    streams = [stream.encode_noisy(low), stream.encode_noisy(middle), stream.encode_skewed(exponents)]
    return Piece(SPLIT, streams)


def _encode_halves(halves: npt.NDArray[np.uint16]) -> Piece:
    count = len(halves)
    scratch = _SCRATCH.take(2 * count)
    low, high = scratch[:count], scratch[count:]
    planes.split_halves(halves, low, high)
    return _two_planes(SPLIT, low, high)


def _two_planes(encoding: int, low: Bytes, high: Bytes) -> Piece:
    return Piece(encoding, [stream.encode_noisy(low), stream.encode_skewed(high)])
