"""Batched fits of policies to masses, thousands of data sets at once; the population is a data set of its own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.options import Setting
from theory import Generator, minimise_over_simplex
from theory.bradley_terry_fit import newton_scores, win_chains
from theory.checks import FloatArray
from theory.kto_target import kto_policies
from theory.pair_targets import ipo_policies, policies_from_log_ratios, policy_from_log_ratios

__all__ = ["Estimates", "fit_dpo", "fit_ipo", "fit_kto", "fit_ratio", "fit_sft"]


@dataclass(frozen=True, eq=False)
class Estimates:
    """Fitted policies of many data sets, and what became of each fit.

    Attributes
    ----------
    policies : ndarray
        Shape (sets, prompts, responses); NaN where no policy exists.
    status : ndarray of str
        "ok", "nonconverged", "diverged" (no finite minimiser exists) or "error" (the data lack a class), shape
        (sets,).
    residual : ndarray
        How far the fit is from its defining equation, in its own units, shape (sets,).
    iterations : int
        Newton steps of the slowest fit.
    """

    policies: FloatArray
    status: NDArray[np.str_]
    residual: FloatArray
    iterations: int


def fit_ratio(setting: Setting, method: str, generator: Generator) -> Estimates:
    """Fit rdro, ddro or mle exactly (`theory.minimise_over_simplex`); prompts without examples keep the reference."""
    sets, prompts, responses = setting.preferred.shape
    solution = minimise_over_simplex(
        method,
        setting.preferred.reshape(-1, responses),
        setting.nonpreferred.reshape(-1, responses),
        setting.reference.reshape(-1, responses),
        setting.alpha.ravel(),
        generator,
    )
    converged = solution.converged.reshape(sets, prompts).all(axis=1)
    status = np.where(converged, "ok", "nonconverged")
    if method == "ddro" and generator.name != "logistic":
        # Its risk falls without bound towards the edge of the domain for a response seen in the preferred class only.
        unbounded = ((setting.preferred > 0) & (setting.nonpreferred == 0)).any(axis=(1, 2))
        status = np.where(unbounded, "diverged", status)
    status = np.where(setting.usable, status, "error")
    residual = solution.residual.reshape(sets, prompts).max(axis=1)
    return Estimates(
        _only_found(solution.policy.reshape(setting.preferred.shape), status), status, residual, solution.iterations
    )


def fit_sft(setting: Setting) -> Estimates:
    """Fit the preferred examples by maximum likelihood: their shares; the reference at prompts without any."""
    totals = setting.preferred.sum(axis=2, keepdims=True)
    shares = setting.preferred / np.where(totals > 0, totals, 1.0)
    policies = np.where(totals > 0, shares, setting.reference)
    status = np.where(totals.sum(axis=(1, 2)) > 0, "ok", "error")
    return Estimates(policies, status, np.zeros(len(status)), 0)


def fit_kto(setting: Setting, beta: float) -> Estimates:
    """Fit kto at its own reference point (`theory.kto_target`); prompts without examples keep the reference.

    A data set in which some prompt has no response to gain on has no unique minimiser: its status is "error".
    """
    gain = setting.preferred - setting.nonpreferred
    solution = kto_policies(gain, setting.reference, setting.prompt_shares, beta)
    status = np.where(setting.usable, solution.status, "error")
    return Estimates(_only_found(solution.policies, status), status, np.zeros(len(status)), 0)


def fit_dpo(reference: FloatArray, pairs: FloatArray, beta: float) -> Estimates:
    """Fit dpo to counts of (chosen, rejected): Bradley-Terry scores of the pairs, tilted by 1/beta.

    A data set in which some response never wins, or never loses, against a group of others has no finite minimiser
    (Ford 1957): its fit diverges. Responses in no pair at all share the mass that is closest in KL to the reference.
    """
    tables, references, seen = _pair_tables(reference, pairs)
    policies = references.copy()
    chains = win_chains(tables) | ~(seen[:, :, None] & seen[:, None, :])
    connected = chains.all(axis=(1, 2))
    status = np.where(connected, "ok", "diverged")
    policies[~connected] = np.nan
    complete = np.nonzero(connected & seen.all(axis=1))[0]
    fit = newton_scores(tables[complete])
    policies[complete] = policies_from_log_ratios(fit.scores / beta, references[complete], seen[complete])
    status[complete] = np.where(fit.status == "ok", "ok", "nonconverged")
    for row in np.nonzero(connected & ~seen.all(axis=1) & seen.any(axis=1))[0]:
        part = seen[row]
        single = newton_scores(tables[row][np.ix_(part, part)][None])
        policies[row] = policy_from_log_ratios(single.scores[0] / beta, references[row], part)
        status[row] = "ok" if single.status[0] == "ok" else "nonconverged"
    return _by_set(policies, status, pairs.shape[:3], fit.iterations)


def fit_ipo(reference: FloatArray, pairs: FloatArray, beta: float) -> Estimates:
    """Fit ipo to counts of (chosen, rejected): least squares of margins (`theory.pair_targets.ipo_policies`).

    A data set whose compared responses fall apart into groups without a comparison between them does not determine
    the margins: its status is "error".
    """
    tables, references, _ = _pair_tables(reference, pairs)
    policies, linked = ipo_policies(tables, references, beta)
    return _by_set(policies, np.where(linked, "ok", "error"), pairs.shape[:3], 0)


def _pair_tables(reference: FloatArray, pairs: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return tables (sets * prompts, K, K), their references, and which responses occur in a pair of two."""
    responses = pairs.shape[-1]
    tables = pairs.reshape(-1, responses, responses).astype(np.float64)
    references = np.array(np.broadcast_to(reference, pairs.shape[:3]).reshape(-1, responses))
    off_diagonal = tables * ~np.eye(responses, dtype=bool)
    return tables, references, off_diagonal.sum(axis=1) + off_diagonal.sum(axis=2) > 0


def _by_set(policies: FloatArray, status: NDArray[np.str_], shape: tuple[int, ...], iterations: int) -> Estimates:
    """Return the policies of each set, which has the worst status of its prompts."""
    grouped = status.reshape(shape[:2])
    worst = np.full(shape[0], "ok", dtype=status.dtype)
    for name in ("nonconverged", "diverged", "error"):
        worst = np.where((grouped == name).any(axis=1), name, worst)
    return Estimates(policies.reshape(shape), worst, np.zeros(shape[0]), iterations)


def _only_found(policies: FloatArray, status: NDArray[np.str_]) -> FloatArray:
    """Return policies with NaN in place of those that a status says do not exist."""
    found = (status == "ok") | (status == "nonconverged")
    return policies if found.all() else np.where(found[:, None, None], policies, np.nan)
