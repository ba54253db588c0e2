"""A Qdrant server as a target: staged under another name, put into place by an alias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from recollect.clock import Clock
from recollect.engines.adapt import as_qdrant_holds
from recollect.engines.base import Capabilities, CollectionDescription, EngineInfo
from recollect.engines.qdrant.address import Secrets, parse_address
from recollect.engines.qdrant.capture.access import Access
from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.creation import plan_creation
from recollect.engines.qdrant.inventory import NAME_LENGTH_MAX, Inventory, read_inventory, staged_name
from recollect.engines.qdrant.live import QdrantLive
from recollect.engines.qdrant.place import CUSTOM, locate, require_place, shards_of, split_name
from recollect.engines.qdrant.readiness import read_info
from recollect.engines.qdrant.schema import PRODUCT
from recollect.engines.qdrant.searching import QdrantSearcher, wait_until_indexed
from recollect.engines.qdrant.source import (
    CAPABILITIES,
    describe_collection,
    describe_place,
    server_info,
    shard_keys_of,
)
from recollect.engines.qdrant.staged import QdrantStaged
from recollect.engines.qdrant.staged_files import QdrantStagedFiles, Scratch
from recollect.errors import ConflictError, RequestError
from recollect.values.schema import CollectionSchema


class QdrantTarget:
    """A server to restore into. One thread at a time.

    Args:
        url: See `address`.
        secrets: Gives the value of `api_key_env`.
        clock: Waits between attempts.
        new_id: Returns a new ULID for each staged collection.
        scratch: Where archives of files are built; without it, files cannot be restored.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Secrets,
        clock: Clock,
        new_id: Callable[[], str],
        scratch: Scratch | None = None,
    ) -> None:
        address, api_key = parse_address(url, secrets)
        self._connection = Connection(address, api_key, clock)
        self._access = Access(url, secrets, clock)
        self._scratch = scratch
        self._new_id = new_id
        self._parts: dict[str, QdrantStaged] = {}

    @property
    def capabilities(self) -> Capabilities:
        """No point in time; ids come in order."""
        return CAPABILITIES

    def info(self) -> EngineInfo:
        """Identify the server."""
        return server_info(self._connection)

    def find(self, name: str) -> CollectionDescription | None:
        """Describe the collection or alias of this name; None if there is none."""
        inventory = read_inventory(self._connection)
        place = locate(inventory, name)
        if place is None:
            return None
        info = read_info(self._connection, place.physical)
        keys = shard_keys_of(self._connection, place.physical, info)
        if place.shard_key in shards_of(keys):
            return describe_place(self._connection, inventory, place)
        if keys and place.shard_key is not None:
            return None  # a key that it lacks: nothing is there; `switch` looks after the others
        return describe_collection(self._connection, inventory, place.collection, place.physical)

    def check_schema(self, schema: CollectionSchema) -> None:
        """Raise UnsupportedError, saying which part, if Qdrant cannot hold such a collection."""
        plan_creation(schema)

    def as_held(self, records: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
        """Return records as the server will give them back."""
        return as_qdrant_holds(records, schema)

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> QdrantStaged:
        """Create an empty collection `<name>.recollect-<ulid>`.

        Parts under shard keys (`NAME/KEY`) that are staged one after another become one collection.

        Raises:
            ConflictError: An alias is another collection's name, or leads to another collection.
            RequestError: The name is too long; UnsupportedError: Qdrant has no such collection.
        """
        name, shard_key = split_name(name)
        shared = self._parts.get(name)
        if shard_key is not None and shared is not None and shard_key not in shared.staging.switching:
            return shared.part(schema, shard_key)
        physical = self._new_name(name)
        creation = plan_creation(schema)
        check_aliases(read_inventory(self._connection), name, aliases)
        staged = QdrantStaged(
            self._connection, name, physical, schema, aliases, creation, shard_key=shard_key
        )
        staged.create()
        if shard_key is not None:
            self._parts[name] = staged
        return staged

    def files_refusal(self, schema: CollectionSchema, version: str) -> str:
        """Say why a server's files cannot be restored here; empty if they can.

        Qdrant reads files of its own minor version and of the one before.
        """
        if schema.native_engine != PRODUCT:
            return f"they are of {schema.native_engine or 'another engine'}, not of a Qdrant server"
        if schema.parameters.get("sharding_method") == CUSTOM:
            return "the collection has custom shard keys, whose shards are numbered anew"
        if self._scratch is None:
            return "there is no spool to build the archives in"
        return version_refusal(version, self.info().version)

    def stage_files(
        self, name: str, schema: CollectionSchema, aliases: tuple[str, ...], files: CollectionSchema
    ) -> QdrantStagedFiles:
        """Create an empty collection that files will be loaded into; otherwise as `stage`."""
        assert self._scratch is not None, "refused before"
        physical = self._new_name(name)
        creation = plan_creation(schema)
        check_aliases(read_inventory(self._connection), name, aliases)
        staged = QdrantStagedFiles(
            self._connection,
            name,
            physical,
            schema,
            aliases,
            creation,
            access=self._access,
            scratch=self._scratch,
            stale_indexes=[
                index.field for index in files.payload_indexes if index not in schema.payload_indexes
            ],
        )
        staged.create()
        return staged

    def _new_name(self, name: str) -> str:
        physical = staged_name(name, self._new_id())
        if len(physical) > NAME_LENGTH_MAX:
            raise RequestError(
                f"the collection name {name[:40]!r}… has {len(name)} characters; restored ones may have "
                f"{NAME_LENGTH_MAX - len(physical) + len(name)}",
                "restore it under a shorter name with `--collection NAME:NEWNAME`",
            )
        return physical

    @contextmanager
    def edit(self, name: str) -> Iterator[QdrantLive]:
        """Open a collection to write into, by name or alias; with shard keys, what is under one of them.

        Raises:
            NotFoundError: There is none; it lists what there is.
        """
        inventory = read_inventory(self._connection)
        place = require_place(inventory, name, self._connection.address.url)
        schema = describe_place(self._connection, inventory, place).schema
        yield QdrantLive(self._connection, place.physical, schema, place.shard_key)

    @contextmanager
    def search(self, name: str) -> Iterator[QdrantSearcher]:
        """Wait until the server has indexed the collection, and open it for searching."""
        place = require_place(read_inventory(self._connection), name, self._connection.address.url)
        wait_until_indexed(self._connection, place.physical)
        yield QdrantSearcher(self._connection, place.physical, place.shard_key)

    def drop(self, name: str) -> None:
        """Delete the collection that this name means, or is a part of; its aliases go with it."""
        place = locate(read_inventory(self._connection), name)
        self._parts.pop(split_name(name)[0], None)
        if place is not None:
            action = f"deleting the collection {place.physical!r}"
            path = collection_path(place.physical)
            self._connection.retry(lambda: self._connection.rest("DELETE", path, action=action))

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()


def version_refusal(files: str, server: str) -> str:
    """Say why a server cannot read files of another version; empty if it can."""
    try:
        theirs, ours = (tuple(int(part) for part in each.split(".")[:2]) for each in (files, server))
    except ValueError:
        return f"the versions {files!r} of the files and {server!r} of the server cannot be compared"
    if theirs[0] == ours[0] and ours[1] - theirs[1] in {0, 1}:
        return ""
    return f"they are of version {files}, and the server has {server}; the same or the next minor reads them"


def check_aliases(inventory: Inventory, name: str, aliases: tuple[str, ...]) -> None:
    """Make sure that no alias is taken from somebody else.

    Raises:
        ConflictError: An alias is a collection, or leads to one that is not replaced.
    """
    replaced = inventory.resolve(name)
    for alias in aliases:
        if alias in inventory.physical and alias != name:
            raise ConflictError(
                f"the alias {alias!r} of {name!r} is the name of another collection",
                "rename or drop that collection, or restore under another name",
            )
        holder = inventory.resolve(alias)
        if holder is not None and holder != replaced:
            raise ConflictError(
                f"the alias {alias!r} of {name!r} leads to the collection {holder[0]!r}",
                "delete that alias first; nothing was changed",
            )
