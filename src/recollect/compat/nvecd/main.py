"""The command `recollect-nvecd`: nvecd's command line and configuration, to stand in its place."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from recollect import __version__
from recollect.clock import Clock, SystemClock
from recollect.compat.nvecd.admin import VERSION
from recollect.compat.nvecd.config.load import default_settings, load_settings
from recollect.compat.nvecd.config.settings import LoggingSettings, NvecdSettings
from recollect.compat.nvecd.instance import Instance
from recollect.errors import RecollectError

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that writes a snapshot may keep the interpreter from one that answers."""

_LEVELS = {"trace": "DEBUG", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}
_log = logging.getLogger("recollect.nvecd")


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    config: Path | None = None
    is_test: bool = False
    shows_help: bool = False
    shows_version: bool = False


def parse_arguments(words: Sequence[str]) -> Arguments | str:
    """Read the command line as nvecd does; a text is what is wrong with it."""
    if any(word in {"-h", "--help"} for word in words):
        return Arguments(shows_help=True)
    if any(word in {"-v", "--version"} for word in words):
        return Arguments(shows_version=True)
    config: Path | None = None
    is_test = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in {"-t", "--config-test"}:
            is_test = True
            continue
        if word in {"-c", "--config"}:
            if not rest:
                return f"Error: {word} requires a file path"
            word = rest.pop(0)
        elif word.startswith("-"):
            return f"Error: Unknown option: {word}\nUse -h or --help for usage information"
        if config is not None:
            return "Error: Multiple config files specified"
        config = Path(word)
    if is_test and config is None:
        return "Error: --config-test requires a configuration file (-c <file> or positional path)"
    return Arguments(config=config, is_test=is_test)


def main(words: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop; returns the exit code."""
    parsed = parse_arguments(sys.argv[1:] if words is None else words)
    if isinstance(parsed, str):
        sys.stderr.write(parsed + "\n")
        return 1
    if parsed.shows_help:
        sys.stdout.write(_USAGE)
        return 0
    if parsed.shows_version:
        sys.stdout.write(f"nvecd version {VERSION} (recollect {__version__})\n")
        return 0
    try:
        settings = default_settings() if parsed.config is None else load_settings(parsed.config)
    except RecollectError as error:
        sys.stderr.write(f"Failed to load config: {error}\n")
        return 1
    if parsed.is_test:
        sys.stdout.write(summary(settings))
        return 0
    return serve(settings, SystemClock(), parsed.config)


def serve(settings: NvecdSettings, clock: Clock, config_path: Path | None) -> int:
    """Serve until SIGINT or SIGTERM; then answer what was asked, and stop."""
    _start_log(settings.logging)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with Instance(settings, clock, _log.info, config_path=config_path) as instance:
            _log.info("listening on %s:%d", settings.api.tcp.bind, instance.server.port)
            if instance.http is not None:
                _log.info("HTTP on %s:%d", settings.api.http.bind, instance.http.port)
            stop.wait()
            _log.info("shutdown signal received")
    except RecollectError as error:
        _log.error("Failed to start server: %s%s", error, error.next_step and f"; next: {error.next_step}")
        return 1
    _log.info("server stopped gracefully")
    return 0


def summary(settings: NvecdSettings) -> str:
    """Return what `--config-test` prints of a valid file."""
    sections: dict[str, list[tuple[str, object]]] = {
        "Events": [
            ("ctx_buffer_size", settings.events.ctx_buffer_size),
            ("decay_interval_sec", settings.events.decay_interval_sec),
            ("decay_alpha", f"{settings.events.decay_alpha:g}"),
        ],
        "Vectors": [
            ("default_dimension", settings.vectors.default_dimension),
            ("distance_metric", settings.vectors.distance_metric),
        ],
        "Similarity": [
            ("default_top_k", settings.similarity.default_top_k),
            ("max_top_k", settings.similarity.max_top_k),
            ("fusion_alpha", f"{settings.similarity.fusion_alpha:g}"),
            ("fusion_beta", f"{settings.similarity.fusion_beta:g}"),
        ],
        "API": [
            ("tcp.bind", settings.api.tcp.bind),
            ("tcp.port", settings.api.tcp.port),
            ("http.enable", "true" if settings.api.http.enable else "false"),
        ],
        "Performance": [
            ("thread_pool_size", settings.performance.thread_pool_size),
            ("max_connections", settings.performance.max_connections),
        ],
    }
    lines = ["Configuration file is valid", "", "Configuration summary:"]
    for title, fields in sections.items():
        lines += [f"  {title}:", *(f"    {name}: {value}" for name, value in fields)]
    return "\n".join(lines) + "\n"


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        return json.dumps(fields, ensure_ascii=False)


def _start_log(settings: LoggingSettings) -> None:
    target: logging.Handler = logging.StreamHandler(sys.stderr)
    if settings.file:
        target = logging.FileHandler(settings.file, encoding="utf-8")
    plain = logging.Formatter("[%(asctime)s] [%(levelname)s] %(message)s")
    target.setFormatter(_JsonFormatter() if settings.json else plain)
    _log.handlers[:] = [target]
    _log.setLevel(_LEVELS[settings.level])
    _log.propagate = False


_USAGE = """\
Usage: recollect-nvecd [OPTIONS] [<config.yaml>]
       recollect-nvecd -c <config.yaml> [OPTIONS]

Serves nvecd's protocols, snapshot files and log; see docs/guides/nvecd.md.

Options:
  -c, --config <file>            Configuration file path
  -t, --config-test              Test configuration file and exit
  -h, --help                     Show this help message
  -v, --version                  Show version information
"""
