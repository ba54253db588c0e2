from __future__ import annotations

import numpy as np

from recollect.testing.sample import DIMENSION, RECORD_COUNT, load_sample


def test_the_sample_is_complete_and_of_unit_length() -> None:
    sample = load_sample()

    assert len(sample.ids) == len(sample.payloads) == RECORD_COUNT
    assert sample.vectors.shape == (RECORD_COUNT, DIMENSION)
    assert sample.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(sample.vectors, axis=1), 1, atol=1e-3)


def test_every_sentence_stands_there_once() -> None:
    texts = [payload["text"] for payload in load_sample().payloads]

    assert len(set(texts)) == RECORD_COUNT


def test_every_value_is_exactly_a_float16() -> None:
    vectors = load_sample().vectors

    assert np.array_equal(vectors.astype(np.float16).astype(np.float32), vectors)


def test_sentences_of_one_meaning_are_neighbours() -> None:
    sample = load_sample()
    texts = [payload["text"] for payload in sample.payloads]
    query = texts.index("The recovery point objective says how much data may be lost.")

    nearest = np.argsort(-(sample.vectors @ sample.vectors[query]))[1]

    assert texts[nearest] == "The recovery time objective says how long a restore may take."
