"""Seeded draws that are the same on every machine: no exp, log or sine behind them."""

import hashlib
import math
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def seed_of(*parts: object) -> int:
    """Derive a 128-bit seed from what names a stream, such as seed, record and heading.

    >>> seed_of(1, "place-00017") == seed_of(1, "place-00017") != seed_of(2, "place-00017")
    True
    """
    name = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "big")


class Draws:
    """A stream of draws, built on the one method of `random.Random` that Python promises never to change.

    Args:
        parts: what names the stream; the same parts give the same draws.
    """

    def __init__(self, *parts: object) -> None:
        self._seed = seed_of(*parts)
        self._random = random.Random(self._seed)

    def between(self, low: float, high: float) -> float:
        """Draw evenly from [low, high)."""
        return low + (high - low) * self._random.random()

    def bell(self, middle: float, spread: float) -> float:
        """Draw from a bell of three uniforms around `middle`, never further off than `spread`."""
        three = self._random.random() + self._random.random() + self._random.random()
        return middle + spread * (three - 1.5) / 1.5

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """Draw True in the given share of cases."""
        return self._random.random() < share

    def pick(self, items: Sequence[T]) -> T:
        """Draw one of the items."""
        return items[int(self._random.random() * len(items))]

    def weighted(self, weights: dict[str, float]) -> str:
        """Draw one of the keys in proportion to its weight."""
        left = self._random.random() * math.fsum(weights.values())  # exact; sum() differs between Pythons
        for name, weight in weights.items():
            left -= weight
            if left < 0:
                return name
        return next(reversed(weights))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a drawn order (Fisher and Yates)."""
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.whole(0, last)
            items[last], items[other] = items[other], items[last]
        return items

    def grain(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return random bytes of the given shape, from the raw bits of PCG64."""
        count = 1
        for side in shape:
            count *= side
        raw = np.random.PCG64(self._seed).random_raw((count + 7) // 8)
        return np.asarray(raw, dtype="<u8").view(np.uint8)[:count].reshape(shape)
