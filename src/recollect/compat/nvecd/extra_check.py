"""Checks of the extra store: whatever a commit could not apply is refused before there is one.

A commit is logged before it is applied, so what fails then would fail again at every opening of the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import numpy as np

from recollect.compat.nvecd.extra import CollectionRows, Extra, StateRow, VectorRow
from recollect.compat.nvecd.snapshot.decode import fail
from recollect.database.collections import HIDDEN_PREFIX
from recollect.database.limits import DIMENSION_MAX, VALUE_BYTES_MAX, check_name
from recollect.database.planner import RESERVED_NAMES
from recollect.database.stage import DEFAULT_COLLECTION
from recollect.errors import IntegrityError, RequestError
from recollect.values.key import TAG_STRING, decode_key
from recollect.values.schema import Metric

_NUMBER_MAX = 2**62  # what is counted on from here on must fit 64 bits as well
_TEXT = bytes((TAG_STRING,))


def check_extra(extra: Extra) -> None:
    """Refuse content that the database could not hold.

    Raises:
        IntegrityError: It says what.
    """
    try:
        _check_state(extra.state)
        for item, metadata in extra.metadata.items():
            _check_json(f"the metadata of {item!r}", metadata, dict)
        if any(row.key[:1] == _TEXT for row in extra.vectors):
            fail("a vector of the store 'recollect' has an id that is text")
        if extra.vectors:
            _check_rows(extra.vectors, len(extra.vectors[0].vector) // 4)
        _check_collections(extra.collections)
    except RequestError as error:
        raise IntegrityError(f"the store 'recollect' of the snapshot: {error}", error.next_step) from error


def _check_state(rows: list[StateRow]) -> None:
    versions: dict[tuple[str, str, str], int] = {}
    for row in rows:
        name = (row.namespace, row.agent, row.key)
        for what, text in zip(("a namespace", "an agent", "a key"), name, strict=True):
            check_name(what, text)
        if not versions.get(name, 0) < row.version <= _NUMBER_MAX:
            fail(f"version {row.version} of state key {row.key!r} follows {versions.get(name, 0)}")
        if not 0 <= row.commit_ts <= _NUMBER_MAX:
            fail(f"state key {row.key!r} has commit {row.commit_ts}")
        versions[name] = row.version
        _check_json(f"the value of state key {row.key!r}", row.value)


def _check_collections(collections: list[CollectionRows]) -> None:
    seen = {*RESERVED_NAMES, DEFAULT_COLLECTION}
    for one in collections:
        check_name("a collection", one.name)
        if one.name in seen or one.name.startswith(HIDDEN_PREFIX):
            fail(f"the store 'recollect' has a collection {one.name!r}, which is given twice or reserved")
        if one.metric not in get_args(Metric):
            fail(f"the collection {one.name!r} has an unknown metric: {one.metric[:64]!r}")
        if not 1 <= one.dimension <= DIMENSION_MAX:
            fail(f"the collection {one.name!r} has {one.dimension} dimensions")
        seen.add(one.name)
        _check_rows(one.rows, one.dimension)


def _check_rows(rows: Iterable[VectorRow], dimension: int) -> None:
    seen = set[bytes]()
    for row in rows:
        decode_key(row.key)
        if row.key in seen:
            fail(f"Duplicate vector ID: {row.key.hex()}")
        if not dimension or len(row.vector) != 4 * dimension:
            fail(f"the vector {row.key.hex()} has {len(row.vector)} bytes instead of {4 * dimension}")
        if not np.isfinite(np.frombuffer(row.vector, "<f4")).all():
            fail(f"the vector {row.key.hex()} holds NaN or an infinity")
        seen.add(row.key)
        _check_json(f"the metadata of {row.key.hex()}", row.metadata, dict)


def _check_json(what: str, value: bytes | None, kind: Any = Any) -> None:
    if value is None:
        return
    if len(value) > VALUE_BYTES_MAX:
        fail(f"{what} has {len(value)} bytes; at most {VALUE_BYTES_MAX} can be stored")
    try:
        msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{what} is no such JSON: {error}", "use another snapshot file") from error
