"""The methods of Statehouse's API: requests in, replies and status codes out.

==================  ===========================================================================
status              when
==================  ===========================================================================
INVALID_ARGUMENT    a name is empty or too long, a value is too large or no JSON, an argument is wrong
NOT_FOUND           no such transaction; no such version of a key
DEADLINE_EXCEEDED   the transaction expired
FAILED_PRECONDITION the transaction is committed or aborted already
RESOURCE_EXHAUSTED  too many open transactions, or too much staged in them
UNAVAILABLE         the disk failed: the database is read-only; it says why
INTERNAL            anything else
==================  ===========================================================================
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from recollect import __version__
from recollect.compat.statehouse.messages import MESSAGES, grpc
from recollect.compat.statehouse.values import fill_struct, from_struct
from recollect.database import Database, StateRecord, Transaction
from recollect.errors import ConflictError, NotFoundError, RecollectError, RequestError, UnavailableError

_LOG = logging.getLogger("recollect.statehouse")
_STATUS: tuple[tuple[type[RecollectError], grpc.StatusCode], ...] = (
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
)
_MS = 1000.0

COUNTED = (
    "transactions_started",
    "transactions_committed",
    "transactions_aborted",
    "transactions_expired",
    "writes",
    "deletes",
    "reads",
    "replay_events",
)
"""Names of the counters; they begin at 0 with the server."""


class StatusError(RecollectError):
    """An error whose status code does not follow from its class."""

    kind = "statehouse"

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


class Counters:
    """How often what happened. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += count

    def snapshot(self) -> dict[str, int]:
        """Return all counts by name."""
        with self._lock:
            return dict(self._counts)


