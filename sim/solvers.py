"""Batched exact fits of tabular policies to counts, thousands of replicates at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.preferences.arguments import IntArray
from sim.sampling import Counts
from theory import FiniteProblem, Generator, minimise_over_simplex
from theory.bradley_terry_fit import newton_scores, win_chains
from theory.checks import FloatArray
from theory.pair_targets import policy_from_log_ratios
from theory.weighting import Weighting, class_weights

__all__ = ["Estimates", "fit_dpo", "fit_ratio", "fit_sft"]


@dataclass(frozen=True, eq=False)
class Estimates:
    """Fitted policies of many replicates, and what became of each fit.

    Attributes
    ----------
    policies : ndarray
        Shape (replicates, prompts, responses); NaN where no policy exists.
    status : ndarray of str
        "ok", "nonconverged", "diverged" (no finite minimiser exists) or "error" (the data lack a class), shape
        (replicates,).
    residual : ndarray
        Distance from normalisation before the last rounding, shape (replicates,).
    iterations : int
        Newton steps of the slowest fit.
    """

    policies: FloatArray
    status: NDArray[np.str_]
    residual: FloatArray
    iterations: int


def fit_ratio(
    problem: FiniteProblem,
    counts: Counts,
    method: str,
    *,
    alpha: FloatArray,
    generator: Generator,
    weighting: Weighting,
) -> Estimates:
    """Fit rdro, ddro or mle: the population problem with counts in place of laws (`theory.minimise_over_simplex`).

    Class weights come from each data set's own class counts. Prompts without any example keep the reference.
    """
    replicates, prompts, responses = counts.preferred.shape
    totals = counts.preferred.sum(axis=(1, 2)), counts.nonpreferred.sum(axis=(1, 2))
    usable = (totals[0] > 0) & (totals[1] > 0)
    n = np.maximum(totals[0] + totals[1], 1)
    fraction = np.where(usable, totals[0] / n, 0.5)
    weights = class_weights(fraction, "pooled" if method == "mle" else weighting)
    up, down = (np.broadcast_to(w, replicates) / n for w in (weights.preferred, weights.nonpreferred))
    preferred = (up[:, None, None] * counts.preferred).reshape(-1, responses)
    nonpreferred = (down[:, None, None] * counts.nonpreferred).reshape(-1, responses)
    reference = np.broadcast_to(problem.reference, (replicates, prompts, responses)).reshape(-1, responses)
    solution = minimise_over_simplex(
        method, preferred, nonpreferred, reference, np.broadcast_to(alpha, (replicates, prompts)).ravel(), generator
    )
    policies = solution.policy.reshape(replicates, prompts, responses)
    residual = solution.residual.reshape(replicates, prompts).max(axis=1)
    status = np.where(solution.converged.reshape(replicates, prompts).all(axis=1), "ok", "nonconverged")
    if method == "ddro" and generator.name != "logistic":
        # Its risk falls without bound towards the edge of the domain for a response seen in the preferred class only.
        unbounded = ((counts.preferred > 0) & (counts.nonpreferred == 0)).any(axis=(1, 2))
        status = np.where(unbounded, "diverged", status)
    status = np.where(usable, status, "error")
    policies = np.where(np.isin(status, ("ok", "nonconverged"))[:, None, None], policies, np.nan)
    return Estimates(policies, status, residual, solution.iterations)


def fit_sft(problem: FiniteProblem, counts: Counts) -> Estimates:
    """Fit the preferred examples by maximum likelihood: their shares; the reference at prompts without any."""
    totals = counts.preferred.sum(axis=2, keepdims=True)
    shares = counts.preferred / np.maximum(totals, 1)
    policies = np.where(totals > 0, shares, problem.reference)
    status = np.where(totals.sum(axis=(1, 2)) > 0, "ok", "error")
    return Estimates(policies, status, np.zeros(len(status)), 0)


def fit_dpo(problem: FiniteProblem, pairs: IntArray, beta: float) -> Estimates:
    """Fit dpo to counts of (chosen, rejected): Bradley-Terry scores of the pairs, tilted by 1/beta.

    A data set in which some response never wins, or never loses, against a group of others has no finite minimiser
    (Ford 1957): its fit diverges. Responses in no pair at all share the mass that is closest in KL to the reference.
    """
    replicates, prompts, responses = pairs.shape[:3]
    tables = pairs.reshape(-1, responses, responses).astype(np.float64)
    references = np.broadcast_to(problem.reference, (replicates, prompts, responses)).reshape(-1, responses)
    off_diagonal = tables * ~np.eye(responses, dtype=bool)
    seen = off_diagonal.sum(axis=1) + off_diagonal.sum(axis=2) > 0
    policies = references.copy()
    chains = win_chains(tables) | ~(seen[:, :, None] & seen[:, None, :])
    connected = chains.all(axis=(1, 2))
    status = np.where(connected, "ok", "diverged")
    policies[~connected] = np.nan
    complete = np.nonzero(connected & seen.all(axis=1))[0]
    fit = newton_scores(tables[complete])
    logits = np.log(references[complete]) + fit.scores / beta
    tilted = np.exp(logits - logits.max(axis=1, keepdims=True))
    policies[complete] = tilted / tilted.sum(axis=1, keepdims=True)
    status[complete] = np.where(fit.status == "ok", "ok", "nonconverged")
    for row in np.nonzero(connected & ~seen.all(axis=1) & seen.any(axis=1))[0]:
        part = seen[row]
        single = newton_scores(tables[row][np.ix_(part, part)][None])
        policies[row] = policy_from_log_ratios(single.scores[0] / beta, references[row], part)
        status[row] = "ok" if single.status[0] == "ok" else "nonconverged"
    grouped = status.reshape(replicates, prompts)
    worst = np.where((grouped == "nonconverged").any(axis=1), "nonconverged", "ok")
    worst = np.where((grouped == "diverged").any(axis=1), "diverged", worst)
    return Estimates(policies.reshape(replicates, prompts, responses), worst, np.zeros(replicates), fit.iterations)
