"""The memory of an agent: vectors, events and state under one commit log.

In go typed writes; out come reads that see whole commits only. Every write is logged
before it is applied, so that what was acknowledged is what a restart finds. Nothing here
knows a protocol: the faces in `recollect.compat` translate onto `Database`.

::

    write --stage--> Operations --commit--> Frame --fsync--> log --apply--> Tables --freeze--> Checkpoint
            stores   operation   committer  log/             log/           tables             checkpoint
"""

from recollect.database.database import Database
from recollect.database.events import ADD, DEL, SET, EventCounts, StoredEvent
from recollect.database.filter import Condition
from recollect.database.fusion import SimilarMatch
from recollect.database.options import (
    CheckpointOptions,
    DatabaseOptions,
    EventOptions,
    FsyncMode,
    FusionOptions,
    LogOptions,
    VectorOptions,
)
from recollect.database.stage import Event, EventContent
from recollect.database.state_store import ReplayEvent, ReplayOperation, StateRecord, StateStore
from recollect.database.stores import EventMatch, EventStore, VectorMatch, VectorRecord, VectorStore
from recollect.database.transaction import Transaction

__all__ = [
    "ADD",
    "DEL",
    "SET",
    "CheckpointOptions",
    "Condition",
    "Database",
    "DatabaseOptions",
    "Event",
    "EventContent",
    "EventCounts",
    "EventMatch",
    "EventOptions",
    "EventStore",
    "FsyncMode",
    "FusionOptions",
    "LogOptions",
    "ReplayEvent",
    "ReplayOperation",
    "SimilarMatch",
    "StateRecord",
    "StateStore",
    "StoredEvent",
    "Transaction",
    "VectorMatch",
    "VectorOptions",
    "VectorRecord",
    "VectorStore",
]
