"""Every setting of nvecd, with its type, range and default: the one place that states them.

Field names are the names in the YAML file. Settings marked as extensions are ours; they
show up in no listing unless they are set, since clients count nvecd's.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

_EXTENSION = {"extension": True}
U31_MAX = 2**31 - 1
U32_MAX = 2**32 - 1

ReplyStyle: TypeAlias = Literal["wire", "doc"]
"""How DUMP replies read: as nvecd sends them, or as its documentation prints them."""

LimitsName: TypeAlias = Literal["nvecd", "format"]


def _integer(description: str, low: int, high: int) -> Meta:
    return Meta(ge=low, le=high, description=description)


def _share(description: str) -> Meta:
    return Meta(ge=0.0, le=1.0, description=description)


def _text(description: str) -> Meta:
    return Meta(description=description)


class EventsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events and co-occurrence; meanings in `database.options.EventOptions`."""

    ctx_buffer_size: Annotated[int, _integer("Events kept per context", 10, 10_000)] = 50
    max_contexts: Annotated[int, _integer("Contexts kept (0 = all)", 0, 1_000_000)] = 0
    max_neighbors_per_item: Annotated[int, _integer("Neighbors kept per item (0 = all)", 0, 1_000_000)] = 0
    min_support: Annotated[float, Meta(ge=0.0, description="Weakest edge that a decay keeps (0 = any)")] = 0.0
    decay_interval_sec: Annotated[int, _integer("Seconds between decays (0 = never)", 0, 86_400)] = 3600
    decay_alpha: Annotated[float, _share("Factor of one decay")] = 0.99
    dedup_window_sec: Annotated[int, _integer("Seconds in which an ADD repeats (0 = never)", 0, 86_400)] = 60
    dedup_cache_size: Annotated[int, _integer("Entries of the duplicate tables", 0, 1_000_000)] = 10_000
    temporal_cooccurrence: Annotated[bool, _text("Weigh pairs by the age of their events")] = False
    temporal_half_life_sec: Annotated[
        float, Meta(gt=0.0, description="Age at which an event counts half")
    ] = 86400.0
    negative_signals: Annotated[bool, _text("Let DEL lower the co-occurrence")] = False
    negative_weight: Annotated[float, _share("By which factor of the other score")] = 0.5


class VectorsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Vectors."""

    default_dimension: Annotated[int, _integer("Dimension; the first vector fixes it", 1, 4096)] = 768
    distance_metric: Annotated[Literal["cosine", "dot", "l2"], _text("How vectors are compared")] = "cosine"


class SimilaritySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Search and fusion. Settings of nvecd's own indexes are read, shown and without effect here."""

    default_top_k: Annotated[int, _integer("Results unless a request says", 1, 10_000)] = 100
    max_top_k: Annotated[int, _integer("Results at most", 1, 10_000)] = 1000
    fusion_alpha: Annotated[float, _share("Weight of the vectors")] = 0.6
    fusion_beta: Annotated[float, _share("Weight of the events")] = 0.4
    sample_size: Annotated[int, _integer("Rows that a scan samples; scans here are exact", 0, U31_MAX)] = (
        10_000
    )
    ivf_enabled: Annotated[bool, _text("Older spelling of index_type ivf")] = False
    ivf_nlist: Annotated[int, _integer("Cells of the IVF index", 0, 65_536)] = 256
    ivf_nprobe: Annotated[int, _integer("Cells searched", 1, 65_536)] = 8
    ivf_train_threshold: Annotated[int, _integer("Rows before training", 1, U32_MAX)] = 10_000
    ivf_seal_threshold: Annotated[int, _integer("Rows of a write buffer", 1, U32_MAX)] = 100_000
    adaptive_fusion: Annotated[bool, _text("Choose the weights by the item's neighbors")] = False
    adaptive_min_alpha: Annotated[float, _share("Weight of the vectors for a mature item")] = 0.2
    adaptive_max_alpha: Annotated[float, _share("Weight of the vectors for a new item")] = 0.9
    adaptive_maturity_threshold: Annotated[int, _integer("Neighbors of a mature item", 1, U32_MAX)] = 50
    index_type: Annotated[Literal["hnsw", "ivf", "flat"], _text("Kind of index")] = "flat"
    hnsw_m: Annotated[int, _integer("Links per node", 2, U31_MAX)] = 16
    hnsw_ef_construction: Annotated[int, _integer("Candidates while building", 1, U32_MAX)] = 200
    hnsw_ef_search: Annotated[int, _integer("Candidates while searching", 1, U32_MAX)] = 50
    hnsw_max_elements: Annotated[int, _integer("Rows to make room for", 0, 10_000_000)] = 0


class SnapshotSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Snapshot files. `reply_style` and `limits` are ours."""

    dir: Annotated[str, _text("Directory of the snapshots")] = "/var/lib/nvecd/snapshots"
    default_filename: Annotated[str, _text("Read and never used, as in nvecd 0.1.0")] = "nvecd.snapshot"
    interval_sec: Annotated[int, _integer("Seconds between automatic snapshots (0 = none)", 0, 86_400)] = 0
    retain: Annotated[int, _integer("Automatic snapshots kept (0 = all)", 0, 100)] = 3
    mode: Annotated[
        Literal["fork", "lock"],
        _text("Snapshot consistency mode: fork (COW, non-blocking) or lock (global write lock, blocking)"),
    ] = "fork"
    reply_style: Annotated[
        ReplyStyle, Meta(description="Replies of DUMP: as sent or as documented", extra=_EXTENSION)
    ] = "wire"
    limits: Annotated[
        LimitsName, Meta(description="Largest file: nvecd's, or the format's", extra=_EXTENSION)
    ] = "nvecd"


class PerformanceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Threads, connections and buffers."""

    thread_pool_size: Annotated[int, _integer("Threads for slow commands (0 = one per core)", 0, 128)] = 8
    max_connections: Annotated[int, _integer("Connections at a time", 1, 100_000)] = 1000
    max_connections_per_ip: Annotated[int, _integer("Of one address (0 = any number)", 0, 100_000)] = 100
    connection_timeout_sec: Annotated[int, _integer("Seconds an idle connection lives", 1, 3600)] = 300
    recv_buffer_size: Annotated[int, _integer("Receive buffer in bytes", 1024, 1 << 20)] = 4096
    send_buffer_size: Annotated[int, _integer("Send buffer in bytes", 1024, 16 << 20)] = 65_536
    max_query_length: Annotated[int, _integer("Bytes of one request", 1024, 16 << 20)] = 1 << 20
    shutdown_timeout_ms: Annotated[int, _integer("Time to finish at shutdown", 100, 60_000)] = 5000
    reactor_max_total_buffered_bytes: Annotated[
        int, _integer("Bytes buffered for all connections", 1 << 20, 1 << 30)
    ] = 256 << 20


class TcpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The line protocol's address."""

    bind: Annotated[str, _text("TCP bind address")] = "127.0.0.1"
    port: Annotated[int, _integer("TCP port", 0, 65_535)] = 11017


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP API."""

    enable: Annotated[bool, _text("Enable HTTP server")] = False
    bind: Annotated[str, _text("HTTP bind address")] = "127.0.0.1"
    port: Annotated[int, _integer("HTTP port", 0, 65_535)] = 8080
    enable_cors: Annotated[bool, _text("Send CORS headers")] = False
    cors_allow_origin: Annotated[str, _text("Origin that may read replies")] = ""
    timeout_sec: Annotated[int, _integer("Seconds a request may take to arrive", 1, 300)] = 5


class UnixSocketSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The line protocol on a unix socket."""

    path: Annotated[str, _text("Socket path (empty = none)")] = ""


class RateLimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token buckets by client address."""

    enable: Annotated[bool, _text("Limit requests")] = False
    capacity: Annotated[int, _integer("Requests in a burst", 1, 10_000)] = 100
    refill_rate: Annotated[int, _integer("Requests a second after that", 1, 1000)] = 10
    max_clients: Annotated[int, _integer("Addresses that are remembered", 10, 100_000)] = 10_000


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server listens."""

    tcp: Annotated[TcpSettings, _text("TCP server configuration")] = TcpSettings()
    http: Annotated[HttpSettings, _text("HTTP server configuration")] = HttpSettings()
    unix_socket: Annotated[UnixSocketSettings, _text("Unix domain socket configuration")] = (
        UnixSocketSettings()
    )
    rate_limiting: Annotated[RateLimitSettings, _text("Rate limiting configuration")] = RateLimitSettings()


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may connect."""

    allow_cidrs: Annotated[list[str], _text("Networks that may connect (empty = none)")] = []


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log output."""

    level: Annotated[Literal["trace", "debug", "info", "warn", "error"], _text("Log level")] = "info"
    json: Annotated[bool, _text("JSON format output")] = True
    file: Annotated[str, _text("Log file (empty = standard error)")] = ""


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remembered search results."""

    enabled: Annotated[bool, _text("Remember results")] = True
    max_memory_mb: Annotated[int, _integer("Memory in MB", 1, U31_MAX)] = 32
    min_query_cost_ms: Annotated[float, Meta(ge=0.0, description="Quicker searches are not remembered")] = (
        10.0
    )
    ttl_seconds: Annotated[int, _integer("Seconds a result lives (0 = any time)", 0, U31_MAX)] = 3600
    compression_enabled: Annotated[bool, _text("Read and without effect")] = True
    eviction_batch_size: Annotated[int, _integer("Results dropped at a time", 1, U31_MAX)] = 10


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password."""

    requirepass: Annotated[str, _text("Password for writes and administration (empty = none)")] = ""


class WalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The write-ahead log."""

    enabled: Annotated[bool, _text("Log every write before it is applied")] = False
    dir: Annotated[str, _text("Directory of the log")] = "/var/lib/nvecd/wal"
    max_file_size: Annotated[int, _integer("Bytes of one file", 1, 2**63 - 1)] = 64 << 20
    sync_on_write: Annotated[bool, _text("Sync after every write")] = False
    sync_interval_ms: Annotated[int, _integer("Time between syncs (0 = every write)", 0, U32_MAX)] = 100
    include_vectors: Annotated[bool, _text("Log vectors too")] = True


class NvecdSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file."""

    events: Annotated[EventsSettings, _text("Event store and co-occurrence tracking configuration")] = (
        EventsSettings()
    )
    vectors: Annotated[VectorsSettings, _text("Vector store configuration")] = VectorsSettings()
    similarity: Annotated[SimilaritySettings, _text("Similarity search configuration")] = SimilaritySettings()
    snapshot: Annotated[SnapshotSettings, _text("Snapshot persistence configuration")] = SnapshotSettings()
    performance: Annotated[PerformanceSettings, _text("Performance and threading configuration")] = (
        PerformanceSettings()
    )
    api: Annotated[ApiSettings, _text("API server configuration")] = ApiSettings()
    network: Annotated[NetworkSettings, _text("Network security configuration")] = NetworkSettings()
    logging: Annotated[LoggingSettings, _text("Logging configuration")] = LoggingSettings()
    cache: Annotated[CacheSettings, _text("Query cache configuration")] = CacheSettings()
    security: Annotated[SecuritySettings, _text("Security configuration")] = SecuritySettings()
    wal: Annotated[WalSettings, _text("Write-Ahead Log configuration for crash recovery")] = WalSettings()
