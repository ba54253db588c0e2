"""What goes wrong, switched by the test while the server runs."""

from __future__ import annotations

import threading
from collections import Counter

from recollect.testing.qdrant_server.failures import ServerError
from recollect.testing.qdrant_server.snapshot_faults import SnapshotFaults


class DropConnection(Exception):  # noqa: N818 - not an error of the server but an order to it
    """Close the connection without an answer."""


class Faults:
    """Switches; all off at first. Safe to share between threads.

    A *call* is named by its gRPC method ("Points/Scroll") or its REST route ("POST
    /collections/{c}/points/scroll"). Switches that take a `match` apply to calls whose
    name contains it. Counting starts when a switch is set.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.response_bytes_max: int | None = None
        """A gRPC answer above this is refused as a proxy with a message limit does."""
        self.hidden_points = 0
        """So many of the last points by id are deferred: invisible while `prevent_unoptimized` is on."""
        self.reports_deferred = True
        """Whether the collection info tells how many points are deferred (servers from 1.17.1 on do)."""
        self.status = "green"
        """The status that every collection reports."""
        self.replica_state = "Active"
        """The state that every shard's replica reports."""
        self.backwards = False
        """Scroll hands out each page in the wrong order."""
        self.version = ""
        """The version that the server reports; empty is its own."""
        self.snapshots = SnapshotFaults()
        """What goes wrong with snapshots."""
        self._lock = threading.Lock()
        self._plans: list[_Plan] = []
        self._released = threading.Event()

    def clear(self) -> None:
        """Switch everything off and release stalled calls; counts stay."""
        with self._lock:
            self._plans.clear()
        self._released.set()
        self._released = threading.Event()
        self.snapshots.clear()
        self.response_bytes_max, self.hidden_points, self.reports_deferred = None, 0, True
        self.status, self.replica_state, self.backwards = "green", "Active", False
        self.version = ""

    def refuse(self, match: str, *, status: int = 503, after: int = 0, count: int | None = None) -> None:
        """Answer matching calls with an error: from the one after `after` on, `count` times or for good."""
        self._add(_Plan(match, "refuse", status, after, count))

    def drop_connection(self, match: str, *, after: int = 0, count: int | None = 1) -> None:
        """Break the connection instead of answering."""
        self._add(_Plan(match, "drop", 0, after, count))

    def lose_answer(self, match: str, *, after: int = 0, count: int | None = 1) -> None:
        """Do what is asked, then fail as if the server had died before answering."""
        self._add(_Plan(match, "lose", 0, after, count))

    def stall(self, match: str, *, after: int = 0, count: int | None = 1) -> None:
        """Keep the caller waiting without an answer until `clear` or the end of the server."""
        self._add(_Plan(match, "stall", 0, after, count))

    def before(self, call: str) -> None:
        """Let the switches act on a call that has just come in."""
        self.calls[call] += 1
        for plan in self._due(call, {"refuse", "drop", "stall"}):
            if plan.kind == "refuse":
                raise ServerError(plan.status, "Service unavailable: switched off by the test")
            if plan.kind == "drop":
                raise DropConnection(call)
            self._released.wait()

    def after(self, call: str) -> None:
        """Let the switches act on a call that has been carried out."""
        if self._due(call, {"lose"}):
            raise DropConnection(call)

    def _add(self, plan: _Plan) -> None:
        with self._lock:
            self._plans.append(plan)

    def _due(self, call: str, kinds: set[str]) -> list[_Plan]:
        with self._lock:
            return [plan for plan in self._plans if plan.kind in kinds and plan.take(call)]


class _Plan:
    """One switch; used under the lock of `Faults`."""

    def __init__(self, match: str, kind: str, status: int, after: int, count: int | None) -> None:
        self.match, self.kind, self.status = match, kind, status
        self._skip, self._left = after, count

    def take(self, call: str) -> bool:
        if self.match not in call:
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0
