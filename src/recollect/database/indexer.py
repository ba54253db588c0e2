"""The thread that builds HNSW indexes of large collections.

A collection of `VectorOptions.hnsw_row_count_min` rows is searched by an index that is built here, in the
background, and built anew when a tenth of its rows has changed; until then a search looks at changed rows
exactly. Index files are in the data directory, hold nothing that the log does not, and are not read by
the next opening: it builds them again. A failure leaves the search as it was, exact if it was.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from recollect.database.held import HeldVectors
from recollect.database.hnsw import HnswIndex, write_hnsw
from recollect.database.options import VectorOptions
from recollect.database.tables import Tables
from recollect.database.vectors import Matrix, VectorTable
from recollect.errors import CancelledError, MissingDependencyError, RecollectError

_LOG = logging.getLogger("recollect.database")
_SUFFIX = ".usearch"
_CHANGED_SHARE = 10  # a search is exact from a fifth on (`search.search_indexed`); half of that leaves time


class Indexer:
    """Builds indexes of one database. Safe to share between threads."""

    def __init__(self, tables: Tables, directory: Path, options: VectorOptions) -> None:
        self._tables = tables
        self._directory = directory
        self._options = options
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = False
        self._file_count = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Remove what an earlier process left, and begin, if the options ask for indexes."""
        self._remove_files()
        if self._options.hnsw_row_count_min:
            self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
            self._thread.start()
            # A program that ends without closing its database would be aborted while usearch works.
            atexit.register(self.close)
            self.note_commit()

    def close(self) -> None:
        """Stop; a build under way is given up within seconds. Removes the files."""
        atexit.unregister(self.close)
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._remove_files()

    def note_commit(self) -> None:
        """Wake the thread if a collection needs an index; called after every group of commits, so quick."""
        if any(self._is_due(table) for table in list(self._tables.vectors.values())):
            self._wake.set()

    def build_due(self) -> int:
        """Build every index that is needed now, in the caller's thread; return how many.

        Raises:
            MissingDependencyError: usearch is not installed.
            UnavailableError: A file cannot be written.
        """
        count = 0
        with self._lock:
            while not self._is_closing:
                held = self._hold_due()
                if held is None:
                    break
                name, table, rows = held
                with rows:
                    self._build(name, table, rows)
                count += 1
        return count

    def _is_due(self, table: VectorTable) -> bool:
        minimum = self._options.hnsw_row_count_min
        if not minimum or len(table) < minimum or not table.is_index_automatic:
            return False
        return table.indexed_at is None or (
            (table.change_count - table.indexed_at) * _CHANGED_SHARE > len(table)
        )

    def _hold_due(self) -> tuple[str, VectorTable, HeldVectors] | None:
        tables = self._tables
        with tables.lock:
            for name, table in tables.vectors.items():
                if self._is_due(table):
                    # Noted before the work: a build that fails is tried again after further changes only.
                    table.indexed_at = table.change_count
                    return name, table, HeldVectors(table, tables.lock, tables.commit_ts)
        return None

    def _build(self, name: str, table: VectorTable, rows: HeldVectors) -> None:
        self._file_count += 1
        path = self._directory / f"{self._file_count}{_SUFFIX}"
        try:
            write_hnsw(path, _UntilClosed(rows, self), table.spec, self._options)
            index = HnswIndex(
                path, rows.slots, rows.commits(rows.slots), spec=table.spec, options=self._options
            )
        except BaseException:
            _remove(path)
            raise
        with self._tables.lock:
            old, is_wanted = table.index, table.is_index_automatic
            if is_wanted:
                table.index = index
        # Searches under way keep the file that they have mapped.
        outdated = old.path if is_wanted and old is not None else None
        if not is_wanted:
            outdated = path
        if outdated is not None:
            _remove(outdated)
        _LOG.info("Index built: collection=%s rows=%d", name, len(rows))

    def _remove_files(self) -> None:
        for path in self._directory.glob(f"*{_SUFFIX}"):
            _remove(path)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if self._is_closing:
                return
            self._wake.clear()
            try:
                self.build_due()
            except CancelledError:
                return
            except MissingDependencyError as error:
                _LOG.warning("Searches of large collections stay exact: %s", error)
                return
            except RecollectError as error:
                _LOG.error("Index failed; searches stay as they are: %s", error)
            except Exception:  # noqa: BLE001 - a bug here must not end indexing unseen
                _LOG.exception("Index failed; searches stay as they are")


class _UntilClosed:
    """Held rows that end when the database is closed."""

    def __init__(self, rows: HeldVectors, indexer: Indexer) -> None:
        self._rows = rows
        self._indexer = indexer

    def __len__(self) -> int:
        return len(self._rows)

    def matrices(self) -> Iterator[Matrix]:
        """Yield all vectors; CancelledError once the database is being closed."""
        for matrix in self._rows.matrices():
            if self._indexer._is_closing:  # noqa: SLF001 - one class in two
                raise CancelledError("the index was given up: the database is being closed")
            yield matrix


def _remove(path: Path) -> None:
    """Remove a file. One that stays only takes space, until the next opening."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("The old index %s could not be removed: %s", path, error)
