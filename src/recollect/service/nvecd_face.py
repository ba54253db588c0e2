"""nvecd's face of the served database: its settings, from the server's options."""

from __future__ import annotations

from pathlib import Path

import msgspec

from recollect.compat.nvecd import build
from recollect.compat.nvecd.config.load import default_settings, load_settings
from recollect.compat.nvecd.config.settings import (
    EventsSettings,
    NvecdSettings,
    SnapshotSettings,
    TcpSettings,
    VectorsSettings,
)
from recollect.database import DatabaseOptions
from recollect.errors import RequestError
from recollect.service.options import ServeOptions

DIRECTORY = "nvecd"
"""Directory of nvecd's snapshot files, in the data directory."""


def face_settings(options: ServeOptions, data: Path) -> NvecdSettings:
    """Return the face's settings: the server's own, and over them what a file of nvecd says.

    Raises:
        RequestError: The address or the file is malformed.
        NotFoundError: There is no such file.
    """
    host, separator, port = options.nvecd.address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise RequestError(f"nvecd.address is {options.nvecd.address!r}", "write it like 127.0.0.1:11017")
    settings = default_settings()
    tcp = TcpSettings(bind=host.strip("[]"), port=int(port))
    settings = msgspec.structs.replace(
        settings,
        api=msgspec.structs.replace(settings.api, tcp=tcp),
        vectors=VectorsSettings(distance_metric=build.metric_name(options.vectors.metric)),
        snapshot=SnapshotSettings(dir=str((data / DIRECTORY).absolute()), reply_style="doc", limits="format"),
    )
    if options.events is not None:
        events = EventsSettings(**msgspec.structs.asdict(options.events))
        settings = msgspec.structs.replace(settings, events=events)
    return load_settings(Path(options.nvecd.config), settings) if options.nvecd.config else settings


def database_options(options: ServeOptions, data: Path) -> DatabaseOptions:
    """Return what the database is opened with: the server's options, and over them what a file of nvecd says.

    Raises:
        RequestError, NotFoundError: As `face_settings`.
    """
    own = options.database_options()
    if not options.nvecd.enabled or not options.nvecd.config:
        return own
    settings = face_settings(options, data)
    told = build.database_options(settings)
    is_indexed = settings.similarity.index_type == "hnsw"
    vectors = told.vectors if is_indexed else msgspec.structs.replace(own.vectors, metric=told.vectors.metric)
    return msgspec.structs.replace(own, vectors=vectors, events=told.events)
