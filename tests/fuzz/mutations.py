"""Bytes that are nearly right: what a fuzzer makes of good ones."""

from collections.abc import Sequence

import numpy as np

TELLING = (b"\x00", b"\xff", b"\n", b"\r\n", b"\r", b"\t", b" ", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":")
"""What most formats give a meaning."""


def mutated(data: bytes, generator: np.random.Generator, telling: Sequence[bytes] = TELLING, most: int = 4) -> bytes:
    """``data`` with one to ``most`` changes: bytes changed, left out, doubled, moved, cut off, or something of
    ``telling`` put in."""
    made = bytearray(data)
    for _ in range(int(generator.integers(1, most + 1))):
        _change(made, generator, telling)
    return bytes(made)


def _change(made: bytearray, generator: np.random.Generator, telling: Sequence[bytes]) -> None:
    place = int(generator.integers(len(made) + 1))
    length = int(min(2 ** generator.integers(12), len(made) - place))
    piece = made[place : place + length]
    match int(generator.integers(8)):
        case 0 if piece:
            made[place] ^= 1 << int(generator.integers(8))
        case 1 if piece:
            made[place] = int(generator.integers(256))
        case 2:
            del made[place : place + length]
        case 3:
            made[place:place] = piece * int(generator.integers(1, 4))
        case 4:
            other = int(generator.integers(len(made) + 1))
            made[other : other + length] = piece
        case 5:
            del made[place:]
        case _:
            made[place:place] = telling[int(generator.integers(len(telling)))]
