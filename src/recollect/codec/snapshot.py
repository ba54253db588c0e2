"""Snapshots as canonical JSON: equal snapshots give equal bytes.

UTF-8, object keys sorted, no insignificant space. Unknown keys are ignored, so a release may add
some; a release that changes the meaning of a key raises the format. Format: docs/format.md#snapshot
"""

from __future__ import annotations

import msgspec

from recollect.errors import FormatVersionError, IntegrityError
from recollect.values.snapshot import SNAPSHOT_FORMAT, Snapshot


class _Versioned(msgspec.Struct, frozen=True):
    """The one key that every version of the description has."""

    format: int


_ENCODER = msgspec.json.Encoder(order="sorted")
_VERSION_DECODER = msgspec.json.Decoder(_Versioned)
_DECODER = msgspec.json.Decoder(Snapshot)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Encode a snapshot; deterministic.

    A collection's `shards` are left out where there are none, and its `base_runs` where it is one.
    """
    description = msgspec.to_builtins(snapshot)
    for entry in description["collections"]:
        if not entry["shards"]:
            del entry["shards"]
        if entry["base_runs"] == 1:
            del entry["base_runs"]
    return _ENCODER.encode(description)


def decode_snapshot(data: bytes) -> Snapshot:
    """Decode a snapshot; the inverse of `encode_snapshot`.

    Raises:
        IntegrityError: The bytes are not the JSON of a snapshot.
        FormatVersionError: A snapshot of a newer format.
    """
    try:
        version = _VERSION_DECODER.decode(data).format
        if version > SNAPSHOT_FORMAT:
            raise FormatVersionError(
                f"a snapshot has format {version}; this release reads formats up to {SNAPSHOT_FORMAT}",
                "upgrade recollect on this machine",
            )
        if version < 1:
            raise IntegrityError(f"a snapshot has format {version}, which never existed")
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"a snapshot's description is damaged: {error}") from error
