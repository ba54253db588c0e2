"""The local store on a file system: durability, crashes, failures, foreign files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest

from recollect.errors import (
    AccessError,
    ConflictError,
    NotFoundError,
    RecollectError,
    RequestError,
    StorageFullError,
    UnavailableError,
)
from recollect.storage import files
from recollect.storage.base import find_debris
from recollect.storage.local import LocalStore
from tests.storage.system_calls import Call, SystemCalls


def recorded(root: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> list[Call]:
    calls = SystemCalls(root)
    with monkeypatch.context() as patch:
        calls.install(patch)
        action()
    return [call for call in calls.calls if call.name not in {"open", "close"}]


def outcome_of(write: Callable[[str, bytes], None], key: str, data: bytes) -> type[RecollectError] | None:
    try:
        write(key, data)
    except RecollectError as error:
        return type(error)
    return None


def temporary_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.startswith(".tmp")]


# ---------------------------------------------------------------- order of a durable write


@pytest.mark.parametrize(("method", "naming"), [("put", "rename"), ("put_if_absent", "link")])
def test_a_write_is_synced_before_it_is_named_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, naming: str
) -> None:
    store = LocalStore(tmp_path)
    store.put("objects/other", b"makes the directory durable")

    calls = recorded(tmp_path, monkeypatch, lambda: getattr(store, method)("objects/key", b"value"))

    temporary = calls[0].path
    expected = [
        Call("write", temporary),
        Call("fsync", temporary),
        Call(naming, temporary, "objects/key"),
        *([Call("unlink", temporary)] if naming == "link" else []),
        Call("fsync", "objects"),
    ]
    assert calls == expected


def test_a_value_can_be_synced_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path, sync_bytes_max=3)
    store.put("objects/other", b"makes the directory durable")

    calls = recorded(tmp_path, monkeypatch, lambda: store.put_if_absent("objects/key", b"12345678"))

    assert [call.name for call in calls[:7]] == ["write", "fsync", "write", "fsync", "write", "fsync", "link"]
    assert store.get("objects/key") == b"12345678"


def test_every_new_directory_is_synced_into_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "new" / "store")

    calls = recorded(tmp_path, monkeypatch, lambda: store.put("a/b/key", b"value"))

    made = [call.path for call in calls if call.name == "mkdir"]
    assert made == ["new", "new/store", "new/store/a", "new/store/a/b"]
    for directory in made:
        after = calls[calls.index(Call("mkdir", directory)) :]
        assert Call("fsync", Path(directory).parent.as_posix()) in after
    assert calls[-1] == Call("fsync", "new/store/a/b")


def test_a_directory_made_by_another_process_is_synced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not have come to that yet, and our value would go down with it."""
    LocalStore(tmp_path).put("a/first", b"value")
    store = LocalStore(tmp_path)

    first = recorded(tmp_path, monkeypatch, lambda: store.put("a/second", b"value"))
    second = recorded(tmp_path, monkeypatch, lambda: store.put("a/third", b"value"))

    assert Call("fsync", ".") in first
    assert Call("fsync", ".") not in second


