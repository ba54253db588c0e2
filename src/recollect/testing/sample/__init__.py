"""Real text embeddings, small enough to ship: for the demo, the tutorial and tests.

637 English sentences of the project's own, embedded with all-MiniLM-L6-v2; where they
come from is written in PROVENANCE.md beside this file.
"""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

RECORD_COUNT = 637
DIMENSION = 384


class Sample(NamedTuple):
    """The records, in a fixed order.

    Shapes:
        vectors: (n, d) float32, C-contiguous, unit length to three digits. Every value is exactly a
            float16: they were rounded to halve the files.

    Attributes:
        ids: 1 to n.
        payloads: Each has `topic` and `text` (strings), `word_count` (integer) and `facts`, a list of
            strings or null.
    """

    ids: list[int]
    vectors: npt.NDArray[np.float32]
    payloads: list[dict[str, Any]]


def load_sample() -> Sample:
    """Read the sample; a fresh copy with every call. Takes a few milliseconds."""
    here = files(__name__)
    stored = np.load(io.BytesIO((here / "vectors.npy").read_bytes()), allow_pickle=False)
    lines = (here / "payloads.jsonl").read_bytes().splitlines()
    payloads = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    return Sample(list(range(1, len(payloads) + 1)), stored.astype(np.float32), payloads)
