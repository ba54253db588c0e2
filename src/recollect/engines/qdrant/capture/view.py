"""A server's collections, each captured in the best way that works for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pyarrow as pa

from recollect.clock import Clock
from recollect.engines.base import CollectionDescription, Division, FileKeeper
from recollect.engines.qdrant.address import Capture
from recollect.engines.qdrant.capture.access import Access
from recollect.engines.qdrant.capture.cluster import Nodes, ShardLayout, find_nodes, find_shards, spread
from recollect.engines.qdrant.capture.held import HeldCollection, hold_shards, open_shards
from recollect.engines.qdrant.capture.options import CaptureOptions
from recollect.engines.qdrant.capture.part import divided, require_same_shards
from recollect.engines.qdrant.capture.shard import ShardCapture
from recollect.engines.qdrant.capture.spool import Spool
from recollect.engines.qdrant.place import Place
from recollect.engines.qdrant.source import CONSISTENCY, QdrantView, describe_place
from recollect.errors import (
    AccessError,
    IntegrityError,
    MissingDependencyError,
    NotFoundError,
    RecollectError,
    UnavailableError,
    UnsupportedError,
)
from recollect.values.event import Note, OnEvent
from recollect.values.snapshot import ShardEntry

PER_SHARD = "per-shard"
POINT_IN_TIME = "point-in-time"
_PASSABLE = (
    AccessError,
    IntegrityError,
    MissingDependencyError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
"""What stops a capture and may not stop a scroll."""


class CaptureView:
    """Collections of a server. One thread at a time."""

    def __init__(
        self,
        view: QdrantView,
        access: Access,
        spool: Spool,
        options: CaptureOptions,
        *,
        mode: Capture,
        clock: Clock,
        on_event: OnEvent,
    ) -> None:
        self._view = view
        self._access = access
        self._spool = spool
        self._options = options
        self._mode = mode
        self._clock = clock
        self._on_event = on_event
        self._nodes: Nodes | None = None
        self._held: dict[str, HeldCollection] = {}

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return self._view.collections()

    def describe(self, name: str) -> CollectionDescription:
        """Describe one collection; outside of `capture`, its consistency is that of a scroll."""
        held = self._held.get(name)
        return self._view.describe(name) if held is None else held.description

    @contextmanager
    def capture(
        self, name: str, *, keeper: FileKeeper | None = None, anew: bool = False
    ) -> Iterator[CollectionDescription]:
        """Hold one collection: by shard snapshots, or, where they cannot be had, not at all.

        A note says why shard snapshots could not be had.

        Raises:
            NotFoundError: There is no such collection.
            UnsupportedError: `keeper` was given, or snapshots were asked for, and they cannot be had.
        """
        place = self._view.place_of(name)
        own = place.name
        with ExitStack() as stack:
            held = None
            try:
                held = stack.enter_context(self._shards(place, keeper, anew=anew))
            except _PASSABLE as error:
                if self._mode == "snapshot" or keeper is not None:
                    raise
                self._tell(own, error)
            if held is None:
                described = self._view.describe(name)
                yield msgspec.structs.replace(described, shards=self._scrolled_shards(place))
                return
            self._held[own] = held
            stack.callback(self._held.pop, own)
            yield held.description

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key; of a collection that is not held, it is held for that."""
        own = self._view.place_of(name).name
        if own in self._held:
            yield from self._held[own].scan(batch_rows=batch_rows)
            return
        with self.capture(name):
            source = self._held.get(own) or self._view
            if isinstance(source, HeldCollection):
                yield from source.scan(batch_rows=batch_rows)
            else:
                yield from source.scan(name, batch_rows=batch_rows)

    def mark(self, name: str) -> str:
        """Remember the held moment; empty where it is not held, or the node does not tell versions."""
        held = self._held.get(name)
        return "" if held is None else held.mark(self._options.new_id())

    def continues(self, name: str, position: str) -> bool:
        """Tell whether every shard's history leads on from that moment."""
        held = self._held.get(name)
        return held is not None and held.continues(position)

    def is_unchanged(self, name: str, position: str) -> bool:
        """Tell whether no shard changed since that moment."""
        held = self._held.get(name)
        return held is not None and held.is_unchanged(position)

    def versions(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield key and version of all records; nothing where the collection is not held."""
        held = self._held.get(name)
        return iter(()) if held is None else held.versions()

    def fetch(self, name: str, keys: pa.BinaryArray) -> pa.RecordBatch:
        """Return these records, in the order of `keys`."""
        return self._held[name].fetch(keys)

    @contextmanager
    def _shards(self, place: Place, keeper: FileKeeper | None, *, anew: bool) -> Iterator[HeldCollection]:
        connection = self._view.connection
        nodes = self._find_nodes()
        layouts = self._layouts(place, nodes)
        described = describe_place(connection, self._view.inventory, place)
        capture = ShardCapture(
            nodes,
            self._spool,
            collection=place.physical,
            source=connection.address.url,
            limits=self._options.limits,
            clock=self._clock,
            keeper=keeper,
            anew=anew,
            preferred=spread(layouts),
        )
        with hold_shards(capture, layouts) as shards:
            entries = tuple(shard.entry for shard in shards)
            description = msgspec.structs.replace(
                described,
                consistency=POINT_IN_TIME if len(entries) == 1 else PER_SHARD,
                shards=entries,
            )
            shard_ids = tuple(layout.shard_id for layout in layouts)
            with open_shards(description, shards, self._options.open_shard, shard_ids) as held:
                yield held

    def divide(self, name: str) -> Division:
        """Describe the shards of a collection, in an order that begins with shards of different nodes.

        Raises:
            RequestError: The key stands in the URL itself, and would travel with it.
        """
        place = self._view.place_of(name)
        nodes = self._find_nodes()
        layouts = self._layouts(place, nodes)
        described = describe_place(self._view.connection, self._view.inventory, place)
        description = msgspec.structs.replace(
            described, consistency=POINT_IN_TIME if len(layouts) == 1 else PER_SHARD
        )
        return divided(self._access.url, place.physical, description, layouts, nodes)

    def confirm(self, name: str, division: Division) -> None:
        """Make sure that a collection has the shards that it had."""
        now = self._layouts(self._view.place_of(name), self._find_nodes())
        require_same_shards(name, division, now)

    def _layouts(self, place: Place, nodes: Nodes) -> list[ShardLayout]:
        is_cluster = nodes.peer_ids != (0,)
        found = find_shards(self._view.connection, place.physical, is_cluster=is_cluster)
        layouts = _under(place, found)
        if not layouts:
            raise UnsupportedError(f"{place.name} has no shards")
        return layouts

    def _scrolled_shards(self, place: Place) -> tuple[ShardEntry, ...]:
        """Say of each shard that it is scrolled, where the server tells which there are."""
        is_cluster = self._nodes is not None and self._nodes.peer_ids != (0,)
        try:
            layouts = _under(place, find_shards(self._view.connection, place.physical, is_cluster=is_cluster))
        except RecollectError:
            return ()
        return tuple(
            ShardEntry(
                shard_id=layout.shard_id,
                shard_key=layout.shard_key,
                replicas=layout.peers,
                consistency=CONSISTENCY,
                transfer="records",
            )
            for layout in layouts
        )

    def _find_nodes(self) -> Nodes:
        if self._nodes is None:
            self._nodes = find_nodes(self._view.connection, self._access)
        return self._nodes

    def _tell(self, own: str, error: RecollectError) -> None:
        message = f"{own} is read by scrolling, without one instant for all records ({CONSISTENCY}): {error}"
        self._on_event(Note(message=f"{message} ({error.next_step})" if error.next_step else message))


def _under(place: Place, layouts: list[ShardLayout]) -> list[ShardLayout]:
    """Return the shards that hold a place's records."""
    return [layout for layout in layouts if place.shard_key is None or layout.shard_key == place.shard_key]
