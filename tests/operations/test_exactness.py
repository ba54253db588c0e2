"""Every value that a record can hold comes back bit for bit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from recollect.engines.memory import MemoryEngine
from recollect.testing.driver import Driver
from recollect.testing.engine_samples import INTEGERS, PAYLOADS, STRINGS, UUIDS
from recollect.testing.records import Row
from recollect.testing.strategies import EVERY_VECTOR, SOME_VECTORS
from recollect.values.key import RecordId
from recollect.values.schema import CollectionSchema, PayloadIndex, VectorSpec


@pytest.mark.parametrize("ids", [INTEGERS, UUIDS, STRINGS, (-1, -(2**63), 2**64 - 1, UUID(int=5), "5", 5)])
def test_ids_come_back_with_value_and_type(driver: Driver, ids: tuple[RecordId, ...]) -> None:
    driver.create("c", SOME_VECTORS, [Row(id=each, vectors={"": [1.0, 2.0]}) for each in ids])
    driver.backup()

    driver.assert_sound()
    assert len(driver.restored("latest")["c"]) == len(ids)


@pytest.mark.parametrize("name", list(PAYLOADS))
def test_payloads_come_back_byte_for_byte(driver: Driver, name: str) -> None:
    driver.create(
        "c", SOME_VECTORS, [Row(id=1, payload=PAYLOADS[name]), Row(id=2, payload={}), Row(id=3, payload=None)]
    )
    driver.backup()

    driver.assert_sound()


SPECIAL: dict[str, list[float]] = {
    "float32": [0.0, -0.0, 1e-45, 3.4028234663852886e38, float("inf"), float("-inf"), float("nan"), 0.1],
    "float16": [0.0, -0.0, 6e-8, 65504.0, float("inf"), float("-inf"), float("nan"), 0.1],
    "uint8": [0, 1, 2, 3, 127, 128, 254, 255],
    "int8": [0, 1, -1, 2, -128, 127, 5, -5],
}


@pytest.mark.parametrize("datatype", list(SPECIAL))
@pytest.mark.parametrize("kind", ["dense", "multi"])
def test_special_elements_come_back_bit_for_bit(driver: Driver, datatype: Any, kind: Any) -> None:
    schema = CollectionSchema(
        vectors=(VectorSpec(name="v", kind=kind, datatype=datatype, dimension=8, metric="dot"),)
    )
    values = SPECIAL[datatype]
    turned = values[::-1]
    vectors: list[Any] = [values, turned] if kind == "dense" else [[values, turned], []]
    rows = [Row(id=at, vectors={"v": vector}) for at, vector in enumerate(vectors)]
    driver.create("c", schema, [*rows, Row(id=9)])
    driver.backup()

    driver.assert_sound()


def test_sparse_vectors_come_back_bit_for_bit(driver: Driver) -> None:
    schema = CollectionSchema(vectors=(VectorSpec(name="s", kind="sparse"),))
    sparse: list[Any] = [{0: 1.0, 2**32 - 1: -0.0, 7: float("nan")}, {}, {5: 1e-45}]
    driver.create(
        "c", schema, [*(Row(id=at, vectors={"s": each}) for at, each in enumerate(sparse)), Row(id=9)]
    )
    driver.backup()

    driver.assert_sound()


def test_a_collection_without_vectors_comes_back(driver: Driver) -> None:
    driver.create("c", CollectionSchema(), [Row(id=1, payload={"a": 1}), Row(id=2, payload=None)])
    driver.backup()

    driver.assert_sound()


def test_schema_aliases_and_indexes_come_back(driver: Driver) -> None:
    schema = CollectionSchema(
        vectors=EVERY_VECTOR.vectors,
        payload_indexes=(PayloadIndex(field="a", type="keyword", parameters={"on_disk": True}),),
        parameters={"hnsw_config": {"m": 32}},
        native_engine="memory",
        native={"any": ["thing", None, 1.5]},
    )
    driver.engine.create("c", schema, aliases=("prod", "live"))
    driver.backup()
    target = MemoryEngine()

    driver.restore("latest", target)

    with target.hold() as view:
        assert view.describe("prod").schema == schema
        assert view.describe("c").aliases == ("live", "prod")


def test_every_snapshot_restores_alone_when_all_others_are_gone(filled: Driver) -> None:
    identities = filled.catalog().ids()
    for keep in identities:
        copy = Driver(seed=7)
        for key in filled.stored_keys():
            copy.store.put(key, filled.store.get(key))
        copy.expected = filled.expected
        copy.forget(*[identity for identity in identities if identity != keep])
        copy.prune()

        copy.assert_sound()
        assert copy.restored(keep) == filled.expected[keep]
