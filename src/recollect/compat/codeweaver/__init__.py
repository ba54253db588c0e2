"""CodeWeaver's snapshot service and failover loop, with its names, signatures and result dictionaries.

`QdrantSnapshotBackupService` makes, lists, deletes and restores Qdrant's own snapshots through the
client that it is given, and keeps checked copies of them in a directory or a byte store.
`FailoverService` keeps a second store in step with the first and writes going while the first is away.
"""

from recollect.compat.codeweaver.failover import FailoverService
from recollect.compat.codeweaver.failover_settings import FailoverSettings
from recollect.compat.codeweaver.snapshot_service import QdrantSnapshotBackupService
from recollect.compat.codeweaver.snapshot_values import CleanupStatsDict, SnapshotMetaDict

__all__ = [
    "CleanupStatsDict",
    "FailoverService",
    "FailoverSettings",
    "QdrantSnapshotBackupService",
    "SnapshotMetaDict",
]
