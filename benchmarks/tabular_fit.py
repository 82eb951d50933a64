"""Rate of the batched exact RDRO fit, against a loop over scipy.optimize on the same counts.

Both minimise the balanced logistic RDRO risk over normalised tabular policies. The peer is scipy's BFGS on logits with
the analytic gradient, started at the reference. One core: BLAS threads are pinned to one. That both find the same
policy is checked to 1e-8 after the timing, against the peer's solution polished by scipy's root finder.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize, root
from support.child import machine
from support.published import measurement, save
from threadpoolctl import threadpool_limits

from theory import minimise_over_simplex

ALPHA = 0.4
EXAMPLES = 100_000
RESPONSES = [5, 20, 50, 200]
TARGETS = {20: 1000.0, 200: 1000.0}  # fits of the batch in the time of one of the loop
SECONDS_OF_LOOP = 4.0  # of a repetition, about


def draw_masses(responses: int, replicates: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class-weighted empirical masses (replicates, responses) of both classes, and the reference."""
    p_preferred, p_nonpreferred = rng.dirichlet(np.full(responses, 5.0), size=2)
    preferred = rng.multinomial(int(ALPHA * EXAMPLES), p_preferred, size=replicates)
    nonpreferred = rng.multinomial(EXAMPLES - int(ALPHA * EXAMPLES), p_nonpreferred, size=replicates)
    reference = ALPHA * p_preferred + (1.0 - ALPHA) * p_nonpreferred
    masses = [0.5 * c / c.sum(axis=1, keepdims=True) for c in (preferred, nonpreferred)]
    return masses[0], masses[1], reference


def scipy_fit(preferred: np.ndarray, nonpreferred: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the logits, last one 0, that scipy's BFGS finds for one replicate."""
    objective = peer_objective(preferred, nonpreferred, reference)
    start = np.log(reference[:-1] / reference[-1])
    return minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 1000}).x


def peer_objective(
    preferred: np.ndarray, nonpreferred: np.ndarray, reference: np.ndarray
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return risk and gradient in the logits, written from the formulas and independent of the package."""
    log_reference = np.log(reference)

    def objective(free: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.append(free, 0.0)
        log_policy = logits - np.logaddexp.reduce(logits)
        u = log_policy - log_reference
        softplus = np.logaddexp(0.0, u)
        risk = preferred @ ((1.0 + ALPHA) * softplus - u) + (1.0 - ALPHA) * nonpreferred @ softplus
        sigmoid = np.exp(u - softplus)
        slope = preferred * ((1.0 + ALPHA) * sigmoid - 1.0) + (1.0 - ALPHA) * nonpreferred * sigmoid
        return float(risk), (slope - np.exp(log_policy) * slope.sum())[:-1]

    return objective


def polished_policy(
    logits: np.ndarray, preferred: np.ndarray, nonpreferred: np.ndarray, reference: np.ndarray
) -> np.ndarray:
    """Return the peer's policy after scipy's root finder has driven its gradient to zero.

    A minimiser that compares values of the risk cannot place its argument better than about sqrt(eps) = 1.5e-8.
    """
    objective = peer_objective(preferred, nonpreferred, reference)
    exact = np.append(root(lambda x: objective(x)[1], logits, tol=1e-14).x, 0.0)
    return np.exp(exact - np.logaddexp.reduce(exact))


def measure(responses: int, replicates: int, loop: int, repeats: int) -> tuple[list[float], list[float], float]:
    """Return seconds a fit of the batch and of the loop, by repetition, and the largest difference of the two fits."""
    preferred, nonpreferred, reference = draw_masses(responses, replicates, np.random.default_rng(20260404))
    alpha = np.full(1, ALPHA)
    minimise_over_simplex("rdro", preferred[:1], nonpreferred[:1], reference[None], alpha)
    start = time.perf_counter()
    scipy_fit(preferred[0], nonpreferred[0], reference)
    loop = max(1, min(loop, int(SECONDS_OF_LOOP / (time.perf_counter() - start))))
    batched, looped, policies, fits = [], [], np.empty(0), []
    for _ in range(repeats):
        start = time.perf_counter()
        policies = minimise_over_simplex("rdro", preferred, nonpreferred, reference[None], alpha).policy
        middle = time.perf_counter()
        fits = [scipy_fit(preferred[i], nonpreferred[i], reference) for i in range(loop)]
        batched.append((middle - start) / replicates)
        looped.append((time.perf_counter() - middle) / loop)
    exact = [polished_policy(fits[i], preferred[i], nonpreferred[i], reference) for i in range(loop)]
    return batched, looped, float(np.abs(np.stack(exact) - policies[:loop]).max())


def verdict(ratio: float, target: float | None) -> str:
    """Return whether a ratio meets its target, if it has one."""
    return "" if target is None else f" (target {target:g}: {'met' if ratio >= target else 'missed'})"


def rates(seconds: list[float]) -> str:
    """Return the median, least and largest rate of fits."""
    middle, low, high = (1.0 / value for value in (statistics.median(seconds), max(seconds), min(seconds)))
    return f"{middle:,.4g} ({low:,.4g} to {high:,.4g})"


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=20_000, help="data sets of the batched fit (default 20000)")
    parser.add_argument("--loop", type=int, default=100, help="most data sets of the scipy loop (default 100)")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions of each measurement (default 5)")
    parser.add_argument("--responses", type=int, nargs="+", default=RESPONSES, help="responses (default 5 20 50 200)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    about, measurements, differences = machine("numpy", "scipy"), [], {}
    for responses in arguments.responses:
        with threadpool_limits(1):
            times = measure(
                responses, arguments.replicates, min(arguments.loop, arguments.replicates), arguments.repeats
            )
        batched, looped, difference = times
        ratio, target = statistics.median(looped) / statistics.median(batched), TARGETS.get(responses)
        print(
            f"{responses} responses: {rates(batched)} fits/s batched, {rates(looped)} fits/s scipy loop, "
            f"ratio {ratio:,.0f}{verdict(ratio, target)}, largest difference {difference:.1e}"
        )
        if difference > 1e-8:
            raise SystemExit(f"the two fits must agree to 1e-8, got {difference:.1e} at {responses} responses")
        size = ("responses", responses, "time a fit", "s")
        measurements.append(measurement("relratio, batched", "ours", *size, batched))
        measurements.append(measurement("scipy BFGS, one by one", "peer", *size, looped, target))
        differences[responses] = difference
    facts = {"alpha": ALPHA, "examples": EXAMPLES, "largest_policy_difference": differences}
    save(arguments.output, "tabular_fit", about, 1, measurements, **facts)


if __name__ == "__main__":
    main()
