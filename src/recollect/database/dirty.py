"""What changed since the last checkpoint: dicts that are swapped, never copied.

Writers note the present value of what they change in `current`. A freeze puts `current`
aside and begins a new one: a constant number of steps. When the checkpoint is committed, the frozen
part is settled (forgotten); when it failed, the part stays and the next freeze takes
it along, so no change is ever left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Part(Protocol[Key, Value]):
    """Changes by key: a dict, or what can take the place of one."""

    def __len__(self) -> int: ...

    def __contains__(self, key: Key) -> bool: ...

    def __setitem__(self, key: Key, value: Value) -> None: ...

    def items(self) -> Iterable[tuple[Key, Value]]:
        """Yield keys and values."""
        ...

    def update(self, items: Mapping[Key, Value], /) -> None:
        """Set many values."""
        ...

    def clear(self) -> None:
        """Remove everything."""
        ...


class Generations(Generic[Key, Value]):
    """Changes by key in generations; the newest generation that has a key speaks for it.

    One writer at a time; a frozen instance is never written.

    Args:
        make: Makes an empty part.
    """

    def __init__(
        self, generations: tuple[Part[Key, Value], ...] = (), make: Callable[[], Part[Key, Value]] = dict
    ) -> None:
        self._make = make
        self._frozen = generations
        self.current = make()

    def freeze(self) -> Generations[Key, Value]:
        """Put the current changes aside and return all that is not settled yet."""
        if len(self.current):
            self._frozen = (*self._frozen, self.current)
            self.current = self._make()
        return Generations(self._frozen, self._make)

    def settle(self, frozen: Generations[Key, Value]) -> None:
        """Forget what `frozen` holds; later changes stay."""
        gone = {id(part) for part in frozen._frozen}
        self._frozen = tuple(part for part in self._frozen if id(part) not in gone)

    @property
    def is_merged(self) -> bool:
        """Whether several generations speak: an earlier checkpoint failed, so its changes are in here too."""
        return len(self._frozen) > 1

    def __len__(self) -> int:
        """Return how many changes there are, at most: a key of two generations counts twice."""
        return sum(map(len, self._frozen)) + len(self.current)

    def __iter__(self) -> Iterator[tuple[Key, Value]]:
        """Yield each frozen key once, with its newest value; in no order."""
        newer: list[Part[Key, Value]] = []
        for part in reversed(self._frozen):
            if not newer:
                yield from part.items()  # the newest speaks for itself
                newer.append(part)
                continue
            for key, value in part.items():
                if not any(key in other for other in newer):
                    yield key, value
            newer.append(part)


DirtyKeys = Generations[bytes, int]
