"""Records of the log: `u32 size, u32 CRC-32, body`; a body is sequence, time, kind, payload."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol.command import Scalar
from recollect.compat.nvecd.protocol.filters import parse_metadata
from recollect.compat.nvecd.snapshot.checksum import crc32
from recollect.compat.nvecd.snapshot.decode import Cursor, decode_name
from recollect.compat.nvecd.snapshot.encode import encode_string
from recollect.errors import IntegrityError, RequestError

MAGIC: Final = b"NWAL"
VERSION: Final = 1
FILE_HEADER = struct.Struct("<4sI")
HEAD = struct.Struct("<II")  # size of the body, its checksum
BODY = struct.Struct("<QQB")  # sequence, microseconds since 1970, kind
BODY_BYTES_MAX = 256 << 20

VECSET, VECDEL, EVENT, EVENT_DELETE, METASET, METADEL, MAINTENANCE = range(1, 8)
_TYPED = b"NVM1"  # stands before metadata whose types are written out
_U32, _I64, _F64 = struct.Struct("<I"), struct.Struct("<q"), struct.Struct("<d")
_SCORE_AND_TIME = struct.Struct("<iQ")
_TAG_STRING, _TAG_INTEGER, _TAG_DOUBLE, _TAG_BOOL = range(4)


class Decay(msgspec.Struct, frozen=True):
    """A maintenance record: all co-occurrence weights fade once."""


class Record(msgspec.Struct, frozen=True):
    """One record."""

    sequence: int
    time_us: int
    change: cmd.Write | Decay


def encode_record(record: Record) -> bytes:
    """Encode one record, ready to be appended."""
    kind, payload = _encode_change(record.change)
    body = BODY.pack(record.sequence, record.time_us, kind) + payload
    return HEAD.pack(len(body), crc32(body)) + body


def decode_body(body: bytes, place: str) -> Record:
    """Decode the body of a record whose checksum was right; `place` names it in messages.

    Raises:
        IntegrityError: It is no record.
    """
    sequence, time_us, kind = BODY.unpack_from(body)
    cursor = Cursor(body)
    cursor.position = BODY.size
    try:
        change = _decode_change(kind, cursor)
        if kind != MAINTENANCE:
            cursor.finish("WAL record")
    except (IntegrityError, RequestError) as error:
        raise IntegrityError(f"{place}: {error}", "restore the log from a backup, or move it away") from error
    return Record(sequence, time_us, change)


def _encode_change(change: cmd.Write | Decay) -> tuple[int, bytes]:
    match change:
        case cmd.Event(kind=kind, context=context, item=item, score=score, timestamp=timestamp):
            names = encode_string(context) + encode_string(item)
            payload = bytes((kind,)) + names + _SCORE_AND_TIME.pack(score, timestamp or 0)
            return (EVENT_DELETE if kind == 2 else EVENT), payload
        case cmd.VecSet(item=item, vector=vector):
            return VECSET, encode_string(item) + struct.pack(f"<I{len(vector)}f", len(vector), *vector)
        case cmd.VecDel(item=item):
            return VECDEL, encode_string(item)
        case cmd.MetaSet(item=item, metadata=metadata):
            return METASET, encode_string(item) + _encode_metadata(metadata)
        case Decay():
            return MAINTENANCE, b""


def _encode_metadata(metadata: Mapping[str, Scalar]) -> bytes:
    """Write metadata as METASET had it, if that says it exactly; else with its types written out."""
    expression = ",".join(f"{key}:{_spelled(value)}" for key, value in metadata.items())
    try:
        if parse_metadata(expression) == dict(metadata):
            return encode_string(expression)
    except RequestError:
        pass
    parts = [_TYPED, _U32.pack(len(metadata))]
    for key, value in metadata.items():
        parts.append(encode_string(key))
        if isinstance(value, bool):
            parts.append(bytes((_TAG_BOOL, value)))
        elif isinstance(value, int):
            parts.append(bytes((_TAG_INTEGER,)) + _I64.pack(value))
        elif isinstance(value, float):
            parts.append(bytes((_TAG_DOUBLE,)) + _F64.pack(value))
        else:
            parts.append(bytes((_TAG_STRING,)) + encode_string(value))
    return b"".join(parts)


def _spelled(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _decode_change(kind: int, cursor: Cursor) -> cmd.Write | Decay:
    if kind in {EVENT, EVENT_DELETE}:
        event_kind = cursor.take(1, "EVENT event_type")[0]
        context, item = cursor.text("EVENT ctx"), cursor.text("EVENT id")
        score, timestamp = cursor.unpack(_SCORE_AND_TIME, "EVENT score")
        if event_kind > 2:
            raise IntegrityError(f"Invalid event type: {event_kind}")
        return cmd.Event(context, item, event_kind, int(score), int(timestamp) or None)
    if kind == VECSET:
        item, size = cursor.text("VECSET id"), cursor.count("VECSET dim")
        elements = cursor.take(4 * size, "VECSET vector element")
        if cursor.remaining:
            raise IntegrityError("VECSET with metadata of a newer release")
        return cmd.VecSet(item, struct.unpack(f"<{size}f", elements))
    if kind == VECDEL:
        return cmd.VecDel(cursor.text("VECDEL id"))
    if kind == METASET:
        return cmd.MetaSet(cursor.text("METASET id"), _decode_metadata(cursor))
    if kind == METADEL:
        return cmd.MetaSet(cursor.text("METADEL id"), {})
    if kind == MAINTENANCE:
        return Decay()
    raise IntegrityError(f"unknown kind of record: {kind}")


def _decode_metadata(cursor: Cursor) -> dict[str, Scalar]:
    if cursor.data[cursor.position : cursor.position + len(_TYPED)] != _TYPED:
        return parse_metadata(cursor.text("METASET filter_expr"))
    cursor.position += len(_TYPED)
    found: dict[str, Scalar] = {}
    for _ in range(cursor.count("METASET metadata count")):
        key = decode_name(cursor.take(cursor.count("METASET key"), "METASET key"), "METASET key")
        tag = cursor.take(1, "METASET metadata entry")[0]
        if tag == _TAG_STRING:
            found[key] = cursor.text("METASET string value")
        elif tag == _TAG_INTEGER:
            found[key] = int(cursor.unpack(_I64, "METASET integer value")[0])
        elif tag == _TAG_DOUBLE:
            found[key] = float(cursor.unpack(_F64, "METASET double value")[0])
        elif tag == _TAG_BOOL:
            found[key] = bool(cursor.take(1, "METASET boolean value")[0])
        else:
            raise IntegrityError("METASET metadata value tag is invalid")
    return found
