"""nvecd's face: SAVE, LOAD and VERIFY at scale, commands per second, and what a save does to latency.

    python -m benchmarks.nvecd files     500,000 x 384-d vectors, one million events
    python -m benchmarks.nvecd profile   where the time of SAVE and LOAD goes; profiling itself takes some
    python -m benchmarks.nvecd commands  over a socket, pipelined and not, 1 and 100 connections
    python -m benchmarks.nvecd stall     latency of commands while a snapshot is written

Disk figures beside it: the same number of bytes written with one fsync, and read cold and warm.
"""

from __future__ import annotations

import contextlib
import cProfile
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from recollect.clock import SystemClock
from recollect.compat.nvecd.build import database_options
from recollect.compat.nvecd.config.settings import (
    NetworkSettings,
    NvecdSettings,
    PerformanceSettings,
    SnapshotSettings,
)
from recollect.compat.nvecd.face import Face, Session
from recollect.compat.nvecd.server import LineServer
from recollect.compat.nvecd.volatile import VolatileDatabase
from recollect.database import ADD, Event

VECTOR_COUNT, DIMENSION = 500_000, 384
EVENT_COUNT, CONTEXT_COUNT, ITEM_COUNT = 1_000_000, 250_000, 100_000
CHUNK = 10_000


@contextlib.contextmanager
def opened(directory: Path, mode: str = "lock") -> Iterator[Face]:
    """Open a face over an empty database in memory."""
    settings = NvecdSettings(
        snapshot=msgspec.convert({"dir": str(directory), "mode": mode, "limits": "format"}, SnapshotSettings)
    )
    volatile = VolatileDatabase(database_options(settings), SystemClock())
    try:
        face = Face(volatile.database, settings, SystemClock())
        face.dumps.directory.create()
        yield face
        face.saver.wait()
    finally:
        volatile.close()


def fill(face: Face) -> int:
    """Fill the stores; returns the bytes of all vectors and events as nvecd counts them."""
    generator = np.random.default_rng(1)
    for start in range(0, VECTOR_COUNT, CHUNK):
        rows = generator.standard_normal((CHUNK, DIMENSION), dtype=np.float32)
        face.database.vectors.set_many([f"item{number}" for number in range(start, start + CHUNK)], rows)
    items = generator.integers(0, ITEM_COUNT, EVENT_COUNT).tolist()
    for start in range(0, EVENT_COUNT, CHUNK):
        face.database.events.append(
            [
                Event(
                    ADD,
                    f"ctx{number % CONTEXT_COUNT}",
                    f"item{items[number]}",
                    1 + number % 100,
                    1_700_000_000,
                )
                for number in range(start, start + CHUNK)
            ]
        )
    return face.database.events.stored_count


def timed(label: str, size: int, work: Callable[[], object]) -> float:
    """Run something once and print how long it took."""
    started, processor = time.perf_counter(), time.process_time()
    work()
    elapsed, processor = time.perf_counter() - started, time.process_time() - processor
    print(f"{label:<34} {elapsed:7.2f} s  {size / elapsed / 1e6:8.0f} MB/s  {processor:7.2f} s of processor")
    return elapsed


def disk(directory: Path, size: int) -> None:
    """Measure the disk with as many bytes."""
    path, block = directory / "raw", os.urandom(4 << 20)

    def write() -> None:
        with path.open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    timed("disk: write, one fsync", size, write)
    forget(path)
    timed("disk: read, cold", size, lambda: read(path))
    timed("disk: read, warm", size, lambda: read(path))
    path.unlink()


