"""Streams: the smallest stored unit, a run of bytes either as it is or as one zstd frame.

Whether a stream is compressed is decided from a sample of 8 KiB, so data that does not
compress costs a few microseconds; the decision changes the size, never the values.
For exponents the compressor hardly looks for matches (strategy fast, hash of 64 entries): they
have a skewed distribution and no repeats, so its Huffman coder is all that pays. Mantissas are
noise, unless whole vectors repeat; there a larger hash finds them.
Format: docs/format.md#vector-column
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import zstandard

from recollect.errors import IntegrityError

Bytes = npt.NDArray[np.uint8]

STORED = 0
ZSTD = 1

SAMPLE_SIZE = 8192
"""Bytes probed before a stream is compressed whole: one page of a plane, 4 to 10 microseconds."""

EXPANSION_MAX = 40_000
"""No zstd frame unpacks to more than this many times its size: 4 bytes may stand for 128 KiB."""


class _Compressors(threading.local):
    """One set of zstd contexts per thread: a context must not be shared, and is dear to make."""

    def __init__(self) -> None:
        # Source of the parameters: measured on text embeddings, docs/decisions/0030-vector-columns.md
        self.entropy = _compressor(hash_log=6)
        self.matching = _compressor(hash_log=14)
        self.decompressor = zstandard.ZstdDecompressor()


def _compressor(hash_log: int) -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        window_log=18,
        hash_log=hash_log,
        chain_log=6,
        min_match=7,
        write_content_size=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


_COMPRESSORS = _Compressors()


def encode_skewed(plane: Bytes) -> tuple[int, Bytes]:
    """Encode bytes of a skewed distribution, as exponents are; return the stream's codec and stored bytes.

    The result may be the argument itself. Shapes: (n,) uint8, C-contiguous.
    """
    return _encode(plane, _COMPRESSORS.entropy)


def encode_noisy(plane: Bytes) -> tuple[int, Bytes]:
    """Encode bytes that compress only where values repeat, as mantissas do; else like `encode_skewed`."""
    return _encode(plane, _COMPRESSORS.matching)


def decode_stream(codec: int, stored: Bytes, size: int) -> Bytes:
    """Return the `size` bytes of one stream; stored ones are a view of the argument.

    Raises:
        IntegrityError: The codec is unknown, the frame is broken, or the size is not as expected.
            The frame's own claim is checked before memory is taken for it.
    """
    if codec == STORED:
        if len(stored) != size:
            raise IntegrityError(f"a stream of a vector column has {len(stored)} bytes, expected {size}")
        return stored
    if codec != ZSTD:
        raise IntegrityError(f"a stream of a vector column has the unknown codec {codec}")
    try:
        claimed = zstandard.get_frame_parameters(stored.data).content_size
        if claimed != size or size > EXPANSION_MAX * len(stored):
            raise IntegrityError(f"a stream of a vector column unpacks to {claimed} bytes, expected {size}")
        data = _COMPRESSORS.decompressor.decompress(stored.data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a stream of a vector column does not unpack: {error}") from error
    if len(data) != size:
        raise IntegrityError(f"a stream of a vector column unpacks to {len(data)} bytes, expected {size}")
    return np.frombuffer(data, dtype=np.uint8)


def _encode(data: Bytes, compressor: zstandard.ZstdCompressor) -> tuple[int, Bytes]:
    if len(data) > SAMPLE_SIZE and not _promises(data, compressor):
        return STORED, data
    packed = np.frombuffer(compressor.compress(data.data), dtype=np.uint8)
    return (ZSTD, packed) if len(packed) < len(data) else (STORED, data)


def _promises(data: Bytes, compressor: zstandard.ZstdCompressor) -> bool:
    """Say whether a sample from the middle gets smaller."""
    middle = (len(data) // 2) // SAMPLE_SIZE * SAMPLE_SIZE
    sample = data[middle : middle + SAMPLE_SIZE]
    return len(compressor.compress(sample.data)) < len(sample)
