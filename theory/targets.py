"""Exact population risks of every loss, and the policies that minimise them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory.bregman import Generator, get_generator
from theory.checks import FloatArray, check_alpha, check_choice, check_positive, check_probabilities, check_same_shape
from theory.kto_target import kto_policy
from theory.losses import ddro_losses, dpo_losses, ipo_losses, kto_losses, mle_losses, rdro_losses, sft_losses
from theory.pair_targets import (
    dpo_log_ratios,
    independent_dpo_log_ratios,
    independent_ipo_log_ratios,
    ipo_log_ratios,
    policies_from_log_ratios,
)
from theory.problems import FiniteProblem
from theory.simplex import minimise_over_simplex
from theory.weighting import Weighting, class_weights

__all__ = ["METHODS", "ClassMasses", "NoTargetError", "class_masses", "population_risk", "population_target"]

METHODS = ("sft", "rdro", "ddro", "mle", "kto", "dpo", "ipo")
"""Every method, by the name used throughout."""

_DEFAULT_BETA = 0.1


class NoTargetError(ValueError):
    """No unique finite policy minimises the population risk, or none could be certified as the global minimum."""


_USES = {
    "alpha": ("rdro", "ddro", "mle"),
    "beta": ("kto", "dpo", "ipo"),
    "generator": ("rdro", "ddro"),
    "weighting": ("rdro", "ddro", "kto"),
}


@dataclass(frozen=True)
class ClassMasses:
    """Class-weighted masses ``B = w+ p+`` and ``D = w- p-`` given each prompt, shape (prompts, responses)."""

    preferred: FloatArray
    nonpreferred: FloatArray


@dataclass(frozen=True)
class _Options:
    """Checked options of one method on one problem."""

    alpha: FloatArray
    beta: float
    generator: Generator
    masses: ClassMasses


def class_masses(
    problem: FiniteProblem, weighting: Weighting = "balanced", preferred_fraction: ArrayLike | None = None
) -> ClassMasses:
    """Class-weighted masses of every response, given its prompt.

    ``B = pi(x) w+ p+(y|x)`` and ``D = (1 - pi(x)) w- p-(y|x)`` with the weights w of single examples.

    Parameters
    ----------
    problem : FiniteProblem
        The laws.
    weighting : {"balanced", "pooled"} or pair
        See `theory.weighting.class_weights`; "balanced" uses the class counts of the whole data set. A pair may
        hold one weight per prompt, for example ``class_weights(problem.alpha)``'s two fields, which balances the
        classes at every prompt.
    preferred_fraction : float or array_like, optional
        pi(x), share of preferred examples at each prompt, in (0, 1); default the problem's alpha.

    Returns
    -------
    ClassMasses
        Arrays of shape (prompts, responses).

    Raises
    ------
    ValueError
        If a fraction lies outside (0, 1) or the weighting is not valid.

    Examples
    --------
    >>> class_masses(FiniteProblem([0.5, 0.5], [0.1, 0.9], alpha=0.2), "pooled").preferred
    array([[0.1, 0.1]])
    """
    fraction = problem.alpha if preferred_fraction is None else check_alpha(preferred_fraction, "preferred_fraction")
    if fraction.ndim > 1 or fraction.size not in (1, problem.prompts):
        raise ValueError(f"preferred_fraction must be one number or one per prompt, got shape {fraction.shape}")
    fraction = np.broadcast_to(fraction, problem.prompts)
    weights = class_weights(float(problem.prompt_probs @ fraction), weighting)
    for weight in (weights.preferred, weights.nonpreferred):
        if weight.ndim and weight.shape != (problem.prompts,):
            raise ValueError(f"weighting must hold numbers or one weight per prompt, got shape {weight.shape}")
    return ClassMasses(
        (fraction * weights.preferred)[:, None] * problem.p_preferred,
        ((1.0 - fraction) * weights.nonpreferred)[:, None] * problem.p_nonpreferred,
    )


def population_target(
    problem: FiniteProblem,
    method: str,
    *,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    weighting: Weighting = "balanced",
    beta: float | None = None,
    preferred_fraction: ArrayLike | None = None,
) -> FloatArray:
    """Policy that minimises the exact population risk of a method over all normalised policies.

    ``argmin_p E_x[w+ E_{p+} loss+(log p/p_ref) + w- E_{p-} loss-(log p/p_ref)]``, and for dpo and ipo the same over
    the law of pairs. This is the estimand of the method: what it converges to, whether or not that is p+.

    Parameters
    ----------
    problem : FiniteProblem
        The laws, of shape (prompts, responses).
    method : {"sft", "rdro", "ddro", "mle", "kto", "dpo", "ipo"}
        The loss.
    alpha : float or array_like, optional
        alpha used by rdro, ddro and mle, in (0, 1): one number or one per prompt; default the problem's own.
    generator : str or Generator
        Generator of rdro and ddro.
    weighting : {"balanced", "pooled"} or pair
        Class weights of rdro, ddro and kto (`class_masses`). mle weighs every example alike by definition.
    beta : float, optional
        Parameter of kto, dpo and ipo, greater than 0; default 0.1.
    preferred_fraction : float or array_like, optional
        Share of preferred examples at each prompt, in (0, 1); default the problem's alpha.

    Returns
    -------
    ndarray
        Policy, shape (prompts, responses), accurate to about 1e-12.

    Raises
    ------
    ValueError
        If an option is not valid or belongs to another method.
    NoTargetError
        A ValueError: if no unique finite target exists. So it is for dpo and ipo without enough comparisons, kto
        without a response to gain on, and ddro with a generator other than logistic where p- vanishes and p+ does
        not; also for risks that are not convex and whose minimum could not be certified.

    Notes
    -----
    Under assumption M the target of rdro is p+ for every generator if the classes are balanced at every prompt
    (proposition P5). Responses without mass under either law get the mass that the others leave over. The target of
    kto is the policy that is optimal at its own detached reference point, see `theory.kto_target`.

    References
    ----------
    .. [1] Derived here; losses from arXiv 2604.04410, 2505.07558, 2402.01306, 2305.18290 and 2310.12036.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.2)
    >>> population_target(problem, "rdro").round(6)
    array([[0.5, 0.3, 0.2]])
    >>> population_target(problem, "rdro", weighting="pooled").round(3)
    array([[0.841, 0.1  , 0.058]])
    """
    options = _check_options(problem, method, alpha, generator, weighting, beta, preferred_fraction)
    if method == "sft":
        return problem.p_preferred.copy()
    if method == "kto":
        gain = options.masses.preferred - options.masses.nonpreferred
        try:
            return kto_policy(gain, problem.reference, problem.prompt_probs, options.beta)
        except ValueError as error:
            raise NoTargetError(f"the kto target does not exist: {error}") from error
    if method in ("dpo", "ipo"):
        return _pair_target(problem, method, options.beta)
    return _ratio_target(problem, method, options)


def population_risk(
    problem: FiniteProblem,
    policy: ArrayLike,
    method: str,
    *,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    weighting: Weighting = "balanced",
    beta: float | None = None,
    preferred_fraction: ArrayLike | None = None,
) -> float:
    """Exact population risk of a policy under a method's loss.

    ``E_x sum_y [B loss+(log p/p_ref) + D loss-(log p/p_ref)]``, or the mean over the law of pairs for dpo and ipo.

    Parameters
    ----------
    problem : FiniteProblem
        The laws.
    policy : array_like
        Policy, shape (prompts, responses); rows sum to 1.
    method, alpha, generator, weighting, beta, preferred_fraction
        As in `population_target`.

    Returns
    -------
    float
        Risk in nats; +inf where the policy excludes something the loss needs.

    Raises
    ------
    ValueError
        If the policy or an option is not valid.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.2)
    >>> round(population_risk(problem, problem.reference, "rdro"), 6)  # ln 2, for every alpha
    0.693147
    """
    options = _check_options(problem, method, alpha, generator, weighting, beta, preferred_fraction)
    law = np.atleast_2d(check_probabilities("policy", policy))
    check_same_shape(policy=law, p_preferred=problem.p_preferred)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(problem.reference > 0, np.log(law) - np.log(problem.reference), 0.0)
    if method in ("dpo", "ipo"):
        chosen, rejected = (np.broadcast_to(v, problem.pair_probs.shape) for v in (u[:, :, None], u[:, None, :]))
        same = np.eye(problem.responses, dtype=bool)  # a response has margin 0 to itself, excluded or not
        with np.errstate(invalid="ignore"):
            margins = (np.where(same, 0.0, chosen), np.where(same, 0.0, rejected))
            losses = (dpo_losses if method == "dpo" else ipo_losses)(*margins, options.beta)
        losses = np.where(np.isnan(losses), np.inf, losses)  # between two excluded responses
        return float(problem.prompt_probs @ _mean(problem.pair_probs, losses).sum(axis=(1, 2)))
    kl = float(problem.prompt_probs @ _mean(law, u).sum(axis=1)) if method == "kto" else 0.0
    per_class = [_losses(method, u, np.full(u.shape, flag), options, kl) for flag in (True, False)]
    masses = options.masses
    if method == "sft":
        masses = ClassMasses(problem.p_preferred, np.zeros_like(problem.p_nonpreferred))
    total = _mean(masses.preferred, per_class[0]) + _mean(masses.nonpreferred, per_class[1])
    return float(problem.prompt_probs @ total.sum(axis=1))


def _check_options(
    problem: FiniteProblem,
    method: str,
    alpha: ArrayLike | None,
    generator: str | Generator,
    weighting: Weighting,
    beta: float | None,
    preferred_fraction: ArrayLike | None,
) -> _Options:
    """Return checked options, or raise; an option of another method is an error, never ignored."""
    if not isinstance(problem, FiniteProblem):
        raise TypeError(f"problem must be a FiniteProblem, got {type(problem).__name__}")
    check_choice("method", method, METHODS)
    given = {
        "alpha": alpha is not None,
        "beta": beta is not None,
        "generator": generator != "logistic",
        "weighting": not (isinstance(weighting, str) and weighting == "balanced"),
    }
    for option, is_given in given.items():
        if is_given and method not in _USES[option]:
            raise ValueError(f"{option} is an option of {', '.join(_USES[option])}, got it for {method}")
    weight = problem.alpha if alpha is None else check_alpha(alpha)
    if weight.ndim > 1 or weight.size not in (1, problem.prompts):
        raise ValueError(f"alpha must be one number or one per prompt ({problem.prompts}), got shape {weight.shape}")
    masses = class_masses(problem, "pooled" if method == "mle" else weighting, preferred_fraction)
    return _Options(
        np.broadcast_to(weight, problem.prompts),
        _DEFAULT_BETA if beta is None else check_positive(beta, "beta"),
        get_generator(generator),
        masses,
    )


def _losses(method: str, u: FloatArray, preferred: FloatArray, options: _Options, kl: float) -> FloatArray:
    """Return the unpaired losses of one class at every cell."""
    alpha = np.array(np.broadcast_to(options.alpha[:, None], u.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        match method:
            case "rdro":
                losses = rdro_losses(u, preferred, alpha, options.generator)
            case "ddro":
                losses = ddro_losses(u, preferred, alpha, options.generator)
            case "mle":
                losses = mle_losses(u, preferred, alpha)
            case "kto":
                losses = kto_losses(u, preferred, options.beta, kl)
            case _:
                losses = sft_losses(u, preferred)
    return np.asarray(losses)


def _mean(mass: FloatArray, losses: FloatArray) -> FloatArray:
    """Return ``mass * losses`` with 0 * inf = 0: a cell without mass is never drawn."""
    product = np.zeros_like(losses)
    np.multiply(mass, losses, out=product, where=mass > 0)
    return product


def _pair_target(problem: FiniteProblem, method: str, beta: float) -> FloatArray:
    """Return the dpo or ipo target."""
    laws, seen = (problem.p_preferred, problem.p_nonpreferred), problem.mixture > 0
    determined = method == "ipo" or all((law[seen] > 0).all() for law in laws)
    if problem.explicit_pair_probs is None and determined:
        u = (independent_dpo_log_ratios if method == "dpo" else independent_ipo_log_ratios)(*laws, beta)
    else:
        u = np.zeros_like(problem.reference)
        pair_probs = problem.pair_probs
        for x in np.nonzero(seen.sum(axis=1) > 1)[0]:
            pairs = pair_probs[x][np.ix_(seen[x], seen[x])]
            try:
                u[x, seen[x]] = dpo_log_ratios(pairs, beta) if method == "dpo" else ipo_log_ratios(pairs, beta)
            except ValueError as error:
                raise NoTargetError(f"the {method} target does not exist at prompt {x}: {error}") from error
    return policies_from_log_ratios(u, problem.reference, seen)


def _ratio_target(problem: FiniteProblem, method: str, options: _Options) -> FloatArray:
    """Return the rdro, ddro or mle target."""
    masses, generator = options.masses, options.generator
    if (
        method == "ddro"
        and generator.name != "logistic"
        and ((masses.preferred > 0) & (masses.nonpreferred <= 0)).any()
    ):
        raise NoTargetError(
            f"ddro with generator {generator.name} has no target where p_nonpreferred vanishes and p_preferred does "
            "not: its risk has no lower bound; got such a response"
        )
    try:
        solution = minimise_over_simplex(
            method, masses.preferred, masses.nonpreferred, problem.reference, options.alpha, generator
        )
    except ValueError as error:
        raise NoTargetError(f"the {method} target does not exist: {error}") from error
    if not solution.converged.all():
        x = int(np.argmin(solution.converged))
        raise NoTargetError(f"the {method} target was not found at prompt {x}: residual {solution.residual[x]:.3g}")
    convex = method != "ddro" or (
        generator.name == "logistic" and bool(np.all((options.alpha >= 1 / 3) & (options.alpha <= 2 / 3)))
    )
    if not convex:
        _certify(problem, method, options, solution.policy, solution.multiplier)
    return solution.policy


def _certify(
    problem: FiniteProblem, method: str, options: _Options, policy: FloatArray, multiplier: FloatArray
) -> None:
    """Raise unless every response minimises its own Lagrangian: then there is no duality gap and the policy is global.

    Logistic ddro is convex in the policy for alpha in [1/3, 2/3] only, and with the other generators nowhere for sure
    (derived here).
    """
    end = 1.0 / options.alpha[:, None]
    scale = np.concatenate([np.geomspace(1e-12, 0.5, 400), 1.0 - np.geomspace(0.5, 1e-9, 400)])
    slack = 1e-10

    def lagrangian(law: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.where(problem.reference > 0, np.log(law) - np.log(problem.reference), 0.0)
        risk = sum(
            _mean(np.broadcast_to(mass, u.shape), _losses(method, u, np.full(u.shape, flag), options, 0.0))
            for mass, flag in ((options.masses.preferred, True), (options.masses.nonpreferred, False))
        )
        return np.asarray(risk - multiplier[:, None] * law)

    inner = np.minimum(policy, problem.reference * end * (1.0 - 1e-15))  # the edge itself counts as beyond the domain
    here = lagrangian(inner)
    for shares in np.array_split(scale, 16):  # as many at once as keeps the arrays small
        if (lagrangian(problem.reference * end * shares[:, None, None]) < here - slack).any():
            raise NoTargetError(
                f"the {method} risk is not convex here and a stationary policy was found that is not certified to be "
                f"the global minimum, got alpha {options.alpha.min():g} and generator {options.generator.name}"
            )
