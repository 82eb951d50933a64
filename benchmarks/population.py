"""Population targets and limiting covariances of one problem with many prompts, against loops over its prompts.

Ours solves all prompts at once. The peer of the targets of all methods (but sft, whose target is p+) is BFGS of scipy
on the logits of one prompt after the other, with the analytic gradient of each risk, started at the reference. It is
told what would be hardest to find: the reference point of kto and which responses kto keeps. At most 20 prompts are
given to it, and its time is scaled to the number of prompts. The peer of the covariance of rdro is the sandwich
``G V G`` of one prompt after the other, written with NumPy's matrices from the derivatives of the risk in the policy
and told the target; it does all prompts. One core: BLAS threads are pinned to one. Targets must agree to 1e-6, since
a minimiser that compares values cannot place flat directions better, and covariances to 1e-9 of their largest entry.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from support.child import machine
from support.published import measurement, save
from threadpoolctl import threadpool_limits

from theory import FiniteProblem, asymptotic_covariance, population_target

ALPHA, BETA = 0.4, 0.5
METHODS = ("rdro", "ddro", "mle", "kto", "dpo", "ipo")
RESPONSES = 64
PROMPTS = [20, 1000]
PEER_PROMPTS = 20
TARGET_SECONDS = 1.0  # at 1,000 prompts or fewer

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


def build(prompts: int, responses: int) -> FiniteProblem:
    """Return a problem whose reference is the mixture of its laws."""
    rng = np.random.default_rng(20260404)
    preferred, nonpreferred = rng.dirichlet(np.full(responses, 5.0), size=(2, prompts))
    return FiniteProblem(preferred, nonpreferred, alpha=ALPHA)


def our_targets(problem: FiniteProblem) -> dict[str, np.ndarray]:
    """Return the targets of all methods."""
    options = {"kto": {"beta": BETA}, "dpo": {"beta": BETA}, "ipo": {"beta": BETA}}
    return {method: population_target(problem, method, **options.get(method, {})) for method in METHODS}


def peer_targets(problem: FiniteProblem, prompts: int, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the targets of all methods at the first prompts, by BFGS; `known` tells what is told about kto."""
    point = float(problem.prompt_probs @ (known["kto"] * log_ratios(known["kto"], problem.reference)).sum(axis=1))
    return {
        method: np.stack(
            [bfgs(method, problem, x, point, known["kto"][x] > 0 if method == "kto" else None) for x in range(prompts)]
        )
        for method in METHODS
    }


