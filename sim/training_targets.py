"""Options of methods in training, and the exact policies that training aims at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.log_linear import fit_log_linear
from sim.worlds import World
from theory import EXTENSION_MARGIN, FiniteProblem, Generator, NoTargetError, class_masses, population_target
from theory.checks import FloatArray, check_alpha, check_choice
from theory.losses import BeyondDomain
from theory.weighting import Weighting

__all__ = ["DEFAULT_BETA", "TrainingOptions", "exact_target", "used_alpha"]

DEFAULT_BETA = 0.1
"""beta of kto, dpo and ipo, as in `theory.population_target`."""

_USERS = {"alpha": ("rdro", "ddro", "mle"), "beta": ("kto", "dpo", "ipo")}


@dataclass(frozen=True)
class TrainingOptions:
    """Options of one method; the defaults are those of `theory.population_target`.

    Parameters
    ----------
    alpha : float or array_like, optional
        alpha of rdro, ddro and mle, in (0, 1): one number or one per prompt; default the world's own.
    generator : str or Generator
        Generator of rdro and ddro.
    weighting : {"balanced", "pooled"} or pair of floats
        Class weights of rdro, ddro and kto.
    beta : float, optional
        Parameter of kto, dpo and ipo, greater than 0; default 0.1.
    beyond_domain : {"infinite", "extend"}
        What ddro does beyond its domain, see `theory.ddro_losses`.
    """

    alpha: ArrayLike | None = None
    generator: str | Generator = "logistic"
    weighting: Weighting = "balanced"
    beta: float | None = None
    beyond_domain: BeyondDomain = "infinite"


def used_alpha(problem: FiniteProblem, options: TrainingOptions) -> FloatArray:
    """Return the alpha that a method uses at each prompt, shape (prompts,)."""
    alpha = problem.alpha if options.alpha is None else check_alpha(options.alpha)
    return np.array(np.broadcast_to(alpha, problem.prompts))


def exact_target(world: World, method: str, options: TrainingOptions) -> FloatArray | None:
    """Policy of lowest population risk among those that training can reach: all, or the log-linear ones.

    Parameters
    ----------
    world : World
        The world; with features, policies are log-linear.
    method : str
        One of `theory.METHODS`.
    options : TrainingOptions
        The method's options.

    Returns
    -------
    ndarray or None
        Shape (prompts, responses); None where there is no such policy or none was found.

    Raises
    ------
    ValueError
        If the method or an option is not valid, or an option belongs to another method.

    Notes
    -----
    For ddro with "extend" the target of the infinite loss holds if it lies below the start of the continuation, where
    both losses agree.

    Examples
    --------
    >>> from sim.worlds import build_world
    >>> laws = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
    >>> exact_target(build_world({"name": "toy", **laws}), "rdro", TrainingOptions()).round(6)
    array([[0.5, 0.3, 0.2]])
    """
    check_choice("beyond_domain", options.beyond_domain, ("infinite", "extend"))
    if options.beyond_domain != "infinite" and method != "ddro":
        raise ValueError(f"beyond_domain is an option of ddro, got it for {method}")
    try:
        target = population_target(
            world.problem,
            method,
            alpha=options.alpha,
            generator=options.generator,
            weighting=options.weighting,
            beta=options.beta,
            preferred_fraction=world.label_fraction,
        )
    except NoTargetError:
        target = None
    if world.features is not None:
        return _log_linear_target(world, method, options)
    if target is None or options.beyond_domain == "infinite":
        return target
    reference = world.problem.reference
    ratio = np.divide(target, reference, out=np.zeros_like(target), where=reference > 0)
    below = used_alpha(world.problem, options)[:, None] * ratio <= 1.0 - EXTENSION_MARGIN
    return target if below.all() else None


def _log_linear_target(world: World, method: str, options: TrainingOptions) -> FloatArray | None:
    """Return the log-linear policy of lowest population risk, or None where the fit has no end."""
    problem, share = world.problem, world.problem.prompt_probs[:, None]
    if method in ("dpo", "ipo"):
        masses = {"pairs": (share[:, None] * problem.pair_probs)[None]}
    elif method == "sft":
        masses = {"preferred": (share * problem.p_preferred)[None]}
        masses["nonpreferred"] = np.zeros_like(masses["preferred"])
    else:
        weighting = "pooled" if method == "mle" else options.weighting
        both = class_masses(problem, weighting, world.label_fraction)
        masses = {"preferred": (share * both.preferred)[None], "nonpreferred": (share * both.nonpreferred)[None]}
    fit = fit_log_linear(
        method,
        world.features,
        problem.reference,
        **masses,
        alpha=used_alpha(problem, options) if method in _USERS["alpha"] else None,
        generator=options.generator,
        beta=(DEFAULT_BETA if options.beta is None else options.beta) if method in _USERS["beta"] else None,
        beyond_domain=options.beyond_domain,
        prompt_probs=problem.prompt_probs if method == "kto" else None,
    )
    return fit.policies[0] if fit.status[0] == "ok" else None
