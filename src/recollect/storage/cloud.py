"""S3, Google Cloud Storage and Azure Blob Storage, through obstore (extra `cloud`).

Credentials come from the environment variables that obstore reads itself
(`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_KEY`, …) or from the
machine's role. Why obstore, and what servers were seen to do: docs/decisions/0011-obstore-for-cloud.md.
Source: https://developmentseed.org/obstore/latest/
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeAlias
from urllib.parse import urlencode

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from recollect.errors import (
    AccessError,
    ConflictError,
    NotFoundError,
    RecollectError,
    RequestError,
    UnavailableError,
    UnsupportedError,
)
from recollect.storage.base import StoredObject, check_key, check_prefix

# A write is one request up to this size: all at once on every server, and nothing half-done stays behind.
_SINGLE_PUT_BYTES_MAX = 64 << 20
_LIST_PAGE_KEYS = 1000  # what one request to S3 returns at most

# The transport's own retries; `storage.retry` stands above them, with our clock.
_RETRIES: dict[str, Any] = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2},
}
# A repeated create would meet its own first try and report a conflict; see CloudStore.put_if_absent.
_NO_RETRIES: dict[str, Any] = {"max_retries": 0}

# Options of the URL's query → names of obstore's configuration. No secret is among them.
_OPTIONS: dict[str, dict[str, str]] = {
    "s3": {"endpoint": "endpoint", "region": "region"},
    "gs": {"endpoint": "base_url"},
    "az": {"endpoint": "endpoint", "account": "account_name"},
}
_Client: TypeAlias = S3Store | GCSStore | AzureStore
_CONSTRUCTORS: dict[str, Callable[..., _Client]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}


def open_cloud(scheme: str, bucket: str, *, prefix: str, options: Mapping[str, str]) -> CloudStore:
    """Return the store of a bucket; no request is sent yet.

    Args:
        scheme: s3, gs or az.
        bucket: Name of the bucket or container.
        prefix: Where in the bucket the keys begin; may be empty.
        options: From the URL: `endpoint` (all), `region` (s3), `account` (az), and
            `anonymous=true` for public buckets, which are read without credentials.

    Raises:
        RequestError: An option is unknown, or obstore refuses the configuration.
    """
    known = _OPTIONS[scheme]
    unknown = sorted(options.keys() - known.keys() - {"anonymous"})
    if unknown:
        raise RequestError(
            f"a {scheme}:// URL has no option {unknown[0]!r}",
            f"options are: {', '.join([*known, 'anonymous'])}",
        )
    config = {known[name]: value for name, value in options.items() if name in known}
    if options.get("anonymous") == "true":
        config["skip_signature"] = "true"
    url = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
    if options:
        url += "?" + urlencode(sorted(options.items()), safe=":/")
    client = {
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=60),  # a connection that says nothing for so long is dead
        "timeout": timedelta(minutes=15),  # 64 MiB at 75 kB/s
        # Plain HTTP only where the user wrote it.
        "allow_http": options.get("endpoint", "").startswith("http://"),
    }
    constructor = _CONSTRUCTORS[scheme]

    def connect(retries: Mapping[str, Any]) -> _Client:
        try:
            return constructor(
                bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retries
            )
        except (BaseError, ValueError) as error:
            message = f"cannot open {url}: {_describe(error)}"
            raise RequestError(message, "complete the URL's options or the environment") from error

    return CloudStore(url, connect(_RETRIES), connect(_NO_RETRIES))


class CloudStore:
    """A bucket, or a part of one. Safe to share between threads.

    Values are written by one request each, so all at once; those over 64 MiB that may
    overwrite go as a multipart upload, whose parts stay hidden in the bucket if the writer dies: let
    a lifecycle rule of the bucket abort them. Whether `put_if_absent` really refuses is the server's doing:
    see `storage.probe`. Directory buckets of S3 Express, which list in no order, are not supported.

    Args:
        url: Without credentials.
        client: obstore's store, with retries; for what may be done twice.
        client_once: The same without retries; for creating.
    """

    def __init__(self, url: str, client: _Client, client_once: _Client) -> None:
        self._url = url
        self._client = client
        self._client_once = client_once

    @property
    def url(self) -> str:
        """Return the bucket's URL, with endpoint and region if they were given."""
        return self._url

    def put(self, key: str, data: bytes) -> None:
        """Write the value over any older one."""
        check_key(key)
        with _reporting(f"cannot write {key} ({len(data)} bytes) in {self._url}"):
            obstore.put(self._client, key, data, use_multipart=len(data) > _SINGLE_PUT_BYTES_MAX)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the value in one request, sent once.

        An UnavailableError leaves open whether it was done; `storage.retry` finds out by reading back.
        """
        check_key(key)
        action = f"cannot create {key} ({len(data)} bytes) in {self._url}"
        try:
            with _reporting(action):
                obstore.put(self._client_once, key, data, mode="create", use_multipart=False)
        except ConflictError:
            # S3 says "conflict" (409) to a writer that lost a race which is not decided yet.
            if not self._exists(key):
                message = f"{action}: the server reports a conflict, but the key is not there"
                raise UnavailableError(message, "run this again") from None
            raise

    def get(self, key: str) -> bytes:
        """Read the whole value."""
        check_key(key)
        with _reporting(f"cannot read {key} in {self._url}"):
            return obstore.get(self._client, key).bytes().to_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes from offset `start`; fewer only where the value ends.

        Where a server answers a range with the whole value, or with an error, it is cut here.
        """
        assert start >= 0, "a range starts at or after the first byte"
        assert length >= 0, "a range has no negative length"
        check_key(key)
        if length == 0:
            self.size(key)
            return b""
        try:
            with _reporting(f"cannot read bytes of {key} in {self._url}"):
                return obstore.get_range(self._client, key, start=start, length=length).to_bytes()
        except UnavailableError:
            # Servers differ in how they refuse: a range past the end, ranges as such, an outage.
            # Asking once more in the plainest way tells these apart.
            if start >= self.size(key):
                return b""
            return self.get(key)[start : start + length]

    def size(self, key: str) -> int:
        """Return the value's size in bytes."""
        check_key(key)
        with _reporting(f"cannot find {key} in {self._url}"):
            return obstore.head(self._client, key)["size"]

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List keys below a prefix, ascending, page by page. What no key can name is ignored."""
        check_prefix(prefix)
        last = ""
        with _reporting(f"cannot list {prefix or 'the keys'} in {self._url}"):
            for page in obstore.list(self._client, prefix or None, chunk_size=_LIST_PAGE_KEYS):
                for entry in page:
                    key = entry["path"]
                    if key <= last:
                        raise UnsupportedError(
                            f"{self._url} does not list its keys in order ({last}, then {key})"
                        )
                    last = key
                    if _is_key(key):
                        yield StoredObject(key, entry["size"])

    def delete(self, key: str) -> None:
        """Remove the key; removing an absent key is no error."""
        check_key(key)
        with contextlib.suppress(NotFoundError), _reporting(f"cannot delete {key} in {self._url}"):
            obstore.delete(self._client, key)

    def _exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFoundError:
            return False
        return True


def _is_key(path: str) -> bool:
    try:
        check_key(path)
    except RequestError:
        return False
    return True


@contextlib.contextmanager
def _reporting(action: str) -> Iterator[None]:
    """Translate obstore's errors."""
    try:
        yield
    except RecollectError:
        raise
    except (BaseError, FileNotFoundError, ValueError, OSError) as error:
        raise _translated(error, f"{action}: {_describe(error)}") from error


