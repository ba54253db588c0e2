"""Operations: what a commit consists of, as it is applied and as it is logged.

Each is a MessagePack array that begins with its tag; tags are never reused. Applying the
same operations in the same order to equal tables gives equal tables: whatever depends on
the clock or on chance is decided before, and written into the operation.
Format: docs/reference/database-format.md
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from recollect.database.options import EventOptions
from recollect.errors import IntegrityError
from recollect.values.schema import CollectionSchema


class CollectionCreate(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Create a vector collection; its schema has exactly one dense float32 vector."""

    collection: str
    schema: CollectionSchema


class CollectionDrop(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """Remove a vector collection with all that it holds."""

    collection: str


class CollectionSwitch(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Give a collection another name, in place of what had it."""

    collection: str
    new_name: str


class VectorsSet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """Set vectors, row by row.

    Attributes:
        keys: Record keys (`values.key`), n of them; of equal ones the last stands.
        vectors: n rows of little-endian float32.
        metadata: n JSON texts, None for none; an empty list keeps what each id has.
    """

    collection: str
    keys: list[bytes]
    vectors: memoryview
    metadata: list[bytes | None]


class VectorsDelete(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """Delete vectors; unknown ids are passed over."""

    collection: str
    keys: list[bytes]


class MetadataSet(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """Replace the metadata of vectors; unknown ids are passed over."""

    collection: str
    keys: list[bytes]
    metadata: list[bytes | None]


class VectorsClear(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    """Delete every vector of a collection; the collection stays."""

    collection: str


class EventsAppend(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=20):
    """Take events, in order. Columns of one length; `kinds` holds ADD 0, SET 1, DEL 2."""

    contexts: list[str]
    items: list[str]
    scores: list[int]
    timestamps: list[int]
    kinds: bytes


class EventsDecay(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=21):
    """Multiply all co-occurrence weights by `alpha` and drop those below `weight_min`."""

    alpha: float
    weight_min: float


class EventsConfigure(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=22):
    """Use these options from here on."""

    options: EventOptions


class EventsReplace(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=23):
    """Put other events and another co-occurrence index in place of the present ones.

    Attributes:
        names: Item names; the columns below speak of them by index.
        contexts: Context names, the one that took no event for longest first.
        rings: For each context its events, oldest first, packed as `events.EVENT`.
        sources, targets: Directed edges, little-endian uint32.
        weights: Their weights, little-endian float32.
        event_count: What the counter of events shows from here on.
    """

    names: list[str]
    contexts: list[str]
    rings: list[bytes]
    sources: bytes
    targets: bytes
    weights: bytes
    event_count: int


class StateWrite(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=40):
    """Write one JSON value; gives the key its next version."""

    namespace: str
    agent: str
    key: str
    value: bytes


class StateDelete(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=41):
    """Write a tombstone; gives the key its next version, even if it never existed."""

    namespace: str
    agent: str
    key: str


class StateWriteMany(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=42):
    """Write many values of one agent, in order."""

    namespace: str
    agent: str
    keys: list[str]
    values: list[bytes]


class StateRestore(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=44):
    """Set one key to a value with the version and commit it had elsewhere; None is a tombstone.

    A version that is not newer than what the key has by then becomes the key's next one.
    """

    namespace: str
    agent: str
    key: str
    value: bytes | None
    version: int
    commit_ts: int


Operation: TypeAlias = (
    CollectionCreate
    | CollectionDrop
    | CollectionSwitch
    | VectorsSet
    | VectorsDelete
    | MetadataSet
    | VectorsClear
    | EventsAppend
    | EventsDecay
    | EventsConfigure
    | EventsReplace
    | StateWrite
    | StateDelete
    | StateWriteMany
    | StateRestore
)


def byte_size(operation: Operation) -> int:
    """Return about how many bytes of memory the content of an operation takes."""
    return sum(_field_size(getattr(operation, name)) for name in operation.__struct_fields__)


def _field_size(value: object) -> int:
    if isinstance(value, memoryview):
        return value.nbytes
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, list):
        return sum(8 + (len(one) if isinstance(one, (bytes, str)) else 0) for one in value)
    return 8


class CommitBody(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the frame of one commit carries besides its header.

    Attributes:
        transaction: 16 bytes that name the transaction, or none.
        operations: In the order in which they were staged.
    """

    transaction: bytes
    operations: list[Operation]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(CommitBody)


def encode_body(body: CommitBody) -> bytes:
    """Encode the body of a commit."""
    return _ENCODER.encode(body)


def encode_nothing(_body: CommitBody) -> bytes:
    """Return no bytes: for a log that is not kept."""
    return b""


def decode_body(encoded: memoryview | bytes) -> CommitBody:
    """Decode the body of a commit; vectors stay views into `encoded`.

    Raises:
        IntegrityError: These are not the bytes of a commit.
    """
    try:
        return _DECODER.decode(encoded)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"a commit cannot be decoded: {error}") from error
