"""Every exchange recorded from nvecd 0.1.0, byte for byte but for times and versions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from recollect.compat.nvecd.face import Session
from tests.nvecd.faces import open_face, settings_in
from tests.nvecd.snapshots import GOLDEN

TIMES = [
    (r"uptime_seconds: \d+", "uptime_seconds: N"),
    (r"timestamp: \d+", "timestamp: N"),
    (r"avg_miss_latency_ms: [\d.]+", "avg_miss_latency_ms: N"),
    (r"snapshot_\d{8}_\d{6}\.dmp", "snapshot_TIME.dmp"),
]


def exchanges(name: str) -> Iterator[tuple[str, str]]:
    lines = (GOLDEN / name).read_text(encoding="utf-8").splitlines()
    for request, reply in zip(lines[::2], lines[1::2], strict=True):
        yield ast.literal_eval(request.removesuffix(" ->")), ast.literal_eval(reply.strip())


def timeless(text: str) -> str:
    for pattern, replacement in TIMES:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize("name", ["transcript1.txt", "transcript2.txt"])
def test_every_recorded_exchange_is_reproduced(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "snapshots"
    found: list[tuple[str, str]] = []
    with open_face(settings_in(directory)) as face:
        face.statistics.note_connection()
        session = Session()
        for request, _ in exchanges(name):
            reply = face.execute([request.encode()], session).decode()
            found.append((request, timeless(reply.replace(str(directory), "$DIR"))))
    wanted = [(request, timeless(_as_long(reply, directory))) for request, reply in exchanges(name)]

    assert len(wanted) > 35
    assert found == wanted


def _as_long(reply: str, directory: Path) -> str:
    """The recording put $DIR for a path of another length; the count before it speaks of the path."""
    length = len(f"snapshot.dir={directory} (immutable)")
    return reply.replace("$48\r\nsnapshot.dir=$DIR", f"${length}\r\nsnapshot.dir=$DIR")
