"""A repository: made once, opened by what can read it, and objects that are what their names say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from recollect.codec.document import open_document, seal_document
from recollect.errors import (
    ConflictError,
    FormatVersionError,
    IntegrityError,
    NotFoundError,
    RepositoryNotFoundError,
)
from recollect.repository import layout
from recollect.repository.repository import Repository, create_repository, open_repository
from recollect.storage.base import ObjectStore
from recollect.storage.memory import MemoryStore
from recollect.testing.driver import seeded_bytes
from recollect.values.snapshot import ObjectRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def create(store: ObjectStore) -> Repository:
    return create_repository(store, now=NOW, random_bytes=seeded_bytes(1))


def config_with(store: MemoryStore, **changes: Any) -> None:
    """Write the configuration as another release would."""
    config = msgspec.json.decode(open_document(store.get(layout.CONFIG)))
    store.put(layout.CONFIG, seal_document(msgspec.json.encode({**config, **changes})))


def test_creating_writes_one_key_and_opening_gives_the_same_configuration() -> None:
    store = MemoryStore()

    made = create(store)

    assert [item.key for item in store.list("")] == [layout.CONFIG]
    assert open_repository(store).config == made.config


def test_a_place_without_repository_says_how_to_make_one() -> None:
    with pytest.raises(RepositoryNotFoundError) as caught:
        open_repository(MemoryStore("memory:here"))

    assert "recollect init -r memory:here" in caught.value.next_step


def test_a_second_init_is_refused_and_changes_nothing() -> None:
    store = MemoryStore()
    create(store)
    before = store.get(layout.CONFIG)

    with pytest.raises(ConflictError, match="already"):
        create_repository(store, now=NOW, random_bytes=seeded_bytes(2))

    assert store.get(layout.CONFIG) == before


@pytest.mark.parametrize("key", ["a.txt", "objects/ab/cd", "zebra"])
def test_a_place_that_holds_something_else_is_refused(key: str) -> None:
    store = MemoryStore()
    store.put(key, b"precious")

    with pytest.raises(ConflictError, match="not empty"):
        create(store)

    assert [item.key for item in store.list("")] == [key]


@pytest.mark.parametrize("key", ["snapshots/x.json", f"objects/ab/{'ab' * 32}"])
def test_a_lost_configuration_is_damage_not_absence(key: str) -> None:
    store = MemoryStore()
    store.put(key, b"something")

    with pytest.raises(IntegrityError, match=r"recollect\.json is missing"):
        open_repository(store)


def test_every_flipped_byte_and_every_cut_of_the_configuration_is_noticed() -> None:
    store = MemoryStore()
    create(store)
    whole = store.get(layout.CONFIG)
    harmed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    harmed += [whole[:length] for length in range(len(whole))] + [whole + b"\n"]
    for data in harmed:
        store.put(layout.CONFIG, data)
        with pytest.raises(IntegrityError, match=r"recollect\.json"):
            open_repository(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": 99, "id": 5, "created_at": None, "new": {}},
        {"features": ["encryption"]},
    ],
)
def test_a_newer_format_or_feature_is_unsupported_not_corrupt(changes: dict[str, Any]) -> None:
    store = MemoryStore()
    create(store)
    config_with(store, **changes)

    with pytest.raises(FormatVersionError) as caught:
        open_repository(store)

    assert "pgrade" in caught.value.next_step


@pytest.mark.parametrize(
    "changes", [{"format": 0}, {"format": -1}, {"format": None}, {"id": 5}, {"created_at": "x"}]
)
def test_a_configuration_that_never_existed_is_damage(changes: dict[str, Any]) -> None:
    store = MemoryStore()
    create(store)
    config_with(store, **changes)

    with pytest.raises(IntegrityError):
        open_repository(store)


def test_unknown_keys_of_the_configuration_are_ignored() -> None:
    store = MemoryStore()
    made = create(store)
    config_with(store, comment="from a later release of the same format")

    assert open_repository(store).config == made.config


# ---------------------------------------------------------------- objects


def test_an_object_stands_under_the_digest_of_its_bytes() -> None:
    repository = create(MemoryStore())

    stored = repository.put_object(b"hello")

    digest = hashlib.sha256(b"hello").hexdigest()
    assert stored.reference == ObjectRef(digest=digest, byte_size=5)
    assert stored.added_bytes == 5
    assert repository.store.get(f"objects/{digest[:2]}/{digest}") == b"hello"
    assert repository.get_object(stored.reference) == b"hello"
    assert repository.object_size(digest) == 5


def test_the_same_bytes_are_stored_once() -> None:
    repository = create(MemoryStore())
    repository.put_object(b"hello")

    assert repository.put_object(b"hello").added_bytes == 0
    assert len(list(repository.list_objects())) == 1


@pytest.mark.parametrize(
    "harm", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"J" + data[1:]]
)
def test_a_damaged_object_is_refused_and_mended_by_storing_it_again(harm: Callable[[bytes], bytes]) -> None:
    repository = create(MemoryStore())
    reference = repository.put_object(b"hello").reference
    key = layout.object_key(reference.digest)
    repository.store.put(key, harm(b"hello"))

    with pytest.raises(IntegrityError, match=reference.digest):
        repository.get_object(reference)

    repository.put_object(b"hello")
    assert repository.get_object(reference) == b"hello"


def test_a_missing_object_is_damage_and_named() -> None:
    repository = create(MemoryStore())
    reference = ObjectRef(digest="ab" * 32, byte_size=3)

    with pytest.raises(IntegrityError, match=reference.digest):
        repository.get_object(reference)
    with pytest.raises(IntegrityError, match=reference.digest):
        repository.get_object_range(reference, 0, 1)
    assert repository.object_size(reference.digest) is None


def test_a_range_beyond_the_end_is_damage() -> None:
    repository = create(MemoryStore())
    reference = repository.put_object(b"hello").reference

    assert repository.get_object_range(reference, 1, 3) == b"ell"
    with pytest.raises(IntegrityError, match="ends early"):
        repository.get_object_range(reference, 3, 3)


def test_a_foreign_file_among_the_objects_stops_listings() -> None:
    repository = create(MemoryStore())
    repository.store.put("objects/ab/readme", b"hello")

    with pytest.raises(IntegrityError, match="readme"):
        list(repository.list_objects())


# ---------------------------------------------------------------- key names


@pytest.mark.parametrize(
    "key",
    [
        "objects/ab/xyz",
        f"objects/cd/{'ab' * 32}",
        f"objects/{'ab' * 32}",
        f"objects/ab/{'AB' * 32}",
        "objects/ab/",
    ],
)
def test_other_keys_name_no_object(key: str) -> None:
    assert layout.object_digest(key) is None


@pytest.mark.parametrize(
    "key", ["tags/x/00000001.json", f"tags/{'0' * 26}/1.json", f"tags/{'0' * 26}/x.json"]
)
def test_other_keys_name_no_tags(key: str) -> None:
    with pytest.raises(IntegrityError):
        layout.tags_revision(key)


def test_key_names_and_what_they_name_belong_to_each_other() -> None:
    identity = "0" * 26

    assert layout.object_digest(layout.object_key("ab" * 32)) == "ab" * 32
    assert layout.snapshot_id(layout.snapshot_key(identity)) == identity
    assert layout.tags_revision(layout.tags_key(identity, 12)) == (identity, 12)
    assert layout.is_beat(layout.beat_key(layout.lease_key(identity)))
    assert not layout.is_beat(layout.lease_key(identity))


def test_an_object_that_vanishes_is_not_mistaken_for_one_that_was_never_there() -> None:
    repository = create(MemoryStore())
    reference = repository.put_object(b"hello").reference
    repository.store.delete(layout.object_key(reference.digest))

    with pytest.raises(IntegrityError):
        repository.get_object(reference)
    with pytest.raises(NotFoundError):
        repository.store.get(layout.object_key(reference.digest))
