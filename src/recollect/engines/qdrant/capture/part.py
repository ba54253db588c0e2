"""One shard of a collection, for another process to capture: what it must be told, and what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pyarrow as pa

from recollect.clock import Clock
from recollect.engines.base import CollectionDescription, Division, FileKeeper
from recollect.engines.qdrant.address import Address, Secrets
from recollect.engines.qdrant.capture.access import Access
from recollect.engines.qdrant.capture.cluster import Nodes, ShardLayout, spread
from recollect.engines.qdrant.capture.held import HeldCollection, open_shards
from recollect.engines.qdrant.capture.options import CaptureOptions
from recollect.engines.qdrant.capture.shard import ShardCapture
from recollect.engines.qdrant.capture.spool import Spool
from recollect.errors import RequestError, UnavailableError
from recollect.values.snapshot import ShardEntry
from recollect.values.url import without_secrets


class ShardPart(msgspec.Struct, frozen=True, kw_only=True):
    """One shard, and how to get at it.

    Attributes:
        url: Of the source as the user gave it; the key is named in it, not written.
        physical: What the server calls the collection.
        description: Of the whole collection.
        layout: The shard and its replicas.
        shard_ids: Of all shards of the collection.
        addresses: Where each node is.
        preferred: The node that is asked first.
    """

    url: str
    physical: str
    description: CollectionDescription
    layout: ShardLayout
    shard_ids: tuple[int, ...]
    addresses: dict[int, Address]
    preferred: int

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"shard {self.layout.shard_id} of {self.description.name!r}"


class HeldPart:
    """A shard that is held here: a view of its collection with only its records. One thread at a time.

    Args:
        token: What `mark` remembers this moment by.
    """

    def __init__(self, held: HeldCollection, token: str) -> None:
        self._held = held
        self._token = token

    @property
    def shard(self) -> ShardEntry:
        """How it is held."""
        (entry,) = self._held.description.shards
        return entry

    def collections(self) -> list[str]:
        """Return the name of the collection."""
        return [self._held.description.name]

    def describe(self, name: str) -> CollectionDescription:
        """Describe the collection."""
        assert name == self._held.description.name, "a part is of one collection"
        return self._held.description

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the shard's records, ascending by key."""
        assert name == self._held.description.name, "a part is of one collection"
        return self._held.scan(batch_rows=batch_rows)

    def mark(self, name: str) -> str:
        """Remember this moment; returns the token, empty where the node does not tell its versions."""
        del name
        return self._held.mark(self._token)

    def continues(self, name: str, position: str) -> bool:
        """Tell whether the shard's history, as it is known here, leads on from that moment."""
        del name
        return self._held.continues(position)

    def is_unchanged(self, name: str, position: str) -> bool:
        """Tell whether the shard did not change since that moment."""
        del name
        return self._held.is_unchanged(position)

    def versions(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield key and version of the shard's records, ascending by key."""
        del name
        return self._held.versions()

    def fetch(self, name: str, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return these records, in the order of `keys`."""
        del name
        return self._held.fetch(keys)


def divided(
    url: str,
    physical: str,
    description: CollectionDescription,
    layouts: list[ShardLayout],
    nodes: Nodes,
) -> Division:
    """Make a part of each shard; those that come first are on different nodes.

    Raises:
        RequestError: The key stands in the URL itself, and would travel with it.
    """
    if without_secrets(url) != url:
        raise RequestError(
            "the URL has the API key in it, and would carry it to every worker",
            "name it instead: api_key_env=NAME or api_key_file=PATH, which each worker looks up for itself",
        )
    preferred = spread(layouts)
    parts = [
        ShardPart(
            url=url,
            physical=physical,
            description=description,
            layout=layout,
            shard_ids=tuple(layout.shard_id for layout in layouts),
            addresses=nodes.addresses,
            preferred=preferred[layout.shard_id],
        )
        for layout in layouts
    ]
    seen: dict[int, int] = {}
    turns = {}
    for part in parts:
        turns[part.layout.shard_id] = seen[part.preferred] = seen.get(part.preferred, 0) + 1
    ordered = sorted(parts, key=lambda part: (turns[part.layout.shard_id], part.preferred))
    return Division(description=description, parts=tuple(ordered))


def require_same_shards(name: str, division: Division, now: list[ShardLayout]) -> None:
    """Make sure that no shard came or went; replicas may move.

    Raises:
        UnavailableError: One did: records may have gone to where nobody read.
    """
    before = {part.layout.shard_id for part in division.parts if isinstance(part, ShardPart)}
    after = {layout.shard_id for layout in now}
    if before != after:
        raise UnavailableError(
            f"the shards of {name!r} changed from {sorted(before)} to {sorted(after)} while they were read",
            "wait until resharding has ended, then back up again",
        )


@contextmanager
def hold_part(
    part: ShardPart,
    options: CaptureOptions,
    *,
    secrets: Secrets,
    clock: Clock,
    token: str,
    keeper: FileKeeper | None,
    anew: bool,
) -> Iterator[HeldPart]:
    """Capture a shard into this machine's spool, and open it, until the context ends.

    Raises:
        As `ShardCapture.hold`, and whatever the engine finds wrong with the files.
    """
    access = Access(part.url, secrets, clock)
    with Spool(options.spool, options.spool_bytes, options.new_id) as spool:
        capture = ShardCapture(
            Nodes(access, part.addresses),
            spool,
            collection=part.physical,
            source=access.address.url,
            limits=options.limits,
            clock=clock,
            keeper=keeper,
            anew=anew,
            preferred={part.layout.shard_id: part.preferred},
        )
        with capture.hold(part.layout) as shard:
            description = msgspec.structs.replace(part.description, shards=(shard.entry,))
            with open_shards(description, [shard], options.open_shard, part.shard_ids) as held:
                yield HeldPart(held, token)
