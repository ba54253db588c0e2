"""Make the sample that Recollect ships: sentences.txt and facts.txt, embedded.

Needs the packages `sentence-transformers` and one that carries the model all-MiniLM-L6-v2, neither of
which Recollect depends on; see src/recollect/testing/sample/PROVENANCE.md. Run from the checkout::

    python tools/sample/embed.py MODEL_DIRECTORY
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "src" / "recollect" / "testing" / "sample"


def payloads() -> Iterator[dict[str, Any]]:
    """Yield one payload per sentence: those written one by one, then those made from facts."""
    topic = ""
    for line in (HERE / "sentences.txt").read_text("utf-8").splitlines():
        if line.startswith("# "):
            topic = line.removeprefix("# ")
        else:
            yield payload(topic, line, None)
    templates: list[str] = []
    for line in (HERE / "facts.txt").read_text("utf-8").splitlines():
        if line.startswith("# "):
            topic, *templates = line.removeprefix("# ").split(" | ")
        else:
            facts = line.split("|")
            for template in templates:
                yield payload(topic, template.format(*facts), facts)


def payload(topic: str, text: str, facts: list[str] | None) -> dict[str, Any]:
    """Return the payload of one record; `facts` is null for a sentence written as it stands."""
    return {"topic": topic, "text": text, "word_count": len(text.split()), "facts": facts}


def main(model_directory: str) -> None:
    """Write vectors.npy and payloads.jsonl."""
    rows = list(payloads())
    texts = [row["text"] for row in rows]
    assert len(set(texts)) == len(texts), "a sentence stands there twice"
    model = SentenceTransformer(model_directory, device="cpu")
    vectors = model.encode(texts, normalize_embeddings=True, batch_size=32)
    TARGET.mkdir(parents=True, exist_ok=True)
    np.save(TARGET / "vectors.npy", vectors.astype(np.float16))
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (TARGET / "payloads.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    sys.stdout.write(f"{len(rows)} records of {vectors.shape[1]} dimensions\n")


if __name__ == "__main__":
    main(sys.argv[1])
