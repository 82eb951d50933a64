"""Targets of the paired losses DPO and IPO, from exact laws or counts of (chosen, rejected) pairs."""

import numpy as np
from numpy.typing import NDArray

from theory.bradley_terry_fit import fit_bradley_terry, win_chains
from theory.checks import FloatArray

__all__ = [
    "dpo_log_ratios",
    "independent_dpo_log_ratios",
    "independent_ipo_log_ratios",
    "ipo_log_ratios",
    "ipo_policies",
    "policies_from_log_ratios",
    "policy_from_log_ratios",
]


def dpo_log_ratios(pairs: FloatArray, beta: float) -> FloatArray:
    """Return log-ratios u, up to a constant, that minimise ``sum_ij pairs_ij softplus(-beta (u_i - u_j))``.

    ``beta u`` are the Bradley-Terry scores of the pair law.
    Raises ValueError where no finite minimiser exists (no chain of wins between two responses; Ford 1957).
    """
    return np.asarray(fit_bradley_terry(pairs).scores / beta)


def independent_dpo_log_ratios(preferred: FloatArray, nonpreferred: FloatArray, beta: float) -> FloatArray:
    """Return the log-ratios of `dpo_log_ratios` for independent pairs of the laws p+ and p-, arrays (tables, K).

    ``u = log(p+/p-) / beta``, since ``p+_i p-_j / (p+_i p-_j + p+_j p-_i) = sigmoid(beta (u_i - u_j))`` for every pair;
    0 where a law vanishes.
    """
    both = (preferred > 0) & (nonpreferred > 0)
    return np.asarray((np.log(np.where(both, preferred, 1.0)) - np.log(np.where(both, nonpreferred, 1.0))) / beta)


def independent_ipo_log_ratios(preferred: FloatArray, nonpreferred: FloatArray, beta: float) -> FloatArray:
    """Return the log-ratios of `ipo_log_ratios` for independent pairs of the laws p+ and p-, arrays (tables, K).

    ``u = w / (2 beta sum p+ w)`` with ``w = p+/(p+ + p-)``: the derivative in ``u_i``,
    ``p+_i (u_i - E_{p-} u - 1/(2 beta)) + p-_i (u_i - E_{p+} u + 1/(2 beta))``, vanishes there (derived here).
    """
    total = preferred + nonpreferred
    share = preferred / np.where(total > 0, total, 1.0)
    return np.asarray(share / (2.0 * beta * (preferred * share).sum(axis=1, keepdims=True)))


def ipo_log_ratios(pairs: FloatArray, beta: float) -> FloatArray:
    """Return log-ratios u, up to a constant, that minimise ``sum_ij pairs_ij (u_i - u_j - 1/(2 beta))^2``.

    Raises ValueError where the comparison graph falls apart, so that u is not determined.
    """
    everything = np.ones((1, len(pairs)), dtype=bool)
    weights, balance = _normal_equations(pairs[None], beta)
    linked = win_chains(weights)[0]
    if not linked.all():
        i, j = np.argwhere(~linked)[0]
        raise ValueError(f"every two responses must be linked by comparisons, got no link from {i} to {j}")
    return np.asarray(_potentials(weights, balance, everything)[0])


