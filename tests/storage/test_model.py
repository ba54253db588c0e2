"""Any sequence of operations on the local store gives what the reference store gives."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from recollect.errors import RecollectError
from recollect.storage.base import ObjectStore
from recollect.storage.local import LocalStore
from recollect.storage.memory import MemoryStore

KEYS = st.sampled_from(["a/b", "a/b-c", "a/c/d", "a-b", "ab", "z.json"])
PREFIXES = st.sampled_from(["", "a", "a/c", "a/b", "z", "z.json"])
VALUES = st.binary(max_size=64)
SMALL = st.integers(min_value=0, max_value=70)

OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES),
    st.tuples(st.just("put_if_absent"), KEYS, VALUES),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("get_range"), KEYS, SMALL, SMALL),
    st.tuples(st.just("size"), KEYS),
    st.tuples(st.just("list"), PREFIXES),
    st.tuples(st.just("delete"), KEYS),
)


def outcome(store: ObjectStore, name: str, *arguments: object) -> object:
    operation: Callable[..., object] = getattr(store, name)
    try:
        result = operation(*arguments)
        return list(store.list(str(arguments[0]))) if name == "list" else result
    except RecollectError as error:
        return type(error)


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_the_local_store_does_what_the_reference_store_does(operations: list[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        local, reference = LocalStore(directory), MemoryStore()

        for operation in operations:
            assert outcome(local, *operation) == outcome(reference, *operation)

        assert list(LocalStore(directory).list("")) == list(reference.list(""))
