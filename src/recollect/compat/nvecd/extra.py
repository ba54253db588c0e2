"""What format v1 cannot carry, for a store of our own in the file: MessagePack, versioned.

A file has it only if there is something in it; without it the file is nvecd's.
"""

from __future__ import annotations

import msgspec

from recollect.errors import FormatVersionError, IntegrityError

EXTRA_VERSION = 1


class StateRow(msgspec.Struct, frozen=True, array_like=True):
    """One version of one state key; value None is a tombstone."""

    namespace: str
    agent: str
    key: str
    version: int
    commit_ts: int
    value: bytes | None


class VectorRow(msgspec.Struct, frozen=True, array_like=True):
    """One vector whose id is not text: record key, float32 elements, metadata as JSON."""

    key: bytes
    vector: bytes
    metadata: bytes | None


class CollectionRows(msgspec.Struct, frozen=True, array_like=True):
    """A vector collection besides the default one."""

    name: str
    dimension: int
    metric: str
    rows: list[VectorRow]


class Extra(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The extra store.

    Attributes:
        state: All versions, in the order of their commits.
        metadata: By id, JSON that has no v1 form: nested values, null, integers beyond 64 bits.
        vectors: Of the default collection, those whose id is an integer or a UUID.
        collections: All other vector collections.
    """

    version: int = 0
    state: list[StateRow] = []
    metadata: dict[str, bytes] = {}
    vectors: list[VectorRow] = []
    collections: list[CollectionRows] = []

    @property
    def is_empty(self) -> bool:
        """Whether the file needs no such store."""
        return not (self.state or self.metadata or self.vectors or self.collections)


def encode_extra(extra: Extra) -> bytes:
    """Encode the extra store."""
    return msgspec.msgpack.encode(msgspec.structs.replace(extra, version=EXTRA_VERSION))


def decode_extra(data: bytes) -> Extra:
    """Decode the extra store.

    Raises:
        FormatVersionError: A newer release wrote it.
        IntegrityError: It is no such store.
    """
    try:
        version = msgspec.msgpack.decode(data, type=_Version).version
        if version != EXTRA_VERSION:
            raise FormatVersionError(
                f"the snapshot's store 'recollect' has version {version}; this release reads {EXTRA_VERSION}",
                "load it with the release that wrote it, or a newer one",
            )
        return msgspec.msgpack.decode(data, type=Extra)
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"the store 'recollect' of the snapshot cannot be decoded: {error}", "use another snapshot file"
        ) from error


class _Version(msgspec.Struct, frozen=True):
    version: int = 0