def ipo_policies(pairs: FloatArray, reference: FloatArray, beta: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the IPO policies of many tables of pairs, and where they exist.

    ``u = argmin sum_ij pairs_ij (u_i - u_j - 1/(2 beta))^2`` and the policy of these log-ratios.

    Parameters
    ----------
    pairs : ndarray
        Masses or counts of (chosen, rejected), not negative, shape (tables, K, K). The diagonal plays no role.
    reference : ndarray
        Reference policies, shape (tables, K) or (K,), positive at every response that occurs in a pair.
    beta : float
        Regularisation, greater than 0.

    Returns
    -------
    policies : ndarray
        Shape (tables, K); NaN where the responses that occur are not all linked by comparisons, because their
        log-ratios are then not determined.
    linked : ndarray of bool
        Whether they are, shape (tables,). A table without any pair keeps the reference.

    Notes
    -----
    Responses that occur in no pair share the mass that is closest in KL to the reference (`policies_from_log_ratios`).

    Examples
    --------
    >>> policies, linked = ipo_policies(np.array([[[0.0, 3.0], [1.0, 0.0]]]), np.array([0.5, 0.5]), beta=0.5)
    >>> policies.round(4), linked  # u_0 - u_1 = (3 - 1)/(3 + 1)
    (array([[0.6225, 0.3775]]), array([ True]))
    """
    weights, balance = _normal_equations(pairs, beta)
    seen = weights.sum(axis=2) > 0
    linked = (win_chains(weights) | ~(seen[:, :, None] & seen[:, None, :])).all(axis=(1, 2))
    policies = np.full(seen.shape, np.nan)
    u = _potentials(weights[linked], balance[linked], seen[linked])
    policies[linked] = policies_from_log_ratios(u, np.broadcast_to(reference, seen.shape)[linked], seen[linked])
    return policies, linked


def policy_from_log_ratios(log_ratios: FloatArray, reference: FloatArray, seen: NDArray[np.bool_]) -> FloatArray:
    """Return the policy of one table; `log_ratios` are those of the seen responses (`policies_from_log_ratios`)."""
    u = np.zeros(len(reference))
    u[seen] = log_ratios
    return np.asarray(policies_from_log_ratios(u[None], reference[None], seen[None])[0])


def policies_from_log_ratios(log_ratios: FloatArray, reference: FloatArray, seen: NDArray[np.bool_]) -> FloatArray:
    """Return the policies with the given log-ratios on the seen responses, closest in KL to the reference.

    Arrays (tables, K); a log-ratio of an unseen response plays no role. The conditional law on the seen responses is
    ``q e^u`` normalised. Their total mass s is free; the KL divergence to the reference
    ``s log(s/Q) + (1-s) log((1-s)/(1-Q)) + s KL_seen`` is smallest at ``s ~ Q e^(-KL_seen)``.
    """
    used = seen & (reference > 0)
    q = np.where(used, reference, 1.0)
    logits = np.where(used, np.log(q) + log_ratios, -np.inf)
    largest = logits.max(axis=1, keepdims=True)
    conditional = np.exp(logits - np.where(np.isfinite(largest), largest, 0.0))
    conditional /= np.maximum(conditional.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    mass = np.where(used, reference, 0.0).sum(axis=1, keepdims=True)
    positive = conditional > 0
    logs = np.log(np.where(positive, conditional * mass / q, 1.0))
    divergence = (conditional * logs).sum(axis=1, keepdims=True)
    policy = np.where(seen, conditional * mass * np.exp(-divergence), reference)
    return np.asarray(policy / policy.sum(axis=1, keepdims=True))


def _normal_equations(pairs: FloatArray, beta: float) -> tuple[FloatArray, FloatArray]:
    """Return the weights of the comparison graphs, (tables, K, K), and ``(wins - losses) / (2 beta)``, (tables, K)."""
    off_diagonal = pairs * ~np.eye(pairs.shape[1], dtype=bool)
    balance = (off_diagonal.sum(axis=2) - off_diagonal.sum(axis=1)) / (2.0 * beta)
    return off_diagonal + off_diagonal.swapaxes(1, 2), balance


def _potentials(weights: FloatArray, balance: FloatArray, seen: NDArray[np.bool_]) -> FloatArray:
    """Solve ``L u = balance`` with L the Laplacians of linked graphs; mean zero on the seen responses, 0 elsewhere."""
    eye = np.eye(weights.shape[1])
    laplacian = weights.sum(axis=2)[:, :, None] * eye - weights
    # L is singular along constants of the seen responses: adding that direction makes it regular and picks mean zero.
    count = np.maximum(seen.sum(axis=1), 1)
    constant = (seen[:, :, None] & seen[:, None, :]) * (weights.sum(axis=(1, 2)) / count**2)[:, None, None]
    regular = laplacian + constant + ~seen[:, :, None] * eye
    return np.asarray(np.linalg.solve(regular, balance[:, :, None])[:, :, 0])
