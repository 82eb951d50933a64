"""Limiting covariances of the estimators on finite response sets, the Cramer-Rao bound and efficiencies.

n labelled examples are drawn: x from the prompt law, preferred with probability pi(x), y from the law of its class.
Balanced weights come from the data set's own class counts; other weights are fixed. An estimate p_hat minimises the
weighted empirical risk over normalised tabular policies; around its population target, ``sqrt(n) (p_hat - p)`` is
asymptotically normal with the sandwich covariance ``G V G`` per prompt, ``G`` the inverse of the curvature on the
tangent space {v: sum v = 0} and ``V`` the covariance of the scores. Derived here (theory of M-estimators).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.bregman import Generator
from theory.checks import FloatArray, check_alpha, check_choice
from theory.loss_derivatives import loss_derivatives
from theory.problems import FiniteProblem
from theory.targets import population_target
from theory.weighting import Weighting, class_weights

__all__ = ["asymptotic_covariance", "asymptotic_kl", "cramer_rao_bound", "efficiency"]

_RATIO_METHODS = ("sft", "rdro", "ddro", "mle")


@dataclass(frozen=True)
class _Sampling:
    """How the data arise: class fraction per prompt, prompt laws of the classes, weights of single examples."""

    fraction: FloatArray
    pooled_fraction: float
    weights: tuple[FloatArray, FloatArray]
    prompt_laws: tuple[FloatArray, FloatArray]
    renormalised: bool
    paired: bool


def asymptotic_covariance(
    problem: FiniteProblem,
    method: str,
    *,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    weighting: Weighting = "balanced",
    preferred_fraction: ArrayLike | None = None,
    paired: bool = False,
) -> FloatArray:
    """Covariance C of the limit of ``sqrt(n) (p_hat - target)``, prompt by prompt.

    ``C = G V G`` with ``G = H^-1 - H^-1 1 1^T H^-1 / (1^T H^-1 1)``, H the diagonal curvature of the risk in the
    policy and V the covariance of the scores, n the number of labelled examples in the whole data set.

    Parameters
    ----------
    problem : FiniteProblem
        The laws, arrays (prompts, responses).
    method : {"sft", "rdro", "ddro", "mle"}
        The loss.
    alpha, generator, weighting, preferred_fraction
        As in `theory.population_target`.
    paired : bool
        Whether the examples are the two members of n/2 pairs drawn from ``problem.pair_probs`` (which makes the
        classes dependent) instead of independent draws. Only with a preferred fraction of 1/2.

    Returns
    -------
    ndarray
        Shape (prompts, responses, responses); rows sum to 0. Responses with target 0 have covariance 0.

    Raises
    ------
    ValueError
        If the method or an option is not valid, a prompt is never drawn, or the target lies on the edge of the
        domain of ddro or mle (``alpha p = p_ref``), where the limit is not normal.

    Notes
    -----
    With several prompts the classes' random counts at each prompt add to V for ddro and rdro, whose class scores have
    means that do not vanish on the tangent space.

    References
    ----------
    .. [1] Derived here; van der Vaart, "Asymptotic Statistics", theorem 5.23.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.5], [0.1, 0.9], alpha=0.5)
    >>> asymptotic_covariance(problem, "sft").round(6)
    array([[[ 0.5, -0.5],
            [-0.5,  0.5]]])
    """
    check_choice("method", method, _RATIO_METHODS)
    target = population_target(
        problem,
        method,
        alpha=alpha,
        generator=generator,
        weighting=weighting,
        preferred_fraction=preferred_fraction,
    )
    sampling = _sampling(problem, "pooled" if method == "mle" else weighting, preferred_fraction, paired)
    weight = problem.alpha if alpha is None else np.broadcast_to(check_alpha(alpha), problem.prompts)
    return _covariance(problem, method, sampling, target, weight, generator)


def asymptotic_kl(
    problem: FiniteProblem,
    method: str,
    *,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    weighting: Weighting = "balanced",
    preferred_fraction: ArrayLike | None = None,
    paired: bool = False,
) -> float:
    """Limit of ``n E_x[KL(p+ || p_hat)]`` for a consistent estimator.

    ``E_x[1/2 tr(diag(1/p+) C(x))]`` with C of `asymptotic_covariance`.

    Parameters
    ----------
    problem, method, alpha, generator, weighting, preferred_fraction, paired
        As in `asymptotic_covariance`.

    Returns
    -------
    float
        The limit in nats, positive.

    Raises
    ------
    ValueError
        As `asymptotic_covariance`, and if the method's target is not p+: the divergence then tends to a positive
        constant and n times it to infinity.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.5)
    >>> [round(asymptotic_kl(problem, method), 4) for method in ("sft", "rdro", "ddro", "mle")]
    [2.0, 0.9511, 0.8913, 0.8913]
    """
    check_choice("method", method, _RATIO_METHODS)
    target = population_target(
        problem,
        method,
        alpha=alpha,
        generator=generator,
        weighting=weighting,
        preferred_fraction=preferred_fraction,
    )
    gap = float(np.abs(target - problem.p_preferred).max())
    if gap > 1e-8:
        raise ValueError(
            f"n E[KL(p+ || p_hat)] has a limit only if the target of {method} is p+, got one up to {gap:.3g} away"
        )
    covariance = asymptotic_covariance(
        problem,
        method,
        alpha=alpha,
        generator=generator,
        weighting=weighting,
        preferred_fraction=preferred_fraction,
        paired=paired,
    )
    return _half_trace(problem, covariance)


def cramer_rao_bound(
    problem: FiniteProblem, *, alpha: ArrayLike | None = None, preferred_fraction: ArrayLike | None = None
) -> FloatArray:
    """Smallest limiting covariance of regular estimators of p+ that know the reference, alpha and assumption M.

    Inverse on the tangent space of the information of one example,
    ``pi diag(1/p+) + (1 - pi) (alpha/(1 - alpha))^2 diag(1/p-)``, because ``p- = (p_ref - alpha p+)/(1 - alpha)``.

    Parameters
    ----------
    problem : FiniteProblem
        Laws for which assumption M holds.
    alpha : float or array_like, optional
        Default the problem's own.
    preferred_fraction : float or array_like, optional
        Share of preferred examples at each prompt, in (0, 1); default the problem's alpha.

    Returns
    -------
    ndarray
        Covariances of ``sqrt(n) (p_hat - p+)``, shape (prompts, responses, responses).

    Raises
    ------
    ValueError
        If assumption M does not hold or p- vanishes on the support of p+ (the model is then not regular).

    References
    ----------
    .. [1] Derived here; the class-posterior likelihood "mle" attains it.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.5], [0.1, 0.9], alpha=0.5)
    >>> float(cramer_rao_bound(problem)[0, 0, 0].round(6))
    0.132353
    """
    if not problem.assumption_m_holds:
        raise ValueError("the Cramer-Rao bound needs assumption M, got a reference that is not the mixture")
    weight = problem.alpha if alpha is None else np.broadcast_to(check_alpha(alpha), problem.prompts)
    sampling = _sampling(problem, "pooled", preferred_fraction, paired=False)
    kept = problem.p_preferred > 0
    missing = (kept & (problem.p_nonpreferred <= 0)).any(axis=1)
    if missing.any():
        raise ValueError(
            f"p_nonpreferred must be positive wherever p_preferred is, got 0 at prompt {int(np.argmax(missing))}"
        )
    preferred, nonpreferred = (np.where(kept, law, 1.0) for law in (problem.p_preferred, problem.p_nonpreferred))
    fraction, odds = sampling.fraction[:, None], (weight / (1.0 - weight))[:, None]
    information = fraction / preferred + (1.0 - fraction) * odds**2 / nonpreferred
    return _tangent_inverse(problem.prompt_probs[:, None] * information, kept)


def efficiency(
    problem: FiniteProblem,
    method: str,
    *,
    alpha: ArrayLike | None = None,
    generator: str | Generator = "logistic",
    preferred_fraction: ArrayLike | None = None,
) -> float:
    """Asymptotic efficiency of a consistent estimator, relative to the Cramer-Rao bound.

    ``tr(diag(1/p+) C_bound) / tr(diag(1/p+) C_method)``, averaged over prompts first: the ratio of the limits of
    ``n E[KL]``.

    Parameters
    ----------
    problem, method, alpha, generator, preferred_fraction
        As in `asymptotic_covariance`.

    Returns
    -------
    float
        In (0, 1]; 1 means that no regular estimator is better.

    Raises
    ------
    ValueError
        As `asymptotic_kl` and `cramer_rao_bound`.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.5)
    >>> round(efficiency(problem, "rdro"), 4)
    0.9371
    """
    bound = _half_trace(problem, cramer_rao_bound(problem, alpha=alpha, preferred_fraction=preferred_fraction))
    limit = asymptotic_kl(problem, method, alpha=alpha, generator=generator, preferred_fraction=preferred_fraction)
    return bound / limit


def _sampling(
    problem: FiniteProblem, weighting: Weighting, preferred_fraction: ArrayLike | None, paired: bool
) -> _Sampling:
    """Return the sampling scheme, or raise."""
    if not (problem.prompt_probs > 0).all():
        x = int(np.argmin(problem.prompt_probs))
        raise ValueError(
            f"prompt_probs must be positive for estimates to converge at every prompt, got 0 at prompt {x}"
        )
    fraction = problem.alpha if preferred_fraction is None else check_alpha(preferred_fraction, "preferred_fraction")
    fraction = np.broadcast_to(fraction, problem.prompts)
    pooled = float(problem.prompt_probs @ fraction)
    if paired and not np.all(fraction == 0.5):
        raise ValueError(f"pairs hold as many preferred as nonpreferred examples, got preferred_fraction {pooled:g}")
    weights = class_weights(pooled, weighting)
    each = tuple(np.broadcast_to(w, problem.prompts) for w in (weights.preferred, weights.nonpreferred))
    laws = (problem.prompt_probs * fraction / pooled, problem.prompt_probs * (1.0 - fraction) / (1.0 - pooled))
    # Pairs have equal class counts, and balanced weights divide by the counts there are: class sizes add no variance.
    renormalised = paired or (isinstance(weighting, str) and weighting == "balanced")
    return _Sampling(fraction, pooled, (each[0], each[1]), laws, renormalised, paired)


def _covariance(
    problem: FiniteProblem,
    method: str,
    sampling: _Sampling,
    target: FloatArray,
    alpha: FloatArray,
    generator: str | Generator,
) -> FloatArray:
    """Return the covariances at all prompts, on the responses that the target keeps and 0 elsewhere."""
    kept = target > 0
    policy = np.where(kept, target, 1.0)
    u = np.log(policy) - np.log(np.where(kept, problem.reference, 1.0))
    on_edge = (kept & (alpha[:, None] * np.exp(u) >= 1.0 - 1e-9)).any(axis=1)
    if method in ("ddro", "mle") and on_edge.any():
        raise ValueError(
            f"the target of {method} must lie inside its domain alpha p < p_ref for a normal limit, "
            f"got a response on its edge at prompt {int(np.argmax(on_edge))}"
        )
    laws = [np.where(kept, law, 0.0) for law in (problem.p_preferred, problem.p_nonpreferred)]
    parameter = None if method == "sft" else np.broadcast_to(alpha[:, None], u.shape)
    shares = (sampling.pooled_fraction, 1.0 - sampling.pooled_fraction)
    curvature, variance = np.zeros_like(policy), np.zeros_like(policy)
    scores, means = [], []
    for law, flag, weight, share, prompts in zip(
        laws, (True, False), sampling.weights, shares, sampling.prompt_laws, strict=True
    ):
        part = loss_derivatives(method, u, np.full(u.shape, flag), parameter, generator)
        # risk = share * weight * E_class[...]; the class mean is over share * n examples
        rate, mass = share * weight[:, None], prompts[:, None]
        curvature += rate * mass * law * (part.second - part.first) / policy**2
        scores.append(rate * part.first / policy)
        means.append(mass * law * scores[-1])
        variance += mass * law * scores[-1] ** 2 / share
    inverse = np.where(kept, 1.0 / np.where(kept, curvature, 1.0), 0.0)
    # V is the diagonal matrix of the variances less the squares of means, of each class or of both together.
    if sampling.renormalised:
        offsets = [mean / np.sqrt(share) for mean, share in zip(means, shares, strict=True)]
    else:
        offsets = [means[0] + means[1]]
    covariance = _sandwich(inverse, variance, offsets)
    if sampling.paired:
        # n/2 pairs: chosen and rejected of one pair are dependent, E[s+ s-^T] - E[s+] E[s-]^T enters twice.
        mass = problem.prompt_probs[:, None, None]
        cross = mass * np.where(kept[:, :, None] & kept[:, None, :], problem.pair_probs, 0.0)
        cross *= scores[0][:, :, None] * scores[1][:, None, :]
        chosen, rejected = (mass[:, :, 0] * law * score for law, score in zip(laws, scores, strict=True))
        cross -= chosen[:, :, None] * rejected[:, None, :]
        projection = _tangent_inverse(curvature, kept)
        covariance += 2.0 * projection @ (cross + cross.swapaxes(1, 2)) @ projection
    return covariance


def _sandwich(inverse: FloatArray, variance: FloatArray, offsets: list[FloatArray]) -> FloatArray:
    """Return ``G (diag(variance) - sum m m^T) G`` over the offsets m, with G of `_tangent_inverse`; arrays (P, K).

    With ``d = inverse``, ``s = d / sum d`` and ``a = d^2 variance`` the first part is
    ``diag(a) - a s^T - s a^T + (sum a) s s^T``, and ``G m = d m - s (d . m)``: no product of matrices is needed.
    """
    share = inverse / inverse.sum(axis=1, keepdims=True)
    spread = inverse**2 * variance
    half = spread - 0.5 * spread.sum(axis=1, keepdims=True) * share
    pushed = [inverse * mean for mean in offsets]
    pushed = [push - share * push.sum(axis=1, keepdims=True) for push in pushed]
    covariance = -(np.stack([half, share, *pushed], axis=2) @ np.stack([share, half, *pushed], axis=1))
    np.einsum("xyy->xy", covariance)[...] += spread
    return np.asarray(covariance)


def _tangent_inverse(diagonal: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
    """Return ``H^-1 - H^-1 1 1^T H^-1 / (1^T H^-1 1)``, the inverses of diagonal H on {v: sum v = 0}; 0 if not kept."""
    inverse = np.where(kept, 1.0 / np.where(kept, diagonal, 1.0), 0.0)
    return _sandwich(inverse, np.where(kept, diagonal, 0.0), [])


def _half_trace(problem: FiniteProblem, covariance: FloatArray) -> float:
    """Return ``E_x[1/2 tr(diag(1/p+) C(x))]``."""
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    kept = problem.p_preferred > 0
    terms = np.where(kept, diagonal / np.where(kept, problem.p_preferred, 1.0), 0.0)
    return float(0.5 * problem.prompt_probs @ terms.sum(axis=1))
