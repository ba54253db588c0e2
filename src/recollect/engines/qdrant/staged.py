"""A collection that is being loaded, and its way into place.

Qdrant cannot rename a collection, so the final name becomes an alias of the staged one. `switch`
does, in this order:

1. the settings that were held back (`prevent_unoptimized`, strict mode) are set;
2. a *collection* that has the final name is deleted, because an alias cannot have its name;
3. one call changes all aliases at once: the final name and the collection's aliases lead to the
   staged collection, those of what it replaces are gone;
4. what the final name led to before is deleted.

A crash before 2 leaves the old collection in place, and the staged one as a leftover. Between 2
and 3 the final name leads nowhere while the staged collection is complete: make the alias by hand,
or restore again (docs/guides/qdrant.md). After 3 the new collection is in place, and a replaced one
may be left over.
Where the final name is an alias already, as after every restore, step 2 falls away and step 3 is atomic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa

from recollect.engines.qdrant.connection import PATIENCE_S, Connection, collection_path
from recollect.engines.qdrant.creation import Creation
from recollect.engines.qdrant.inventory import Inventory, final_name, read_inventory
from recollect.engines.qdrant.library import qdrant_library
from recollect.engines.qdrant.place import ShardKey, read_shard_keys
from recollect.engines.qdrant.readiness import count_records, read_info, select_shard_key
from recollect.engines.qdrant.scroll import Scroll
from recollect.engines.qdrant.writing import PointWriter, request_slices
from recollect.errors import ConflictError, NotFoundError, RecollectError, UnavailableError
from recollect.values.schema import CollectionSchema

REQUESTS_MAX = 4
"""Upserts under way at once: each waits until it is applied, so the server is never flooded."""

COUNT_DELAYS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Staging:
    """What the parts of one staged collection share; without shard keys there is one part.

    Attributes:
        unswitched: Shard keys whose parts were not told to switch; the last one switches all.
        switching: All shard keys that are restored.
        indexing_threshold: To set when a part is loaded.
        must_stay: The staged collection may be the only copy, or is in place.
    """

    def __init__(self) -> None:
        self.unswitched: set[ShardKey | None] = set()
        self.switching: set[ShardKey | None] = set()
        self.indexing_threshold: int | None = None
        self.must_stay = False


class QdrantStaged:
    """A collection being loaded under a name of its own, or its part under one shard key.

    One thread at a time.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        physical: str,
        schema: CollectionSchema,
        aliases: tuple[str, ...],
        creation: Creation,
        *,
        shard_key: ShardKey | None = None,
        staging: Staging | None = None,
    ) -> None:
        self._shard_key = shard_key
        self._staging = staging or Staging()
        self._staging.unswitched.add(shard_key)
        self._staging.switching.add(shard_key)
        self.physical = physical
        self._connection = connection
        self._name = name
        self._schema = schema
        self._aliases = aliases
        self._creation = creation
        self._writer = PointWriter(schema)
        self._pending: deque[tuple[Any, Any]] = deque()
        self._row_count = 0

    @property
    def staging(self) -> Staging:
        """What the parts of this collection share."""
        return self._staging

    def create(self) -> None:
        """Create the collection and put its indexing off until it is loaded.

        On failure nothing of it stays, unless the server went away.
        """
        path, action = collection_path(self.physical), f"creating the collection {self.physical!r}"
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                self._connection.rest("PUT", path, self._creation.body, action=action, timeout_s=PATIENCE_S)
            except ConflictError:
                if attempts == 1:
                    raise
                # The name is new with its ULID: a lost answer to our own first attempt.

        try:
            self._connection.retry(attempt)
            for key in self._creation.shard_keys:
                self._create_key(key)
            optimizers = read_info(self._connection, self.physical)["config"]["optimizer_config"]
            self._staging.indexing_threshold = optimizers.get("indexing_threshold")
            if self._staging.indexing_threshold:
                self._patch({"optimizers_config": {"indexing_threshold": 0}})
        except ConflictError:
            raise  # somebody else's
        except BaseException:
            with suppress(RecollectError):  # the first failure is the one to tell of
                self.discard()
            raise

    def part(self, schema: CollectionSchema, shard_key: ShardKey) -> QdrantStaged:
        """Return the part of the same staged collection under another shard key."""
        return QdrantStaged(
            self._connection,
            self._name,
            self.physical,
            schema,
            self._aliases,
            self._creation,
            shard_key=shard_key,
            staging=self._staging,
        )

    def _create_key(self, key: dict[str, Any]) -> None:
        """Create a shard key; one that is there already comes from a lost answer."""
        if key["shard_key"] in read_shard_keys(self._connection, self.physical):
            return
        path = collection_path(self.physical, "/shards")
        action = f"creating the shard key {key['shard_key']!r} of {self.physical!r}"

        def attempt() -> None:
            if key["shard_key"] not in read_shard_keys(self._connection, self.physical):
                self._connection.rest("PUT", path, key, action=action, timeout_s=PATIENCE_S)

        self._connection.retry(attempt)

    def write(self, records: pa.RecordBatch) -> None:
        """Send records; some may still be under way when this returns.

        Raises:
            UnsupportedError: A record that Qdrant cannot hold.
            UnavailableError: The server does not take them, after several attempts.
        """
        for part in request_slices(records):
            request = qdrant_library().message("UpsertPoints")(collection_name=self.physical, wait=True)
            select_shard_key(request, self._shard_key)
            leftover = self._writer.fill(part, request)
            if request.points:
                self._pending.append((request, self._connection.begin("Upsert", request)))
            if leftover:
                body = {"points": leftover, "shard_key": self._shard_key}
                self._call("PUT", "/points?wait=true", body, "writing records to")
            while len(self._pending) >= REQUESTS_MAX:
                self._settle()
        self._row_count += records.num_rows

    def finish(self) -> None:
        """Wait for every write, create payload indexes, let indexing begin, and check the count.

        Raises:
            UnavailableError: The collection does not hold as many records as were written.
        """
        while self._pending:
            self._settle()
        for index in self._creation.indexes:
            self._call("PUT", "/index?wait=true", index, "creating a payload index of")
        if self._staging.indexing_threshold:
            self._patch({"optimizers_config": {"indexing_threshold": self._staging.indexing_threshold}})
        if self._creation.params:
            self._patch({"params": self._creation.params})
        found = count_records(self._connection, self.physical, self._shard_key)
        for delay_s in COUNT_DELAYS_S:
            if found == self._row_count:
                return
            self._connection.clock.sleep(delay_s)
            found = count_records(self._connection, self.physical, self._shard_key)
        if found != self._row_count:
            raise UnavailableError(
                f"{self.physical!r} on {self._connection.address.url} holds {found} records after "
                f"{self._row_count} were written",
                "see the server's log, then restore again; nothing was switched",
            )

    def scan(self, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Read back what the server holds now, ascending by key."""
        yield from Scroll(
            self._connection,
            self.physical,
            self._schema,
            batch_rows=batch_rows,
            shard_key=self._shard_key,
        ).batches()

    def switch(self) -> None:
        """Put the collection into place; see the top of this module for what a crash leaves.

        With shard keys, the last part that is told to switches all of them at once.

        Raises:
            UnavailableError: The server went away; the message says what stands where.
            ConflictError: What is replaced has records under other shard keys; nothing was changed.
        """
        self._staging.unswitched.discard(self._shard_key)
        if self._staging.unswitched:
            return
        if self._creation.guards:
            self._patch(self._creation.guards)
        inventory = read_inventory(self._connection)
        self._require_all_keys(inventory)
        before = inventory.targets.get(self._name)
        # Only collections that a restore made are ours to delete; another one behind an alias stays,
        # with its other aliases.
        replaced = before if before is not None and final_name(before) is not None else None
        if self._name in inventory.physical:
            self._staging.must_stay = True  # from here on it may be the only copy
            self._delete(self._name)
        self._lead_to_us([alias for alias, to in inventory.targets.items() if to == replaced])
        self._staging.must_stay = True
        if replaced is not None:
            self._delete(replaced)

    def discard(self) -> None:
        """Drop the staged collection; once it may be the only copy, or is in place, do nothing."""
        while self._pending:
            self._pending.popleft()[1].cancel()
        if not self._staging.must_stay:
            self._delete(self.physical)

    def _require_all_keys(self, inventory: Inventory) -> None:
        """Make sure that no records under a shard key are replaced by nothing."""
        found = inventory.resolve(self._name)
        if found is None or None in self._staging.switching:
            return
        for key in read_shard_keys(self._connection, found[1]).keys() - self._staging.switching:
            count = count_records(self._connection, found[1], key)
            if count:
                raise ConflictError(
                    f"the collection {self._name!r} on {self._connection.address.url} holds {count} records "
                    f"under the shard key {key!r}, which is not restored and would be lost",
                    f"restore that key too, or under another name (--collection {self._name}:NEWNAME)",
                )

    def _settle(self) -> None:
        """Wait for the oldest request; send it again if it failed, which is harmless: ids are the same."""
        request, future = self._pending.popleft()
        first = [future]

        def attempt() -> None:
            sent = first.pop() if first else self._connection.begin("Upsert", request)
            self._connection.end(sent, action=f"writing records to {self.physical!r}")

        self._connection.retry(attempt)

    def _lead_to_us(self, gone: list[str]) -> None:
        """Remove aliases and make ours, in one call."""
        actions: list[dict[str, Any]] = [{"delete_alias": {"alias_name": alias}} for alias in gone]
        actions += [
            {"create_alias": {"collection_name": self.physical, "alias_name": alias}}
            for alias in (self._name, *self._aliases)
        ]
        action = f"making {self._name!r} an alias of {self.physical!r}"
        try:
            self._send("POST", "/collections/aliases", {"actions": actions}, action)
        except UnavailableError as error:
            # Nobody knows whether it was done, or will be: the collection must not be dropped now.
            self._staging.must_stay = True
            raise self._unfinished(error) from error
        except RecollectError as error:
            if self._staging.must_stay:
                raise self._unfinished(error) from error
            raise

    def _unfinished(self, error: RecollectError) -> UnavailableError:
        return UnavailableError(
            f"{error.message}; the restored records are complete in the collection {self.physical!r}",
            f"see whether {self._name!r} is an alias of it; make it one, or restore again "
            "(docs/guides/qdrant.md)",
        )

    def _delete(self, collection: str) -> None:
        path, action = collection_path(collection), f"deleting the collection {collection!r}"

        def attempt() -> None:
            try:
                self._connection.rest("DELETE", path, action=action, timeout_s=PATIENCE_S)
            except NotFoundError:
                return

        self._connection.retry(attempt)

    def _patch(self, body: dict[str, Any]) -> None:
        self._send("PATCH", collection_path(self.physical), body, f"configuring {self.physical!r}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None, action: str) -> None:
        self._send(method, collection_path(self.physical, path), body, f"{action} {self.physical!r}")

    def _send(self, method: str, path: str, body: dict[str, Any] | None, action: str) -> None:
        self._connection.retry(
            lambda: self._connection.rest(method, path, body, action=action, timeout_s=PATIENCE_S)
        )