def _translated(error: Exception, message: str) -> RecollectError:
    if re.search(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist", str(error)):
        # Not "not found": that would say that a key is absent, and deleting it succeeded.
        return RequestError(message, "create the bucket, or check its name in the URL")
    if isinstance(error, (AlreadyExistsError, PreconditionError)):
        return ConflictError(message)
    if isinstance(error, FileNotFoundError):
        return NotFoundError(message)
    # Where there are no credentials at all, obstore reports the refusal as an error of any other kind.
    is_refused = re.search(r"status code: 40[13]\b", str(error)) is not None
    if is_refused or isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return AccessError(message, "check the credentials in the environment and the rights that they give")
    if isinstance(error, NotSupportedError):
        return UnsupportedError(message)
    if isinstance(error, (InvalidPathError, UnknownConfigurationKeyError, ValueError)):
        return RequestError(message, "check the URL of the store")
    return UnavailableError(message, "check endpoint, network and the service's status, then run this again")


def _describe(error: Exception) -> str:
    """Return what the server or the transport said, without queries of URLs, which may be signed."""
    text = " ".join(str(error).split("Debug source:")[0].split())
    status = re.search(r"status code: (\d+ [A-Za-z ]+)", text)
    said = [re.search(f"<{name}>(.*?)</{name}>", text) for name in ("Code", "Message")]
    if status is not None:
        return ", ".join([status[1].strip(), *(found[1] for found in said if found)])
    return re.sub(r"\?[^\s\"')]+", "?…", text)[:500] or type(error).__name__
