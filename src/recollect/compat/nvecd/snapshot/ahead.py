"""Reading a part of a file in pieces, each while the one before is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from recollect.system_error import storage_error

PIECE_BYTES = 4 << 20


def read_ahead(
    descriptor: int, offset: int, size: int, note: Callable[[memoryview], None] | None = None
) -> Iterator[memoryview]:
    """Yield `size` bytes from `offset` in pieces of `PIECE_BYTES`; fewer only where the file ends.

    A piece may be changed, and is valid until the next is asked for. `note` is called with each in order, in
    the thread that reads.

    Raises:
        UnavailableError: The disk failed.
    """
    if size <= 0:
        return
    end = offset + size
    room = min(PIECE_BYTES, size)
    buffers = [bytearray(room), bytearray(room)]

    def read(buffer: bytearray, place: int) -> memoryview:
        view, filled = memoryview(buffer)[: end - place], 0
        try:
            while filled < len(view) and (count := os.preadv(descriptor, [view[filled:]], place + filled)):
                filled += count
        except OSError as error:
            raise storage_error(error, "cannot read the snapshot file") from error
        if note is not None:
            note(view[:filled])
        return view[:filled]

    with ThreadPoolExecutor(1, thread_name_prefix="nvecd-read") as pool:
        running = pool.submit(read, buffers[0], offset)
        while True:
            piece = running.result()
            offset += len(piece)
            is_last = offset >= end or not piece
            buffers.reverse()
            if not is_last:
                running = pool.submit(read, buffers[0], offset)
            if piece:
                yield piece
            if is_last:
                return
