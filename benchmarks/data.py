"""Data to measure with: real embeddings tiled and perturbed, and payloads of the same shape as real ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from recollect.testing.sample import load_sample

KINDS = ("manual", "guide", "reference", "note")


@cache
def _base(path: Path | None) -> np.ndarray:
    return np.load(path) if path is not None else load_sample().vectors


def embeddings(path: Path | None, count: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """Return unit float32 vectors: random rows of the embeddings, 1 % noise. Shapes: (count, dimension)."""
    base = _base(path)
    rows = base[generator.integers(0, len(base), count)][:, :dimension]
    noisy = rows + generator.normal(0, 0.01 / np.sqrt(dimension), rows.shape)
    unit: np.ndarray = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    return unit


def payload(record_id: int, generator: np.random.Generator) -> dict[str, Any]:
    """Return a payload of about 300 bytes of JSON with text, numbers, a list and a nested object."""
    words = generator.integers(0, 4096, 24)
    return {
        "kind": KINDS[record_id % len(KINDS)],
        "source": f"collection-{record_id % 97}/document-{record_id // 8}.txt",
        "text": " ".join(f"w{word:x}" for word in words),
        "length": int(words.sum()),
        "tags": [f"tag{words[0] % 50}", f"tag{words[1] % 50}"],
        "score": float(words[2]) / 4096,
        "meta": {"version": int(words[3] % 9), "reviewed": bool(words[4] % 2)},
    }