def log_ratios(policy: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return ``log(policy / reference)``, 0 where the policy vanishes."""
    return np.log(np.where(policy > 0, policy / reference, 1.0))


def bfgs(method: str, problem: FiniteProblem, x: int, point: float, kept: np.ndarray | None) -> np.ndarray:
    """Return the policy at one prompt that minimises a risk, on the responses that are kept."""
    kept = np.full(problem.responses, True) if kept is None else kept
    reference = problem.reference[x, kept]
    risk = peer_risk(method, problem.p_preferred[x, kept], problem.p_nonpreferred[x, kept], point)

    def objective(logits: np.ndarray) -> tuple[float, np.ndarray]:
        log_policy = logits - np.logaddexp.reduce(logits)
        value, slope = risk(log_policy - np.log(reference))
        return 1e3 * value, 1e3 * (slope - np.exp(log_policy) * slope.sum())

    with np.errstate(all="ignore"):  # a step may leave the domain of ddro and mle
        logits = minimize(objective, np.log(reference), jac=True, method="BFGS", options={"gtol": 1e-6}).x
    policy = np.zeros(problem.responses)
    policy[kept] = np.exp(logits - np.logaddexp.reduce(logits))
    return policy


def peer_risk(method: str, preferred: np.ndarray, nonpreferred: np.ndarray, point: float) -> Objective:
    """Return the risk at one prompt and its slope in the log-ratios, written from the formulas."""
    plus, minus = 0.5 * preferred, 0.5 * nonpreferred  # balanced classes
    if method == "mle":
        plus, minus = ALPHA * preferred, (1.0 - ALPHA) * nonpreferred
    pairs = preferred[:, None] * nonpreferred[None, :]

    def risk(u: np.ndarray) -> tuple[float, np.ndarray]:
        if method == "rdro":
            softplus, sigmoid = np.logaddexp(0.0, u), expit(u)
            value = plus @ ((1.0 + ALPHA) * softplus - u) + (1.0 - ALPHA) * minus @ softplus
            return value, plus * ((1.0 + ALPHA) * sigmoid - 1.0) + (1.0 - ALPHA) * minus * sigmoid
        if method in ("ddro", "mle"):
            rest = 1.0 - ALPHA * np.exp(u)
            if (rest <= 0).any():
                return np.inf, np.zeros_like(u)
            if method == "mle":
                return -plus @ (u + np.log(ALPHA)) - minus @ np.log(rest), minus * (1.0 / rest - 1.0) - plus
            log_g = np.log(1.0 - ALPHA) + u - np.log(rest)
            value = plus @ np.logaddexp(0.0, -log_g) + minus @ np.logaddexp(0.0, log_g)
            return value, (minus * expit(log_g) - plus * expit(-log_g)) / rest
        if method == "kto":
            chance = expit(BETA * (u - point))
            return plus.sum() + (minus - plus) @ chance, BETA * (minus - plus) * chance * (1.0 - chance)
        margins = u[:, None] - u[None, :]
        if method == "dpo":
            value, slope = (pairs * np.logaddexp(0.0, -BETA * margins)).sum(), -BETA * pairs * expit(-BETA * margins)
        else:
            value, slope = (pairs * (margins - 0.5 / BETA) ** 2).sum(), 2.0 * pairs * (margins - 0.5 / BETA)
        return value, slope.sum(axis=1) - slope.sum(axis=0)

    return risk


def peer_covariance(problem: FiniteProblem, policy: np.ndarray) -> np.ndarray:
    """Return the covariances of balanced logistic rdro at its target, prompt by prompt."""
    basis = np.linalg.qr(np.eye(problem.responses)[:, 1:] - 1.0 / problem.responses)[0]  # of the vectors of sum zero
    covariances = []
    for x, mass in enumerate(problem.prompt_probs):
        p, total = policy[x], problem.reference[x] + policy[x]
        variance, curvature = np.zeros((len(p), len(p))), np.zeros_like(p)
        for law, share, slope, bend in (
            (problem.p_preferred[x], ALPHA, (1.0 + ALPHA) / total - 1.0 / p, 1.0 / p**2 - (1.0 + ALPHA) / total**2),
            (problem.p_nonpreferred[x], 1.0 - ALPHA, (1.0 - ALPHA) / total, -(1.0 - ALPHA) / total**2),
        ):
            mean = 0.5 * mass * law * slope
            variance += (np.diag(0.25 * mass * law * slope**2) - np.outer(mean, mean)) / share
            curvature += 0.5 * mass * law * bend
        inverse = basis @ np.linalg.inv(basis.T @ (curvature[:, None] * basis)) @ basis.T
        covariances.append(inverse @ variance @ inverse)
    return np.stack(covariances)


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of some repetitions."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def check(what: str, difference: float, most: float) -> float:
    """Return a difference, or stop if it is too large."""
    if not difference <= most:
        raise SystemExit(f"{what} of both must agree to {most:g}, got {difference:.1e}")
    return difference


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, help="prompts (default 20 1000)")
    parser.add_argument("--responses", type=int, default=RESPONSES, help="responses (default 64)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions (default 7; of the scipy loop 3 at most)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    about, rows, differences = machine("numpy", "scipy"), [], {}
    with threadpool_limits(1):
        our_targets(build(1, arguments.responses))  # what is imported and cached on first use is not measured
        for prompts in arguments.prompts:
            problem, some = build(prompts, arguments.responses), min(prompts, PEER_PROMPTS)
            known = our_targets(problem)
            found = peer_targets(problem, some, known)
            covariances = [asymptotic_covariance(problem, "rdro"), peer_covariance(problem, known["rdro"])]
            gap = float(np.abs(covariances[0] - covariances[1]).max() / np.abs(covariances[1]).max())
            differences[prompts] = {"covariance": check("covariances", gap, 1e-9)} | {
                method: check(f"targets of {method}", float(np.abs(known[method][:some] - law).max()), 1e-6)
                for method, law in found.items()
            }
            repeats = arguments.repeats
            loop = [
                prompts / some * second
                for second in timed(lambda: peer_targets(problem, some, known), min(3, repeats))  # noqa: B023
            ]
            scaled = "scipy BFGS, prompt by prompt" + (f", {some} prompts scaled" if some < prompts else "")
            times = {
                "time of all targets": (timed(lambda: our_targets(problem), repeats), scaled, loop),  # noqa: B023
                "time of rdro's covariance": (
                    timed(lambda: asymptotic_covariance(problem, "rdro"), repeats),  # noqa: B023
                    "numpy, prompt by prompt",
                    timed(lambda: peer_covariance(problem, known["rdro"]), repeats),  # noqa: B023
                ),
            }
            for quantity, (ours, name, peer) in times.items():
                about_size = ("prompts", prompts, quantity, "s")
                aim = TARGET_SECONDS if prompts == max(arguments.prompts) else None
                rows.append(measurement("relratio, all prompts at once", "ours", *about_size, ours, target=aim))
                rows.append(measurement(name, "peer", *about_size, peer))
                middle, other = statistics.median(ours), statistics.median(peer)
                met = "" if aim is None else f" (target {aim:g} s: {'met' if middle <= aim else 'missed'})"
                print(
                    f"{prompts} prompts, {quantity}: {middle:.4g} s{met}, {name} {other:.4g} s, "
                    f"ratio {other / middle:,.1f}",
                    flush=True,
                )
            print(f"{prompts} prompts, largest differences: {differences[prompts]}", flush=True)
    facts = {"responses": arguments.responses, "alpha": ALPHA, "beta": BETA, "largest_differences": differences}
    save(arguments.output, "population", about, 1, rows, **facts)


if __name__ == "__main__":
    main()
