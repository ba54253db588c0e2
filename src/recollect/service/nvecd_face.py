"""nvecd's face of the served database: its settings, from the server's options."""

from __future__ import annotations

from pathlib import Path

import msgspec

from recollect.compat.nvecd.config.load import default_settings, load_settings
from recollect.compat.nvecd.config.settings import NvecdSettings, SnapshotSettings, TcpSettings
from recollect.errors import RequestError
from recollect.service.options import NvecdOptions

DIRECTORY = "nvecd"
"""Directory of nvecd's snapshot files, in the data directory."""


def face_settings(options: NvecdOptions, data: Path) -> NvecdSettings:
    """Return the face's settings.

    Raises:
        RequestError: The address or the file is malformed.
        NotFoundError: There is no such file.
    """
    if options.config:
        return load_settings(Path(options.config))
    host, separator, port = options.address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise RequestError(f"nvecd.address is {options.address!r}", "write it like 127.0.0.1:11017")
    settings = default_settings()
    tcp = TcpSettings(bind=host.strip("[]"), port=int(port))
    return msgspec.structs.replace(
        settings,
        api=msgspec.structs.replace(settings.api, tcp=tcp),
        snapshot=SnapshotSettings(dir=str((data / DIRECTORY).absolute()), reply_style="doc", limits="format"),
    )
