"""Which collections a server has, and under which names users know them.

Qdrant cannot rename a collection. A restore therefore loads `<name>.recollect-<ulid>` and makes
`<name>` an alias of it. Such a collection is known by `<name>` here, and that alias is not counted
among its aliases; one without its alias is a leftover of an interrupted restore and not listed.
"""

from __future__ import annotations

import re

import msgspec

from recollect.engines.qdrant.connection import Connection
from recollect.errors import NotFoundError, UnavailableError
from recollect.values.ulid import is_ulid

NAME_LENGTH_MAX = 255
"""Characters of a collection name that a server accepts."""

_STAGED = re.compile(r"(?P<name>.+)\.recollect-(?P<id>[0-9a-z]{26})", re.DOTALL)


def staged_name(name: str, ulid: str) -> str:
    """Return the name of the collection that is loaded to become `name`."""
    return f"{name}.recollect-{ulid}"


def final_name(physical: str) -> str | None:
    """Return the name that a staged collection is to have; None if it is none of ours."""
    match = _STAGED.fullmatch(physical)
    return match["name"] if match is not None and is_ulid(match["id"]) else None


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """Names at one moment.

    Attributes:
        physical: The collections as the server calls them.
        targets: By alias, the collection that it leads to.
    """

    physical: frozenset[str]
    targets: dict[str, str]

    def names(self) -> list[str]:
        """Return the collections by the names that users know, sorted; leftovers are left out."""
        return sorted(self._name_of(each) for each in self.physical - set(self.leftovers()))

    def leftovers(self) -> list[str]:
        """Return staged collections that were never switched into place, sorted."""
        found = [(each, final_name(each)) for each in self.physical]
        return sorted(each for each, name in found if name is not None and self.targets.get(name) != each)

    def resolve(self, name: str) -> tuple[str, str] | None:
        """Return what a name or alias means: the name that users know, and the server's."""
        physical = self.targets.get(name, name)
        return (self._name_of(physical), physical) if physical in self.physical else None

    def require(self, name: str, where: str) -> tuple[str, str]:
        """Do the same; NotFoundError lists what there is."""
        found = self.resolve(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(f"there is no collection {name!r} on {where}; there are: {known}")
        return found

    def aliases(self, physical: str) -> tuple[str, ...]:
        """Return the aliases of a collection, sorted, without the one that is its name."""
        own = self._name_of(physical)
        return tuple(sorted(alias for alias, to in self.targets.items() if to == physical and alias != own))

    def _name_of(self, physical: str) -> str:
        name = final_name(physical)
        return name if name is not None and self.targets.get(name) == physical else physical


def read_inventory(connection: Connection) -> Inventory:
    """Ask the server for its collections and aliases.

    Raises:
        UnavailableError: It cannot be reached, or what it answers is no list of collections.
    """
    listed = connection.rest("GET", "/collections", action="listing collections")
    aliases = connection.rest("GET", "/aliases", action="listing aliases")
    try:
        return Inventory(
            physical=frozenset(str(each["name"]) for each in listed["collections"]),
            targets={str(each["alias_name"]): str(each["collection_name"]) for each in aliases["aliases"]},
        )
    except (KeyError, TypeError) as error:
        raise UnavailableError(
            f"{connection.address.rest_url} lists no collections: it answered {str(listed)[:200]!r} and "
            f"{str(aliases)[:200]!r}",
            "check that the address is that of a Qdrant",
        ) from error
