"""A mapping in parts is what a dict is, whatever is done to it, and in the same order everywhere."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from recollect.database.key_map import KeyMap

KEYS = st.binary(max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers()),
        st.tuples(st.just("pop"), KEYS),
        st.tuples(st.just("update"), st.dictionaries(KEYS, st.integers(), max_size=5)),
        st.tuples(st.just("clear")),
    ),
    max_size=40,
)


@given(STEPS, st.lists(KEYS, max_size=5))
def test_it_holds_what_a_dict_would_hold(steps: list[tuple[object, ...]], asked: list[bytes]) -> None:
    found, model = KeyMap[int](), dict[bytes, int]()
    for name, *arguments in steps:
        if name == "set":
            key, value = arguments
            found[key], model[key] = value, value  # type: ignore[index,assignment]
        elif name == "pop":
            assert found.pop(*arguments) == model.pop(*arguments, None)  # type: ignore[arg-type,call-overload]
        else:
            getattr(found, str(name))(*arguments)
            getattr(model, str(name))(*arguments)

    assert dict(found.items()) == model
    assert sorted(found) == sorted(model)
    assert (len(found), bool(found)) == (len(model), bool(model))
    assert [found.get(key) for key in asked] == [model.get(key) for key in asked]
    assert [key in found for key in asked] == [key in model for key in asked]
    assert found.isdisjoint(asked) == model.keys().isdisjoint(asked)


def test_the_order_of_keys_is_the_same_in_every_process() -> None:
    code = (
        "from recollect.database.key_map import KeyMap\n"
        "m = KeyMap()\n"
        "m.update((str(n).encode(), n) for n in range(2000))\n"
        "print(list(m))"
    )

    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(printed) == 1
