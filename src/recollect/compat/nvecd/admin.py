"""INFO, CONFIG and CACHE."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from recollect.compat.nvecd.cache import SearchCache
from recollect.compat.nvecd.config.describe import help_text, show_text
from recollect.compat.nvecd.config.load import load_settings
from recollect.compat.nvecd.config.settings import NvecdSettings
from recollect.compat.nvecd.protocol import command as cmd
from recollect.compat.nvecd.protocol import reply
from recollect.compat.nvecd.statistics import Statistics
from recollect.compat.nvecd.variables import Variables
from recollect.database import Database
from recollect.errors import MissingDependencyError, NotFoundError, RecollectError, RequestError

VERSION = "0.1.0"
"""The release of nvecd whose protocol this is; clients look at it."""


class Served(Protocol):
    """What administration looks at: the face."""

    database: Database
    settings: NvecdSettings
    statistics: Statistics
    cache: SearchCache
    variables: Variables


class Admin:
    """Answers INFO, CONFIG and CACHE. Safe to share between threads."""

    def __init__(self, served: Served, config_path: Path | None) -> None:
        self._served = served
        self._config_path = config_path

    def run(self, command: cmd.Command) -> bytes:
        """Run one command.

        Raises:
            RecollectError: It is refused.
        """
        match command:
            case cmd.Config():
                return self._config(command)
            case cmd.Cache():
                return self._cache(command)
            case _:
                return self._info()

    def memory_bytes(self) -> int:
        """Return the memory of the vectors, as nvecd counts it."""
        vectors = self._served.database.vectors
        return len(vectors) * (vectors.dimension or 0) * 4

    def _info(self) -> bytes:
        served = self._served
        statistics, cache, database = served.statistics, served.cache, served.database
        used = self.memory_bytes()
        sections: list[tuple[str, list[tuple[str, object]]]] = [
            ("Server", [("version", VERSION), ("uptime_seconds", statistics.uptime_s)]),
            (
                "Stats",
                [
                    ("total_commands_processed", statistics.command_count),
                    ("failed_commands", statistics.failed_count),
                    ("total_connections_received", statistics.connection_count),
                    ("active_connections", statistics.active_count),
                    ("event_commands", statistics.event_count),
                    ("sim_commands", statistics.search_count),
                    ("vecset_commands", statistics.vecset_count),
                ],
            ),
            (
                "Memory",
                [
                    ("used_memory_bytes", used),
                    ("used_memory_human", f"{used / (1 << 20):.2f} MB"),
                    ("memory_health", "HEALTHY"),
                ],
            ),
            (
                "Cache",
                [
                    ("cache_entries", cache.entry_count),
                    ("cache_hits", cache.counts.hit_count),
                    ("cache_misses", cache.counts.miss_count),
                    ("cache_hit_rate", f"{cache.counts.hit_rate:.4f}"),
                ],
            ),
            (
                "Data",
                [
                    ("id_count", database.events.item_count),
                    ("ctx_count", database.events.context_count),
                    ("vector_count", len(database.vectors)),
                    ("event_count", database.events.counts.event_count),
                ],
            ),
        ]
        lines = ["OK INFO"]
        for title, fields in sections:
            lines += ["", f"# {title}", *(f"{name}: {value}" for name, value in fields)]
        return reply.line("\n".join([*lines, "END"]))

    def _config(self, command: cmd.Config) -> bytes:
        match command.verb:
            case "HELP":
                text = help_text(command.path)
            case "SHOW":
                text = show_text(self._served.settings, command.path)
            case _:
                text = self._verify(command.path)
        return reply.line(f"+OK\n{text}END")

    def _verify(self, requested: str) -> str:
        if not requested:
            raise RequestError("CONFIG VERIFY requires a filepath")
        settings = self._load(requested)
        http = settings.api.http
        lines = [
            "Configuration is valid",
            "  Vectors:",
            f"    dimension: {settings.vectors.default_dimension}",
            f"    distance_metric: {settings.vectors.distance_metric}",
            "  Events:",
            f"    ctx_buffer_size: {settings.events.ctx_buffer_size}",
            f"    decay_interval_sec: {settings.events.decay_interval_sec}",
            "  API:",
            f"    tcp: {settings.api.tcp.bind}:{settings.api.tcp.port}",
            *([f"    http: {http.bind}:{http.port}"] if http.enable else []),
        ]
        return "\n".join(lines) + "\n"

    def _load(self, requested: str) -> NvecdSettings:
        """Load a file that lies beside the server's own; others are not even looked at."""
        root = Path(self._served.settings.snapshot.dir)
        if self._config_path is not None:
            root = self._config_path.resolve().parent
        root = root.resolve()
        path = (root / requested).resolve()
        try:
            if not path.is_relative_to(root):
                raise NotFoundError("outside")
            return load_settings(path)
        except (RequestError, MissingDependencyError):
            raise
        except RecollectError as error:
            raise NotFoundError("Configuration file is not accessible") from error

    def _cache(self, command: cmd.Cache) -> bytes:
        match command.verb:
            case "CLEAR":
                self._served.cache.clear()
                return b"OK CACHE_CLEARED\r\n"
            case "ENABLE":
                self._served.variables.set("cache.enabled", "true")
                return b"OK CACHE_ENABLED\r\n"
            case "DISABLE":
                self._served.variables.set("cache.enabled", "false")
                return b"OK CACHE_DISABLED\r\n"
            case _:
                return reply.block("OK CACHE_STATS", self.cache_fields())

    def cache_fields(self) -> list[tuple[str, object]]:
        """Return what CACHE STATS shows."""
        cache, settings = self._served.cache, self._served.settings.cache
        counts = cache.counts
        return [
            ("cache_enabled", _truth(value=cache.is_enabled)),
            ("cache_entries", cache.entry_count),
            ("cache_memory_bytes", cache.byte_size),
            ("current_memory_mb", f"{cache.byte_size / (1 << 20):.2f}"),
            ("min_query_cost_ms", f"{cache.min_query_cost_ms:.2f}"),
            ("ttl_seconds", cache.ttl_s),
            ("compression_enabled", _truth(value=settings.compression_enabled)),
            ("eviction_batch_size", settings.eviction_batch_size),
            ("total_queries", counts.query_count),
            ("cache_hits", counts.hit_count),
            ("cache_misses", counts.miss_count),
            ("cache_misses_invalidated", counts.invalidated_count),
            ("cache_misses_not_found", counts.absent_count),
            ("cache_hit_rate", f"{counts.hit_rate:.4f}"),
            ("evictions", counts.eviction_count),
            ("ttl_expirations", counts.expiration_count),
            ("avg_hit_latency_ms", f"{counts.hit_ms / max(1, counts.hit_count):.3f}"),
            ("avg_miss_latency_ms", f"{counts.miss_ms / max(1, counts.miss_count):.3f}"),
            ("total_time_saved_ms", f"{counts.saved_ms:.2f}"),
        ]


def _truth(*, value: bool) -> str:
    return "true" if value else "false"
