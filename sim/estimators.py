"""The registry of methods: from counts to policies, one entry per method."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.sampling import Counts, match_pairs
from sim.solvers import Estimates, fit_dpo, fit_ratio, fit_sft
from sim.worlds import World
from theory import FiniteProblem, Generator, get_generator
from theory.checks import check_alpha, check_positive
from theory.weighting import Weighting

__all__ = ["METHODS", "Method", "MethodOptions"]


@dataclass(frozen=True)
class MethodOptions:
    """Options of a method; those that another method uses are refused by `theory.population_target`.

    Parameters
    ----------
    alpha : float or array_like, optional
        alpha used by rdro, ddro and mle, in (0, 1); default the world's own.
    generator : str or Generator
        Generator of rdro and ddro.
    weighting : {"balanced", "pooled"} or pair
        Class weights of rdro and ddro.
    beta : float, optional
        Parameter of dpo, greater than 0; default 0.1.
    """

    alpha: ArrayLike | None = None
    generator: str | Generator = "logistic"
    weighting: Weighting = "balanced"
    beta: float | None = None


@dataclass(frozen=True)
class Method:
    """A method as the simulations know it.

    Attributes
    ----------
    summary : str
        One line for lists.
    estimate : callable
        ``estimate(world, counts, options, rng) -> Estimates``; rng only serves to match unpaired data.
    """

    summary: str
    estimate: Callable[[World, Counts, MethodOptions, np.random.Generator], Estimates]


def _ratio_method(name: str) -> Callable[[World, Counts, MethodOptions, np.random.Generator], Estimates]:
    """Return the estimator of a method that fits ratios to unpaired examples."""

    def estimate(world: World, counts: Counts, options: MethodOptions, rng: np.random.Generator) -> Estimates:
        problem: FiniteProblem = world.problem
        alpha = problem.alpha if options.alpha is None else check_alpha(options.alpha)
        return fit_ratio(
            problem,
            counts,
            name,
            alpha=np.broadcast_to(alpha, problem.prompts),
            generator=get_generator(options.generator),
            weighting=options.weighting,
        )

    return estimate


def _sft(world: World, counts: Counts, options: MethodOptions, rng: np.random.Generator) -> Estimates:
    """Fit the preferred examples."""
    return fit_sft(world.problem, counts)


def _dpo(world: World, counts: Counts, options: MethodOptions, rng: np.random.Generator) -> Estimates:
    """Fit pairs: the world's own, or random ones of independent examples."""
    pairs = match_pairs(counts, rng) if counts.pairs is None else counts.pairs
    return fit_dpo(world.problem, pairs, 0.1 if options.beta is None else check_positive(options.beta, "beta"))


METHODS: dict[str, Method] = {
    "sft": Method("supervised fine-tuning on the preferred examples", _sft),
    "rdro": Method("relative density ratio optimisation", _ratio_method("rdro")),
    "ddro": Method("direct density ratio optimisation", _ratio_method("ddro")),
    "mle": Method("likelihood of the class given the response: the efficient benchmark", _ratio_method("mle")),
    "dpo": Method("direct preference optimisation, on pairs", _dpo),
}
"""Methods by name."""
