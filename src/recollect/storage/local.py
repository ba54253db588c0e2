"""The local store: one file per key below a directory, durable when a call returns.

Why it is ours: docs/decisions/0010-local-store.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from recollect.errors import AccessError, ConflictError, NotFoundError, RequestError, UnavailableError
from recollect.storage import files
from recollect.storage.base import StoredObject, check_key, check_prefix, is_key_part
from recollect.system_error import is_absent, storage_error

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO in the way must not block us


class LocalStore:
    """Bytes at keys below a directory of a POSIX file system. Safe to share between threads and processes.

    A value is written to a hidden temporary file beside its place, fsynced, linked or renamed
    into place, and its directory is fsynced: a power cut leaves the old value or the new one.
    A killed writer leaves at most its temporary file; see `debris`. Symbolic links
    below the root are refused, so no key leads out of it. Files that no key can name are ignored.

    Args:
        path: The root; created on the first write.
        file_mode: Permissions of new files, before the umask.
        directory_mode: Permissions of new directories, before the umask.
        sync_bytes_max: Bytes of a value written before they are synced. Less makes writing slower, and
            others' fsyncs on the same disk wait less: a file system may write all that is dirty for each.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        file_mode: int = 0o600,
        directory_mode: int = 0o700,
        sync_bytes_max: int = files.WRITE_BYTES_MAX,
    ) -> None:
        self._root = Path(path).resolve()
        self._file_mode = file_mode
        self._directory_mode = directory_mode
        self._sync_bytes_max = sync_bytes_max
        self._durable: set[Path] = set()  # directories whose own entries this process has synced
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return the root as a `file://` URL."""
        return self._root.as_uri()

    @property
    def path(self) -> Path:
        """Return the root directory."""
        return self._root

    def put(self, key: str, data: bytes) -> None:
        """Write the value, durable and all at once, over any older one."""
        path = self._root / check_key(key)
        with self._reporting("write", key, len(data)):
            self._write(path, [data], files.TemporaryFile.rename_to)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write the value unless the key exists; exactly one of any racing writers succeeds."""
        self.create_from_parts(key, [data])

    def create_from_parts(self, key: str, parts: Sequence[bytes]) -> None:
        """Write a value in parts unless the key exists; the parts are not joined."""
        path = self._root / check_key(key)
        with self._reporting("create", key, sum(map(len, parts))):
            self._write(path, parts, files.TemporaryFile.link_to)

    def get(self, key: str) -> bytes:
        """Read the whole value."""
        with self._reading(key) as descriptor, open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.readall()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes from offset `start`; fewer only where the value ends."""
        assert start >= 0, "a range starts at or after the first byte"
        assert length >= 0, "a range has no negative length"
        pieces = []
        with self._reading(key) as descriptor:
            while length > 0 and (piece := os.pread(descriptor, length, start)):
                pieces.append(piece)
                start += len(piece)
                length -= len(piece)
        return b"".join(pieces)

    def size(self, key: str) -> int:
        """Return the value's size in bytes."""
        with self._reading(key) as descriptor:
            return os.fstat(descriptor).st_size

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List keys below a prefix, ascending.

        What was there before the call and stays is listed; what comes or goes meanwhile may be or not.
        """
        for found in self._walk(check_prefix(prefix)):
            if is_key_part(found.key.rpartition("/")[2]):
                yield found

    def delete(self, key: str) -> None:
        """Remove the key, durably; removing an absent key is no error. Directories stay."""
        path = self._root / check_key(key)
        with self._reporting("delete", key):
            self._refuse_links(path.parent)
            try:
                path.unlink()
            except OSError as error:
                if is_absent(error) or path.is_dir():
                    return
                raise
            files.sync_directory(path.parent)

    def remove_directory(self, prefix: str) -> None:
        """Remove a directory if it is empty; one that is not, or not there, is left alone."""
        directory = self._root / check_key(prefix)
        with self._reporting("delete", prefix):
            self._refuse_links(directory)
            try:
                directory.rmdir()
            except OSError as error:
                if is_absent(error) or error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    return
                raise
            files.sync_directory(directory.parent)

    def debris(self) -> Iterator[StoredObject]:
        """List temporary files of writers that are dead, ascending by path."""
        for found in self._walk(""):
            if files.is_temporary(found.key.rpartition("/")[2]):
                with files.hold_abandoned(self._root / found.key) as is_abandoned:
                    pass  # released before the caller sees it, who may want to remove it
                if is_abandoned:
                    yield found

    def remove_debris(self, key: str) -> None:
        """Remove one entry of `debris`; a file whose writer lives is left alone."""
        directory, _, name = key.rpartition("/")
        if not files.is_temporary(name):
            raise RequestError(f"{key!r} in {self.url} is not a leftover of a writer")
        path = self._root / check_prefix(directory) / name
        with self._reporting("delete", key), files.hold_abandoned(path) as is_abandoned:
            if is_abandoned:
                self._refuse_links(path.parent)
                with contextlib.suppress(FileNotFoundError):  # another prune was here first
                    path.unlink()

    def _write(
        self, path: Path, parts: Sequence[bytes], publish: Callable[[files.TemporaryFile, Path], None]
    ) -> None:
        self._make_durable(path.parent)
        try:
            with files.TemporaryFile(path.parent, self._file_mode, self._sync_bytes_max) as temporary:
                for part in parts:
                    temporary.write(part)
                publish(temporary, path)
        finally:
            # Also when the name was taken: its writer may not have come to this point yet,
            # and our caller is about to rely on that value. After the temporary name is gone.
            files.sync_directory(path.parent)

    def _make_durable(self, directory: Path) -> None:
        """Create the directory, and sync it into its parents, whoever created them, once per process."""
        self._refuse_links(directory)
        with self._lock:
            if directory in self._durable and directory.is_dir():
                return
            files.make_directory(self._root, self._directory_mode)
            for part in self._below_root(directory):
                with contextlib.suppress(FileExistsError):
                    part.mkdir(self._directory_mode)
                files.sync_directory(part.parent)
            self._durable.add(directory)

    def _below_root(self, directory: Path) -> Sequence[Path]:
        """Return the directories from below the root down to this one."""
        chain = [directory, *directory.parents]
        return chain[: chain.index(self._root)][::-1]

    def _refuse_links(self, directory: Path) -> None:
        for part in self._below_root(directory):
            if part.is_symlink():
                raise AccessError(
                    f"refused to follow the symbolic link {part} out of the store {self.url}",
                    "replace the link by a directory, or mount the other disk there",
                )

    def _walk(self, prefix: str) -> Iterator[StoredObject]:
        """List every regular file below a prefix, hidden ones too, ascending by path."""
        directory = self._root / prefix
        with self._reporting("list", prefix):
            self._refuse_links(directory)
            try:
                with os.scandir(directory) as found:
                    entries = sorted(found, key=_order)
            except (FileNotFoundError, NotADirectoryError):
                return
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.is_dir(follow_symlinks=False):
                if is_key_part(entry.name):
                    yield from self._walk(path)
                continue
            with self._reporting("list", path):
                if entry.is_symlink() and is_key_part(entry.name):
                    self._refuse_links(self._root / path)
                with contextlib.suppress(FileNotFoundError):  # removed since the directory was read
                    found_stat = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found_stat.st_mode):
                        yield StoredObject(path, found_stat.st_size)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[int]:
        """Open a value; no symbolic link is followed, and only a regular file is one."""
        path = self._root / check_key(key)
        try:
            self._refuse_links(path.parent)
            descriptor = os.open(path, _READ)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise NotFoundError(f"there is no {key} in {self.url}: it is not a file")
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            if isinstance(error, AccessError):
                raise
            if is_absent(error):
                raise NotFoundError(f"there is no {key} in {self.url}") from error
            raise storage_error(error, f"cannot read {key} in {self.url}") from error

    @contextlib.contextmanager
    def _reporting(self, verb: str, key: str, byte_size: int | None = None) -> Iterator[None]:
        """Translate what the file system says about a write, a listing or a deletion."""
        size = "" if byte_size is None else f" ({byte_size} bytes)"
        action = f"cannot {verb} {key or 'the keys'}{size} in {self.url}"
        try:
            yield
        except AccessError:
            raise  # ours; it is an OSError, too
        except (FileExistsError, IsADirectoryError) as error:
            raise ConflictError(f"{action}: it exists already") from error
        except NotADirectoryError as error:
            raise ConflictError(f"{action}: a file stands where it needs a directory") from error
        except FileNotFoundError as error:
            message = f"{action}: its directory or its temporary file was removed meanwhile"
            step = "find out what else removes files there, then run this again"
            raise UnavailableError(message, step) from error
        except OSError as error:
            raise storage_error(error, action) from error


def _order(entry: os.DirEntry[str]) -> str:
    """Sort so that whole paths come out ascending: `a-b` before `a/c` before `a0`."""
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
