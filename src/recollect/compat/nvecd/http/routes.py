"""Method and path to what the face does; results to JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from recollect.compat.nvecd import dump_reply
from recollect.compat.nvecd.admin import VERSION
from recollect.compat.nvecd.dump import Refused
from recollect.compat.nvecd.face import Face, Session
from recollect.compat.nvecd.http import request
from recollect.compat.nvecd.http.metrics import metrics_text
from recollect.compat.nvecd.protocol import command as cmd
from recollect.errors import AccessError, ConflictError, NotFoundError, RecollectError, RequestError

JSON = "application/json"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_STATES = {"idle": "IDLE", "in_progress": "IN_PROGRESS", "completed": "COMPLETED", "failed": "FAILED"}


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    content_type: str = JSON


_Route: TypeAlias = Callable[[bytes], Answer]


class Routes:
    """Answers requests by the face. Safe to share between threads."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._routes: dict[tuple[str, str], tuple[cmd.Command, _Route]] = {
            ("POST", "/event"): (_WRITE, lambda data: self._write([request.event(request.parse_body(data))])),
            ("POST", "/vecset"): (_WRITE, self._vecset),
            ("DELETE", "/vecset"): (_WRITE, lambda data: self._write([request.vecdel(_object(data))])),
            ("POST", "/metaset"): (_WRITE, lambda data: self._write([request.metaset(_object(data))])),
            ("POST", "/sim"): (_SEARCH, self._sim),
            ("POST", "/simv"): (_SEARCH, self._simv),
            ("GET", "/info"): (_LOOK, lambda _: self._info()),
            ("GET", "/health"): (_LOOK, lambda _: self._health("ok")),
            ("GET", "/health/live"): (_LOOK, lambda _: self._health("alive")),
            ("GET", "/health/ready"): (_LOOK, lambda _: self._ready()),
            ("GET", "/health/detail"): (_LOOK, lambda _: self._detail()),
            ("GET", "/config"): (_LOOK, lambda _: self._config()),
            ("GET", "/metrics"): (_LOOK, lambda _: Answer(200, metrics_text(face), TEXT)),
            ("GET", "/cache/stats"): (_LOOK, lambda _: self._cache_stats()),
            ("POST", "/cache/clear"): (cmd.Cache("CLEAR"), self._cache_clear),
            ("POST", "/cache/enable"): (cmd.Cache("ENABLE"), lambda _: self._cache_switch("true")),
            ("POST", "/cache/disable"): (cmd.Cache("DISABLE"), lambda _: self._cache_switch("false")),
            ("POST", "/dump/save"): (cmd.Dump("SAVE"), self._save),
            ("POST", "/dump/load"): (cmd.Dump("LOAD"), self._load),
            ("POST", "/dump/verify"): (cmd.Dump("VERIFY"), self._verify),
            ("POST", "/dump/info"): (cmd.Dump("INFO"), self._dump_info),
            ("GET", "/dump/status"): (cmd.Dump("STATUS"), lambda _: self._status()),
            ("POST", "/debug/on"): (_LOOK, lambda _: _gone("ON")),
            ("POST", "/debug/off"): (_LOOK, lambda _: _gone("OFF")),
        }

    def answer(self, method: str, path: str, data: bytes, *, password: bytes | None) -> Answer:
        """Answer one request; `password` is what its Authorization header carried, or None."""
        route = self._routes.get((method, path))
        if route is None:
            return failure(404, "Not found")
        command, run = route
        session = Session()
        session.is_authenticated = password is not None and self._face.is_password(password)
        failed = True
        try:
            self._face.check_access(command, session)
            answer = run(data)
            failed = answer.status >= 400
        except RecollectError as error:
            return failure(*_explained(error))
        else:
            return answer
        finally:
            if command is not _WRITE:
                self._face.statistics.note_command(command, failed=failed)

    def _write(self, writes: list[cmd.Write]) -> Answer:
        for write, error in zip(writes, self._face.writer.apply(writes), strict=True):
            self._face.statistics.note_command(write, failed=error is not None)
            if error is not None:
                raise error
        return _json(200, {"status": "ok"})

    def _vecset(self, data: bytes) -> Answer:
        writes = request.vecset(_object(data))
        self._write(writes)
        assert isinstance(writes[0], cmd.VecSet)
        return _json(200, {"status": "ok", "dimension": len(writes[0].vector)})

    def _sim(self, data: bytes) -> Answer:
        command = request.sim(_object(data), self._face.settings.similarity.default_top_k)
        return self._found(command, {"mode": command.mode})

    def _simv(self, data: bytes) -> Answer:
        command = request.simv(_object(data), self._face.settings.similarity.default_top_k)
        return self._found(command, {"dimension": len(command.vector)})

    def _found(self, command: cmd.Search, more: dict[str, Any]) -> Answer:
        found, _, _ = self._face.search(command)
        results = [{"id": item, "score": round(float(np.float32(score)), 4)} for item, score in found]
        return _json(200, {"status": "ok", "count": len(results), **more, "results": results})

    def _save(self, data: bytes) -> Answer:
        body = request.parse_body(data) if data else {}
        requested = body.get("filepath", "")
        saved = self._face.dumps.save(requested if isinstance(requested, str) else "")
        return _json(200, {"status": "ok", "filepath": str(saved.path)})

    def _load(self, data: bytes) -> Answer:
        loaded = self._face.dumps.load(request.file_path(_object(data)))
        if isinstance(loaded, Refused):
            return failure(500, loaded.message)
        self._face.cache.clear()
        return _json(200, {"status": "ok", "filepath": str(loaded.path)})

    def _verify(self, data: bytes) -> Answer:
        requested = request.file_path(_object(data))
        found = self._face.dumps.verify(requested)
        if isinstance(found, Refused):
            problem = {"status": "error", "filepath": requested, "valid": False, "error": found.message}
            return _json(500, problem)
        return _json(200, {"status": "ok", "filepath": str(found.path), "valid": True})

    def _dump_info(self, data: bytes) -> Answer:
        requested = request.file_path(_object(data))
        found = self._face.dumps.info(requested)
        if isinstance(found, Refused):
            return failure(500, found.message)
        lines = dump_reply.info(found, self._face.settings.snapshot.reply_style).decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        return _json(200, {"status": "ok", "filepath": requested, "info": fields})

    def _status(self) -> Answer:
        status = self._face.saver.status
        body: dict[str, Any] = {"status": "ok", "data": _STATES[status.state]}
        if status.state != "idle":
            body["filepath"] = status.path
        if status.state == "failed":
            body["error_message"] = status.error
        return _json(200, body)

    def _health(self, word: str) -> Answer:
        return _json(200, {"status": word, "timestamp": self._now_s()})

    def _ready(self) -> Answer:
        if self._face.gate.is_loading:
            body = {"status": "not_ready", "loading": True, "reason": "Server is loading"}
            return _json(503, {**body, "timestamp": self._now_s()})
        return _json(200, {"status": "ready", "loading": False, "timestamp": self._now_s()})

    def _detail(self) -> Answer:
        is_loading = self._face.gate.is_loading
        components = {"server": {"status": "loading" if is_loading else "ready", "loading": is_loading}}
        stores = {name: {"status": "ok", **fields} for name, fields in self._stores().items()}
        body = {
            "status": "degraded" if is_loading else "healthy",
            "timestamp": self._now_s(),
            "uptime_seconds": self._face.statistics.uptime_s,
            "components": {**components, **stores},
        }
        return _json(200, body)

    def _info(self) -> Answer:
        statistics = self._face.statistics
        used = self._face.admin.memory_bytes()
        body = {
            "server": "nvecd",
            "version": VERSION,
            "uptime_seconds": statistics.uptime_s,
            "total_requests": statistics.command_count,
            "total_commands_processed": statistics.command_count,
            "failed_commands": statistics.failed_count,
            "memory": {
                "used_memory_bytes": used,
                "used_memory_human": f"{used / (1 << 20):.2f} MB",
                "memory_health": "HEALTHY",
            },
            "stores": self._stores(),
            "cache": self._cache_body(),
        }
        return _json(200, body)

    def _stores(self) -> dict[str, dict[str, int]]:
        database = self._face.database
        return {
            "event_store": {
                "contexts": database.events.context_count,
                "total_events": database.events.counts.event_count,
            },
            "vector_store": {
                "vectors": len(database.vectors),
                "dimension": database.vectors.dimension or 0,
            },
            "co_index": {"tracked_ids": database.events.item_count},
        }

    def _config(self) -> Answer:
        settings = self._face.settings
        events = settings.events
        body = {
            "network": {
                "tcp_enabled": True,
                "http_enabled": settings.api.http.enable,
                "allow_cidrs_configured": bool(settings.network.allow_cidrs),
            },
            "events": {
                "ctx_buffer_size": events.ctx_buffer_size,
                "max_contexts": events.max_contexts,
                "max_neighbors_per_item": events.max_neighbors_per_item,
                "min_support": events.min_support,
                "decay_interval_sec": events.decay_interval_sec,
            },
            "vectors": {"default_dimension": settings.vectors.default_dimension},
            "similarity": {
                "default_top_k": settings.similarity.default_top_k,
                "fusion_alpha": settings.similarity.fusion_alpha,
            },
            "notes": "Addresses and secrets are left out; CONFIG SHOW over TCP has more.",
        }
        return _json(200, body)

    def _cache_body(self) -> dict[str, Any]:
        cache = self._face.cache
        counts = cache.counts
        return {
            "enabled": cache.is_enabled,
            "total_queries": counts.query_count,
            "cache_hits": counts.hit_count,
            "cache_misses": counts.miss_count,
            "hit_rate": counts.hit_rate,
            "current_entries": cache.entry_count,
            "current_memory_bytes": cache.byte_size,
            "evictions": counts.eviction_count,
            "time_saved_ms": counts.saved_ms,
        }

    def _cache_stats(self) -> Answer:
        cache, counts = self._face.cache, self._face.cache.counts
        more = {
            "cache_misses_invalidated": counts.invalidated_count,
            "cache_misses_not_found": counts.absent_count,
            "min_query_cost_ms": cache.min_query_cost_ms,
            "ttl_seconds": cache.ttl_s,
        }
        return _json(200, {**self._cache_body(), **more})

    def _cache_clear(self, data: bytes) -> Answer:
        scope = (request.parse_body(data) if data else {}).get("scope", "all")
        if scope != "all":
            raise RequestError("Invalid scope. Only 'all' is supported currently.")
        return _json(200, {"status": "ok", "scope": "all", "entries_removed": self._face.cache.clear()})

    def _cache_switch(self, value: str) -> Answer:
        self._face.variables.set("cache.enabled", value)
        return _json(
            200, {"status": "ok", "message": f"Cache {'enabled' if value == 'true' else 'disabled'}"}
        )

    def _now_s(self) -> int:
        return int(self._face.clock.now().timestamp())


def failure(status: int, message: str) -> Answer:
    """Return a refusal."""
    return _json(status, {"error": message})


def _explained(error: RecollectError) -> tuple[int, str]:
    match error:
        case AccessError(message=message) if message.startswith("NOAUTH"):
            return 401, "Authentication required"
        case AccessError(message=message):
            return 403, message
        case ConflictError(message=message) if message.startswith("LOADING"):
            return 503, "Server is loading, please try again later"
        case ConflictError(message=message) if message.startswith("READONLY"):
            return 503, "Server is read-only or loading"
        case NotFoundError(message=message):
            return 404, message
        case RequestError(message=message):
            return 400, message
        case _:
            return (503 if error.retryable else 500), error.message


def _gone(word: str) -> Answer:
    return failure(410, f"HTTP debug mode is not supported; use DEBUG {word} on a persistent TCP connection")


def _object(data: bytes) -> dict[str, Any]:
    return request.parse_body(data)


def _json(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, msgspec.json.encode(body))


_WRITE = cmd.VecDel("")  # stands for any write where access is checked
_SEARCH = cmd.Sim(item="", top_k=1)
_LOOK = cmd.Info()
