"""The tests that every store must pass. Needs pytest.

An adapter's test file inherits them::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path: Path) -> ObjectStore:
            return MyStore(tmp_path)

The store must be empty at the start of each test.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from recollect.errors import ConflictError, NotFoundError, RequestError
from recollect.storage.base import ObjectStore, StoredObject

ODD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "-option",
    "a b",
    "a\nb",
    "a\n",
    "a\\b",
    "a\0b",
    "ä",
    "a:b",
    "a?b",
    "a%2Fb",
    "~",
]
"""What is no key, and must be refused before anything is touched."""

RACE_WIDTH = 8
_LARGE_BYTE_SIZE = 9 << 20  # more than the parts in which object stores take large values


class StoreContract:
    """What the port promises, as tests. Subclasses provide the fixture `store`."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """Return an empty store."""
        raise NotImplementedError

    def test_a_value_reads_back(self, store: ObjectStore) -> None:
        """Bytes come back as `bytes`, all 256 of them."""
        value = bytes(range(256))

        store.put("objects/ab/value", value)

        assert store.get("objects/ab/value") == value
        assert type(store.get("objects/ab/value")) is bytes
        assert store.size("objects/ab/value") == 256

    def test_an_empty_value_is_a_value(self, store: ObjectStore) -> None:
        """No bytes are something else than no key."""
        store.put("empty", b"")
        store.put_if_absent("also/empty", b"")

        assert store.get("empty") == b""
        assert store.get_range("empty", 0, 10) == b""
        assert store.size("also/empty") == 0
        assert [entry.byte_size for entry in store.list("")] == [0, 0]

    def test_a_large_value_reads_back(self, store: ObjectStore) -> None:
        """Neither writing it nor reading it ends early."""
        value = bytes(range(251)) * (_LARGE_BYTE_SIZE // 251)

        store.put("large/put", value)
        store.put_if_absent("large/created", value)

        assert store.get("large/put") == value
        assert store.get("large/created") == value
        assert store.get_range("large/put", len(value) - 3, 3) == value[-3:]

    def test_put_replaces(self, store: ObjectStore) -> None:
        """Also a longer value by a shorter one."""
        store.put("key", b"a long first value")

        store.put("key", b"second")

        assert store.get("key") == b"second"
        assert store.size("key") == 6

    def test_put_if_absent_creates_once(self, store: ObjectStore) -> None:
        """The first value stays, even if the second is the same."""
        store.put_if_absent("key", b"first")

        for later in (b"second", b"first"):
            with pytest.raises(ConflictError):
                store.put_if_absent("key", later)

        assert store.get("key") == b"first"

    def test_a_deleted_key_can_be_created_again(self, store: ObjectStore) -> None:
        """Nothing of the old value is left in the way."""
        store.put_if_absent("key", b"first")
        store.delete("key")

        store.put_if_absent("key", b"second")

        assert store.get("key") == b"second"

    def test_racing_creators_have_one_winner(self, store: ObjectStore) -> None:
        """And what is stored is the winner's value."""
        gate = threading.Barrier(RACE_WIDTH)

        def create(number: int) -> bool:
            gate.wait()
            try:
                store.put_if_absent("contested/key", b"writer %d" % number)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(RACE_WIDTH) as executor:
            won = list(executor.map(create, range(RACE_WIDTH)))

        assert won.count(True) == 1
        assert store.get("contested/key") == b"writer %d" % won.index(True)

    def test_racing_writers_leave_one_whole_value(self, store: ObjectStore) -> None:
        """Readers see one writer's value or another's, never a mixture."""
        values = [bytes([number]) * 100_000 for number in range(RACE_WIDTH)]
        store.put("key", values[0])

        with ThreadPoolExecutor(RACE_WIDTH) as executor:
            writes = [executor.submit(store.put, "key", value) for value in values]
            seen = [executor.submit(store.get, "key").result() for _ in range(RACE_WIDTH)]
            for write in writes:
                write.result()

        assert all(value in values for value in [*seen, store.get("key")])

    def test_writers_of_new_directories_do_not_disturb_one_another(self, store: ObjectStore) -> None:
        """Many keys at once, below prefixes that do not exist yet."""
        keys = [f"new/{number % 3}/{number}" for number in range(24)]

        with ThreadPoolExecutor(RACE_WIDTH) as executor:
            list(executor.map(lambda key: store.put_if_absent(key, key.encode()), keys))

        assert [entry.key for entry in store.list("new")] == sorted(keys)
        assert all(store.get(key) == key.encode() for key in keys)

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [(0, 10, b"0123456789"), (3, 4, b"3456"), (8, 5, b"89"), (10, 1, b""), (50, 5, b""), (4, 0, b"")],
    )
    def test_a_range_is_a_slice(self, store: ObjectStore, start: int, length: int, expected: bytes) -> None:
        """Fewer bytes than asked for only where the value ends."""
        store.put("digits", b"0123456789")

        assert store.get_range("digits", start, length) == expected

    def test_an_absent_key_is_not_found(self, store: ObjectStore) -> None:
        """Also where other keys share its beginning or its end."""
        store.put("present/key", b"value")

        for absent in ("absent", "present", "present/ke", "present/keys", "key"):
            with pytest.raises(NotFoundError):
                store.get(absent)
            with pytest.raises(NotFoundError):
                store.get_range(absent, 0, 1)
            with pytest.raises(NotFoundError):
                store.get_range(absent, 0, 0)
            with pytest.raises(NotFoundError):
                store.size(absent)

    def test_delete_removes_the_key_and_no_other(self, store: ObjectStore) -> None:
        """Neighbours, longer and shorter names stay."""
        for key in ("a/b", "a/bc", "a/b2/c", "b"):
            store.put(key, b"value")

        store.delete("a/b")

        assert [entry.key for entry in store.list("")] == ["a/b2/c", "a/bc", "b"]
        with pytest.raises(NotFoundError):
            store.get("a/b")

    def test_deleting_an_absent_key_is_no_error(self, store: ObjectStore) -> None:
        """Not the second time, not below an absent prefix, not for a prefix of other keys."""
        store.put("a/b", b"value")

        for key in ("absent", "no/such/key", "a", "a/b", "a/b"):
            store.delete(key)

        assert list(store.list("")) == []

    def test_listing_is_ascending_by_whole_key(self, store: ObjectStore) -> None:
        """`-` and `.` sort before `/`, which sorts before digits and letters."""
        keys = ["a-b", "a.b/c", "a/b", "a/b-c", "a0", "aa/0", "B", "_", "9", "a/c/d", "a/c-d"]
        for number, key in enumerate(keys):
            store.put(key, b"x" * number)

        expected = sorted(StoredObject(key, number) for number, key in enumerate(keys))
        assert list(store.list("")) == expected

    def test_a_prefix_is_a_path_of_whole_parts(self, store: ObjectStore) -> None:
        """`a` does not list `ab/c`, nor the key that has exactly its name."""
        for key in ("a/b/c", "a/b/d/e", "a/bc", "ab/c", "key"):
            store.put(key, b"value")

        assert [entry.key for entry in store.list("a")] == ["a/b/c", "a/b/d/e", "a/bc"]
        assert [entry.key for entry in store.list("a/b")] == ["a/b/c", "a/b/d/e"]
        assert list(store.list("key")) == []
        assert list(store.list("absent/prefix")) == []

    def test_an_empty_store_lists_nothing(self, store: ObjectStore) -> None:
        """And that is no error."""
        assert list(store.list("")) == []

    def test_keys_may_come_and_go_while_listing(self, store: ObjectStore) -> None:
        """What stays is listed once, whatever happens to the rest."""
        for number in range(20):
            store.put(f"list/{number:02}", b"value")

        seen = []
        for entry in store.list("list"):
            seen.append(entry.key)
            store.delete("list/19")
            store.put("list/99", b"value")

        assert [key for key in seen if key < "list/19"] == [f"list/{number:02}" for number in range(19)]

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_odd_keys_are_refused(self, store: ObjectStore, key: str) -> None:
        """By every operation, before anything is touched."""
        for operation in (
            lambda: store.put(key, b"value"),
            lambda: store.put_if_absent(key, b"value"),
            lambda: store.get(key),
            lambda: store.get_range(key, 0, 1),
            lambda: store.size(key),
            lambda: store.delete(key),
        ):
            with pytest.raises(RequestError):
                operation()

        assert list(store.list("")) == []

    @pytest.mark.parametrize("prefix", [key for key in ODD_KEYS if key])
    def test_odd_prefixes_are_refused(self, store: ObjectStore, prefix: str) -> None:
        """A prefix is empty or looks like a key."""
        with pytest.raises(RequestError):
            list(store.list(prefix))

    def test_the_url_names_the_place_without_secrets(self, store: ObjectStore) -> None:
        """It is stable, and has no user part."""
        assert ":" in store.url
        assert "@" not in store.url
        assert store.url == store.url
