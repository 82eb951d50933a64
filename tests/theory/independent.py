"""Independent computations to compare theory with: formulas written anew from the papers, minimised by scipy."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

# f', c = f' r - f and w = r f'' of each generator in the ratio r itself.
TERMS = {
    "logistic": (lambda r: -np.log1p(1 / r), np.log1p, lambda r: 1 / (1 + r)),
    "kl": (np.log, lambda r: r, np.ones_like),
    "least_squares": (lambda r: r - 1, lambda r: (r**2 - 1) / 2, lambda r: r),
    "power": (lambda r: 3 * (np.sqrt(r) - 1), lambda r: r**1.5 - 1, lambda r: 1.5 * np.sqrt(r)),
}


def risk_and_slopes(method, ratio, preferred, nonpreferred, alpha, generator="logistic"):
    """Return ``sum B loss+ + D loss-`` at ratios of a policy to the reference, and its derivatives in log r."""
    with np.errstate(all="ignore"):
        if method == "rdro":
            slope, conjugate, weight = (term(ratio) for term in TERMS[generator])
            mixture = alpha * preferred + (1 - alpha) * nonpreferred
            return (mixture * conjugate - preferred * slope).sum(), weight * (mixture * ratio - preferred)
        rest = 1 - alpha * ratio
        if (rest <= 0).any():
            return np.inf, np.zeros_like(ratio)
        if method == "mle":
            risk = -(preferred * np.log(alpha * ratio) + nonpreferred * np.log(rest)).sum()
            return risk, nonpreferred * alpha * ratio / rest - preferred
        direct = (1 - alpha) * ratio / rest
        slope, conjugate, weight = (term(direct) for term in TERMS[generator])
        risk = (nonpreferred * conjugate - preferred * slope).sum()
        return risk, weight * (nonpreferred * direct - preferred) / rest


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
