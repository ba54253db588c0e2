"""Damage to the files of a local directory: flipped bytes, lost ends, lost files, swapped files.

Every function changes files in place. To try many kinds on one repository::

    for damage in every_damage(root, offsets_per_file=8):
        with damaged(root, damage):
            ...                      # expect `verify` to name damage.path
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

DamageKind: TypeAlias = Literal["flip", "truncate", "delete", "swap"]


class Damage(NamedTuple):
    """One way to harm a directory.

    Attributes:
        kind: What is done.
        path: To which file, relative to the root.
        offset: Which byte is flipped; where the file is cut.
        other: The file that it is swapped with.
    """

    kind: DamageKind
    path: str
    offset: int = 0
    other: str = ""


def flip_byte(path: Path, offset: int, mask: int = 0xFF) -> None:
    """Flip the bits of `mask` in one byte; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def truncate(path: Path, byte_size: int) -> None:
    """Cut the file to its first `byte_size` bytes."""
    path.write_bytes(path.read_bytes()[:byte_size])


def delete(path: Path) -> None:
    """Remove the file."""
    path.unlink()


def swap(path: Path, other: Path) -> None:
    """Exchange the contents of two files."""
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


def every_damage(root: Path, *, offsets_per_file: int) -> Iterator[Damage]:
    """List ways to harm each file below a root, in a fixed order.

    Per file: flipped bytes at up to `offsets_per_file` evenly spread places, the first and the last
    included; a cut to nothing, to half, and by one byte; its removal. Per pair of neighbours
    in sorted order whose contents differ: a swap.
    """
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    for path in paths:
        byte_size = (root / path).stat().st_size
        yield from (Damage("flip", path, offset) for offset in _spread(byte_size, offsets_per_file))
        cuts = sorted({0, byte_size // 2, byte_size - 1} - {byte_size, -1})
        yield from (Damage("truncate", path, cut) for cut in cuts)
        yield Damage("delete", path)
    for path, other in itertools.pairwise(paths):
        if (root / path).read_bytes() != (root / other).read_bytes():
            yield Damage("swap", path, other=other)


def apply_damage(root: Path, damage: Damage) -> None:
    """Do it."""
    path = root / damage.path
    if damage.kind == "flip":
        flip_byte(path, damage.offset)
    elif damage.kind == "truncate":
        truncate(path, damage.offset)
    elif damage.kind == "delete":
        delete(path)
    else:
        swap(path, root / damage.other)


@contextlib.contextmanager
def damaged(root: Path, damage: Damage) -> Iterator[None]:
    """Do it, and put the files back at the end."""
    names = [name for name in (damage.path, damage.other) if name]
    before = {name: (root / name).read_bytes() for name in names}
    apply_damage(root, damage)
    try:
        yield
    finally:
        for name, data in before.items():
            (root / name).write_bytes(data)


def _spread(byte_size: int, count: int) -> list[int]:
    """Return up to `count` offsets from 0 to the last byte."""
    if byte_size <= count:
        return list(range(byte_size))
    return sorted({round(step * (byte_size - 1) / max(1, count - 1)) for step in range(count)})