class StatehouseService:
    """One method for each of the API. Safe to share between threads."""

    def __init__(self, database: Database, *, counters: Counters | None = None) -> None:
        self._database = database
        self.counters = counters or Counters()

    def health(self, _request: Any) -> Any:
        """Say that the daemon runs."""
        return MESSAGES["HealthResponse"](status="ok")

    def version(self, _request: Any) -> Any:
        """Say which release this is; there is no revision to tell."""
        return MESSAGES["VersionResponse"](version=__version__, git_sha="")

    def begin_transaction(self, request: Any) -> Any:
        """Begin a transaction; it expires after `timeout_ms`, or the default."""
        timeout = request.timeout_ms / _MS if request.HasField("timeout_ms") else None
        try:
            transaction = self._database.begin(timeout)
        except ConflictError as error:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message) from error
        self.counters.add("transactions_started")
        _LOG.debug("Transaction started txn_id=%s", transaction.id)
        return MESSAGES["BeginTransactionResponse"](txn_id=transaction.id)

    def write(self, request: Any) -> Any:
        """Stage a write."""
        if not request.HasField("value"):
            raise RequestError(f"no value was given for state key {request.key!r}")
        transaction = self._open(request.txn_id)
        value = from_struct(request.value)
        with _staging(transaction):
            transaction.write(request.namespace, request.agent_id, request.key, value)
        self.counters.add("writes")
        return MESSAGES["WriteResponse"]()

    def delete(self, request: Any) -> Any:
        """Stage a deletion."""
        transaction = self._open(request.txn_id)
        with _staging(transaction):
            transaction.delete(request.namespace, request.agent_id, request.key)
        self.counters.add("deletes")
        return MESSAGES["DeleteResponse"]()

    def commit(self, request: Any) -> Any:
        """Commit what was staged."""
        transaction = self._open(request.txn_id)
        count = len(transaction.operations)  # for the log line only
        commit_ts = transaction.commit()
        self.counters.add("transactions_committed")
        _LOG.info(
            "Transaction committed txn_id=%s commit_ts=%d operations=%d", transaction.id, commit_ts, count
        )
        return MESSAGES["CommitResponse"](commit_ts=commit_ts)

    def abort(self, request: Any) -> Any:
        """Forget what was staged; unknown and ended transactions are no error, committed ones are."""
        try:
            transaction = self._database.transaction(request.txn_id)
        except NotFoundError:
            return MESSAGES["AbortResponse"]()
        was_open = transaction.status == "open"
        transaction.abort()
        self.counters.add("transactions_aborted", int(was_open))
        _LOG.debug("Transaction aborted txn_id=%s", transaction.id)
        return MESSAGES["AbortResponse"]()

    def get_state(self, request: Any) -> Any:
        """Return the newest value of a key."""
        self.counters.add("reads")
        record = self._database.state.get(request.namespace, request.agent_id, request.key)
        return _state("GetStateResponse", record)

    def get_state_at_version(self, request: Any) -> Any:
        """Return one version of a key; NOT_FOUND if it never was."""
        self.counters.add("reads")
        record = self._database.state.get_at_version(
            request.namespace, request.agent_id, request.key, request.version
        )
        if not record.version:
            raise NotFoundError(f"state key {request.key!r} has no version {request.version}")
        return _state("GetStateAtVersionResponse", record)

    def list_keys(self, request: Any) -> Any:
        """Return the keys of an agent, ascending."""
        self.counters.add("reads")
        keys = self._database.state.list_keys(request.namespace, request.agent_id)
        return MESSAGES["ListKeysResponse"](keys=keys)

    def scan_prefix(self, request: Any) -> Any:
        """Return the values whose keys begin with a prefix, ascending."""
        self.counters.add("reads")
        response = MESSAGES["ScanPrefixResponse"]()
        for record in self._database.state.scan_prefix(request.namespace, request.agent_id, request.prefix):
            entry = response.entries.add(key=record.key, version=record.version, commit_ts=record.commit_ts)
            fill_struct(entry.value, record.value)
        return response

    def replay(self, request: Any) -> Iterator[Any]:
        """Stream what each commit did to one agent, and to it alone."""
        named = (request.namespace, request.agent_id)
        _LOG.info("Replay started namespace=%s agent_id=%s", *named)
        start_ts = request.start_ts if request.HasField("start_ts") else None
        end_ts = request.end_ts if request.HasField("end_ts") else None
        count = 0
        for event in self._database.state.replay(*named, start_ts, end_ts):
            message = MESSAGES["ReplayEvent"](txn_id=event.transaction_id, commit_ts=event.commit_ts)
            for one in event.operations:
                operation = message.operations.add(key=one.key, version=one.version)
                if not one.is_delete:
                    fill_struct(operation.value, one.value)
            count += 1
            yield message
        self.counters.add("replay_events", count)
        _LOG.info("Replay completed namespace=%s agent_id=%s events=%d", *named, count)

    def create_snapshot(self, request: Any) -> Any:
        """Take a checkpoint now."""
        snapshot = self._database.checkpoint(request.name or None, request.description or None)
        return _snapshot_info(snapshot)

    def list_snapshots(self, _request: Any) -> Any:
        """Return all checkpoints, oldest first."""
        snapshots = self._database.checkpoints()
        return MESSAGES["ListSnapshotsResponse"](snapshots=[_snapshot_info(one) for one in snapshots])

    def get_counters(self, _request: Any) -> Any:
        """Return what was counted since the server started, and where the database stands."""
        response = MESSAGES["GetCountersResponse"]()
        for name, value in sorted(self.measures().items()):
            response.counters.add(name=name, value=value)
        return response

    def measures(self) -> dict[str, int]:
        """Return all counters by name, with `commit_ts`, `checkpoint_ts` and `open_transactions` of now."""
        database = self._database
        newest = database.newest_checkpoint
        return {
            **dict.fromkeys(COUNTED, 0),
            **self.counters.snapshot(),
            "transactions_expired": database.expired_transaction_count,
            "checkpoint_ts": 0 if newest is None else int(newest.extra["commit_ts"]),
            "commit_ts": database.commit_ts,
            "open_transactions": database.open_transaction_count,
        }

    def _open(self, txn_id: str) -> Transaction:
        transaction = self._database.transaction(txn_id)
        if transaction.status == "expired":
            _LOG.error("Transaction timeout: txn_id=%s", txn_id)
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, f"Transaction expired: {txn_id}")
        return transaction


@contextmanager
def _staging(transaction: Transaction) -> Iterator[None]:
    """Tell an open transaction that may stage no more from one that has ended."""
    try:
        yield
    except ConflictError as error:
        if transaction.status == "open":
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message) from error
        raise


def status_of(error: RecollectError) -> grpc.StatusCode:
    """Return the status code that an error is reported with."""
    if isinstance(error, StatusError):
        return error.status
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL


def method_of(service: StatehouseService, name: str) -> Callable[[Any], Any]:
    """Return the function that serves an RPC: `GetState` is `get_state`."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    function: Callable[[Any], Any] = getattr(service, snake)
    return function


def _state(kind: str, record: StateRecord) -> Any:
    message = MESSAGES[kind](version=record.version, commit_ts=record.commit_ts, exists=record.exists)
    if record.exists:
        fill_struct(message.value, record.value)
    return message


def _snapshot_info(snapshot: Any) -> Any:
    return MESSAGES["SnapshotInfo"](
        id=snapshot.id,
        commit_ts=int(snapshot.extra["commit_ts"]),
        name=snapshot.name,
        description=snapshot.description,
    )
