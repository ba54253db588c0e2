"""Planes: floats taken apart into parts that compress and parts that do not, and put together again.

Exponents of embeddings are skewed, mantissas are noise; so the parts are stored as planes of
their own. All of it is integer arithmetic on bit patterns, exact for every value (NaN payloads,
-0.0, subnormals). Work goes in steps that stay in the second-level cache, in scratch arrays
that each thread keeps: fresh memory would cost more than the arithmetic.

Letters: n elements; e exponent, s sign, m mantissa bits. Format: docs/format.md#encodings
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Half = npt.NDArray[np.uint16]
Word = npt.NDArray[np.uint32]

STEP = 131072
"""Elements per step: 512 KiB of float32 and its temporaries.

A quarter of it fits the cache better and is a little faster on one thread; but two threads then
spend their time handing the interpreter lock to each other between calls of ten microseconds.
"""

_REBIAS = (127 - 15) << 10
"""Distance of the exponents of float32 and float16, in float16's place; mod 2**16 when subtracted there."""
_FLOAT16_NORMAL = (127 - 14) << 23
"""Bits of 2**-14 as a float32: below it float16 is subnormal."""
_FLOAT16_END = (127 + 16) << 23
"""Bits of 2**16 as a float32: from there on float16 has no finite value."""


class _Scratch(threading.local):
    """Arrays that one thread reuses: one of words and three of halves, one step each."""

    def __init__(self) -> None:
        self.word = np.empty(STEP, dtype=np.uint32)
        self.half = np.empty(STEP, dtype=np.uint16)
        self.other = np.empty(STEP, dtype=np.uint16)
        self.narrow = np.empty(STEP, dtype=np.uint16)


_SCRATCH = _Scratch()


def split_words(words: Word, low: Half, middle: Bytes, exponents: Bytes) -> None:
    """Split float32 bits `s eeeeeeee m*23`: low 16 mantissa bits, `m*7 s`, and the exponent.

    Shapes: words (n,) → low (n,), middle (n,), exponents (n,), all written in place.
    """
    for start in range(0, len(words), STEP):
        part = slice(start, start + STEP)
        source = words[part]
        np.copyto(low[part], source, casting="unsafe")  # keeps the low 16 bits
        _split_upper(source, middle[part], exponents[part])


def join_words(low: Half, middle: Bytes, exponents: Bytes, words: Word) -> None:
    """Put float32 bits together again; the inverse of `split_words`."""
    for start in range(0, len(words), STEP):
        part = slice(start, start + STEP)
        target = words[part]
        _join_upper(middle[part], exponents[part], target)
        np.bitwise_or(target, low[part], out=target)


def split_upper(words: Word, middle: Bytes, exponents: Bytes) -> None:
    """Split float32 bits whose low 16 are zero (bfloat16): `m*7 s`, and the exponent."""
    for start in range(0, len(words), STEP):
        part = slice(start, start + STEP)
        _split_upper(words[part], middle[part], exponents[part])


def join_upper(middle: Bytes, exponents: Bytes, words: Word) -> None:
    """Put bfloat16 values together as float32 bits; the inverse of `split_upper`."""
    for start in range(0, len(words), STEP):
        part = slice(start, start + STEP)
        _join_upper(middle[part], exponents[part], words[part])


def split_halves(halves: Half, low: Bytes, high: Bytes) -> None:
    """Split float16 bits `s eeeee m*10`: low byte, high byte."""
    for start in range(0, len(halves), STEP):
        part = slice(start, start + STEP)
        shifted = _SCRATCH.half[: len(halves[part])]
        np.copyto(low[part], halves[part], casting="unsafe")
        np.right_shift(halves[part], 8, out=shifted)
        np.copyto(high[part], shifted, casting="unsafe")


def join_halves(low: Bytes, high: Bytes, halves: Half) -> None:
    """Put float16 bits together again; the inverse of `split_halves`."""
    for start in range(0, len(halves), STEP):
        part = slice(start, start + STEP)
        target = halves[part]
        np.copyto(target, high[part])
        np.left_shift(target, 8, out=target)
        np.bitwise_or(target, low[part], out=target)


def split_bytes(words: Word, planes: npt.NDArray[np.uint8]) -> None:
    """Split integers into byte planes, lowest first. Shapes: (n,) → (4, n)."""
    for position in range(4):
        np.copyto(planes[position], words >> np.uint32(8 * position), casting="unsafe")


def join_bytes(planes: list[Bytes]) -> Word:
    """Put integers together from four byte planes; the inverse of `split_bytes`."""
    words = planes[3].astype(np.uint32)
    for position in (2, 1, 0):
        words <<= np.uint32(8)
        words |= planes[position]
    return words


