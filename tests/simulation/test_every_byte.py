"""Every byte of every file of a small repository is damaged: all of it is noticed, and named.

A restore that needs a damaged file refuses before it touches its target; one that does not
need it gives back every bit.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from recollect.clock import ManualClock
from recollect.engines.memory import MemoryEngine, MemoryStaged
from recollect.errors import IntegrityError, NotFoundError, RecollectError
from recollect.operations import restore
from recollect.operations.restore import RestoreOptions
from recollect.repository import layout
from recollect.storage.local import LocalStore
from recollect.testing.damage import Damage, damaged, flip_byte
from recollect.testing.driver import Driver, States, read_engine
from recollect.testing.records import Row, VectorValue
from recollect.testing.strategies import EVERY_VECTOR, SOME_VECTORS
from recollect.values.schema import CollectionSchema

FULL_BYTE = 0xFF

Needed = dict[str, set[str]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Return a local repository with two snapshots of two collections, of which the second lists deltas."""
    made = Driver(LocalStore(tmp_path_factory.mktemp("repository")))
    made.init()
    noise = random.Random(5)
    rows = [
        Row(id=each, payload={"text": noise.randbytes(150).hex()}, vectors={"": [1.0, each / 3]})
        for each in range(9)
    ]
    made.create("docs", SOME_VECTORS, rows)
    vectors: dict[str, VectorValue] = {
        "": [1.0, 2.0, 3.0],
        "bytes": [0, 1, 2, 3],
        "many": [[1.0, 2.0]],
        "words": {5: 1.0},
    }
    made.create("more", EVERY_VECTOR, [Row(id="a", vectors=vectors), Row(id="b", payload=None)])
    made.backup()
    made.upsert("docs", [Row(id=4, payload={"changed": True}, vectors={"": [0.1, 0.2]})])
    made.backup()
    for tag in ("a", "b"):
        made.catalog().tag(made.catalog().ids()[0], add=[tag])
    return made


def root_of(driver: Driver) -> Path:
    assert isinstance(driver.store, LocalStore)
    return driver.store.path


def files(driver: Driver) -> list[str]:
    root = root_of(driver)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def objects(driver: Driver) -> list[str]:
    return [path for path in files(driver) if path.startswith(layout.OBJECTS)]


class UntouchedTarget(MemoryEngine):
    """A target that notes whether anyone began to write."""

    def __init__(self) -> None:
        super().__init__()
        self.is_touched = False

    def stage(self, name: str, schema: CollectionSchema, aliases: tuple[str, ...]) -> MemoryStaged:
        self.is_touched = True
        return super().stage(name, schema, aliases)


def assert_noticed(driver: Driver, *paths: str) -> None:
    """Opening or verifying names one of the files."""
    found = named_by(driver)
    assert any(path in text for path in paths for text in found), f"{paths} went unnoticed: {found}"


def named_by(driver: Driver) -> list[str]:
    try:
        report = driver.verify()
    except RecollectError as error:
        return [error.message]
    assert report.is_sound == (not report.problems)
    return [f"{problem.what} {problem.message}" for problem in report.problems]


def restore_of(driver: Driver, identity: str) -> States | RecollectError:
    """Restore a snapshot; return what it gave, or the error, which must come before the target is touched."""
    target = UntouchedTarget()
    try:
        repository = driver.open()
        plan = restore.plan(driver.catalog().find(identity), target, options=RestoreOptions())
        restore.apply(plan, repository, target, clock=ManualClock())
    except RecollectError as error:
        refusal = error
    else:
        return read_engine(target)
    assert not target.is_touched, f"the target was touched before: {refusal}"
    return refusal


@pytest.fixture(scope="module")
def needed(driver: Driver) -> Needed:
    """Return the files that the restore of each snapshot reads."""
    found = {}
    for snapshot in driver.catalog().list():
        keys = {layout.object_key(each.digest) for each in snapshot.objects()}
        found[snapshot.id] = keys | {
            layout.CONFIG,
            layout.snapshot_key(snapshot.id),
            layout.tags_key(snapshot.id, 2),
        }
    return found


def assert_restores_or_refuses(driver: Driver, needed: Needed, *paths: str) -> None:
    for identity, expected in driver.expected.items():
        given = restore_of(driver, identity)
        if needed[identity] & set(paths):
            assert isinstance(given, RecollectError), f"{identity} was restored in spite of a damaged {paths}"
        else:
            assert given == expected


