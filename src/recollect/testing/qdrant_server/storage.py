"""All collections and aliases of the server, and the directory that they live in.

`collections/<quoted name>/` holds a collection, `aliases.json` the aliases. Both survive a restart.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from recollect.testing.qdrant_server.cluster import Cluster
from recollect.testing.qdrant_server.collection import Collection
from recollect.testing.qdrant_server.configuration import new_configuration
from recollect.testing.qdrant_server.failures import ServerError, bad_request, no_collection
from recollect.testing.qdrant_server.faults import Faults

_FORBIDDEN = set('<>:"/\\|?*\0\x1f')


class Storage:
    """Collections by name. Safe to share between threads."""

    def __init__(self, directory: Path, faults: Faults, cluster: Cluster | None = None) -> None:
        self.faults = faults
        self.cluster = cluster
        self.directory = directory
        self._lock = threading.RLock()
        (directory / "collections").mkdir(parents=True, exist_ok=True)
        found = sorted(each for each in (directory / "collections").iterdir() if each.suffix != ".part")
        self._collections = {unquote(path.name): Collection(path, faults) for path in found}
        aliases = directory / "aliases.json"
        self._aliases: dict[str, str] = msgspec.json.decode(aliases.read_bytes()) if aliases.exists() else {}

    def close(self) -> None:
        """Close every collection."""
        with self._lock:
            for collection in self._collections.values():
                collection.close()
            self._collections = {}

    def names(self) -> list[str]:
        """List the collections, in no particular order, as the server does."""
        with self._lock:
            return list(self._collections)

    def exists(self, name: str) -> bool:
        """Tell whether a collection or alias has this name."""
        with self._lock:
            return name in self._collections or name in self._aliases

    def resolve(self, name: str) -> str:
        """Return the collection that a name or alias means; 404 if there is none."""
        with self._lock:
            own = self._aliases.get(name, name)
            if own not in self._collections:
                raise no_collection(name)
            return own

    def get(self, name: str) -> Collection:
        """Return the collection that a name or alias means; 404 if there is none."""
        with self._lock:
            return self._collections[self.resolve(name)]

    def create(self, name: str, request: dict[str, Any]) -> bool:
        """Create a collection."""
        if not 1 <= len(name) <= 255 or _FORBIDDEN & set(name):
            raise bad_request(f"Validation error in path parameters: collection name {name!r} is invalid")
        config = new_configuration(request)
        with self._lock:
            if name in self._collections:
                raise ServerError(409, f"Wrong input: Collection `{name}` already exists!")
            if name in self._aliases:
                raise bad_request(
                    f"Wrong input: Can't create collection with name {name}. "
                    "Alias with the same name already exists"
                )
            path = self._path(name)
            Collection.create(path, config)
            self._collections[name] = Collection(path, self.faults)
        return True

    def replace(self, name: str, build: Callable[[Path], None]) -> None:
        """Put a collection that `build` makes into a directory in the place of `name`, whatever was there."""
        path = self._path(name)
        staging = path.with_name(path.name + ".part")
        shutil.rmtree(staging, ignore_errors=True)
        build(staging)
        with self._lock:
            before = self._collections.pop(name, None)
            if before is not None:
                before.close()
                shutil.rmtree(path)
            staging.rename(path)
            self._collections[name] = Collection(path, self.faults)

    def delete(self, name: str) -> bool:
        """Delete a collection with the aliases that lead to it; False if there is none."""
        with self._lock:
            own = self._aliases.get(name, name)
            collection = self._collections.pop(own, None)
            if collection is None:
                return False
            collection.close()
            shutil.rmtree(self._path(own))
            self._aliases = {alias: to for alias, to in self._aliases.items() if to != own}
            self._save_aliases()
        return True

    def aliases(self, name: str | None = None) -> list[dict[str, str]]:
        """List the aliases of a collection, or all."""
        with self._lock:
            own = None if name is None else self.resolve(name)
            return [
                {"alias_name": alias, "collection_name": to}
                for alias, to in self._aliases.items()
                if own in {None, to}
            ]

    def change_aliases(self, actions: list[dict[str, Any]]) -> bool:
        """Apply all actions in their order, or none."""
        with self._lock:
            changed = dict(self._aliases)
            for action in actions:
                self._apply(changed, action)
            self._aliases = changed
            self._save_aliases()
        return True

    def _apply(self, aliases: dict[str, str], action: dict[str, Any]) -> None:
        if "create_alias" in action:
            wanted = action["create_alias"]
            if wanted["collection_name"] not in self._collections:
                raise no_collection(wanted["collection_name"])
            if wanted["alias_name"] in self._collections:
                raise ServerError(409, f"Wrong input: Collection `{wanted['alias_name']}` already exists!")
            aliases[wanted["alias_name"]] = wanted["collection_name"]
        elif "delete_alias" in action:
            aliases.pop(action["delete_alias"]["alias_name"], None)
        elif "rename_alias" in action:
            wanted = action["rename_alias"]
            if wanted["old_alias_name"] not in aliases:
                raise ServerError(404, f"Not found: Alias {wanted['old_alias_name']} does not exists!")
            aliases[wanted["new_alias_name"]] = aliases.pop(wanted["old_alias_name"])
        else:
            raise bad_request("Format error in JSON body: unknown alias action")

    def _path(self, name: str) -> Path:
        return self.directory / "collections" / quote(name, safe="")

    def _save_aliases(self) -> None:
        (self.directory / "aliases.json").write_bytes(msgspec.json.encode(self._aliases))
