"""What every engine adapter must do, as a test class to inherit.

An adapter's test module defines a fixture `harness` that returns an `EngineHarness`::

    class TestQdrant(EngineContract):
        @pytest.fixture
        def harness(self, tmp_path): ...

Tests are skipped only where `EngineFeatures` says that the engine itself lacks the
thing; then the suite checks that the adapter refuses it instead of bending it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from recollect.errors import NotFoundError, RequestError
from recollect.testing.engine_harness import (
    EngineHarness,
    as_held,
    bits,
    column,
    describe,
    in_key_order,
    names,
    put,
    put_records,
    require,
    round_trip,
    rows_of,
    scan,
)
from recollect.testing.engine_samples import (
    INTEGERS,
    PAYLOADS,
    SMALL,
    STRINGS,
    UUIDS,
    mixed_rows,
    sample_matrix,
    schema_of,
    small_row,
)
from recollect.testing.records import Row, build_records, fingerprint_of, record_ids
from recollect.values import batch as columns
from recollect.values.key import RecordId
from recollect.values.payload import decode_payload
from recollect.values.schema import VectorSpec, layout_difference


class EngineContract:
    """Tests of the `Source` and `Target` ports, to inherit."""

    def test_info_names_the_product_and_a_stable_url(self, harness: EngineHarness) -> None:
        """Two runs against one engine must find the same source."""
        infos = []
        for _ in range(2):
            target = harness.open_target()
            infos.append(target.info())
            target.close()
        assert infos[0].product
        assert infos[0].url
        assert infos[0] == infos[1]

    def test_closing_twice_is_harmless(self, harness: EngineHarness) -> None:
        """`close` is called by whoever comes last."""
        put(harness, SMALL, [small_row(1)])
        source, target = harness.open_source(), harness.open_target()
        for engine in (source, target):
            engine.close()
            engine.close()

    @pytest.mark.parametrize("id_type", ["integer", "uuid", "string"])
    def test_ids_come_back_with_value_and_type_in_key_order(
        self, harness: EngineHarness, id_type: str
    ) -> None:
        """Integers up to 2**64-1, UUIDs and strings survive."""
        require(id_type in harness.features.id_types, f"{id_type} ids")
        ids = {"integer": INTEGERS, "uuid": UUIDS, "string": STRINGS}[id_type]
        _, batches = round_trip(harness, SMALL, [small_row(each) for each in reversed(ids)])
        assert in_key_order(harness, batches) == list(ids)

    def test_ids_of_several_types_live_together(self, harness: EngineHarness) -> None:
        """Numbers sort before UUIDs before strings."""
        by_type = {"integer": INTEGERS, "uuid": UUIDS, "string": STRINGS}
        ids = [each for kind in by_type if kind in harness.features.id_types for each in by_type[kind]]
        _, batches = round_trip(harness, SMALL, [small_row(each) for each in ids])
        assert in_key_order(harness, batches) == ids

    @pytest.mark.parametrize("id_type", ["integer", "uuid", "string"])
    def test_ids_that_the_engine_lacks_are_refused(self, harness: EngineHarness, id_type: str) -> None:
        """An id is never turned into another one."""
        require(id_type not in harness.features.id_types, f"lacking {id_type} ids")
        samples: dict[str, RecordId] = {"integer": 1, "uuid": UUID(int=1), "string": "a"}
        with pytest.raises(RequestError):
            put(harness, SMALL, [small_row(samples[id_type])])

    @pytest.mark.parametrize("name", list(PAYLOADS))
    def test_payloads_come_back_byte_for_byte(self, harness: EngineHarness, name: str) -> None:
        """Canonical JSON in, the same bytes out."""
        rows = [Row(id=1, payload=PAYLOADS[name], vectors={"v": [1.0, 2.0]})]
        sent, batches = round_trip(harness, SMALL, rows)
        assert column(batches, columns.PAYLOAD) == column([sent], columns.PAYLOAD)

    def test_an_absent_payload_stays_absent_or_is_announced(self, harness: EngineHarness) -> None:
        """Absent becomes empty only where the target says so beforehand."""
        sent = build_records(SMALL, [Row(id=1, payload=None, vectors={"v": [1.0, 2.0]}), small_row(2)])
        held = as_held(harness, SMALL, sent)
        put_records(harness, SMALL, [held])
        assert column(scan(harness), columns.PAYLOAD) == column([held], columns.PAYLOAD)
        is_absent = held.column(columns.PAYLOAD).null_count == 1
        assert is_absent == harness.features.absent_payload

    def test_doubles_are_held_as_announced(self, harness: EngineHarness) -> None:
        """Also by engines whose parser of numbers is not exact; what they announce is next to the truth."""
        random = np.random.default_rng(11)
        anything = random.integers(0, 2**64 - 1, 4000, dtype=np.uint64).view(np.float64)
        doubles = [*anything[np.isfinite(anything)].tolist(), *random.standard_normal(4000).tolist()]
        sent = build_records(SMALL, [Row(id=1, payload={"list": doubles}, vectors={"v": [1.0, 2.0]})])
        held = as_held(harness, SMALL, sent)
        assert as_held(harness, SMALL, held).equals(held)
        put_records(harness, SMALL, [held])
        assert column(scan(harness), columns.PAYLOAD) == column([held], columns.PAYLOAD)
        found = decode_payload(held.column(columns.PAYLOAD)[0].as_py())["list"]
        assert np.allclose(np.array(found), np.array(doubles), rtol=1e-15, atol=5e-324)

    def test_vectors_of_any_length_are_held_under_cosine_as_announced(self, harness: EngineHarness) -> None:
        """What an engine scales is known before it is written, and scaling is done once."""
        require(harness.features.vector_count_max is None, "several vectors a record")
        schema = schema_of(
            VectorSpec(name="v", dimension=48, metric="cosine"),
            VectorSpec(name="w", dimension=3, metric="cosine"),
        )
        random = np.random.default_rng(3)
        rows = [
            Row(
                id=i,
                vectors={
                    "v": (random.standard_normal(48) * 10.0 ** random.integers(-3, 4)).tolist(),
                    "w": [0.0] * 3,
                },
            )
            for i in range(50)
        ]
        held = as_held(harness, schema, build_records(schema, [*rows, Row(id=99)]))
        assert as_held(harness, schema, held).equals(held)
        put_records(harness, schema, [held])
        assert bits(scan(harness), schema) == bits([held], schema)

    @pytest.mark.parametrize("datatype", ["float32", "float16", "uint8", "int8"])
    @pytest.mark.parametrize("metric", ["dot", "euclid", "manhattan"])
    def test_dense_vectors_come_back_bit_for_bit(
        self, harness: EngineHarness, datatype: Any, metric: Any
    ) -> None:
        """Every element type that the engine has; extremes and negative zero included."""
        require(datatype in harness.features.datatypes, f"{datatype} vectors")
        require(metric in harness.features.metrics, f"the metric {metric}")
        schema = schema_of(VectorSpec(name="v", datatype=datatype, dimension=8, metric=metric))
        matrix = sample_matrix(datatype, rows=40)
        rows = [Row(id=index, vectors={"v": row}) for index, row in enumerate(matrix)]
        sent, batches = round_trip(harness, schema, rows)
        assert bits(batches, schema) == bits([sent], schema)

    def test_unit_vectors_come_back_bit_for_bit_under_cosine(self, harness: EngineHarness) -> None:
        """Vectors that an engine has normalized once are not changed by writing them again."""
        schema = schema_of(VectorSpec(name="v", dimension=96, metric="cosine"))
        raw = np.random.default_rng(1).standard_normal((60, 96)).astype(np.float32)
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        _, first = round_trip(harness, schema, [Row(id=i, vectors={"v": row}) for i, row in enumerate(unit)])
        table = pa.Table.from_batches(first).combine_chunks().to_batches()
        put_records(harness, schema, table)
        assert bits(scan(harness), schema) == bits(first, schema)

    @pytest.mark.parametrize("datatype", ["float32", "float16", "uint8", "int8"])
    def test_datatypes_that_the_engine_lacks_are_refused(self, harness: EngineHarness, datatype: Any) -> None:
        """`check_schema` says no before anything is created."""
        require(datatype not in harness.features.datatypes, f"lacking {datatype} vectors")
        schema = schema_of(VectorSpec(name="v", datatype=datatype, dimension=8, metric="dot"))
        target = harness.open_target()
        try:
            with pytest.raises(RequestError, match=datatype):
                target.check_schema(schema)
        finally:
            target.close()

    def test_named_vectors_come_back_and_absent_ones_stay_absent(self, harness: EngineHarness) -> None:
        """Every combination of two vectors, none of them included."""
        require(harness.features.vector_count_max is None, "several vectors a record")
        schema = schema_of(
            VectorSpec(name="a", dimension=2, metric="dot"),
            VectorSpec(name="b", dimension=3, metric="euclid"),
        )
        a, b = [1.0, 2.0], [3.0, 4.0, 5.0]
        rows = [
            Row(id=index, payload={"n": index}, vectors=vectors)
            for index, vectors in enumerate([{"a": a, "b": b}, {"a": a}, {"b": b}, {}, {"a": b[:2]}])
        ]
        sent, batches = round_trip(harness, schema, rows)
        assert rows_of(batches) == rows_of([sent])

    def test_the_unnamed_vector_comes_back(self, harness: EngineHarness) -> None:
        """With and without it."""
        require(harness.features.unnamed_vector, "an unnamed vector")
        schema = schema_of(VectorSpec(name="", dimension=2, metric="dot"))
        rows = [Row(id=1, vectors={"": [1.0, 2.0]}), Row(id=2)]
        sent, batches = round_trip(harness, schema, rows if harness.features.absent_vectors else rows[:1])
        assert rows_of(batches) == rows_of([sent])

    def test_sparse_vectors_come_back_sorted_by_index(self, harness: EngineHarness) -> None:
        """Indices of 32 bits; beside a dense vector, and alone."""
        require("sparse" in harness.features.vector_kinds, "sparse vectors")
        schema = schema_of(
            VectorSpec(name="d", dimension=2, metric="dot"), VectorSpec(name="s", kind="sparse")
        )
        rows = [
            Row(id=1, vectors={"s": {7: 0.5, 3: -1.25, 4_000_000_000: 1e-30}, "d": [1.0, 2.0]}),
            Row(id=2, vectors={"s": {2: 1.0}}),
            Row(id=3, vectors={"d": [0.0, -0.0]}),
        ]
        sent, batches = round_trip(harness, schema, rows)
        assert rows_of(batches) == rows_of([sent])

    @pytest.mark.parametrize("datatype", ["float32", "float16", "uint8"])
    def test_multi_vectors_come_back_bit_for_bit(self, harness: EngineHarness, datatype: Any) -> None:
        """One row, many rows, none."""
        require({"multi"} <= harness.features.vector_kinds, "multi-vectors")
        require(datatype in harness.features.datatypes, f"{datatype} vectors")
        spec = VectorSpec(
            name="m",
            kind="multi",
            datatype=datatype,
            dimension=8,
            metric="dot",
            parameters={"multivector_config": {"comparator": "max_sim"}},
        )
        schema = schema_of(spec)
        matrix = sample_matrix(datatype, rows=12)
        rows = [Row(id=1, vectors={"m": matrix[:1]}), Row(id=2, vectors={"m": matrix[1:]}), Row(id=3)]
        sent, batches = round_trip(harness, schema, rows)
        assert rows_of(batches) == rows_of([sent])

    @pytest.mark.parametrize("batch_rows", [1, 7, 1000])
    def test_batches_are_bounded_and_every_record_comes_once(
        self, harness: EngineHarness, batch_rows: int
    ) -> None:
        """No record is lost or doubled at the edge of a batch."""
        ids = list(range(0, 150, 3))
        put(harness, SMALL, [small_row(each) for each in ids])
        batches = scan(harness, batch_rows=batch_rows)
        assert max(batch.num_rows for batch in batches) <= batch_rows
        assert in_key_order(harness, batches) == ids

    def test_batches_have_the_columns_of_the_described_schema(self, harness: EngineHarness) -> None:
        """What `describe` says is what `scan` yields; the layout is the one that was asked for."""
        put(harness, SMALL, [small_row(1)])
        found = describe(harness)
        assert layout_difference(SMALL, found.schema) == ""
        assert found.name == harness.name
        assert found.record_count == 1
        assert scan(harness)[0].schema.equals(columns.record_schema(found.schema))

    def test_an_empty_collection_is_a_collection(self, harness: EngineHarness) -> None:
        """It is listed, and its scan ends at once."""
        put_records(harness, SMALL, [])
        assert names(harness) == [harness.name]
        assert sum(batch.num_rows for batch in scan(harness)) == 0

    def test_an_unknown_collection_is_reported_with_those_that_exist(self, harness: EngineHarness) -> None:
        """The message names what could have been meant."""
        put(harness, SMALL, [small_row(1)])
        source = harness.open_source()
        try:
            with source.hold() as view, pytest.raises(NotFoundError, match=harness.name):
                view.describe("no-such-collection")
        finally:
            source.close()

    def test_a_staged_collection_reads_back_before_it_is_switched(self, harness: EngineHarness) -> None:
        """So it can be verified while what was there before still stands."""
        put(harness, SMALL, [small_row(1)])
        sent = build_records(SMALL, [small_row(2), small_row(3)])
        target = harness.open_target()
        try:
            staged = target.stage(harness.name, SMALL, ())
            staged.write(sent)
            staged.finish()
            assert fingerprint_of(SMALL, staged.scan(batch_rows=10)) == fingerprint_of(SMALL, [sent])
            assert record_ids(scan(harness)) == [1]
            staged.discard()
        finally:
            target.close()

    def test_nothing_is_visible_before_the_switch(self, harness: EngineHarness) -> None:
        """`find` does not see a staged collection."""
        target = harness.open_target()
        try:
            staged = target.stage(harness.name, SMALL, ())
            staged.write(build_records(SMALL, [small_row(1)]))
            staged.finish()
            assert target.find(harness.name) is None
            staged.switch()
            found = target.find(harness.name)
            assert found is not None
            assert found.record_count == 1
        finally:
            target.close()

    def test_switching_replaces_what_was_there(self, harness: EngineHarness) -> None:
        """Old records are gone, also with another layout; twice in a row."""
        put(harness, SMALL, [small_row(each) for each in range(20)])
        other = schema_of(VectorSpec(name="w", dimension=3, metric="euclid"))
        put(harness, other, [Row(id=7, payload={"new": True}, vectors={"w": [1.0, 2.0, 3.0]})])
        assert record_ids(scan(harness)) == [7]
        assert layout_difference(other, describe(harness).schema) == ""
        put(harness, SMALL, [small_row(8)])
        assert record_ids(scan(harness)) == [8]
        assert names(harness) == [harness.name]

    def test_discarding_leaves_nothing_and_keeps_what_was_there(self, harness: EngineHarness) -> None:
        """A failed restore can be cleaned up at any point, and twice."""
        put(harness, SMALL, [small_row(1)])
        target = harness.open_target()
        try:
            for step in range(3):
                staged = target.stage(harness.name, SMALL, ())
                if step > 0:
                    staged.write(build_records(SMALL, [small_row(5)]))
                if step > 1:
                    staged.finish()
                staged.discard()
                staged.discard()
        finally:
            target.close()
        assert names(harness) == [harness.name]
        assert record_ids(scan(harness)) == [1]

    def test_discarding_after_the_switch_does_nothing(self, harness: EngineHarness) -> None:
        """Callers put it into a `finally`."""
        target = harness.open_target()
        try:
            staged = target.stage(harness.name, SMALL, ())
            staged.write(build_records(SMALL, [small_row(1)]))
            staged.finish()
            staged.switch()
            staged.discard()
        finally:
            target.close()
        assert record_ids(scan(harness)) == [1]

    def test_aliases_come_with_the_switch(self, harness: EngineHarness) -> None:
        """They lead to the new collection and are listed."""
        require(harness.features.aliases, "aliases")
        put_records(harness, SMALL, [build_records(SMALL, [small_row(1)])], aliases=("prod", "latest"))
        put_records(harness, SMALL, [build_records(SMALL, [small_row(2)])], aliases=("prod",))
        assert describe(harness).aliases == ("prod",)
        assert describe(harness, "prod").name == harness.name
        assert record_ids(scan(harness, name="prod")) == [2]

    def test_several_collections_are_listed_sorted(self, harness: EngineHarness) -> None:
        """Each with its own records."""
        limit = harness.features.collection_count_max
        require(limit is None or limit >= 3, "several collections")
        for index, name in enumerate(["b", "a", "c"]):
            put(harness, SMALL, [small_row(index)], name=name)
        assert names(harness) == ["a", "b", "c"]
        assert record_ids(scan(harness, name="a")) == [1]

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_mixed_records_in_several_batches_keep_their_fingerprint(
        self, harness: EngineHarness, seed: int
    ) -> None:
        """Everything at once, in several writes."""
        schema, rows = mixed_rows(harness.features, seed)
        parts = [build_records(schema, rows[start : start + 37]) for start in range(0, len(rows), 37)]
        batches = [as_held(harness, schema, part) for part in parts]
        put_records(harness, schema, batches)
        found = fingerprint_of(schema, scan(harness, batch_rows=50))
        assert found == fingerprint_of(schema, batches)
        assert found.record_count == len(rows)
