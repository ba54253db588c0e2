"""Vector columns beside zstd, gzip and Parquet's own encodings: ratio, and MB/s in and out on one thread.

Three origins of the same embeddings (float32, born as float16, born as bfloat16) and their int8
quantization. Every codec takes every origin in turn, round after round, so a slow moment of the
machine hits all of them; the table shows medians. Rows go in batches of 8,192, as backups and
restores handle them. Every decoded column is compared bit by bit.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from benchmarks.data import embeddings
from recollect.codec.rows import Rows, rows_of_array, rows_to_array
from recollect.codec.vector_column import decode_vector_column, encode_vector_column
from recollect.values.batch import BATCH_ROWS
from recollect.values.schema import VectorSpec

Matrix = npt.NDArray[np.generic]
BLOCK_SIZE = 1 << 20
GZIP_BYTES_MAX = 4 << 20


class Codec(NamedTuple):
    """One way to store a matrix; `decode(encode(matrix), matrix)` gives its bytes back.

    Attributes:
        bytes_max: How much of the data it is given; gzip would take minutes for all of it.
    """

    name: str
    encode: Callable[[Matrix], Any]
    decode: Callable[[Any, Matrix], Matrix]
    bytes_max: int = 1 << 40


class Taken(NamedTuple):
    """What one codec did with one origin."""

    ratio: float
    encode_s: list[float]
    decode_s: list[float]
    byte_size: int


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", nargs="?", type=Path, help=".npy of float32 embeddings; else the sample's")
    parser.add_argument("--rows", type=int, default=20_000, help="rows to measure with at most")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    origins = _origins(_load(options.vectors, options.rows))
    taken: dict[tuple[str, str], Taken] = {}
    for _ in range(options.rounds + 1):  # the first round warms up and is dropped
        for origin, matrix in origins.items():
            for codec in _codecs():
                _measure(taken, origin, codec, matrix)
    rows, dimension = origins["float32"].shape
    print(f"{rows} x {dimension}; medians of {options.rounds} rounds, one thread; MB/s of raw values\n")
    print("| origin | codec | ratio | MB/s in | MB/s out |\n|---|---|---|---|---|")
    for (origin, name), one in taken.items():
        speeds = [
            one.byte_size / 1e6 / statistics.median(times[1:]) for times in (one.encode_s, one.decode_s)
        ]
        print(f"| {origin} | {name} | {one.ratio:.3f} | {speeds[0]:.0f} | {speeds[1]:.0f} |")


def _load(path: Path | None, rows: int) -> npt.NDArray[np.float32]:
    if path is not None:
        loaded: npt.NDArray[np.float32] = np.load(path)[:rows]
        return loaded
    return embeddings(None, rows, 384, np.random.default_rng(1))


def _origins(vectors: npt.NDArray[np.float32]) -> dict[str, Matrix]:
    bfloat16 = (vectors.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return {
        "float32": np.ascontiguousarray(vectors),
        "float32 born as float16": vectors.astype(np.float16).astype(np.float32),
        "float32 born as bfloat16": bfloat16,
        "int8": np.clip(np.round(vectors * 400), -127, 127).astype(np.int8),
    }


def _measure(taken: dict[tuple[str, str], Taken], origin: str, codec: Codec, matrix: Matrix) -> None:
    rows = max(1, min(len(matrix), codec.bytes_max // max(1, matrix[:1].nbytes)))
    encode_s = decode_s = 0.0
    size = 0
    for start in range(0, rows, BATCH_ROWS):
        part = matrix[start : min(start + BATCH_ROWS, rows)]
        started = time.perf_counter()
        encoded = codec.encode(part)
        between = time.perf_counter()
        decoded = codec.decode(encoded, part)
        decode_s += time.perf_counter() - between
        encode_s += between - started
        assert decoded.tobytes() == part.tobytes(), f"{codec.name} changed {origin}"
        size += sum(map(len, encoded)) if isinstance(encoded, list) else len(encoded)
    raw_size = matrix[:rows].nbytes
    one = taken.setdefault((origin, codec.name), Taken(raw_size / size, [], [], raw_size))
    one.encode_s.append(encode_s)
    one.decode_s.append(decode_s)


def _codecs() -> list[Codec]:
    return [
        Codec("vector column", _encode_column, _decode_column),
        _blockwise("raw copy", bytes, bytes),
        _zstd(1),
        _zstd(3),
        _blockwise(
            "gzip 6", lambda block: gzip.compress(block, 6), gzip.decompress, bytes_max=GZIP_BYTES_MAX
        ),
        _parquet("fixed-size list, plain, zstd 1", compression="zstd", compression_level=1),
        _parquet("fixed-size list, uncompressed", compression="none"),
        _parquet(
            "fixed-size list, BYTE_STREAM_SPLIT, zstd 1", split=True, compression="zstd", compression_level=1
        ),
        Codec("Parquet, fixed-size binary, zstd 1", _encode_binary, _decode_binary),
    ]


def _spec(matrix: Matrix) -> VectorSpec:
    return VectorSpec(name="v", dimension=matrix.shape[1], datatype=matrix.dtype.name)  # type: ignore[arg-type]


def _array(matrix: Matrix) -> pa.Array:
    return rows_to_array([Rows(matrix, None, None)], _spec(matrix))


def _encode_column(matrix: Matrix) -> bytes:
    return encode_vector_column(_array(matrix), _spec(matrix))


def _decode_column(data: bytes, matrix: Matrix) -> Matrix:
    return rows_of_array(decode_vector_column(data, _spec(matrix)), _spec(matrix)).values


def _blockwise(
    name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], bytes], *, bytes_max: int = 1 << 40
) -> Codec:
    def encode_all(matrix: Matrix) -> list[bytes]:
        flat = matrix.reshape(-1).view(np.uint8)
        return [encode(flat[start : start + BLOCK_SIZE].data) for start in range(0, len(flat), BLOCK_SIZE)]

    def decode_all(blocks: list[bytes], matrix: Matrix) -> Matrix:
        target = np.empty_like(matrix)
        flat = target.reshape(-1).view(np.uint8)
        for number, block in enumerate(blocks):
            data = np.frombuffer(decode(block), dtype=np.uint8)
            flat[number * BLOCK_SIZE : number * BLOCK_SIZE + len(data)] = data
        return target

    return Codec(name, encode_all, decode_all, bytes_max)


def _zstd(level: int) -> Codec:
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    return _blockwise(f"zstd {level}", compressor.compress, decompressor.decompress)


def _parquet(
    name: str, *, split: bool = False, compression: str, compression_level: int | None = None
) -> Codec:
    def encode(matrix: Matrix) -> pa.Buffer:
        # The leaf's path in the file, not the field's name in Arrow.
        encodings = {"v.list.element": "BYTE_STREAM_SPLIT" if split else "PLAIN"}
        return _write(
            pa.table({"v": _array(matrix)}),
            use_dictionary=False,
            column_encoding=encodings,
            compression=compression,
            compression_level=compression_level,
        )

    def decode(data: pa.Buffer, matrix: Matrix) -> Matrix:
        column = _read(data)
        decoded: Matrix = column.flatten().to_numpy(zero_copy_only=False).reshape(matrix.shape)
        return decoded

    return Codec(f"Parquet, {name}", encode, decode)


def _encode_binary(matrix: Matrix) -> pa.Buffer:
    width = matrix.shape[1] * matrix.itemsize
    values = pa.Array.from_buffers(pa.binary(width), len(matrix), [None, pa.py_buffer(matrix)], null_count=0)
    return _write(pa.table({"v": values}), use_dictionary=False, compression="zstd", compression_level=1)


def _decode_binary(data: pa.Buffer, matrix: Matrix) -> Matrix:
    return np.frombuffer(_read(data).buffers()[1], dtype=matrix.dtype).reshape(matrix.shape)


def _write(table: pa.Table, **settings: Any) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=8192, write_page_checksum=True, **settings)
    return sink.getvalue()


def _read(data: pa.Buffer) -> pa.Array:
    table = pq.read_table(pa.BufferReader(data), use_threads=False, page_checksum_verification=True)
    return table.column("v").combine_chunks()


if __name__ == "__main__":
    main()
