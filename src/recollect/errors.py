"""Every error that Recollect raises on purpose.

Classes exist per reaction of the one who handles them; finer differences are
`kind` strings, which are append-only. The tree, with exit codes::

    RecollectError
    ├── RequestError         2   the request is wrong: change it
    │   ├── UnsupportedError          the engine or store cannot do this
    │   └── MissingDependencyError    an optional package is not installed
    ├── NotFoundError        4   what was named does not exist
    │   └── RepositoryNotFoundError 10
    ├── ConflictError        5   someone or something else is in the way
    │   └── LeaseHeldError   11
    ├── AccessError          6   credentials or rights
    │   └── WrongPasswordError 12
    ├── UnavailableError     7   the surroundings failed; retryable
    │   └── StorageFullError          the disk or quota is full: free space; not retryable
    ├── IntegrityError      20   stored bytes are not what was written
    ├── FormatVersionError  21   intact, but of a version this release does not read
    ├── VerificationError   22   live or restored records differ from the snapshot
    └── CancelledError     130   stopped on request

A bug is an `AssertionError` or another builtin exception, never one of these.
"""

from __future__ import annotations

from typing import ClassVar


class RecollectError(Exception):
    """Base of all errors that are reported to the user.

    Args:
        message: What was attempted, on what, and what was found; one sentence, no secret in it.
        next_step: What to do or run next; printed on a line of its own. May be empty.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message


class RequestError(RecollectError, ValueError):
    """The request itself is wrong; the same request will always fail."""

    kind = "request"
    exit_code = 2


class UnsupportedError(RequestError):
    """The engine, store or format lacks what the request needs."""

    kind = "unsupported"


class MissingDependencyError(RequestError, ImportError):
    """An optional package is missing; the message names the extra that brings it."""

    kind = "missing_dependency"


class NotFoundError(RecollectError, LookupError):
    """What was named (snapshot, collection, object, file) does not exist."""

    kind = "not_found"
    exit_code = 4


class RepositoryNotFoundError(NotFoundError):
    """There is no repository at this URL."""

    kind = "repository_not_found"
    exit_code = 10


class ConflictError(RecollectError):
    """Something is in the way: it exists already, or changed meanwhile."""

    kind = "conflict"
    exit_code = 5


class LeaseHeldError(ConflictError):
    """Another process holds the right that this one needs."""

    kind = "lease_held"
    exit_code = 11
    retryable = True


class AccessError(RecollectError, PermissionError):
    """Credentials or rights are missing or refused."""

    kind = "access"
    exit_code = 6


class WrongPasswordError(AccessError):
    """No key slot of the repository opens with this password."""

    kind = "wrong_password"
    exit_code = 12


class UnavailableError(RecollectError):
    """The store, the engine, the disk or the network failed; the same request may succeed later."""

    kind = "unavailable"
    exit_code = 7
    retryable = True


class StorageFullError(UnavailableError):
    """The disk or the quota is full. Waiting does not help, so it is not retried."""

    kind = "storage_full"
    retryable = False


class IntegrityError(RecollectError):
    """Stored bytes are damaged or missing. Never retried, never repaired as a side effect."""

    kind = "integrity"
    exit_code = 20


class FormatVersionError(RecollectError):
    """The bytes are intact but written in a format version that this release does not read."""

    kind = "format_version"
    exit_code = 21


class VerificationError(RecollectError):
    """Live or restored records are not the records of the snapshot."""

    kind = "verification"
    exit_code = 22


class CancelledError(RecollectError):
    """Stopped on request; everything committed before is kept."""

    kind = "cancelled"
    exit_code = 130


EXIT_DONE = 0
EXIT_BUG = 1
EXIT_PARTIAL = 3
