"""What a failed system call means to a user: which error it is, and what to do about it."""

from __future__ import annotations

import errno

from recollect.errors import (
    AccessError,
    NotFoundError,
    RecollectError,
    RequestError,
    StorageFullError,
    UnavailableError,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})


def storage_error(error: OSError, action: str, *, next_step: str = "") -> RecollectError:
    """Return the error that reports a failed system call; `action` says what was attempted, on what."""
    reason = f"{action}: {error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no errno')})"
    if error.errno in _FULL:
        step = "free space there (see `df -h` and `df -i`) or raise the quota, then run this again"
        return StorageFullError(reason, step)
    if error.errno in _REFUSED:
        step = "check who owns the files and whether the file system is mounted read-only"
        return AccessError(reason, next_step or step)
    if error.errno == errno.ELOOP:
        return AccessError(f"{action}: a symbolic link is in the way", "replace it by what it points to")
    if error.errno == errno.ENAMETOOLONG:
        return RequestError(reason, "use a shorter name or a shorter path")
    if error.errno in _ABSENT:
        return NotFoundError(reason, next_step)
    return UnavailableError(reason, next_step or "check the disk and the system log, then run this again")


def is_absent(error: OSError) -> bool:
    """Tell whether a read failed because there is no such file."""
    return error.errno in _ABSENT
