"""Store URLs: which adapter serves which. The only module that knows them all.

==============================================  ====================================================
`/path`, `relative/path`, `file:///path`        a directory (`storage.local`)
`memory:`                                       a store of its own, gone with the process
`memory:NAME`                                   one store per name and process, for tests
`s3://bucket/prefix?endpoint=…&region=…`        S3 and what speaks its protocol (`storage.cloud`)
`gs://bucket/prefix`                            Google Cloud Storage
`az://container/prefix?account=…`               Azure Blob Storage
==============================================  ====================================================

Credentials never stand in a URL: it ends up in logs and snapshots.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from recollect.clock import Clock
from recollect.errors import MissingDependencyError, RequestError
from recollect.storage.base import ObjectStore, check_prefix
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore
from recollect.storage.retry import RetryingStore
from recollect.values.ulid import RandomBytes

# Two letters at least: `C:` is a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_CLOUD_SCHEMES = ("s3", "gs", "az")
_KNOWN = "a path, file:///path, memory:, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"

_named_memory: dict[str, MemoryStore] = {}
_named_memory_lock = threading.Lock()


def open_store(url_or_path: str, clock: Clock, random_bytes: RandomBytes) -> ObjectStore:
    """Return the store at this place; nothing is read, written or created yet.

    Cloud stores retry what the network did; `clock` waits between attempts.

    Raises:
        RequestError: The place cannot be understood; says which forms exist.
        MissingDependencyError: The extra that serves this scheme is not installed.
    """
    match = _SCHEME.match(url_or_path)
    if match is None:
        if not url_or_path:
            raise RequestError("the place of a store is empty", f"give one of: {_KNOWN}")
        return LocalStore(url_or_path)
    scheme = match[1].lower()
    if scheme == "memory":
        return _open_memory(url_or_path[len("memory:") :])
    if scheme == "file":
        return LocalStore(_file_path(urlsplit(url_or_path)))
    if scheme in _CLOUD_SCHEMES:
        return RetryingStore(_open_cloud(scheme, url_or_path), clock, random_bytes)
    raise RequestError(
        f"no store is known for URLs that begin with {match[0]!r}",
        f"use one of: {_KNOWN}; a path that looks like a URL is written with ./ before it",
    )


def _open_memory(name: str) -> MemoryStore:
    if not name:
        return MemoryStore()
    with _named_memory_lock:
        return _named_memory.setdefault(name, MemoryStore(f"memory:{name}"))


def _file_path(parts: SplitResult) -> str:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise RequestError("a file URL names an absolute path on this machine", "write it as file:///path")
    if parts.query or parts.fragment:
        raise RequestError("a file URL has no '?' or '#'", "write %3F and %23, or give the plain path")
    return unquote(parts.path)


def _open_cloud(scheme: str, url: str) -> ObjectStore:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise RequestError(
            f"a {scheme}:// URL must not carry credentials",
            "set them in the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_…)",
        )
    if not parts.netloc or parts.fragment:
        raise RequestError(f"a {scheme}:// URL names a bucket", f"write it as {scheme}://bucket/prefix")
    prefix = check_prefix(unquote(parts.path).strip("/"))
    return _load_cloud(scheme, parts.netloc, prefix, dict(parse_qsl(parts.query, keep_blank_values=True)))


def _load_cloud(scheme: str, bucket: str, prefix: str, options: Mapping[str, str]) -> ObjectStore:
    try:
        from recollect.storage.cloud import open_cloud  # noqa: PLC0415 -- an optional dependency
    except ImportError as error:
        raise MissingDependencyError(
            f"{scheme}:// stores need the package obstore, which is not installed",
            'run: pip install "recollect[cloud]"',
        ) from error
    return open_cloud(scheme, bucket, prefix=prefix, options=options)