def flips(path: str, offsets: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Yield, for each offset, one random bit and the whole byte."""
    noise = random.Random(path)
    for offset in offsets:
        yield offset, 1 << noise.randrange(8)
        yield offset, FULL_BYTE


def check_flips(driver: Driver, path: str, offsets: Iterator[int], needed: Needed | None) -> None:
    file = root_of(driver) / path
    whole = file.read_bytes()
    for offset, mask in flips(path, offsets):
        flip_byte(file, offset, mask)
        try:
            assert_noticed(driver, path)
            if needed is not None:
                assert_restores_or_refuses(driver, needed, path)
        except BaseException as error:
            error.add_note(f"byte {offset} of {path} with mask {mask:#x}")
            raise
        finally:
            file.write_bytes(whole)


def test_the_repository_is_sound_when_nothing_is_damaged(driver: Driver) -> None:
    driver.assert_sound()
    assert len(objects(driver)) >= 6
    assert len(files(driver)) == len(objects(driver)) + 1 + 2 + 2
    runs = [len(entry.runs) for entry in driver.catalog().find("latest").collections]
    assert max(runs) > 1


def test_flipped_bytes_all_over_every_file_are_noticed_and_restores_refuse(
    driver: Driver, needed: Needed
) -> None:
    noise = random.Random(2)
    for path in files(driver):
        size = (root_of(driver) / path).stat().st_size
        chosen = {0, size // 2, size - 1, *noise.sample(range(size), 3)}
        check_flips(driver, path, iter(sorted(chosen)), needed)
    driver.assert_sound()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_flipped_byte_of_every_file_is_noticed(driver: Driver) -> None:
    for path in files(driver):
        size = (root_of(driver) / path).stat().st_size
        check_flips(driver, path, iter(range(size)), None)
    driver.assert_sound()


def test_every_file_cut_anywhere_is_noticed_and_restores_refuse(driver: Driver, needed: Needed) -> None:
    for path in files(driver):
        size = (root_of(driver) / path).stat().st_size
        for length in sorted({0, 1, size // 3, size // 2, size - 8, size - 1}):
            with damaged(root_of(driver), Damage("truncate", path, length)):
                assert_noticed(driver, path)
                assert_restores_or_refuses(driver, needed, path)
    driver.assert_sound()


def test_bytes_added_to_any_file_are_noticed(driver: Driver) -> None:
    for path in files(driver):
        file = root_of(driver) / path
        whole = file.read_bytes()
        for extra in (b"\0", b"\n", whole):
            file.write_bytes(whole + extra)
            assert_noticed(driver, path)
        file.write_bytes(whole)
    driver.assert_sound()


def test_every_deleted_object_and_the_configuration_are_noticed_and_restores_refuse(
    driver: Driver, needed: Needed
) -> None:
    for path in [*objects(driver), layout.CONFIG, layout.tags_key(driver.catalog().ids()[0], 1)]:
        with damaged(root_of(driver), Damage("delete", path)):
            assert_noticed(driver, path)
            if not path.startswith(layout.TAGS):
                assert_restores_or_refuses(driver, needed, path)
    driver.assert_sound()


def test_a_deleted_snapshot_is_not_found_and_the_others_restore(driver: Driver) -> None:
    """Nothing lists the snapshots: losing the file of one is forgetting it."""
    identities = driver.catalog().ids()
    for identity in identities:
        with damaged(root_of(driver), Damage("delete", layout.snapshot_key(identity))):
            assert driver.verify().is_sound
            with pytest.raises(NotFoundError, match=identity):
                driver.catalog().find(identity)
            for other in set(identities) - {identity}:
                assert restore_of(driver, other) == driver.expected[other]
    driver.assert_sound()


def test_any_two_files_of_a_kind_exchanged_are_noticed_and_restores_refuse(
    driver: Driver, needed: Needed
) -> None:
    kinds = [objects(driver)]
    kinds += [[path for path in files(driver) if path.startswith(kind)] for kind in ("snapshots", "tags")]
    pairs = [pair for kind in kinds for pair in itertools.combinations(kind, 2)]
    assert len(pairs) > 15
    for path, other in pairs:
        with damaged(root_of(driver), Damage("swap", path, other=other)):
            assert_noticed(driver, path, other)
            assert_restores_or_refuses(driver, needed, path, other)
    driver.assert_sound()


def test_files_of_different_kinds_exchanged_are_noticed(driver: Driver) -> None:
    one_of_each = [
        layout.CONFIG,
        objects(driver)[0],
        *[path for path in files(driver) if path.endswith(".json")][1:3],
    ]
    for path, other in itertools.combinations(sorted(set(one_of_each)), 2):
        with damaged(root_of(driver), Damage("swap", path, other=other)):
            assert_noticed(driver, path, other)
    driver.assert_sound()


def test_readers_of_parts_of_an_object_notice_what_they_read(driver: Driver) -> None:
    """Search and export read vectors by ranges, which no digest of the whole object covers."""
    latest = driver.catalog().find("latest")
    noise = random.Random(3)
    vectors = {
        each for entry in latest.collections for part in entry.segments() for each in part.vectors.values()
    }
    for path in sorted(layout.object_key(each.digest) for each in vectors):
        file = root_of(driver) / path
        whole = file.read_bytes()
        for offset in sorted(noise.sample(range(len(whole)), 40)):
            flip_byte(file, offset, 1 << noise.randrange(8))
            with contextlib.suppress(IntegrityError):
                assert driver.stored(latest) == driver.expected[latest.id], f"byte {offset} of {path}"
            file.write_bytes(whole)
    driver.assert_sound()


def test_damage_is_not_mended_by_looking_at_it(driver: Driver) -> None:
    path = objects(driver)[0]
    file = root_of(driver) / path
    whole = file.read_bytes()
    flip_byte(file, 10)
    harmed = file.read_bytes()

    for _ in range(2):
        assert_noticed(driver, path)
        refused = [restore_of(driver, identity) for identity in driver.catalog().ids()]
        assert any(isinstance(each, IntegrityError) for each in refused)

    assert file.read_bytes() == harmed
    file.write_bytes(whole)
    driver.assert_sound()
