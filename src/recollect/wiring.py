"""The composition root: URLs and settings become objects here and nowhere else.

An adapter is imported when a URL asks for it: importing all of them takes longer than a small backup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import msgspec

from recollect import __version__
from recollect.clock import Clock, SystemClock
from recollect.engines.base import FileKeeper, Part, Source, Target
from recollect.errors import ConflictError, NotFoundError, RecollectError, RequestError, UnsupportedError
from recollect.operations.parts import (
    HoldPart,
    PartJob,
    PartView,
    RefusedPart,
    StoredPart,
    Workforce,
    store_part,
)
from recollect.repository.repository import Repository
from recollect.repository.repository import create_repository as create_in_store
from recollect.repository.repository import open_repository as open_in_store
from recollect.settings import Flags, Settings, load_settings, read_secret
from recollect.storage.base import ObjectStore
from recollect.storage.url import open_store
from recollect.values.event import Note, OnEvent, ignore_events
from recollect.values.ulid import RandomBytes, new_ulid
from recollect.values.url import HIDDEN, without_secrets

if TYPE_CHECKING:
    from recollect.engines.qdrant.capture.options import CaptureOptions
    from recollect.engines.qdrant.staged_files import Scratch

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ENGINE_FORMS = "edge:///path or a path, qdrant://host:6334, http://host:6333, recollect:///path, memory:NAME"
_QDRANT_SCHEMES = frozenset({"qdrant", "qdrants", "http", "https"})
_ENGINE_SCHEMES = _QDRANT_SCHEMES | {"edge", "memory", "recollect"}
_CLOUD_SCHEMES = frozenset({"s3", "gs", "az"})

Secrets = Callable[[str], str | None]
"""Looks up a secret by the name of its environment variable."""


def _no_secrets(_name: str) -> str | None:
    return None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What every object is made with: time, randomness and secrets are passed in, never fetched."""

    clock: Clock
    random_bytes: RandomBytes
    secrets: Secrets = _no_secrets
    bytes_per_second_max: float | None = None
    spool: Path | None = None
    spool_bytes: int | None = None

    def new_id(self) -> str:
        """Return a new ULID."""
        return new_ulid(self.clock.now(), self.random_bytes)


def system_context(secrets: Secrets = _no_secrets) -> Context:
    """Return the context of a real run: the machine's clock and randomness."""
    return Context(clock=SystemClock(), random_bytes=os.urandom, secrets=secrets)


def create_repository(url: str, context: Context, on_event: OnEvent = ignore_events) -> Repository:
    """Make the place at this URL a repository; ConflictError if it is one, or holds something else.

    A cloud store is tried out first. One that does not show what was just written is refused: leases
    rest on that. One that ignores create-only writes is fine, and noted: all names but those of tag
    revisions are unique or derived from the content.
    """
    store = open_store(url, context.clock, context.random_bytes)
    match = _SCHEME.match(url)
    if match is not None and match[0][:-1].lower() in _CLOUD_SCHEMES:
        _try_out(store, context, on_event)
    return create_in_store(store, now=context.clock.now(), random_bytes=context.random_bytes)


def _try_out(store: ObjectStore, context: Context, on_event: OnEvent) -> None:
    from recollect.storage.probe import probe  # noqa: PLC0415 - see above

    found = probe(store, context.random_bytes)
    if not found.read_after_write or not found.list_after_write:
        raise UnsupportedError(
            f"{store.url} does not show at once what was written to it",
            "choose a store with read-after-write and list-after-write consistency",
        )
    if not found.create_only:
        message = f"{store.url} ignores create-only writes: do not change tags from two places at once"
        on_event(Note(message=message))


def open_repository(url: str, context: Context) -> Repository:
    """Open the repository at this URL; RepositoryNotFoundError if there is none."""
    return open_in_store(_open_store(url, context))


def _open_store(url: str, context: Context) -> ObjectStore:
    store = open_store(url, context.clock, context.random_bytes)
    if context.bytes_per_second_max:
        from recollect.storage.throttle import ThrottledStore  # noqa: PLC0415 - see above

        return ThrottledStore(store, context.clock, bytes_per_second=context.bytes_per_second_max)
    return store


