"""Data sets as counts: independent examples, and random matching of the two classes into pairs.

Tabular and log-linear estimators depend on a data set only through its counts, so the samplers draw the counts
directly: a replicate of 10^9 examples costs what one of 10^3 does.
"""

from dataclasses import dataclass

import numpy as np

from sim.preferences.arguments import IntArray
from theory.checks import FloatArray

__all__ = ["Counts", "draw_examples", "draw_pairs", "match_pairs"]

# NumPy's hypergeometric sampler accepts populations below this size.
_LARGEST_POPULATION = 10**9


@dataclass(frozen=True, eq=False)
class Counts:
    """Data sets of a world, reduced to counts.

    Attributes
    ----------
    preferred, nonpreferred : ndarray of int64
        How often each response occurs in each class, shape (replicates, prompts, responses).
    pairs : ndarray of int64 or None
        How often response i was chosen over j, shape (replicates, prompts, responses, responses); None where the
        data are unpaired.
    """

    preferred: IntArray
    nonpreferred: IntArray
    pairs: IntArray | None = None


def draw_pairs(n: int, replicates: int, law: FloatArray, rng: np.random.Generator) -> Counts:
    """Draw data sets of n compared pairs.

    Parameters
    ----------
    n : int
        Pairs in each data set.
    replicates : int
        Data sets.
    law : ndarray
        Joint law of (prompt, chosen, rejected), shape (prompts, responses, responses), or (replicates, prompts,
        responses, responses).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Counts
        With pairs.

    Examples
    --------
    >>> law = np.array([[[0.25, 0.4], [0.1, 0.25]]])
    >>> draw_pairs(10, 3, law, np.random.default_rng(0)).pairs.sum(axis=(1, 2, 3))
    array([10, 10, 10])
    """
    pairs = _multinomial(n, replicates, law, 3, rng)
    return Counts(pairs.sum(axis=3), pairs.sum(axis=2), pairs)


def draw_examples(n: int, replicates: int, law: FloatArray, rng: np.random.Generator) -> Counts:
    """Draw data sets of n labelled examples.

    Parameters
    ----------
    n : int
        Examples in each data set.
    replicates : int
        Data sets.
    law : ndarray
        Joint law of (class, prompt, response), preferred first, shape (2, prompts, responses), or (replicates, 2,
        prompts, responses).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Counts
        Without pairs.

    Examples
    --------
    >>> law = np.array([[[0.3, 0.2]], [[0.1, 0.4]]])
    >>> draw_examples(10**9, 2, law, np.random.default_rng(0)).preferred.shape
    (2, 1, 2)
    """
    drawn = _multinomial(n, replicates, law, 3, rng)
    return Counts(drawn[:, 0], drawn[:, 1])


def match_pairs(counts: Counts, rng: np.random.Generator) -> IntArray:
    """Match preferred and non-preferred examples of each prompt at random, for methods that need pairs.

    Every example of the smaller class gets a partner of the other class, without replacement; the rest is left over.
    Any such pairing of independent draws is exactly Bradley-Terry with scores ``log(p+/p-)``.

    Parameters
    ----------
    counts : Counts
        Unpaired counts.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of int64
        Counts of (chosen, rejected), shape (replicates, prompts, responses, responses).

    Raises
    ------
    ValueError
        If a class has 10^9 examples or more at a prompt, beyond NumPy's hypergeometric sampler.

    Examples
    --------
    >>> counts = Counts(np.array([[[3, 1]]]), np.array([[[2, 5]]]))
    >>> match_pairs(counts, np.random.default_rng(0)).sum()
    np.int64(4)
    """
    totals = counts.preferred.sum(axis=-1), counts.nonpreferred.sum(axis=-1)
    largest = int(max(total.max() for total in totals))
    if largest >= _LARGEST_POPULATION:
        raise ValueError(f"random matching needs fewer than 10^9 examples of a class at a prompt, got {largest}")
    # The smaller class is dealt partners from the larger one, response by response.
    swap = (totals[0] > totals[1])[..., None]
    smaller = np.where(swap, counts.nonpreferred, counts.preferred)
    rest = np.where(swap, counts.preferred, counts.nonpreferred).copy()
    responses = rest.shape[-1]
    table = np.zeros((*rest.shape, responses), dtype=np.int64)
    for i in range(responses):
        wanted = smaller[..., i].copy()
        for j in range(responses):
            others = rest[..., j + 1 :].sum(axis=-1)
            drawn = rng.hypergeometric(rest[..., j], others, wanted) if j + 1 < responses else wanted
            table[..., i, j] = drawn
            rest[..., j] -= drawn
            wanted = wanted - drawn
    return np.where(swap[..., None], np.swapaxes(table, -1, -2), table)


def _multinomial(n: int, replicates: int, law: FloatArray, axes: int, rng: np.random.Generator) -> IntArray:
    """Return one multinomial draw for each replicate from a law over the last axes."""
    shape = law.shape[-axes:]
    flat = law.reshape(*law.shape[:-axes], -1)
    # NumPy's sampler demands a sum of one up to a last rounding.
    drawn = rng.multinomial(n, flat / flat.sum(axis=-1, keepdims=True), size=replicates)
    return drawn.reshape(replicates, *shape)
