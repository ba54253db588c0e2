"""The ledger of drills: which snapshots were proven restorable, when, and with what result.

One sealed document a drill, written once, below `drills/<snapshot>/`. It outlives its snapshot: that a
restore worked last March stays a fact when March's snapshot is forgotten.
"""

from __future__ import annotations

import msgspec

from recollect.codec.document import open_document, seal_document
from recollect.errors import FormatVersionError, IntegrityError
from recollect.repository import layout
from recollect.repository.repository import Repository
from recollect.values.drill import DRILL_FORMAT, DrillReport


def record_drill(repository: Repository, report: DrillReport) -> None:
    """Write a report into the ledger; ConflictError if there is one of its id."""
    content = seal_document(msgspec.json.encode(report))
    repository.store.put_if_absent(layout.drill_key(report.snapshot_id, report.id), content)


def list_drills(repository: Repository, snapshot: str = "") -> list[DrillReport]:
    """Return all reports, or those of one snapshot, oldest first.

    Raises:
        IntegrityError: One is damaged; the message names it. FormatVersionError: A newer release wrote it.
    """
    prefix = f"{layout.DRILLS}/{snapshot}" if snapshot else layout.DRILLS
    found = [_read(repository, item.key) for item in repository.store.list(prefix)]
    return sorted(found, key=lambda report: (report.started_at, report.id))


def _read(repository: Repository, key: str) -> DrillReport:
    try:
        content = open_document(repository.store.get(key))
        version = msgspec.json.decode(content).get("format")
        if isinstance(version, int) and version > DRILL_FORMAT:
            raise FormatVersionError(
                f"{key} in {repository.url} has format {version}; this release reads up to {DRILL_FORMAT}",
                "upgrade Recollect",
            )
        return msgspec.json.decode(content, type=DrillReport)
    except (msgspec.DecodeError, AttributeError, IntegrityError) as error:
        raise IntegrityError(
            f"{key} in {repository.url} is damaged: {error}",
            "delete that file; snapshots are not affected by it",
        ) from error
