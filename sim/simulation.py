"""One method in one world at one sample size: replicated estimates beside the exact target."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sim.estimators import METHODS, estimate, exact_target
from sim.options import MethodOptions, empirical_setting, population_weighting
from sim.outcomes import Outcome
from sim.sampling import Counts
from sim.worlds import World
from theory import Generator, asymptotic_kl, kl_divergence, nash_gap, relative_ratio, total_variation, win_rate
from theory.checks import FloatArray, check_choice
from theory.weighting import Weighting

__all__ = ["Simulation", "check_simulation", "simulate"]

# Exact targets carry solver errors near 1e-10; a total variation below this is none.
_SAME_POLICY = 1e-8


@dataclass(frozen=True, eq=False)
class Simulation(Outcome):
    """Replicated estimates of one method.

    Attributes
    ----------
    policies : ndarray
        Shape (replicates, prompts, responses); NaN where a fit has no policy.
    target : ndarray or None
        The method's exact population target, shape (prompts, responses); None where it has none.
    metrics : dict of str to ndarray
        Per replicate, averaged over prompts, with p+ the world's estimand: ``tv_preferred`` = TV(policy, p+),
        ``tv_target`` = TV(policy, target), ``kl_preferred`` = KL(p+ || policy) in nats (inf where the policy misses
        a response of p+), ``scaled_kl`` = n KL(p+ || policy); in worlds with a preference matrix ``win_rate`` of the
        policy against the reference and ``nash_gap``. Largest over prompts and responses: ``max_ratio`` =
        policy/reference. For rdro also ``max_relative_estimate``, the largest unnormalised estimate, and
        ``direct_infinite``, 1 where the direct one is infinite (proposition P2).
    exact : dict of str to float
        The value of a metric at the exact target, where there is one; of ``scaled_kl`` its limit, where the target is
        p+ and `theory.asymptotic_kl` knows it.
    """

    policies: FloatArray
    target: FloatArray | None


def simulate(
    world: World,
    method: str,
    n: int,
    replicates: int,
    rng: np.random.Generator,
    *,
    label: str | None = None,
    data: Counts | None = None,
    alpha: ArrayLike | str | None = None,
    generator: str | Generator = "logistic",
    weighting: Weighting = "balanced",
    beta: float | None = None,
    beyond_domain: str = "infinite",
    reference: str = "world",
) -> Simulation:
    """Estimate one method on independent data sets of a world, with its exact target beside the estimates.

    Parameters
    ----------
    world : World
        Where the data come from, see `sim.worlds.build_world`.
    method : str
        Key of `sim.estimators.METHODS`.
    n : int
        Labelled examples in each data set.
    replicates : int
        Number of data sets.
    rng : numpy.random.Generator
        Source of randomness.
    label : str, optional
        Name in tables; default the method's.
    data : Counts, optional
        Data sets drawn before from the same world, so that several methods see the same data.
    alpha, generator, weighting, beta, beyond_domain, reference
        Options of the method, see `sim.options.MethodOptions`.

    Returns
    -------
    Simulation
        Policies, statuses and metrics.

    Raises
    ------
    ValueError
        If the method is unknown, an option is not valid or belongs to another method, or `data` does not fit.

    Examples
    --------
    >>> from sim.worlds import build_world
    >>> laws = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
    >>> result = simulate(build_world({"name": "toy", **laws}), "rdro", 10_000, 100, np.random.default_rng(0))
    >>> float(result.metrics["tv_preferred"].mean().round(4)), result.exact["tv_preferred"]
    (0.0049, 0.0)
    """
    check_choice("method", method, METHODS)
    options = MethodOptions(alpha, generator, weighting, beta, beyond_domain, reference)
    target = exact_target(world, method, options)
    counts = world.sample(n, replicates, rng) if data is None else data
    if counts.preferred.shape[0] != replicates:
        raise ValueError(f"data must hold {replicates} replicates, got {counts.preferred.shape[0]}")
    estimates = estimate(world, counts, method, options, rng)
    metrics = _policy_metrics(world, estimates.policies, target, n)
    at_target = {} if target is None else _policy_metrics(world, target[None], target, n)
    exact = {name: float(value[0]) for name, value in at_target.items() if name != "scaled_kl"}
    limit = _limit_of_scaled_kl(world, method, options, target)
    if limit is not None:
        exact["scaled_kl"] = limit
    if method == "rdro":
        metrics |= _unnormalised_metrics(counts, empirical_setting(world.problem, counts, method, options).alpha)
    return Simulation(method, label or method, estimates.status, metrics, exact, estimates.policies, target)


def check_simulation(world: World, n: int, method: str, options: Mapping[str, Any]) -> None:
    """Raise unless a method and its options are valid in a world at a sample size: fit one data set.

    Parameters
    ----------
    world : World
        From `sim.worlds.build_world`.
    n : int
        Sample size.
    method : str
        Key of `sim.estimators.METHODS`.
    options : mapping
        Options of `sim.simulation.simulate`.

    Raises
    ------
    ValueError, TypeError
        If the method or an option is unknown (the nearest is named), or one is not valid.

    Examples
    --------
    >>> from sim.worlds import build_world
    >>> laws = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
    >>> check_simulation(build_world({"name": "toy", **laws}), 100, "rdro", {"beta": 0.1})
    Traceback (most recent call last):
    ValueError: beta is an option of kto, dpo, ipo, got it for rdro
    """
    check_choice("method", method, METHODS)
    for option in options:
        check_choice(f"option of {method}", option, [field.name for field in dataclasses.fields(MethodOptions)])
    rng, chosen = np.random.default_rng(0), MethodOptions(**options)
    exact_target(world, method, chosen)
    estimate(world, world.sample(n, 1, rng), method, chosen, rng)


def _policy_metrics(world: World, policies: FloatArray, target: FloatArray | None, n: int) -> dict[str, FloatArray]:
    """Return the metrics of policies (replicates, prompts, responses); NaN for missing policies."""
    problem = world.problem
    found = np.isfinite(policies).all(axis=(1, 2))
    some = policies[found]
    estimand, law = np.broadcast_to(world.estimand, some.shape), problem.prompt_probs
    reference = np.broadcast_to(problem.reference, some.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(reference > 0, some / reference, 0.0)
    divergence = kl_divergence(estimand, some) @ law
    values = {
        "tv_preferred": total_variation(some, estimand) @ law,
        "kl_preferred": divergence,
        "scaled_kl": n * divergence,
        "max_ratio": ratio.max(axis=(1, 2), initial=0.0),
    }
    if target is not None:
        values["tv_target"] = total_variation(some, np.broadcast_to(target, some.shape)) @ law
    if world.preference is not None:
        values["win_rate"] = win_rate(some, reference, world.preference) @ law
        values["nash_gap"] = nash_gap(some, world.preference) @ law
    metrics = {name: np.full(len(policies), np.nan) for name in values}
    for name, value in values.items():
        metrics[name][found] = value
    return metrics


def _limit_of_scaled_kl(world: World, method: str, options: MethodOptions, target: FloatArray | None) -> float | None:
    """Return the limit of n E[KL(p+ || policy)], or None where the theory does not tell it.

    It is told for tabular policies whose target is the estimand, with fixed alpha, reference and class weighting of
    the whole data set, and independent examples.
    """
    told = (
        method in ("sft", "rdro", "ddro", "mle")
        and world.features is None
        and world.annotators is None
        and not isinstance(options.alpha, str)
        and options.weighting != "balanced_by_prompt"
        and options.beyond_domain == "infinite"
        and options.reference == "world"
    )
    if not told or target is None or total_variation(target, world.estimand).max() > _SAME_POLICY:
        return None
    weighting = population_weighting(method, options, world.label_fraction)
    try:
        return asymptotic_kl(
            world.problem,
            method,
            alpha=options.alpha,
            generator=options.generator,
            weighting="balanced" if method == "mle" else weighting,
            preferred_fraction=world.label_fraction,
            paired=world.regime == "paired",
        )
    except ValueError:  # the target lies on the edge of the domain, where the limit is not normal
        return None


def _unnormalised_metrics(counts: Counts, alpha: FloatArray) -> dict[str, FloatArray]:
    """Return what the unnormalised tabular estimates do: the relative one is bounded, the direct one is not (P2)."""
    totals = [c.sum(axis=2, keepdims=True) for c in (counts.preferred, counts.nonpreferred)]
    shares = [
        c / np.maximum(total, 1) for c, total in zip((counts.preferred, counts.nonpreferred), totals, strict=True)
    ]
    weight = np.broadcast_to(alpha[:, :, None], shares[0].shape)
    relative = np.where(counts.preferred > 0, relative_ratio(shares[0], shares[1], weight), 0.0)
    infinite = (counts.preferred > 0) & (counts.nonpreferred == 0)
    return {
        "max_relative_estimate": relative.max(axis=(1, 2)),
        "direct_infinite": infinite.any(axis=(1, 2)).astype(np.float64),
    }
