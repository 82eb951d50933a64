"""Random streams that depend on what is drawn, never on the order or the number of workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.engine.study import fingerprint

__all__ = ["SeedKey"]


@dataclass(frozen=True)
class SeedKey:
    """The key of all random streams of one block of replicates.

    A stream is a function of the study's seed, the cell's settings, the block and the stream's name. No method is
    in the key of the data's stream, so all methods see the same data, and adding a cell or a method changes no other
    result.

    Attributes
    ----------
    seed : int
        The study's seed, at least 0.
    cell : str
        Fingerprint of the cell's world and sample size, 64 hexadecimal digits.
    block : int
        Number of the block of replicates.

    Examples
    --------
    >>> key = SeedKey.of(1, {"name": "toy", "alpha": 0.5}, 100, block=0)
    >>> key.stream("data").random() == key.stream("data").random()
    True
    >>> key.stream("data").random() == key.stream("method rdro").random()
    False
    """

    seed: int
    cell: str
    block: int

    @classmethod
    def of(cls, seed: int, world: Mapping[str, Any], n: int, block: int) -> "SeedKey":
        """Return the key of a block of replicates of a world at sample size n."""
        return cls(seed, fingerprint({"world": world, "n": n}), block)

    def stream(self, name: str) -> np.random.Generator:
        """Return the stream of a name, such as "data", from its beginning."""
        # Fixed numbers of 32-bit words keep the parts of the key apart.
        words = (*_words(self.cell), self.block, *_words(fingerprint(name)))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=words))

    def __str__(self) -> str:
        """Return the key as tables and messages show it."""
        return f"{self.seed}:{self.cell}:{self.block}"


def _words(digest: str) -> tuple[int, ...]:
    """Return the eight 32-bit words of a fingerprint."""
    return tuple(int(digest[i : i + 8], 16) for i in range(0, 64, 8))