def is_bfloat16(bits_seen: int) -> bool:
    """Say whether every float32 is exactly a bfloat16, from the OR of all their bits."""
    return bits_seen & 0xFFFF == 0


def may_be_float16(bits_seen: int) -> bool:
    """Say whether every float32 has a mantissa that float16 can hold; its range is not looked at."""
    return bits_seen & 0x1FFF == 0


def split_float16(words: Word, low: Bytes, high: Bytes) -> bool:
    """Narrow float32 bits to float16 and split these as `split_halves`, if that loses nothing.

    False, and planes of any content, if a value is out of float16's range or not finite: NaN
    and infinity are left out because not every processor converts NaN bit by bit.
    The mantissas must fit (`may_be_float16`).

    Shapes: words (n,) → low (n,), high (n,).
    """
    for start in range(0, len(words), STEP):
        part = slice(start, start + STEP)
        if not _narrow(words[part]):
            return False
        split_halves(_SCRATCH.narrow[: len(words[part])], low[part], high[part])
    return True


def join_float16(low: Bytes, high: Bytes, words: Word) -> None:
    """Put float16 values together as float32 bits; the inverse of `split_float16`."""
    for start in range(0, len(words), STEP):
        part = slice(start, start + STEP)
        target = words[part]
        halves, other = _SCRATCH.narrow[: len(target)], _SCRATCH.other[: len(target)]
        join_halves(low[part], high[part], halves)
        np.bitwise_and(halves, 0x7FFF, out=other)
        np.copyto(target, other)
        np.left_shift(target, 13, out=target)
        np.add(target, _REBIAS << 13, out=target)
        np.bitwise_and(halves, 0x8000, out=other)
        word = _SCRATCH.word[: len(target)]
        np.copyto(word, other)
        np.left_shift(word, 16, out=word)
        np.bitwise_or(target, word, out=target)
        np.add(halves, 0x0400, out=other)  # exponents 0 and 31 become 1 and 0
        np.bitwise_and(other, 0x7800, out=other)
        special = np.flatnonzero(other == 0)  # zero, subnormal; or what no encoder writes
        target[special] = halves[special].view(np.float16).astype(np.float32).view(np.uint32)


def _narrow(source: Word) -> bool:
    """Write the float16 bits of one step to the scratch; False if a value is out of range."""
    count = len(source)
    word, narrow, other = _SCRATCH.word[:count], _SCRATCH.narrow[:count], _SCRATCH.other[:count]
    np.bitwise_and(source, 0x7FFFFFFF, out=word)
    if word.max() >= _FLOAT16_END:
        return False
    tiny = np.flatnonzero(word < _FLOAT16_NORMAL)  # zero and subnormals of float16: a few per thousand
    np.right_shift(word, 13, out=word)
    np.copyto(narrow, word, casting="unsafe")
    np.subtract(narrow, np.uint16(_REBIAS & 0xFFFF), out=narrow)
    np.right_shift(source, 16, out=word)
    np.copyto(other, word, casting="unsafe")
    np.bitwise_and(other, 0x8000, out=other)
    np.bitwise_or(narrow, other, out=narrow)
    if len(tiny):
        exact = source[tiny]
        halves = exact.view(np.float32).astype(np.float16)
        narrow[tiny] = halves.view(np.uint16)
        return bool(np.array_equal(halves.astype(np.float32).view(np.uint32), exact))
    return True


def _split_upper(source: Word, middle: Bytes, exponents: Bytes) -> None:
    word, half, other = _SCRATCH.word, _SCRATCH.half, _SCRATCH.other
    count = len(source)
    word, half, other = word[:count], half[:count], other[:count]
    np.right_shift(source, 16, out=word)
    np.copyto(half, word, casting="unsafe")  # s eeeeeeee mmmmmmm
    np.left_shift(half, 1, out=other)
    np.right_shift(half, 15, out=half)
    np.bitwise_or(half, other, out=half)  # eeeeeeee mmmmmmm s
    np.copyto(middle, half, casting="unsafe")
    np.right_shift(half, 8, out=other)
    np.copyto(exponents, other, casting="unsafe")


def _join_upper(middle: Bytes, exponents: Bytes, target: Word) -> None:
    count = len(target)
    half, other = _SCRATCH.half[:count], _SCRATCH.other[:count]
    np.copyto(half, exponents)
    np.left_shift(half, 8, out=half)
    np.bitwise_or(half, middle, out=half)  # eeeeeeee mmmmmmm s
    np.right_shift(half, 1, out=other)
    np.left_shift(half, 15, out=half)
    np.bitwise_or(half, other, out=half)  # s eeeeeeee mmmmmmm
    np.copyto(target, half)
    np.left_shift(target, 16, out=target)
