"""ruvector's snapshots over the embedded database: full and incremental, verified, streamed, scheduled.

In go a `Database` and a store; out come directories that `gzip` and `sha256sum -c` can read,
and databases that equal what was held still. The real crate's two-file format
goes in and out through `import_crate_snapshot` and `export_crate_snapshot`.

::

    Database ──hold──▶ rows ──files──▶ members ──capture──▶ snapshot-{id}/
    snapshot-{id}/ ──files──▶ blocks ──reading──▶ merged batches ──restore──▶ Database
"""

from recollect.compat.ruvector.face import SnapshotManager
from recollect.compat.ruvector.restore import SnapshotBatch, StreamingRestore
from recollect.compat.ruvector.schedule import CronSchedule, IntervalSchedule, SnapshotScheduler
from recollect.compat.ruvector.snapshot import Snapshot, SnapshotConfig, SnapshotType
from recollect.compat.ruvector.verification import SnapshotReport

__all__ = [
    "CronSchedule",
    "IntervalSchedule",
    "Snapshot",
    "SnapshotBatch",
    "SnapshotConfig",
    "SnapshotManager",
    "SnapshotReport",
    "SnapshotScheduler",
    "SnapshotType",
    "StreamingRestore",
]