def read(path: Path) -> None:
    """Read a file in pieces of 4 MiB and keep nothing."""
    buffer = bytearray(4 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def run(face: Face, command: str) -> str:
    """Run one command that must succeed."""
    reply = face.execute([command.encode()], Session()).decode()
    assert reply.startswith("OK"), reply
    return reply


def files(directory: Path) -> None:
    """Measure DUMP SAVE, VERIFY and LOAD beside the disk itself."""
    with opened(directory) as face:
        started = time.perf_counter()
        stored = fill(face)
        edges = face.database.events.pair_count
        print(f"filled in {time.perf_counter() - started:.0f} s: {stored} events stored, {edges} pairs")
        path = directory / "big.nvec"
        run(face, "DUMP SAVE big.nvec")
        size = path.stat().st_size
        print(f"file: {size / 1e6:.0f} MB; vectors alone {VECTOR_COUNT * DIMENSION * 4 / 1e6:.0f} MB")
        disk(directory, size)
        timed("DUMP SAVE", size, lambda: run(face, "DUMP SAVE big.nvec"))
        timed("DUMP SAVE again", size, lambda: run(face, "DUMP SAVE big.nvec"))
        # In turn, since the first read after a file was written takes much longer than the next.
        for _ in range(3):
            forget(path)
            timed("reading the same file, cold", size, lambda: read(path))
            forget(path)
            timed("DUMP VERIFY, cold", size, lambda: run(face, "DUMP VERIFY big.nvec"))
        timed("DUMP VERIFY, warm", size, lambda: run(face, "DUMP VERIFY big.nvec"))
    with opened(directory) as face:
        forget(path)
        timed("DUMP LOAD, cold, empty server", size, lambda: run(face, "DUMP LOAD big.nvec"))
        timed("DUMP LOAD, warm, over the same", size, lambda: run(face, "DUMP LOAD big.nvec"))


STAGES = (
    "check_file",  # LOAD: the whole file's checksum
    "result",  # waiting for the thread that reads events and edges
    "chunks",  # vectors: read, checksum, split
    "set_rows",
    "replace",
    "event_columns",  # SAVE
    "edge_columns",
    "_encode_groups",
    "encode_vectors",
    "_settle",  # waiting for the thread that writes
    "sync_file",
    "rename",
    "view_counts",
    "<built-in method zlib.crc32>",
)


def profile(directory: Path) -> None:
    """Print what the stages of DUMP SAVE and DUMP LOAD took, calls of others included."""
    with opened(directory) as face:
        fill(face)
        _profiled(face, "DUMP SAVE big.nvec")
    with opened(directory) as face:
        _profiled(face, "DUMP LOAD big.nvec")


def _profiled(face: Face, command: str) -> None:
    profiler = cProfile.Profile()
    started = time.perf_counter()
    profiler.runcall(run, face, command)
    print(f"{command} under the profiler: {time.perf_counter() - started:.2f} s")
    profiler.create_stats()
    for (_, _, name), (_, _, _, cumulative, _) in profiler.stats.items():
        if name in STAGES and cumulative > 0.02:
            print(f"  {name:<32} {cumulative:6.2f} s")


SERVE = """
import sys
from pathlib import Path
from recollect.clock import SystemClock
from recollect.compat.nvecd.config.load import parse_settings
from recollect.compat.nvecd.instance import Instance
sys.setswitchinterval(0.0005)
settings = parse_settings(sys.argv[1], "benchmark")
with Instance(settings, SystemClock(), lambda text: None) as instance:
    print(instance.server.port, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def server(directory: Path, extra: str = "") -> Iterator[int]:
    """Serve an empty database in another process; gives the port."""
    text = f"""
api: {{tcp: {{port: 0}}}}
network: {{allow_cidrs: ["127.0.0.1/32"]}}
performance: {{max_connections_per_ip: 0, max_connections: 2000}}
snapshot: {{dir: "{directory}", limits: format}}
{extra}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def exchange(port: int, commands: list[bytes], window: int) -> float:
    """Send commands, `window` at a time, and wait for their replies; one line each. Returns seconds."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    started = time.perf_counter()
    for start in range(0, len(commands), window):
        part = commands[start : start + window]
        client.sendall(b"".join(part))
        left = len(part)
        while left:
            left -= client.recv(1 << 20).count(b"\n")
    elapsed = time.perf_counter() - started
    client.close()
    return elapsed


def commands(directory: Path) -> None:
    """Commands per second over a socket."""
    generator = np.random.default_rng(2)
    vector = " ".join(f"{value:.6f}" for value in generator.standard_normal(DIMENSION))
    kinds: dict[str, Callable[[int], str]] = {
        "SET": lambda _: "SET cache.enabled true\n",
        "EVENT": lambda number: f"EVENT c{number % 1000} ADD i{number % 5000} {number % 100}\n",
        "VECSET 384-d": lambda number: f"VECSET v{number % 2000} {vector}\n",
        "METASET": lambda number: f"METASET v{number % 2000} kind:book,price:{number % 50}\n",
    }
    for wal in ("", f"wal: {{enabled: true, dir: '{directory / 'wal'}'}}"):
        print("with nvecd's log (synced every 100 ms)" if wal else "in memory")
        with server(directory / ("a" if wal else "b"), wal) as port:
            for name, make in kinds.items():
                count = 5_000 if "VECSET" in name else 20_000
                lines = [make(number).encode() for number in range(count)]
                single = exchange(port, lines[: count // 4], 1)
                piped = exchange(port, lines, 256)
                share = count // 50
                threads = [
                    threading.Thread(target=exchange, args=(port, lines[n * share : (n + 1) * share], 1))
                    for n in range(50)
                ]
                started = time.perf_counter()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                many = time.perf_counter() - started
                print(
                    f"  {name:<14} one at a time {count / 4 / single:8.0f}/s"
                    f"   pipelined {count / piped:8.0f}/s   50 connections {share * 50 / many:8.0f}/s"
                )


def stall(directory: Path) -> None:
    """Latency of EVENT and SIM beside a save of everything, in another thread of the same process."""
    sys.setswitchinterval(0.0005)
    with opened(directory, mode="fork") as face:
        fill(face)
        settings = msgspec.structs.replace(
            face.settings,
            network=NetworkSettings(allow_cidrs=["127.0.0.1/32"]),
            performance=PerformanceSettings(),
            api=msgspec.structs.replace(
                face.settings.api, tcp=msgspec.structs.replace(face.settings.api.tcp, port=0)
            ),
        )
        served = Face(face.database, settings, SystemClock())
        line_server = LineServer(served, is_durable=False, note=print)
        line_server.start()
        client = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.nvecd", "latency", str(line_server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        for label in ("quiet", "during DUMP SAVE", "quiet again"):
            started = time.perf_counter()
            if label.startswith("during"):
                served.execute([b"DUMP SAVE big.nvec"], Session())
            client.stdin.write("go\n")
            client.stdin.flush()
            if label.startswith("during"):
                served.saver.wait()
                took = time.perf_counter() - started
            else:
                time.sleep(3)
            client.stdin.write("stop\n")
            client.stdin.flush()
            noted = f"(save {took:.1f} s)" if "during" in label else ""
            print(f"{label:<18} {client.stdout.readline().strip()} {noted}")
        client.stdin.close()
        client.wait()
        line_server.stop()


def latency(port: int) -> None:
    """Send one EVENT after the other between `go` and `stop`; print the distribution."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number = 0
    while sys.stdin.readline():
        stop = threading.Event()
        threading.Thread(target=_set_after_a_line, args=(stop,)).start()
        taken = []
        while not stop.is_set():
            number += 1
            started = time.perf_counter()
            client.sendall(b"EVENT x%d ADD y%d 5\n" % (number % 500, number % 3000))
            client.recv(100)
            taken.append((time.perf_counter() - started) * 1000)
        found = np.percentile(taken, [50, 99, 99.9, 100])
        print(
            f"{len(taken)} commands: p50 {found[0]:.2f} ms, p99 {found[1]:.2f} ms,"
            f" p99.9 {found[2]:.2f} ms, max {found[3]:.1f} ms",
            flush=True,
        )


def _set_after_a_line(event: threading.Event) -> None:
    sys.stdin.readline()
    event.set()


def main() -> None:
    """Run the parts that are named, all of them if none is."""
    if sys.argv[1:2] == ["latency"]:
        latency(int(sys.argv[2]))
        return
    parts = {"files": files, "profile": profile, "commands": commands, "stall": stall}
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory() as directory:
            print(f"== {name}")
            (Path(directory) / "s").mkdir(mode=0o700)
            parts[name](Path(directory) / "s")


if __name__ == "__main__":
    main()
