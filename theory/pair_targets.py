"""Population targets of the paired losses DPO and IPO on one prompt, from the exact law of (chosen, rejected) pairs."""

import numpy as np

from theory.bradley_terry_fit import fit_bradley_terry, win_chains
from theory.checks import FloatArray

__all__ = ["dpo_log_ratios", "ipo_log_ratios", "policy_from_log_ratios"]


def dpo_log_ratios(pairs: FloatArray, beta: float) -> FloatArray:
    """Return log-ratios u, up to a constant, that minimise ``sum_ij pairs_ij softplus(-beta (u_i - u_j))``.

    ``beta u`` are the Bradley-Terry scores of the pair law; for independent pairs they are ``log(p+/p-)``.
    Raises ValueError where no finite minimiser exists (no chain of wins between two responses; Ford 1957).
    """
    return np.asarray(fit_bradley_terry(pairs).scores / beta)


def ipo_log_ratios(pairs: FloatArray, beta: float) -> FloatArray:
    """Return log-ratios u, up to a constant, that minimise ``sum_ij pairs_ij (u_i - u_j - 1/(2 beta))^2``.

    The normal equations are ``L u = (wins - losses) / (2 beta)`` with L the Laplacian of the comparison graph.
    Raises ValueError where the graph falls apart, so that u is not determined.
    """
    off_diagonal = pairs * ~np.eye(len(pairs), dtype=bool)
    weights = off_diagonal + off_diagonal.T
    linked = win_chains(weights[None])[0]
    if not linked.all():
        i, j = np.argwhere(~linked)[0]
        raise ValueError(f"every two responses must be linked by comparisons, got no link from {i} to {j}")
    laplacian = np.diag(weights.sum(axis=1)) - weights
    balance = (off_diagonal.sum(axis=1) - off_diagonal.sum(axis=0)) / (2.0 * beta)
    # The Laplacian is singular along constants; adding that direction makes it regular and picks mean zero.
    return np.asarray(np.linalg.solve(laplacian + weights.sum() / len(pairs) ** 2, balance))


def policy_from_log_ratios(log_ratios: FloatArray, reference: FloatArray, seen: FloatArray) -> FloatArray:
    """Return the policy with the given log-ratios on the seen responses, closest in KL to the reference.

    The conditional law on the seen responses is ``q e^u`` normalised. Their total mass s is free; the KL divergence
    to the reference ``s log(s/Q) + (1-s) log((1-s)/(1-Q)) + s KL_seen`` is smallest at ``s ~ Q e^(-KL_seen)``.
    """
    q = reference[seen]
    logits = np.log(q) + log_ratios
    conditional = np.exp(logits - logits.max())
    conditional /= conditional.sum()
    mass = q.sum()
    positive = conditional > 0
    divergence = float(np.sum(conditional[positive] * np.log(conditional[positive] * mass / q[positive])))
    kept = mass * np.exp(-divergence)
    policy = np.where(seen, 0.0, reference)
    policy[seen] = conditional * kept
    return np.asarray(policy / policy.sum())