def test_a_conflict_is_reported_after_the_directory_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller goes on to rely on the value that is there: its writer may not have synced it yet."""
    store = LocalStore(tmp_path)
    store.put("a/key", b"value")

    def conflict() -> None:
        with pytest.raises(ConflictError):
            store.put_if_absent("a/key", b"other")

    assert recorded(tmp_path, monkeypatch, conflict)[-1] == Call("fsync", "a")


def test_a_deletion_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"value")

    calls = recorded(tmp_path, monkeypatch, lambda: store.delete("a/key"))

    assert calls == [Call("unlink", "a/key"), Call("fsync", "a")]


# ---------------------------------------------------------------- failures of the file system


@pytest.mark.parametrize("method", ["put", "put_if_absent"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
def test_any_failing_system_call_leaves_a_whole_value_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, number: int
) -> None:
    """Enumerates every call of a write; after each, no temporary file is left and a retry works."""
    classes = {errno.ENOSPC: StorageFullError, errno.EDQUOT: StorageFullError, errno.EIO: UnavailableError}
    failed = []
    for fail_at in range(1, 40):
        root = tmp_path / str(fail_at)
        calls = SystemCalls(root, fail_at=fail_at, error=number)
        with monkeypatch.context() as patch:
            calls.install(patch)
            raised = outcome_of(getattr(LocalStore(root), method), "a/key", b"value")
        assert raised in (None, classes.get(number, AccessError)), calls.attempted
        if not calls.attempted:
            break
        failed.append(calls.attempted)
        store = LocalStore(root)
        assert raised or calls.attempted in {"unlink", "close"}
        assert {entry.key: store.get(entry.key) for entry in store.list("")} in ({}, {"a/key": b"value"})
        if calls.attempted not in {"unlink", "close"}:  # what cannot be removed is debris, see below
            assert temporary_files(root) == []
        store.put("a/key", b"value")
        assert store.get("a/key") == b"value"
    else:
        pytest.fail("the write never got through")
    assert {"write", "fsync", "mkdir", "open"} <= set(failed)


def test_a_full_disk_is_reported_with_what_was_tried_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"old")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StorageFullError) as caught:
        store.put("a/key", b"new value")

    assert "a/key (9 bytes)" in caught.value.message
    assert "No space left on device (ENOSPC)" in caught.value.message
    assert "df -h" in caught.value.next_step
    assert not caught.value.retryable
    assert store.get("a/key") == b"old"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))

    LocalStore(tmp_path).put("key", b"0123456789")

    assert LocalStore(tmp_path).get("key") == b"0123456789"


def test_a_file_system_that_cannot_sync_directories_is_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def refuse_directories(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_directories)
    LocalStore(tmp_path).put("a/key", b"value")

    assert LocalStore(tmp_path).get("a/key") == b"value"


def test_a_failing_read_is_no_missing_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("key", b"value")
    for number, expected in ((errno.EIO, UnavailableError), (errno.EACCES, AccessError)):
        calls = SystemCalls(tmp_path, fail_at=1, error=number)
        with monkeypatch.context() as patch:
            calls.install(patch)
            with pytest.raises(expected, match="cannot read key"):
                store.get("key")


def test_a_listing_that_fails_below_the_root_is_no_shorter_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"value")
    store.put("b/key", b"value")
    real = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "b":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UnavailableError, match="cannot list b"):
        list(store.list(""))


def test_a_name_longer_than_the_file_system_allows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="name too long"):
        LocalStore(tmp_path).put("k" * 300, b"value")


@pytest.mark.parametrize("key", ["a", "file/below"])
def test_a_key_that_is_also_a_directory_is_a_conflict(tmp_path: Path, key: str) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"value")
    store.put("file", b"value")

    with pytest.raises(ConflictError):
        store.put(key, b"value")
    with pytest.raises(ConflictError):
        store.put_if_absent(key, b"value")
    assert temporary_files(tmp_path) == []


# ---------------------------------------------------------------- links, rights, foreign files


def test_symbolic_links_never_lead_out_of_the_store(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = tmp_path / "store"
    store = LocalStore(root)
    store.put("key", b"value")
    (root / "directory").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")

    for action in (
        lambda: store.get("directory/secret"),
        lambda: store.get_range("file", 0, 1),
        lambda: store.size("file"),
        lambda: store.put("directory/new", b"value"),
        lambda: store.put_if_absent("directory/sub/new", b"value"),
        lambda: store.delete("directory/secret"),
        lambda: list(store.list("")),
        lambda: list(store.list("directory")),
    ):
        with pytest.raises(AccessError, match="symbolic link"):
            action()

    store.put("file", b"replaces the link, not what it points to")
    store.delete("file")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_root_reached_through_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    LocalStore(tmp_path / "link").put("key", b"value")

    assert (tmp_path / "real" / "key").read_bytes() == b"value"
    assert LocalStore(tmp_path / "link").url == LocalStore(tmp_path / "real").url


def test_files_and_directories_are_for_the_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "store"
    LocalStore(root).put("a/key", b"value")

    assert [oct((root / name).stat().st_mode & 0o777) for name in (".", "a", "a/key")] == [
        "0o700",
        "0o700",
        "0o600",
    ]


def test_permissions_can_be_wider(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        LocalStore(tmp_path / "store", file_mode=0o640, directory_mode=0o750).put("key", b"value")
    finally:
        os.umask(before)

    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "store" / "key").stat().st_mode & 0o777 == 0o640


def test_files_that_no_key_can_name_are_ignored(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"value")
    for name in (".DS_Store", "a/.nfs0001", "notes~", "a/b c"):
        (tmp_path / name).write_bytes(b"foreign")
    (tmp_path / "lost+found").mkdir(mode=0)
    os.mkfifo(tmp_path / "a" / "pipe")

    assert [entry.key for entry in store.list("")] == ["a/key"]
    with pytest.raises(NotFoundError):
        store.get("a/pipe")
    assert list(store.debris()) == []


def test_the_url_is_a_file_url(tmp_path: Path) -> None:
    assert LocalStore(tmp_path / "with space").url == f"{tmp_path.as_uri()}/with%20space"


# ---------------------------------------------------------------- other processes, dead ones too

_WRITER = """
import sys
from recollect.storage.local import LocalStore
store = LocalStore(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    store.put(f"put/{number % 7}", b"%08d" % number * 40_000)
    store.put_if_absent(f"created/{number:08}", b"%08d" % number * 40_000)
    number += 1
"""

_STUCK_WRITER = """
import sys, time
from pathlib import Path
from recollect.storage.files import TemporaryFile
with TemporaryFile(Path(sys.argv[1]), 0o600) as temporary:
    temporary.write(b"half a value")
    print("ready", flush=True)
    time.sleep(600)
"""

_RACER = """
import sys
from recollect.errors import ConflictError
from recollect.storage.local import LocalStore
store = LocalStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    try:
        store.put_if_absent(f"key/{number}", sys.argv[2].encode())
        print(number)
    except ConflictError:
        pass
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def test_a_killed_writer_leaves_only_whole_values(tmp_path: Path) -> None:
    """Several times, at whatever point it was."""
    store = LocalStore(tmp_path)
    for round_number in range(6):
        process = started(_WRITER, tmp_path)
        while not any((tmp_path / "created").glob(f"*{round_number + 3}")):
            assert process.poll() is None
        killed(process)

        for entry in store.list(""):
            value = store.get(entry.key)
            assert len(value) == entry.byte_size == 320_000
            assert re.fullmatch(rb"(\d{8})\1{39999}", value), f"{entry.key} is torn"

        for entry in store.debris():
            store.remove_debris(entry.key)
        assert temporary_files(tmp_path) == []
        for entry in store.list("created"):
            store.delete(entry.key)


def test_debris_is_what_dead_writers_left_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/key", b"value")
    process = started(_STUCK_WRITER, tmp_path / "a")
    try:
        (alive,) = temporary_files(tmp_path)
        assert list(store.debris()) == []
        store.remove_debris(f"a/{alive.name}")
        assert alive.exists()
    finally:
        killed(process)

    (left,) = find_debris(store)

    assert left == (f"a/{alive.name}", len(b"half a value"))
    assert [entry.key for entry in store.list("")] == ["a/key"]
    store.remove_debris(left.key)
    store.remove_debris(left.key)
    assert list(store.debris()) == []
    assert store.get("a/key") == b"value"


@pytest.mark.parametrize("key", ["a/key", "recollect.json", "../.tmp-1-1", ".tmp-x", "a/../.tmp-1-1"])
def test_only_debris_is_removed_as_debris(tmp_path: Path, key: str) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("a/key", b"value")
    (tmp_path / ".tmp-1-1").write_bytes(b"outside")

    with pytest.raises(RequestError):
        store.remove_debris(key)

    assert store.get("a/key") == b"value"
    assert (tmp_path / ".tmp-1-1").exists()


def test_a_dead_process_of_our_number_does_not_stop_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers, every writer is process 1."""
    monkeypatch.setattr(files, "_counter", iter(range(100)))
    for number in range(3):
        (tmp_path / f".tmp-{os.getpid()}-{number}").write_bytes(b"left behind")

    LocalStore(tmp_path).put("key", b"value")

    assert LocalStore(tmp_path).get("key") == b"value"
    assert len(list(LocalStore(tmp_path).debris())) == 3


def test_prune_beside_writers_harms_no_value(tmp_path: Path) -> None:
    """Debris is looked for all the time while values are written."""
    store = LocalStore(tmp_path)
    gate = Barrier(3)

    def write(writer: int) -> None:
        gate.wait()
        for number in range(60):
            store.put_if_absent(f"{writer}/{number}", b"value")

    with ThreadPoolExecutor(2) as executor:
        writers = [executor.submit(write, number) for number in range(2)]
        gate.wait()
        while not all(writer.done() for writer in writers):
            for entry in store.debris():
                store.remove_debris(entry.key)
        for writer in writers:
            writer.result()

    assert len(list(store.list(""))) == 120
    assert temporary_files(tmp_path) == []


def test_prune_between_the_creation_and_the_lock_of_a_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer takes another file instead of linking one that is gone."""
    real = fcntl.flock
    removed: list[str] = []

    def flock(descriptor: int, operation: int) -> None:
        for path in temporary_files(tmp_path) if not removed else []:
            removed.append(path.name)
            path.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    LocalStore(tmp_path).put_if_absent("key", b"value")

    assert len(removed) == 1
    assert LocalStore(tmp_path).get("key") == b"value"


def test_without_hard_links_nobody_comes_between_the_look_and_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two creators are made to look at the same time, which the lock must not let happen."""
    real = os.path.lexists
    both_looked = Barrier(2)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def lexists(path: Path) -> bool:
        found = real(path)
        with contextlib.suppress(BrokenBarrierError):
            both_looked.wait(timeout=0.2)
        return found

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os.path, "lexists", lexists)
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(2) as executor:
        outcomes = list(executor.map(lambda data: outcome_of(store.put_if_absent, "key", data), (b"1", b"2")))

    assert sorted(outcomes, key=str) == [ConflictError, None]


def test_racing_processes_have_one_winner_per_key(tmp_path: Path) -> None:
    racers = [started(_RACER, tmp_path, name) for name in ("one", "two", "three")]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [[int(line) for line in racer.communicate(timeout=60)[0].split()] for racer in racers]

    assert sorted(number for numbers in won for number in numbers) == list(range(100))
    store = LocalStore(tmp_path)
    for name, numbers in zip(("one", "two", "three"), won, strict=True):
        assert all(store.get(f"key/{number}") == name.encode() for number in numbers)
