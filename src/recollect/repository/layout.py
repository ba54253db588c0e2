"""Every key name of a repository, once.

Format: docs/format.md#repository
"""

from __future__ import annotations

from recollect.errors import IntegrityError
from recollect.values.ulid import is_ulid

CONFIG = "recollect.json"
OBJECTS = "objects"
SNAPSHOTS = "snapshots"
TAGS = "tags"
JOURNAL = "journal"
LEASES = "leases"
FENCES = "gc"
ARCHIVERS = "archivers"
DRILLS = "drills"

_DIGEST_LENGTH = 64
_BEAT = ".beat"


def object_key(digest: str) -> str:
    """Return where an object stands: `objects/<first two hex digits>/<sha256>`."""
    return f"{OBJECTS}/{digest[:2]}/{digest}"


def object_digest(key: str) -> str | None:
    """Return the digest that an object key names; None for a key that names none."""
    digest = key.rsplit("/", 1)[-1]
    is_hex = len(digest) == _DIGEST_LENGTH and all(char in "0123456789abcdef" for char in digest)
    return digest if is_hex and key == object_key(digest) else None


def snapshot_key(snapshot_id: str) -> str:
    """Return where a snapshot stands."""
    return f"{SNAPSHOTS}/{snapshot_id}.json"


def snapshot_id(key: str) -> str:
    """Return the id that a snapshot key names.

    Raises:
        IntegrityError: The key lies among the snapshots and is none.
    """
    name = key.removeprefix(f"{SNAPSHOTS}/").removesuffix(".json")
    if not is_ulid(name) or snapshot_key(name) != key:
        raise IntegrityError(
            f"{key!r} is not the name of a snapshot", "move the foreign file out of the repository"
        )
    return name


def tags_prefix(snapshot: str) -> str:
    """Return the prefix of a snapshot's tag objects."""
    return f"{TAGS}/{snapshot}"


def tags_key(snapshot: str, revision: int) -> str:
    """Return where one revision of a snapshot's tags stands; the highest revision counts."""
    return f"{tags_prefix(snapshot)}/{revision:08d}.json"


def tags_revision(key: str) -> tuple[str, int]:
    """Return the snapshot and the revision that a tags key names.

    Raises:
        IntegrityError: The key lies among the tags and is none.
    """
    _, _, rest = key.partition("/")
    snapshot, _, name = rest.partition("/")
    digits = name.removesuffix(".json")
    if not is_ulid(snapshot) or not digits.isdecimal() or tags_key(snapshot, int(digits)) != key:
        raise IntegrityError(
            f"{key!r} is not the name of tags", "move the foreign file out of the repository"
        )
    return snapshot, int(digits)


def drill_key(snapshot: str, drill_id: str) -> str:
    """Return where the report of one drill of a snapshot stands."""
    return f"{DRILLS}/{snapshot}/{drill_id}.json"


def lease_key(lease_id: str) -> str:
    """Return where a writer's lease stands."""
    return f"{LEASES}/{lease_id}.json"


def beat_key(holder_key: str) -> str:
    """Return where the holder of a lease or fence shows that it is alive."""
    return holder_key.removesuffix(".json") + _BEAT


def is_beat(key: str) -> bool:
    """Tell the beat of a holder from a lease or fence."""
    return key.endswith(_BEAT)


def archivers_prefix(stream: str) -> str:
    """Return the prefix below which the only writer of a journal stream says that it is at work."""
    return f"{ARCHIVERS}/{stream}"


def fence_key(fence_id: str) -> str:
    """Return where the fence of a garbage collection stands."""
    return f"{FENCES}/{fence_id}.json"
