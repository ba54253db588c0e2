"""The backup store kept in step with the primary, and brought back to it after an outage.

The mirror remembers, for every record, the digest of what it last wrote to the backup. That one index
answers both questions without a log: what the primary has that the backup lacks (a sync), and what was
written to the backup while it stood in (everything that differs from the index). Records that the
primary took before the outage and the mirror had not yet copied differ from nothing, so they are
never overwritten by older copies. Writes that leave no difference behind (a record deleted that the backup
never had, a record set back to what it was) are known by their ids only, from those who make them (`touch`).

The index is kept in memory, about 150 bytes a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

import msgspec

from recollect.compat.codeweaver.records import Digest, PointId, StoreRecords, as_points, digest
from recollect.errors import StorageFullError

INDEX_BYTES_PER_RECORD = 150

_T = TypeVar("_T")


class SyncReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync changed in the backup."""

    written: int = 0
    deleted: int = 0


class ReconciliationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconciliation found in the backup that differed from what it should hold, and repaired."""

    detected: int = 0
    repaired: int = 0


class Mirror:
    """Two stores of one collection. One call at a time.

    Args:
        memory_bytes_max: Limit of the index.
        batch_size: Records of one call.
    """

    def __init__(
        self, primary: StoreRecords, backup: StoreRecords, *, batch_size: int, memory_bytes_max: int
    ) -> None:
        self._primary = primary
        self._backup = backup
        self._batch_size = batch_size
        self._record_count_max = memory_bytes_max // INDEX_BYTES_PER_RECORD
        self._index: dict[PointId, Digest] = {}
        self._unsure: set[PointId] = set()
        self._touched: set[PointId] = set()
        self._is_ready = False

    @property
    def index(self) -> dict[PointId, Digest]:
        """What the mirror wrote to the backup: by id, the digest of the record."""
        return self._index

    def resume(self, index: dict[PointId, Digest], touched: set[PointId]) -> None:
        """Go on with an index that was saved when an outage began, and the ids that were written since."""
        self._index, self._touched, self._is_ready = index, touched, True

    def touch(self, ids: Iterable[PointId]) -> None:
        """Say that these records were written to the backup, or deleted there, during the outage."""
        self._touched.update(ids)

    async def prepare(self) -> None:
        """Learn what the backup holds now; needed once, before the first sync or outage."""
        if self._is_ready:
            return
        if await self._backup.exists():
            self._index = {record.id: digest(record) async for page in self._backup.scan() for record in page}
        self._is_ready = True

    async def sync(self) -> SyncReport:
        """Bring what changed in the primary to the backup, and delete what is gone.

        An interruption leaves a part of the changes copied, and the index right about them.
        """
        await self.prepare()
        if not await self._backup.exists():
            await self._backup.create_like(self._primary)
            self._index.clear()
        seen: set[PointId] = set()
        written = 0
        async for page in self._primary.scan():
            seen.update(record.id for record in page)
            changed = [record for record in page if self._index.get(record.id) != digest(record)]
            await self._copy(changed)
            written += len(changed)
        gone = [identity for identity in self._index if identity not in seen]
        for part in _batches(gone, self._batch_size):
            await self._drop(part)
        return SyncReport(written=written, deleted=len(gone))

    async def reconcile(self, detection_limit: int | None) -> ReconciliationReport:
        """Read the backup, and repair from the primary whatever is not as the mirror wrote it.

        That is: records that somebody else changed, deleted or added in the backup.
        """
        await self.prepare()
        different = list(islice(await self._differing(), detection_limit))
        repaired = 0
        for part in _batches(different, self._batch_size):
            held = await self._primary.retrieve(part)
            await self._copy(held)
            await self._drop(set(part) - {record.id for record in held})
            repaired += len(part)
        return ReconciliationReport(detected=len(different), repaired=repaired)

    async def begin_outage(self) -> None:
        """Make sure that the index tells what the backup holds, before others write to it.

        Where a call to the backup failed in the middle of a sync, nobody knows what it did: look.
        """
        await self.prepare()
        for part in _batches(sorted(self._unsure, key=str), self._batch_size):
            found = {record.id: digest(record) for record in await self._backup.retrieve(part)}
            for identity in part:
                if identity in found:
                    self._index[identity] = found[identity]
                else:
                    self._index.pop(identity, None)
            self._unsure.difference_update(part)

    async def bring_back(self) -> int:
        """Bring what was written to the backup during the outage to the primary; return how much.

        May be interrupted and repeated. Deletions of the outage are carried out in the primary too.
        """
        taken, self._touched = self._touched, set()
        try:
            different = list(dict.fromkeys([*await self._differing(), *taken]))
            await self._return(different)
        except BaseException:
            self._touched |= taken
            raise
        return len(different)

    async def _return(self, identities: list[PointId]) -> None:
        for part in _batches(identities, self._batch_size):
            held = await self._backup.retrieve(part)
            if held:
                await self._primary.write(as_points(held))
            gone = sorted(set(part) - {record.id for record in held}, key=str)
            if gone:
                await self._primary.delete(gone)
            for record in held:
                self._index[record.id] = digest(record)
            for identity in gone:
                self._index.pop(identity, None)

    async def _differing(self) -> Iterable[PointId]:
        """Return the ids whose records in the backup are not what the index says."""
        held: set[PointId] = set()
        different: list[PointId] = []
        async for page in self._backup.scan():
            for record in page:
                held.add(record.id)
                if self._index.get(record.id) != digest(record):
                    different.append(record.id)
        return [*different, *(identity for identity in self._index if identity not in held)]

    async def _copy(self, records: list[Any]) -> None:
        for part in _batches(records, self._batch_size):
            if len(self._index) + len(part) > self._record_count_max:
                raise StorageFullError(
                    f"the index of the backup would hold more than {self._record_count_max} records",
                    "raise max_memory_mb",
                )
            identities = {record.id for record in part}
            self._unsure |= identities
            await self._backup.write(as_points(part))
            for record in part:
                self._index[record.id] = digest(record)
            self._unsure -= identities

    async def _drop(self, identities: Iterable[PointId]) -> None:
        gone = sorted(identities, key=str)
        if not gone:
            return
        self._unsure.update(gone)
        await self._backup.delete(gone)
        for identity in gone:
            self._index.pop(identity, None)
        self._unsure.difference_update(gone)


def _batches(items: Iterable[_T], size: int) -> Iterable[list[_T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