def open_source(
    url: str, context: Context, on_event: OnEvent = ignore_events, *, collection: str = ""
) -> Source:
    """Open an engine to read from; what is wrong with the URL is a RequestError that lists the forms.

    `collection` is what to call the collection of an Edge shard whose URL does not name it, instead of
    the directory's name.
    """
    scheme = _scheme(url)
    if scheme == "edge":
        from recollect.engines.edge.source import EdgeSource  # noqa: PLC0415 - see above

        path, name = _edge_place(url)
        return EdgeSource(path, name or collection or _directory_name(path), context.new_id)
    if scheme == "memory":
        from recollect.engines.memory import open_memory  # noqa: PLC0415 - see above

        return open_memory(url.partition(":")[2])
    if scheme == "recollect":
        from recollect.engines.embedded import open_embedded_source  # noqa: PLC0415 - see above

        return open_embedded_source(_database_path(url), url)
    if scheme in _QDRANT_SCHEMES:
        return _qdrant_source(url, context, on_event)
    raise _unknown(url)


def _scratch(context: Context) -> Scratch | None:
    if context.spool is None:
        return None
    from recollect.engines.qdrant.staged_files import Scratch  # noqa: PLC0415 - see above

    return Scratch(context.spool, context.spool_bytes, context.new_id)


def _qdrant_source(url: str, context: Context, on_event: OnEvent) -> Source:
    """Open a server; without a spool, only scrolling can be had."""
    if context.spool is None:
        from recollect.engines.qdrant.source import QdrantSource  # noqa: PLC0415 - see above

        return QdrantSource(url, secrets=context.secrets, clock=context.clock, on_event=on_event)
    from recollect.engines.qdrant.capture.source import CapturingSource  # noqa: PLC0415 - see above

    options = _capture_options(context, context.spool)
    return CapturingSource(
        url, secrets=context.secrets, clock=context.clock, options=options, on_event=on_event
    )


def _capture_options(context: Context, spool: Path) -> CaptureOptions:
    from recollect.engines.edge.captured import open_captured  # noqa: PLC0415 - see above
    from recollect.engines.qdrant.capture.options import CaptureOptions  # noqa: PLC0415 - see above

    return CaptureOptions(
        spool=spool, spool_bytes=context.spool_bytes, open_shard=open_captured, new_id=context.new_id
    )


@contextmanager
def open_workforce(text: str, repository_url: str, context: Context) -> Iterator[Workforce]:
    """Have the workers that `--executor` names, until the context ends; see `executors`.

    Workers on other machines go by their own settings: spool, limits, the values of secrets. Those of this
    machine go by `context`.
    """
    from recollect.executors import open_executor, parse_executor  # noqa: PLC0415 - see above

    place = parse_executor(text)
    own = None if place.is_elsewhere else context
    with open_executor(place) as executor:
        yield Workforce(
            executor=executor,
            work=partial(do_part, context=own),
            repository_url=_from_anywhere(repository_url),
            tool_version=__version__,
            new_token=context.new_id,
        )


def do_part(job: PartJob, context: Context | None = None) -> StoredPart | RefusedPart:
    """Do one worker's job, in the worker's process; without a context by the settings of its machine.

    Raises:
        RecollectError: Whatever failed; the message says where.
    """
    where = "a worker"
    try:
        if context is None:
            settings = load_settings(Flags())
            where = f"the worker on {settings.host}"
            context = context_of(system_context(read_secret), settings)
        return store_part(job, _repository_of(job, context), _holder(context))
    except UnsupportedError:
        raise
    except RecollectError as error:
        raise type(error)(f"{where}, at {job.part.label}: {error.message}", error.next_step) from error


def context_of(context: Context, settings: Settings) -> Context:
    """Return the context with what the settings say about this machine."""
    return msgspec.structs.replace(
        context,
        bytes_per_second_max=settings.bytes_per_second_max,
        spool=Path(settings.spool) if settings.spool else None,
        spool_bytes=None if settings.spool_bytes is None else int(settings.spool_bytes),
    )


def _repository_of(job: PartJob, context: Context) -> Repository:
    """Open the repository that the job means.

    Raises:
        ConflictError: Another one is at its place here, or the worker is of another release.
        NotFoundError: None is.
    """
    if job.tool_version != __version__:
        raise ConflictError(
            f"Recollect {__version__} runs here, and {job.tool_version} asks",
            "install the same version on all workers",
        )
    same = "let all workers see the same repository: a directory that they share, or a cloud store"
    try:
        repository = open_repository(job.repository_url, context)
    except NotFoundError as error:
        raise NotFoundError(error.message, same) from error
    if repository.config.id != job.repository_id:
        raise ConflictError(f"another repository is at {repository.url} here", same)
    return repository


