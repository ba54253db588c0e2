"""Temporary files: what is too much for memory, in files without a name, so that a crash leaves none."""

from __future__ import annotations

import errno
import tempfile

import pyarrow as pa

from recollect.errors import StorageFullError, UnavailableError


def spooled(data: bytes) -> pa.Buffer:
    """Put bytes into a temporary file and return them mapped; the caller drops its own copy.

    The file goes when the buffer does.

    Raises:
        StorageFullError: The temporary directory is full; UnavailableError: it fails otherwise.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix="recollect-spool-") as file:
            file.write(data)  # never a write through the mapping: a full disk would kill the process
            file.flush()
            return pa.memory_map(file.name).read_buffer()
    except OSError as error:
        raise temporary_error("spooling an index", error) from error


def temporary_error(action: str, error: OSError) -> UnavailableError:
    """Return the error that reports a failure of the temporary directory."""
    kind = StorageFullError if error.errno in {errno.ENOSPC, errno.EDQUOT} else UnavailableError
    return kind(
        f"{action} in the temporary directory: {error.strerror}",
        "free some space, or set TMPDIR to a larger disk",
    )
