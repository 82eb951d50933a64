"""Independent computations to compare theory with: formulas written anew from the papers, minimised by scipy."""

import numpy as np
from scipy.ndimage import minimum_filter
from scipy.optimize import fsolve, minimize
from scipy.special import log_softmax, softmax

# f', c = f' r - f and w = r f'' of each generator in the ratio r itself.
TERMS = {
    "logistic": (lambda r: -np.log1p(1 / r), np.log1p, lambda r: 1 / (1 + r)),
    "kl": (np.log, lambda r: r, np.ones_like),
    "least_squares": (lambda r: r - 1, lambda r: (r**2 - 1) / 2, lambda r: r),
    "power": (lambda r: 3 * (np.sqrt(r) - 1), lambda r: r**1.5 - 1, lambda r: 1.5 * np.sqrt(r)),
}


def risk_and_slopes(method, ratio, preferred, nonpreferred, alpha, generator="logistic"):
    """Return ``sum B loss+ + D loss-`` at ratios (..., responses) of policies to the reference, and its derivatives in
    log r; the sum is over responses."""
    with np.errstate(all="ignore"):
        if method == "rdro":
            slope, conjugate, weight = (term(ratio) for term in TERMS[generator])
            mixture = alpha * preferred + (1 - alpha) * nonpreferred
            return (mixture * conjugate - preferred * slope).sum(axis=-1), weight * (mixture * ratio - preferred)
        rest = 1 - alpha * ratio
        if method == "mle":
            risk = -(preferred * np.log(alpha * ratio) + nonpreferred * np.log(rest)).sum(axis=-1)
            slopes = nonpreferred * alpha * ratio / rest - preferred
        else:
            direct = (1 - alpha) * ratio / rest
            slope, conjugate, weight = (term(direct) for term in TERMS[generator])
            risk = (nonpreferred * conjugate - preferred * slope).sum(axis=-1)
            slopes = weight * (nonpreferred * direct - preferred) / rest
        outside = (rest <= 0).any(axis=-1)
        return np.where(outside, np.inf, risk)[()], np.where(outside[..., None], 0.0, slopes)


def minimise_with_scipy(risk_of, start, starts=4, seed=0):
    """Minimise a risk of one policy (all positive) over the simplex; return the best policy and its risk.

    The policy is ``softmax(theta)``; BFGS starts at `start` and at random logits around it that have a finite risk.
    `risk_of` returns the risk and its derivatives in the log-probabilities.
    """

    def objective(theta):
        logs = log_softmax(theta)
        value, slopes = risk_of(logs)
        policy = np.exp(logs)
        return (value, slopes - policy * slopes.sum()) if np.isfinite(value) else (np.inf, np.zeros_like(theta))

    rng, best, spread = np.random.default_rng(seed), None, 1.5
    while starts:
        theta = np.log(start) + spread * rng.normal(size=len(start)) * (best is not None)
        if not np.isfinite(objective(theta)[0]):
            spread *= 0.7  # beyond the domain: come closer
            continue
        with np.errstate(all="ignore"):
            found = minimize(objective, theta, jac=True, method="BFGS", options={"gtol": 1e-13, "maxiter": 500})
        best = found if best is None or found.fun < best.fun else best
        starts -= 1
    return np.exp(log_softmax(best.x)), best.fun


def best_policy(method, preferred, nonpreferred, reference, alpha, generator="logistic", starts=4):
    """Return the best policy that scipy finds for class-weighted masses (responses,), and its risk."""

    def risk_of(logs):
        ratio = np.exp(logs) / reference
        return risk_and_slopes(method, ratio, preferred, nonpreferred, alpha, generator)

    return minimise_with_scipy(risk_of, reference, starts)


STEP = 0.4
SIDE = STEP * np.arange(-25, 26)
GRID = np.stack([*np.meshgrid(SIDE, SIDE, indexing="ij"), np.zeros((51, 51))], axis=-1)


def best_policy_of_three(method, preferred, nonpreferred, reference, alpha, generator="logistic", starts=4):
    """Return the best policy on three responses, and its risk.

    MINPACK finds where the derivatives vanish near each local minimum of a grid of 2,601 logits around the reference.
    Where they do not (minima without a response, or hard at the edge of the domain), `best_policy` searches with
    `starts`.
    """
    problem = preferred, nonpreferred, alpha, generator

    def risks(logits):
        return risk_and_slopes(method, softmax(logits, axis=-1) / reference, *problem)[0]

    def slopes(free):
        policy = softmax(np.append(free, 0.0))
        each = risk_and_slopes(method, policy / reference, *problem)[1]
        return (each - policy * each.sum())[:2]

    wide = np.log(reference / reference[2]) + GRID
    there, found = risks(wide), []
    for cell in zip(*np.nonzero(np.isfinite(there) & (there == minimum_filter(there, 3))), strict=True):
        with np.errstate(all="ignore"):
            free, report, _, _ = fsolve(slopes, wide[cell][:2], xtol=1e-15, full_output=True)
        logits = np.append(free, 0.0)
        near = np.abs(logits - wide[cell]).max() <= 2 * STEP and risks(logits) <= there[cell]
        if not (near and np.abs(report["fvec"]).max() <= 1e-13):
            return best_policy(method, preferred, nonpreferred, reference, alpha, generator, starts)
        found.append((risks(logits), *softmax(logits)))
    risk, *policy = min(found)
    return np.array(policy), risk
