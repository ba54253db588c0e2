"""A Qdrant server as a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from recollect.clock import Clock
from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.engines.qdrant.address import Secrets, parse_address
from recollect.engines.qdrant.connection import Connection
from recollect.engines.qdrant.failures import understood
from recollect.engines.qdrant.inventory import Inventory, read_inventory
from recollect.engines.qdrant.place import (
    Place,
    ShardKey,
    is_custom,
    part_name,
    read_shard_keys,
    require_key,
    require_place,
)
from recollect.engines.qdrant.readiness import (
    count_records,
    hidden_points,
    page_rows_max,
    read_info,
    require_readable,
)
from recollect.engines.qdrant.schema import PRODUCT, schema_from_info
from recollect.engines.qdrant.scroll import Scroll
from recollect.errors import UnavailableError
from recollect.values.event import Note, OnEvent, ignore_events
from recollect.values.schema import CollectionSchema

CAPABILITIES = Capabilities(point_in_time=False, ordered_scan=True)
CONSISTENCY = "fuzzy"


class QdrantSource:
    """A server's collections, read by scrolling. One thread at a time.

    A hold keeps the list of collections and aliases; records that are written during a scan are
    seen or not. Where the count changes meanwhile, a note says so.

    Args:
        url: See `address`.
        secrets: Gives the value of `api_key_env`.
        clock: Waits between attempts.
        on_event: Is told what the user should know.

    Raises:
        RequestError, AccessError: The URL is wrong, or its secret is not there. Nothing is sent yet.
    """

    def __init__(
        self, url: str, *, secrets: Secrets, clock: Clock, on_event: OnEvent = ignore_events
    ) -> None:
        address, api_key = parse_address(url, secrets)
        self._connection = Connection(address, api_key, clock)
        self._on_event = on_event

    @property
    def capabilities(self) -> Capabilities:
        """No point in time; ids come in order."""
        return CAPABILITIES

    def info(self) -> EngineInfo:
        """Identify the server."""
        return server_info(self._connection)

    @contextmanager
    def hold(self) -> Iterator[QdrantView]:
        """Read which collections there are; their records go on changing."""
        inventory = read_inventory(self._connection)
        for leftover in inventory.leftovers():
            message = f"{leftover} is left over from an interrupted restore and is not backed up"
            self._on_event(Note(message=message))
        yield QdrantView(self._connection, inventory, self._on_event)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


class QdrantView:
    """The collections that were there when the hold began."""

    def __init__(self, connection: Connection, inventory: Inventory, on_event: OnEvent) -> None:
        self._connection = connection
        self._inventory = inventory
        self._on_event = on_event

    @property
    def connection(self) -> Connection:
        """The connection that it reads by."""
        return self._connection

    @property
    def inventory(self) -> Inventory:
        """The collections and aliases that were there."""
        return self._inventory

    def place_of(self, name: str) -> Place:
        """Return where the records of this name are; NotFoundError lists what there is."""
        return require_place(self._inventory, name, self._connection.address.url)

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted; see `inventory` and `place`."""
        found = []
        for name in self._inventory.names():
            keys = self._keys(self.place_of(name))
            found += [part_name(name, key) for key in keys] or [name]
        return sorted(found)

    def describe(self, name: str) -> CollectionDescription:
        """Describe one collection.

        Raises:
            NotFoundError: There is none; it lists what there is.
            UnavailableError: Not all of its records can be read now.
            UnsupportedError: Its records cannot be backed up one by one.
        """
        place = self.place_of(name)
        info = read_info(self._connection, place.physical)
        require_readable(self._connection, place.physical, info)
        return describe_place(self._connection, self._inventory, place)

    def scan(self, name: str, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all records, ascending by key; one page of the server is one batch."""
        place = self.place_of(name)
        physical = place.physical
        info = read_info(self._connection, physical)
        require_readable(self._connection, physical, info)
        require_key(place, self._keys(place, info))
        before = count_records(self._connection, physical, place.shard_key)
        scroll = Scroll(
            self._connection,
            physical,
            _schema(self._connection, info, name),
            batch_rows=batch_rows,
            page_rows_max=page_rows_max(info),
            shard_key=place.shard_key,
        )
        yield from scroll.batches()
        self._report(name, place, before, scroll.row_count)

    def _keys(self, place: Place, info: dict[str, Any] | None = None) -> dict[ShardKey, int]:
        return shard_keys_of(
            self._connection, place.physical, info or read_info(self._connection, place.physical)
        )

    def _report(self, name: str, place: Place, before: int, seen: int) -> None:
        """Compare what was seen with the counts before and after.

        Raises:
            UnavailableError: Points were hidden while they were to be read.
        """
        if hidden_points(read_info(self._connection, place.physical)) != 0:
            raise UnavailableError(
                f"the collection {name!r} began to hide points during the scan (prevent_unoptimized is on)",
                "wait until the optimizers are done, or set prevent_unoptimized to false for the backup",
            )
        after = count_records(self._connection, place.physical, place.shard_key)
        if not before == seen == after:
            message = (
                f"{name} changed while it was read: {before} records before, {after} after, {seen} read; "
                "records written meanwhile may be missing until the next backup"
            )
            self._on_event(Note(message=message))


def server_info(connection: Connection) -> EngineInfo:
    """Ask a server who it is.

    Raises:
        UnavailableError, AccessError: It cannot be reached, or does not let us in.
    """
    answer = connection.rest("GET", "/", action="greeting the server")
    return EngineInfo(product=PRODUCT, version=str(answer.get("version", "")), url=connection.address.url)


def describe_collection(
    connection: Connection, inventory: Inventory, own: str, physical: str
) -> CollectionDescription:
    """Describe a collection that the server calls `physical` and users call `own`, with all its records."""
    info = read_info(connection, physical)
    keys = shard_keys_of(connection, physical, info)
    return _description(connection, inventory, Place(own, own, physical), info, keys)


def describe_place(connection: Connection, inventory: Inventory, place: Place) -> CollectionDescription:
    """Describe the records of one place.

    Raises:
        NotFoundError: There is no such shard key, or the collection has keys and none is named.
    """
    info = read_info(connection, place.physical)
    keys = shard_keys_of(connection, place.physical, info)
    require_key(place, keys)
    return _description(connection, inventory, place, info, keys)


def _description(
    connection: Connection,
    inventory: Inventory,
    place: Place,
    info: dict[str, Any],
    keys: dict[ShardKey, int],
) -> CollectionDescription:
    count = int(info.get("points_count") or 0)
    return CollectionDescription(
        name=place.name,
        schema=_schema(connection, info, place.name, keys),
        aliases=inventory.aliases(place.physical),
        record_count=count_records(connection, place.physical, place.shard_key) if keys else count,
        consistency=CONSISTENCY,
    )


def _schema(
    connection: Connection, info: dict[str, Any], name: str, keys: dict[ShardKey, int] | None = None
) -> CollectionSchema:
    where = f"the collection {name!r}"
    with understood(f"describing {where}", connection.address):
        return schema_from_info(info, where, keys)


def shard_keys_of(connection: Connection, physical: str, info: dict[str, Any]) -> dict[ShardKey, int]:
    """Return the custom shard keys of a collection, and how many shards each has; none as a rule."""
    return read_shard_keys(connection, physical) if is_custom(info) else {}
