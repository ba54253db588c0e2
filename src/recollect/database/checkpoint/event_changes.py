"""Which records of the event store some commits changed, told from what the log says of them.

An event changes its context, its item, and the items that it is related to. Unless a rule drops pairs, those
are neighbours of the item ever after; so no other item than its neighbours of now can have changed.
"""

from __future__ import annotations

import msgspec
import numpy as np

from recollect.database import operation as ops
from recollect.database.checkpoint.records import EventRecords
from recollect.database.cooccurrence import DirtyItems
from recollect.database.events import FrozenEvents
from recollect.database.operation import Operation


class TouchedEvents:
    """Collects what operations touch.

    Attributes:
        is_everything: An operation changed more than single records.
    """

    def __init__(self) -> None:
        self.is_everything = False
        self._contexts: set[str] = set()
        self._items: set[str] = set()

    def __bool__(self) -> bool:
        """Tell whether anything was touched."""
        return self.is_everything or bool(self._contexts)

    def note(self, op: Operation) -> None:
        """Take one operation."""
        if isinstance(op, ops.EventsAppend):
            self._contexts.update(op.contexts)
            self._items.update(op.items)
        elif isinstance(op, (ops.EventsDecay, ops.EventsConfigure, ops.EventsReplace)):
            self.is_everything = True

    def records(self, frozen: FrozenEvents) -> EventRecords | None:
        """Return the records that may have changed, as they are in `frozen`, which holds everything.

        None if single records cannot be told: all was changed, or contexts and edges go by the rules.
        """
        options = frozen.options
        if self.is_everything or options.max_contexts or options.max_neighbors_per_item:
            return None
        rings = ((name, ring) for name, ring in frozen.contexts if name in self._contexts)
        changed = DirtyItems((dict.fromkeys(self._related(frozen)),))
        edges = msgspec.structs.replace(frozen.edges, changed=changed, is_all_changed=False)
        return EventRecords(msgspec.structs.replace(frozen, edges=edges), rings, all_items=False)

    def _related(self, frozen: FrozenEvents) -> list[int]:
        edges = frozen.edges
        names = edges.names[: edges.item_count]
        own = np.array([number for number, name in enumerate(names) if name in self._items], dtype=np.int64)
        near = edges.targets.to_numpy()[np.isin(edges.sources.to_numpy(), own)]
        return [int(number) for number in np.union1d(own, near)]


def record_count(frozen: FrozenEvents) -> int:
    """Return how many records the event store is: its counters, contexts, and items with neighbours."""
    edges = frozen.edges
    alive = ~np.isnan(edges.weights.to_numpy())
    return 1 + frozen.context_count + len(np.unique(edges.sources.to_numpy()[alive]))
