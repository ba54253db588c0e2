"""The counters in the format that Prometheus reads.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from recollect.compat.nvecd.face import Face


def metrics_text(face: Face) -> bytes:
    """Return all metrics."""
    statistics, database, cache = face.statistics, face.database, face.cache
    counts = cache.counts
    commands = [
        f'nvecd_commands_total{{command="event"}} {statistics.event_count}',
        f'nvecd_commands_total{{command="vecset"}} {statistics.vecset_count}',
        f'nvecd_commands_total{{command="sim"}} {statistics.search_count}',
        f"nvecd_commands_total {statistics.command_count}",
    ]
    gauges: list[tuple[str, str, str, object]] = [
        ("nvecd_memory_bytes", "gauge", "Memory of the vectors in bytes", face.admin.memory_bytes()),
        ("nvecd_vectors_total", "gauge", "Vectors stored", len(database.vectors)),
        ("nvecd_events_total", "gauge", "Events taken", database.events.counts.event_count),
        ("nvecd_contexts_total", "gauge", "Contexts stored", database.events.context_count),
        ("nvecd_cache_queries_total", "counter", "Searches that asked the cache", counts.query_count),
        ("nvecd_cache_hits_total", "counter", "Searches that the cache answered", counts.hit_count),
        ("nvecd_cache_misses_total", "counter", "Searches that were run", counts.miss_count),
        ("nvecd_cache_hit_rate", "gauge", "Hits per search", counts.hit_rate),
        ("nvecd_cache_entries", "gauge", "Results remembered", cache.entry_count),
        ("nvecd_cache_memory_bytes", "gauge", "Memory of the cache in bytes", cache.byte_size),
    ]
    lines = [
        *_described("nvecd_uptime_seconds", "counter", "Seconds since the start"),
        f"nvecd_uptime_seconds {statistics.uptime_s}",
        *_described("nvecd_commands_total", "counter", "Commands processed"),
        *commands,
    ]
    for name, kind, description, value in gauges:
        lines += [*_described(name, kind, description), f"{name} {value}"]
    return ("\n".join(lines) + "\n").encode("ascii")


def _described(name: str, kind: str, description: str) -> list[str]:
    return [f"# HELP {name} {description}", f"# TYPE {name} {kind}"]
