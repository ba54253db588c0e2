"""A Qdrant server as a source that captures consistently where it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recollect.clock import Clock
from recollect.engines.base import Capabilities, EngineInfo
from recollect.engines.qdrant.address import Secrets, parse_address
from recollect.engines.qdrant.capture.access import Access
from recollect.engines.qdrant.capture.options import CaptureOptions
from recollect.engines.qdrant.capture.spool import Spool
from recollect.engines.qdrant.capture.view import CaptureView
from recollect.engines.qdrant.source import CAPABILITIES, QdrantSource, QdrantView
from recollect.values.event import OnEvent, ignore_events


class CapturingSource:
    """A server's collections, each read from snapshots of its shards, or by scrolling. One thread at a time.

    Args:
        url: See `address`; `capture=` in it chooses how.
        secrets: Gives the value of `api_key_env`.
        clock: Waits between attempts, and measures streams.
        options: Where streams arrive, and which engine opens them.
        on_event: Is told what the user should know.

    Raises:
        RequestError, AccessError: The URL is wrong, or its secret is not there. Nothing is sent yet.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Secrets,
        clock: Clock,
        options: CaptureOptions,
        on_event: OnEvent = ignore_events,
    ) -> None:
        self._source = QdrantSource(url, secrets=secrets, clock=clock, on_event=on_event)
        self._mode = parse_address(url, secrets)[0].capture
        self._access = Access(url, secrets, clock)
        self._clock = clock
        self._options = options
        self._on_event = on_event

    @property
    def capabilities(self) -> Capabilities:
        """No point in time for all collections together; ids come in order."""
        return CAPABILITIES

    def info(self) -> EngineInfo:
        """Identify the server."""
        return self._source.info()

    @contextmanager
    def hold(self) -> Iterator[CaptureView | QdrantView]:
        """Read which collections there are; each is captured when it is read."""
        options = self._options
        with self._source.hold() as view:
            if self._mode == "scroll":
                yield view
                return
            with Spool(options.spool, options.spool_bytes, options.new_id) as spool:
                yield CaptureView(
                    view,
                    self._access,
                    spool,
                    options,
                    mode=self._mode,
                    clock=self._clock,
                    on_event=self._on_event,
                )

    def close(self) -> None:
        """Close the connections."""
        self._source.close()
