"""Record keys: engine ids as bytes whose byte order is the canonical order.

Layout: one tag byte, then the id.

====  ==========================  ======================================
tag   id                          bytes after the tag
====  ==========================  ======================================
0x08  negative integer            8, big-endian two's complement
0x10  unsigned integer < 2**64    8, big-endian
0x20  UUID                        16, network order
0x30  string                      its UTF-8 bytes, any length
====  ==========================  ======================================

So integers sort numerically, then UUIDs, then strings by code point, and an id
comes back with the type that it had. Format: docs/format.md#record-key
"""

from __future__ import annotations

import re
from typing import TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recollect.errors import IntegrityError, RequestError

RecordId: TypeAlias = int | UUID | str

TAG_NEGATIVE = 0x08
TAG_INTEGER = 0x10
TAG_UUID = 0x20
TAG_STRING = 0x30

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")  # not int(): that reads "1_000" and " 42" as well

INTEGER_KEY_SIZE = 9
UUID_KEY_SIZE = 17


def encode_key(record_id: RecordId) -> bytes:
    """Encode one engine id.

    Raises:
        RequestError: An integer outside -2**63 .. 2**64-1, a string with a lone surrogate, or a type
            that is no id.
    """
    if isinstance(record_id, bool):
        raise RequestError(f"a record id must be an integer, a UUID or a string, got {record_id!r}")
    if isinstance(record_id, int):
        if 0 <= record_id < 2**64:
            return bytes([TAG_INTEGER]) + record_id.to_bytes(8, "big")
        if -(2**63) <= record_id < 0:
            return bytes([TAG_NEGATIVE]) + record_id.to_bytes(8, "big", signed=True)
        raise RequestError(f"an integer record id must fit 64 bits, got {record_id}")
    if isinstance(record_id, UUID):
        return bytes([TAG_UUID]) + record_id.bytes
    if isinstance(record_id, str):
        try:
            return bytes([TAG_STRING]) + record_id.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RequestError(f"a string record id must be valid Unicode, got {record_id!r}") from error
    raise RequestError(f"a record id must be an integer, a UUID or a string, got {record_id!r}")


def decode_key(key: bytes) -> RecordId:
    """Decode one key; the inverse of `encode_key`.

    Raises:
        IntegrityError: The bytes are not a key.
    """
    tag, body = key[:1], key[1:]
    if tag == b"\x10" and len(body) == 8:
        return int.from_bytes(body, "big")
    if tag == b"\x08" and len(body) == 8 and body[0] >= 0x80:
        return int.from_bytes(body, "big", signed=True)
    if tag == b"\x20" and len(body) == 16:
        return UUID(bytes=body)
    if tag == b"\x30":
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{key.hex()} is not a record key: {error}") from error
    raise IntegrityError(f"{key.hex() or 'an empty value'} is not a record key")


def encode_keys(record_ids: list[RecordId]) -> pa.BinaryArray:
    """Encode ids in their order; vectorized where all are unsigned integers."""
    if record_ids and all(type(record_id) is int for record_id in record_ids):
        try:
            return integer_keys(np.array(record_ids, dtype=np.uint64))
        except OverflowError:  # negative, or beyond 64 bits: the general path tells which
            pass
    return pa.array([encode_key(record_id) for record_id in record_ids], type=pa.binary())


def integer_keys(values: npt.NDArray[np.uint64]) -> pa.BinaryArray:
    """Encode unsigned integers. Shapes: values (n,) uint64 → n keys of 9 bytes."""
    count = len(values)
    rows = np.empty((count, INTEGER_KEY_SIZE), dtype=np.uint8)
    rows[:, 0] = TAG_INTEGER
    rows[:, 1:] = values.astype(">u8").view(np.uint8).reshape(count, 8)
    offsets = np.arange(count + 1, dtype=np.int32) * INTEGER_KEY_SIZE
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(rows)]
    return pa.Array.from_buffers(pa.binary(), count, buffers)


def uuid_keys(values: npt.NDArray[np.uint8]) -> pa.BinaryArray:
    """Encode UUIDs in network order. Shapes: values (n, 16) → n keys of 17 bytes."""
    count = len(values)
    rows = np.empty((count, UUID_KEY_SIZE), dtype=np.uint8)
    rows[:, 0] = TAG_UUID
    rows[:, 1:] = values
    offsets = np.arange(count + 1, dtype=np.int32) * UUID_KEY_SIZE
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def decode_keys(keys: pa.BinaryArray) -> list[RecordId]:
    """Decode a column of keys in its order."""
    return [decode_key(key) for key in keys.to_pylist()]


def display_key(key: bytes) -> str:
    """Render a key for people: the id as its engine prints it."""
    return str(decode_key(key))


def parse_record_id(text: str) -> RecordId:
    """Read an id from the command line: an integer as engines print it, else a UUID, else a string.

    A leading `=` forces a string: `=42` is the string "42".
    """
    if text.startswith("="):
        return text[1:]
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        return UUID(text)
    except ValueError:
        return text