def _holder(context: Context) -> HoldPart:
    from recollect.engines.qdrant.capture.part import ShardPart, hold_part  # noqa: PLC0415 - see above

    def hold(
        part: Part, *, token: str, keeper: FileKeeper | None, anew: bool
    ) -> AbstractContextManager[PartView]:
        assert isinstance(part, ShardPart), "only shards of Qdrant servers are given out"
        assert context.spool is not None, "settings always name a spool"
        return hold_part(
            part,
            _capture_options(context, context.spool),
            secrets=context.secrets,
            clock=context.clock,
            token=token,
            keeper=keeper,
            anew=anew,
        )

    return hold


def _from_anywhere(repository_url: str) -> str:
    """Return a repository's URL for processes that may stand in other directories."""
    is_path = _SCHEME.match(repository_url) is None
    return str(Path(repository_url).absolute()) if is_path else repository_url


def open_target(url: str, context: Context) -> Target:
    """Open an engine to write to."""
    scheme = _scheme(url)
    if scheme == "edge":
        from recollect.engines.edge.target import EdgeTarget  # noqa: PLC0415 - see above

        path, _ = _edge_place(url)
        return EdgeTarget(path, context.new_id)
    if scheme == "memory":
        from recollect.engines.memory import open_memory  # noqa: PLC0415 - see above

        return open_memory(url.partition(":")[2])
    if scheme == "recollect":
        from recollect.engines.embedded import open_embedded_target  # noqa: PLC0415 - see above

        return open_embedded_target(_database_path(url), url)
    if scheme in _QDRANT_SCHEMES:
        from recollect.engines.qdrant.target import QdrantTarget  # noqa: PLC0415 - see above

        return QdrantTarget(
            url,
            secrets=context.secrets,
            clock=context.clock,
            new_id=context.new_id,
            scratch=_scratch(context),
        )
    raise _unknown(url)


def recorded_source(url: str) -> str:
    """Return the source as snapshots record it, for any spelling of its URL; nothing is opened."""
    scheme = _scheme(url)
    if scheme == "edge":
        from recollect.engines.edge.source import edge_info  # noqa: PLC0415 - see above

        return edge_info(_edge_place(url)[0]).url
    if scheme in _QDRANT_SCHEMES:
        from recollect.engines.qdrant.address import parse_address  # noqa: PLC0415 - see above

        return parse_address(url, lambda _: HIDDEN)[0].url
    return url


def is_source_url(text: str) -> bool:
    """Tell a source from a snapshot's id or name: it has the scheme of an engine, or is written as a path."""
    match = _SCHEME.match(text)
    if match is not None and match[0][:-1].lower() in _ENGINE_SCHEMES:
        return True
    return text.startswith(("/", "./", "../", "~"))


def _scheme(url: str) -> str:
    """Return the scheme; a plain path is the directory of an Edge shard."""
    match = _SCHEME.match(url)
    if match is None:
        if not url:
            raise RequestError("the URL of a database is empty", f"give one of: {_ENGINE_FORMS}")
        return "edge"
    return match[0][:-1].lower()


def _database_path(url: str) -> str:
    path = url.partition(":")[2].removeprefix("//")
    if not path or "@" in path.partition("/")[0]:
        raise RequestError(
            f"{without_secrets(url)!r} names no directory",
            "write three slashes: recollect:///path/of/the/database",
        )
    return path


def _edge_place(url: str) -> tuple[Path, str]:
    """Return the shard's absolute path and the collection's name, empty if the URL gives none."""
    if _SCHEME.match(url) is None:
        return Path(url).expanduser().resolve(), ""
    parts = urlsplit(url)
    if parts.netloc or not parts.path:
        raise RequestError(
            f"{without_secrets(url)!r} names no directory", "write three slashes: edge:///path/of/the/shard"
        )
    query = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(query.keys() - {"name"})
    if unknown:
        raise RequestError(
            f"{without_secrets(url)!r} has an unknown option {unknown[0]!r}",
            "the only option of edge: is ?name=",
        )
    path = os.fsdecode(unquote_to_bytes(os.fsencode(parts.path)))
    return Path(path).resolve(), query.get("name", [""])[-1]


def _directory_name(path: Path) -> str:
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the name of the directory {path} is not UTF-8 text, so the collection cannot be called by it",
            "name the collection in the URL: edge:///path?name=NAME",
        ) from error
    return path.name


def _unknown(url: str) -> RequestError:
    return RequestError(
        f"there is no engine for the URL {without_secrets(url)!r}", f"the forms are: {_ENGINE_FORMS}"
    )
