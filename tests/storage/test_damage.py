"""Damage to files does what it says, and can be undone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from recollect.testing.damage import damaged, delete, every_damage, flip_byte, swap, truncate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"0123456789")
    (tmp_path / "two").write_bytes(b"abc")
    (tmp_path / "void").write_bytes(b"")
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_kind_of_damage(root: Path) -> None:
    flip_byte(root / "a/one", -1, mask=1)
    assert (root / "a/one").read_bytes() == b"0123456788"

    truncate(root / "a/one", 2)
    swap(root / "a/one", root / "two")
    assert (root / "two").read_bytes() == b"01"

    delete(root / "two")
    assert contents(root) == {"a/one": b"abc", "void": b""}


def test_every_damage_changes_something_and_is_undone(root: Path) -> None:
    before = contents(root)

    for damage in every_damage(root, offsets_per_file=4):
        with damaged(root, damage):
            assert contents(root) != before, damage
            assert contents(root).get(damage.path) != before[damage.path], damage
        assert contents(root) == before


def test_every_damage_covers_each_file_and_both_its_ends(root: Path) -> None:
    found = list(every_damage(root, offsets_per_file=4))

    flips = [damage for damage in found if damage.kind == "flip"]
    assert [damage.offset for damage in flips if damage.path == "a/one"] == [0, 3, 6, 9]
    assert Counter((damage.path, damage.kind) for damage in found if damage.kind != "flip") == {
        ("a/one", "truncate"): 3,
        ("two", "truncate"): 3,
        ("a/one", "delete"): 1,
        ("two", "delete"): 1,
        ("void", "delete"): 1,
        ("a/one", "swap"): 1,
        ("two", "swap"): 1,
    }
