from __future__ import annotations

import numpy as np
import pytest

from recollect.codec import planes

HALVES = np.arange(65536, dtype=np.uint16)
FINITE = HALVES[(HALVES & 0x7C00) != 0x7C00]


def empty(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty(count, dtype=np.uint8), np.empty(count, dtype=np.uint8)


def test_every_finite_float16_narrows_and_widens_exactly() -> None:
    words = FINITE.view(np.float16).astype(np.float32).view(np.uint32)
    low, high = empty(len(words))
    back = np.empty_like(words)

    assert planes.split_float16(words, low, high)
    planes.join_float16(low, high, back)

    assert np.array_equal(high.astype(np.uint16) << 8 | low, FINITE)
    assert np.array_equal(back, words)


def test_widening_is_defined_for_all_float16_bits() -> None:
    low, high = HALVES.astype(np.uint8), (HALVES >> 8).astype(np.uint8)
    back = np.empty(len(HALVES), dtype=np.uint32)

    planes.join_float16(low, high, back)

    numbers = back.view(np.float32)
    expected = HALVES.view(np.float16).astype(np.float32)
    assert np.array_equal(numbers, expected, equal_nan=True)
    assert np.array_equal(np.signbit(numbers), np.signbit(expected))


@pytest.mark.parametrize("word", [0x7F800000, 0xFF800000, 0x7FC00000, 0x47800000, 0x00002000, 0x33000000])
def test_what_float16_cannot_hold_is_not_narrowed(word: int) -> None:
    words = np.zeros(planes.STEP + 5, dtype=np.uint32)
    words[-2] = word
    low, high = empty(len(words))

    assert not planes.split_float16(words, low, high)


@pytest.mark.parametrize("count", [0, 1, planes.STEP - 1, planes.STEP, planes.STEP + 1])
def test_words_split_and_join_at_every_step_size(count: int) -> None:
    words = np.random.default_rng(1).integers(0, 2**32, count, dtype=np.uint32)
    low = np.empty(count, dtype=np.uint16)
    middle, exponents = empty(count)
    back = np.empty_like(words)

    planes.split_words(words, low, middle, exponents)
    planes.join_words(low, middle, exponents, back)

    assert np.array_equal(back, words)
    assert np.array_equal(exponents, (words >> 23).astype(np.uint8))
    assert np.array_equal(low, words.astype(np.uint16))


def test_integers_split_into_byte_planes() -> None:
    words = np.array([0, 1, 255, 256, 2**31, 2**32 - 1], dtype=np.uint32)
    rows = np.empty((4, len(words)), dtype=np.uint8)

    planes.split_bytes(words, rows)

    assert np.array_equal(planes.join_bytes(list(rows)), words)
