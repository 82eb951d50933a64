"""Annotators who differ: examples of one annotator share a taste, so they are not independent."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit, logit

from sim.preferences import PairwisePreference, ThumbsPreference
from sim.preferences.arguments import check_integer
from sim.sampling import Counts, draw_examples, draw_pairs
from theory.checks import FloatArray, as_floats

__all__ = ["Annotators", "average_preference"]

# Gauss-Hermite nodes: the mean of a sigmoid is exact to 2e-13 for Gaussians of deviation up to 2, to 3e-9 at 3 nats.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(96)
_LARGEST_BATCH = 2_000_000  # numbers held at once


@dataclass(frozen=True, eq=False)
class Annotators:
    """A pool of annotators, each with a taste of its own, drawn anew for every data set.

    Annotator a adds ``t_a(x, y) ~ N(0, spread^2)`` to the appeal of every response: it prefers i to j with probability
    ``sigma(logit P_ij + t_ai - t_aj)``, or labels y as preferred with probability ``sigma(logit eta + t_ay)``. Each
    labels an equal share of the data set.

    Parameters
    ----------
    count : int
        Annotators of one data set, at least 1.
    spread : float
        Standard deviation of a taste in nats, not negative.
    model : PairwisePreference or ThumbsPreference
        The preferences that tastes are added to.
    base : ndarray
        Policy that shows the responses, shape (prompts, responses).
    prompt_probs : ndarray
        Law of the prompts, shape (prompts,).
    paired : bool
        Whether examples come as compared pairs.
    label_fraction : ndarray or None
        Share of preferred examples at each prompt in the unpaired regime; None where it follows from the labels.
    label_noise : float
        Probability that a label is recorded the wrong way round, in [0, 1/2).

    Raises
    ------
    ValueError, TypeError
        If a number is out of range.

    Notes
    -----
    With a fixed number of annotators no sample size makes an estimate consistent for the whole population: its error
    tends to that of a sample of tastes, which falls like one over the square root of `count`.

    References
    ----------
    .. [1] Random effects of annotators: derived here.

    Examples
    --------
    >>> model = PairwisePreference("coin", [[0.5, 0.8], [0.2, 0.5]])
    >>> pool = Annotators(10, 1.0, model, np.array([[0.5, 0.5]]), np.ones(1), paired=True)
    >>> pool.sample(100, 2, np.random.default_rng(0)).pairs.sum(axis=(1, 2, 3))
    array([100, 100])
    """

    count: int
    spread: float
    model: PairwisePreference | ThumbsPreference
    base: FloatArray
    prompt_probs: FloatArray
    paired: bool
    label_fraction: FloatArray | None = field(default=None)
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_integer("annotators", self.count, 1)
        _check_spread(self.spread)

    def sample(self, units: int, replicates: int, rng: np.random.Generator) -> Counts:
        """Draw data sets of so many units, pairs in the paired regime and examples otherwise.

        Parameters
        ----------
        units : int
            Units in each data set; annotators differ by at most one.
        replicates : int
            Data sets.
        rng : numpy.random.Generator
            Source of tastes and labels.

        Returns
        -------
        Counts
            Summed over annotators.
        """
        prompts, responses = self.base.shape
        numbers = np.full(self.count, units // self.count)
        numbers[: units % self.count] += 1
        size = self.count * prompts * responses * (responses if isinstance(self.model, PairwisePreference) else 1)
        step = max(1, _LARGEST_BATCH // size)
        parts = [self._sample(numbers, min(step, replicates - i), rng) for i in range(0, replicates, step)]
        pairs = [part.pairs for part in parts if part.pairs is not None]
        return Counts(
            np.concatenate([part.preferred for part in parts]),
            np.concatenate([part.nonpreferred for part in parts]),
            np.concatenate(pairs) if pairs else None,
        )

    def _sample(self, numbers: FloatArray, replicates: int, rng: np.random.Generator) -> Counts:
        """Draw some data sets at once, annotator by annotator."""
        prompts, responses = self.base.shape
        sets = replicates * self.count
        tastes = self.spread * rng.standard_normal((sets * prompts, responses))
        law = self._law(tastes, sets)
        draw = draw_pairs if self.paired else draw_examples
        drawn = draw(np.tile(numbers, replicates), sets, law, rng)

        def total(counts: FloatArray | None) -> FloatArray | None:
            """Sum over the annotators of each data set."""
            return None if counts is None else counts.reshape(replicates, self.count, *counts.shape[1:]).sum(axis=1)

        return Counts(total(drawn.preferred), total(drawn.nonpreferred), total(drawn.pairs))

    def _law(self, tastes: FloatArray, sets: int) -> FloatArray:
        """Return the joint law of one unit for every annotator, given tastes (sets * prompts, responses)."""
        prompts, responses = self.base.shape
        base = np.tile(self.base, (sets, 1))
        share = np.tile(self.prompt_probs, sets)
        noise = self.label_noise
        if isinstance(self.model, PairwisePreference):
            logits = np.tile(logit(self.model.probabilities), (sets, 1, 1))
            matrix = expit(logits + tastes[:, :, None] - tastes[:, None, :])
            pairs = 2.0 * base[:, :, None] * base[:, None, :] * matrix
            pairs = (1.0 - noise) * pairs + noise * pairs.swapaxes(1, 2)
            if self.paired:
                return (share[:, None, None] * pairs).reshape(sets, prompts, responses, responses)
            fraction = np.full(prompts, 0.5) if self.label_fraction is None else self.label_fraction
            fraction = np.tile(fraction, sets)[:, None]
            joint = np.stack([fraction * pairs.sum(axis=2), (1.0 - fraction) * pairs.sum(axis=1)])
        else:
            eta = expit(np.tile(logit(self.model.label_probabilities), (sets, 1)) + tastes)
            joint = np.stack([base * eta, base * (1.0 - eta)])
            if self.label_fraction is not None:
                fraction = np.tile(self.label_fraction, sets)[:, None]
                wanted = np.stack([fraction, 1.0 - fraction])
                joint = wanted * joint / joint.sum(axis=2, keepdims=True)
            joint = (1.0 - noise) * joint + noise * joint[::-1]
        joint = (share[:, None] * joint).reshape(2, sets, prompts, responses)
        return np.ascontiguousarray(joint.swapaxes(0, 1))


def average_preference(
    model: PairwisePreference | ThumbsPreference, spread: float
) -> PairwisePreference | ThumbsPreference:
    """Return the preferences of the whole population of annotators, averaged over their tastes.

    ``E sigma(logit P_ij + N(0, 2 spread^2))`` and ``E sigma(logit eta + N(0, spread^2))``, by Gauss-Hermite quadrature.

    Parameters
    ----------
    model : PairwisePreference or ThumbsPreference
        The preferences that tastes are added to.
    spread : float
        Standard deviation of a taste in nats, not negative.

    Returns
    -------
    PairwisePreference or ThumbsPreference
        The average, of the same kind.

    Raises
    ------
    ValueError
        If the spread is negative or not finite.

    Examples
    --------
    >>> average_preference(PairwisePreference("coin", [[0.5, 0.8], [0.2, 0.5]]), 1.0).probabilities.round(3)
    array([[[0.5  , 0.735],
            [0.265, 0.5  ]]])
    """
    _check_spread(spread)
    if isinstance(model, PairwisePreference):
        matrix = _average(model.probabilities, np.sqrt(2.0) * spread)
        # Both triangles come from one quadrature, so that they stay complementary to the last rounding.
        upper = np.triu(np.ones(matrix.shape[-2:], dtype=bool), 1)
        matrix = np.where(upper, matrix, 1.0 - matrix.swapaxes(1, 2))
        matrix[:, np.arange(model.responses), np.arange(model.responses)] = 0.5
        return replace(model, probabilities=matrix)
    return replace(model, label_probabilities=_average(model.label_probabilities, spread))


def _average(probabilities: FloatArray, deviation: float) -> FloatArray:
    """Return the mean of ``sigma(logit p + N(0, deviation^2))``."""
    shifted = expit(logit(probabilities)[..., None] + deviation * _NODES)
    return np.asarray(shifted @ (_WEIGHTS / _WEIGHTS.sum()))


def _check_spread(spread: float) -> None:
    """Raise unless the spread is a finite number of at least 0."""
    value = as_floats("annotator_spread", spread)
    if value.ndim or not (np.isfinite(value) and value >= 0.0):
        raise ValueError(f"annotator_spread must be a finite number of at least 0, got {spread!r}")
