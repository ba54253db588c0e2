"""From a YAML file to settings; whatever is not exactly a setting is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from recollect.compat.nvecd.config.settings import NetworkSettings, NvecdSettings
from recollect.errors import MissingDependencyError, NotFoundError, RequestError
from recollect.system_error import storage_error

LOCAL_ONLY = ["127.0.0.1/32"]


def default_settings() -> NvecdSettings:
    """Return what holds without a file: nvecd's defaults, and local clients only."""
    return NvecdSettings(network=NetworkSettings(allow_cidrs=list(LOCAL_ONLY)))


def load_settings(path: Path, defaults: NvecdSettings | None = None) -> NvecdSettings:
    """Read a configuration file.

    Args:
        path: The YAML file.
        defaults: What holds where the file says nothing; nvecd's defaults if left out.

    Raises:
        NotFoundError: There is no such file.
        RequestError: It is not YAML, has an unknown key, or a value that a setting cannot have.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"Configuration file not found: {path}", "check the path") from error
    except OSError as error:
        raise storage_error(error, f"cannot read the configuration file {path}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"Failed to parse configuration file {path}: it is not UTF-8") from error
    return parse_settings(text, str(path), defaults)


def parse_settings(text: str, origin: str, defaults: NvecdSettings | None = None) -> NvecdSettings:
    """Read settings from YAML text, as `load_settings`; `origin` names it in messages."""
    try:
        document: Any = msgspec.yaml.decode(text)
    except ImportError as error:
        raise MissingDependencyError(
            "reading nvecd's configuration needs PyYAML", "pip install 'recollect[nvecd]'"
        ) from error
    except msgspec.DecodeError as error:
        raise RequestError(f"Failed to parse configuration file {origin}: {error}") from error
    try:
        known = {} if defaults is None else msgspec.to_builtins(defaults)
        settings = msgspec.convert(_over(known, document), NvecdSettings)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"Configuration validation failed: {origin}: {error}", "see docs/reference/nvecd.md for every key"
        ) from error
    _check_together(settings)
    return settings


def _over(defaults: dict[str, Any], document: Any) -> Any:
    """Return what a document says, and the defaults where it says nothing."""
    if document is None:
        return defaults
    if not isinstance(document, dict):
        return document
    merged = dict(defaults)
    for name, value in document.items():
        default = defaults.get(name)
        merged[name] = _over(default, value) if isinstance(default, dict) and value is not None else value
    return merged


def _check_together(settings: NvecdSettings) -> None:
    """Check what a single key cannot say."""
    similarity, wal = settings.similarity, settings.wal
    if similarity.max_top_k < similarity.default_top_k:
        _refuse("similarity.max_top_k must be at least similarity.default_top_k")
    if similarity.adaptive_min_alpha > similarity.adaptive_max_alpha:
        _refuse("similarity.adaptive_min_alpha must not exceed similarity.adaptive_max_alpha")
    if wal.enabled and not wal.dir:
        _refuse("wal.dir must not be empty when wal.enabled is true")
    if not settings.snapshot.dir:
        _refuse("snapshot.dir must not be empty")


def _refuse(problem: str) -> None:
    raise RequestError(f"Configuration validation failed: {problem}", "correct the configuration file")
