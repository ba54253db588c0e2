"""Names of collections, and of their parts under custom shard keys.

An id may stand under several shard keys of one collection, as different records. So each key's records are
a collection of their own to Recollect: `NAME/KEY`. A server's names have no slash. Keys that are numbers
stand bare, and texts that look like a number or begin with a quotation mark stand in quotes.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeAlias

import msgspec

from recollect.engines.qdrant.connection import Connection, collection_path
from recollect.engines.qdrant.failures import understood
from recollect.engines.qdrant.inventory import Inventory
from recollect.errors import NotFoundError

ShardKey: TypeAlias = str | int
CUSTOM = "custom"


class Place(NamedTuple):
    """Where records are.

    Attributes:
        name: What users call it, key included.
        collection: What users call the collection.
        physical: What the server calls the collection.
        shard_key: Under which key; None for all of the collection.
    """

    name: str
    collection: str
    physical: str
    shard_key: ShardKey | None = None


def part_name(collection: str, shard_key: ShardKey) -> str:
    """Return what the records under a shard key are called."""
    if isinstance(shard_key, int):
        return f"{collection}/{shard_key}"
    is_plain = not shard_key.isdecimal() and not shard_key.startswith('"') and shard_key != ""
    return f"{collection}/{shard_key if is_plain else json.dumps(shard_key)}"


def split_name(name: str) -> tuple[str, ShardKey | None]:
    """Take a name apart; the inverse of `part_name`. A name without a slash has no key."""
    collection, slash, text = name.partition("/")
    if not slash:
        return name, None
    if text.isdecimal():
        return collection, int(text)
    if text.startswith('"'):
        try:
            return collection, str(json.loads(text))
        except ValueError:
            return collection, text
    return collection, text


def locate(inventory: Inventory, name: str) -> Place | None:
    """Find what a name or alias means; whether there is such a shard key is not asked."""
    collection, shard_key = split_name(name)
    found = inventory.resolve(collection)
    if found is None:
        return None
    own, physical = found
    return Place(own if shard_key is None else part_name(own, shard_key), own, physical, shard_key)


def require_place(inventory: Inventory, name: str, where: str) -> Place:
    """Do the same; NotFoundError lists what there is."""
    place = locate(inventory, name)
    if place is None:
        inventory.require(name, where)
        raise AssertionError("a name that is not located cannot be resolved")
    return place


def is_custom(info: dict[str, Any]) -> bool:
    """Tell from `GET /collections/{c}` whether points are placed by custom shard keys."""
    return bool(info["config"]["params"].get("sharding_method") == CUSTOM)


def read_shard_keys(connection: Connection, physical: str) -> dict[ShardKey, int]:
    """Ask for the shard keys of a collection, and how many shards each has; in order of creation."""
    path = collection_path(physical, "/cluster")
    action = f"asking for the shards of {physical!r}"
    cluster = connection.rest("GET", path, action=action)
    shards: dict[int, ShardKey] = {}
    with understood(action, connection.address):
        for shard in [*cluster.get("local_shards", []), *cluster.get("remote_shards", [])]:
            if shard.get("shard_key") is not None:
                shards[int(shard["shard_id"])] = msgspec.convert(shard["shard_key"], int | str)
    counts: dict[ShardKey, int] = {}
    for number in sorted(shards):
        counts[shards[number]] = counts.get(shards[number], 0) + 1
    return counts


def require_key(place: Place, shard_keys: dict[ShardKey, int]) -> None:
    """Make sure that a place is one set of records.

    Raises:
        NotFoundError: There is no such key, or the collection has keys and none is named; it lists them.
    """
    if place.shard_key in shards_of(shard_keys):
        return
    known = ", ".join(part_name(place.collection, key) for key in shard_keys) or "none"
    raise NotFoundError(
        f"there is no {place.name!r}: the collection {place.collection!r} holds its records under shard keys",
        f"there are: {known}",
    )


def shards_of(shard_keys: dict[ShardKey, int]) -> set[ShardKey | None]:
    """Return the keys that name one set of records: None where there are no keys."""
    return set(shard_keys) or {None}
