"""REST routes about snapshots of collections and of the whole storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

from recollect.testing.qdrant_server import snapshots
from recollect.testing.qdrant_server.failures import bad_request
from recollect.testing.qdrant_server.routes import Accepted, Request, Route, Streamed, Upload
from recollect.testing.qdrant_server.snapshot_faults import SnapshotFaults
from recollect.testing.qdrant_server.storage import Storage

PIECE_BYTES = 16 * 1024
PRIORITIES = {"no_sync", "snapshot", "replica"}


def _list(storage: Storage, request: Request) -> Any:
    return snapshots.listed(storage, request.path.get("name"))


def _create(storage: Storage, request: Request) -> Any:
    name = storage.resolve(request.path["name"])
    return waited(request, lambda: snapshots.create(storage, name))


def _create_full(storage: Storage, request: Request) -> Any:
    return waited(request, lambda: snapshots.create_full(storage))


def _delete(storage: Storage, request: Request) -> Any:
    snapshots.find(storage, request.path.get("name"), request.path["snapshot"])
    return waited(
        request, lambda: snapshots.delete(storage, request.path.get("name"), request.path["snapshot"])
    )


def _download(storage: Storage, request: Request) -> Any:
    path = snapshots.find(storage, request.path.get("name"), request.path["snapshot"])
    size = path.stat().st_size if storage.faults.snapshots.declares_length else None
    return Streamed(pieces(storage.faults.snapshots, path), size)


def _recover(storage: Storage, request: Request) -> Any:
    body = request.body
    check_priority(body.get("priority"))
    path = snapshots.located(storage, body["location"], body.get("api_key"))
    name = request.path["name"]
    return waited(request, lambda: snapshots.recover(storage, name, path, body.get("checksum")))


def _upload(storage: Storage, request: Request) -> Any:
    received = snapshots.spool(storage)
    receive(request.body, received)
    check_priority(request.query.get("priority"))
    name, checksum = request.path["name"], request.query.get("checksum")

    def work() -> bool:
        try:
            return snapshots.recover(storage, name, received, checksum)
        finally:
            received.unlink()

    return waited(request, work)


def waited(request: Request, work: Callable[[], Any]) -> Any:
    """Do the work now, or later where the caller does not wait."""
    if request.query.get("wait", "true") == "true":
        return work()
    snapshots.later(work)
    return Accepted()


def check_priority(priority: str | None) -> None:
    """Refuse a priority that there is not."""
    if priority is not None and priority not in PRIORITIES:
        raise bad_request(f"Format error in JSON body: unknown variant `{priority}`")


def streamed(faults: SnapshotFaults, path: Path) -> Iterator[bytes]:
    """Do the same with a file that is gone afterwards."""
    try:
        yield from pieces(faults, path)
    finally:
        path.unlink()


def pieces(faults: SnapshotFaults, path: Path) -> Iterator[bytes]:
    """Read a file as the switches have it."""
    size = path.stat().st_size
    left = size if faults.truncated_to is None else faults.truncated_to + size * (faults.truncated_to < 0)
    if faults.is_silent:
        faults.released.wait()
        return
    offset = 0
    with path.open("rb") as file:
        while left > 0:
            piece = bytearray(file.read(min(left, PIECE_BYTES)))
            if not piece:
                return
            if faults.flipped_byte is not None and offset <= faults.flipped_byte < offset + len(piece):
                piece[faults.flipped_byte - offset] ^= 1
            if faults.delay_s:
                time.sleep(faults.delay_s)  # noqa: TID251 - a slow server is slow in real time
            offset += len(piece)
            left -= len(piece)
            yield bytes(piece)
            if faults.stalls_after is not None and offset >= faults.stalls_after:
                faults.released.wait()
                return


def receive(upload: Upload, target: Path) -> None:
    """Write the member `snapshot` of a multipart body to a file; bodies of tests fit into memory."""
    header = Message()
    header["content-type"] = upload.content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str):
        raise bad_request("Multipart error: no multipart boundary")
    content = upload.stream.read(upload.length)
    for part in content.split(b"--" + boundary.encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        if b'name="snapshot"' in head:
            with target.open("wb") as file:
                file.write(memoryview(body)[:-2])
            return
    raise bad_request("Multipart error: missing field `snapshot`")


C = "/collections/{name}/snapshots"
ROUTES = [
    Route("GET", C, _list),
    Route("POST", C, _create, "write"),
    Route("GET", C + "/{snapshot}", _download),
    Route("DELETE", C + "/{snapshot}", _delete, "write"),
    Route("PUT", C + "/recover", _recover, "write"),
    Route("POST", C + "/upload", _upload, "write", "upload"),
    Route("GET", "/snapshots", _list),
    Route("POST", "/snapshots", _create_full, "write"),
    Route("GET", "/snapshots/{snapshot}", _download),
    Route("DELETE", "/snapshots/{snapshot}", _delete, "write"),
]
