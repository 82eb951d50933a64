"""Fits of log-linear policies, many data sets in one batch, against one by one with L-BFGS of scipy and of torch.

All minimise the balanced logistic RDRO risk over ``p_theta(y|x) ∝ p_ref(y|x) exp(phi(x, y).theta)`` on the same counts,
from the reference, theta = 0. The peers are scipy's L-BFGS-B with the analytic gradient and torch's L-BFGS with strong
Wolfe line search and autograd, both in float64, written from the formulas and without loops over prompts or responses.
They stop at a gradient of at most 1e-8 in every component of theta, where the risk is of order 1. After the timing
every fit of ours that a peer repeated must have a gradient no larger than the peer's or than 1e-10, and the same
policy to 1e-6 and risk to 1e-9 of its value. One core: threads of BLAS and torch are pinned to one.

What bounds ours (``--peers scipy``: 35 to 65 times as fast). A fit takes 3 Newton steps and a last look: 4 exponentials
and 4 logarithms of every cell (prompt and response), and, with 10 or 13 products with Hessians, 29 products with the
features at d = 10 and 35 at d = 100. On a core of an AMD EPYC these alone, which this file measures beside the fits,
take 4 x 1.0 + 29 x 0.1 = 7 us at d = 10 (100 cells) and 4 x 3.5 + 35 x 1.2 = 56 us at d = 100 (200 cells). Some 70
additions, products and sums over all cells in each look, 0.06 and 0.12 us each because a batch does not fit into the
second cache, add 17 and 34 us, and vectors of d numbers and the sorting out of finished fits 10 and 30 us. Batches that
fit there lose more, 3 ms each, to what calls of NumPy cost. 100 times the peer's speed would leave a fit some 20 and
75 us: less than these parts together. Explicit Hessians are no way out: at d = 10 one takes 15 us, by products of the
weights with all pairs of features, and a solution 1.2 us; a product of conjugate gradients, of which a step needs two
to four, takes 1 to 2 us.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from support.child import machine
from support.published import measurement, save
from threadpoolctl import threadpool_limits

from sim.log_linear import fit_log_linear
from sim.worlds import build_world

ALPHA = 0.5
EXAMPLES = 100_000
DIMENSIONS = [10, 100]
PROMPTS = [10, 20]  # those of the study, which leave 90 degrees of freedom; twice as many for 100 features
TOLERANCE = 1e-8  # largest component of the peers' gradients
TARGETS = {"scipy": 100, "torch": 20}
NAMES = {"scipy": "scipy L-BFGS-B, one by one", "torch": "torch L-BFGS, one by one"}


@dataclass(frozen=True, eq=False)
class Data:
    """Features (prompts, responses, d), reference (prompts, responses), and masses of both classes of all data sets."""

    features: np.ndarray
    reference: np.ndarray
    preferred: np.ndarray
    nonpreferred: np.ndarray


def draw(prompts: int, responses: int, dimension: int, replicates: int) -> Data:
    """Return data sets of a world of the study `log_linear` whose p+ is not log-linear, with balanced masses."""
    world = build_world(
        {
            "name": "hodge",
            "preference": "hodge",
            "options": {"cyclic_share": 0.3, "signal": 1.0},
            "prompts": prompts,
            "responses": responses,
            "features": dimension,
        }
    )
    counts = world.sample(EXAMPLES, replicates, np.random.default_rng(20260404))
    classes = (counts.preferred, counts.nonpreferred)
    masses = [0.5 * c / c.sum(axis=(1, 2), keepdims=True) for c in classes]
    return Data(world.features, world.problem.reference, *masses)


def fit_batch(data: Data) -> np.ndarray:
    """Return the parameters of all data sets, (data sets, d), fitted by the package."""
    fit = fit_log_linear(
        "rdro",
        data.features,
        data.reference,
        preferred=data.preferred,
        nonpreferred=data.nonpreferred,
        alpha=ALPHA,
    )
    if not (fit.status == "ok").all():
        raise SystemExit(f"all fits must converge, got {np.unique(fit.status).tolist()}")
    return fit.parameters


def numpy_objective(data: Data, i: int) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return risk and gradient of one data set, written from the formulas and independent of the package."""
    prompts, responses, dimension = data.features.shape
    flat = np.ascontiguousarray(data.features.reshape(prompts * responses, dimension))
    reference, preferred = data.reference, data.preferred[i]
    curved = (1.0 + ALPHA) * preferred + (1.0 - ALPHA) * data.nonpreferred[i]

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logits = (flat @ theta).reshape(prompts, responses)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        total = (reference * weights).sum(axis=1, keepdims=True)
        ratio = weights / total  # p_theta / p_ref
        softplus = np.log1p(ratio)
        log_ratio = logits - np.log(total)
        risk = np.vdot(curved, softplus) - np.vdot(preferred, log_ratio)
        slope = curved * (ratio / (1.0 + ratio)) - preferred
        slope -= reference * ratio * slope.sum(axis=1, keepdims=True)
        return float(risk), slope.ravel() @ flat

    return objective


def scipy_fits(data: Data, count: int) -> np.ndarray:
    """Return the parameters of the first data sets, fitted one by one with scipy."""
    start, options = np.zeros(data.features.shape[2]), {"ftol": 0.0, "gtol": TOLERANCE, "maxiter": 1000, "maxcor": 10}
    return np.stack(
        [
            minimize(numpy_objective(data, i), start, jac=True, method="L-BFGS-B", options=options).x
            for i in range(count)
        ]
    )


def torch_fits(data: Data, count: int) -> np.ndarray:
    """Return the parameters of the first data sets, fitted one by one with torch."""
    import torch

    flat = torch.tensor(data.features).flatten(0, 1)
    log_reference = torch.tensor(data.reference).log()

    def fit(preferred: Any, curved: Any) -> np.ndarray:
        theta = torch.zeros(flat.shape[1], dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [theta],
            max_iter=1000,
            tolerance_grad=TOLERANCE,
            tolerance_change=0.0,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Any:
            optimiser.zero_grad()
            log_policy = torch.log_softmax((flat @ theta).view_as(log_reference) + log_reference, dim=1)
            u = log_policy - log_reference
            risk = torch.vdot(curved, torch.nn.functional.softplus(u).flatten()) - torch.vdot(preferred, u.flatten())
            risk.backward()
            return risk

        optimiser.step(closure)
        return theta.detach().numpy()

    fits = []
    for i in range(count):
        preferred = torch.tensor(data.preferred[i]).flatten()
        nonpreferred = torch.tensor(data.nonpreferred[i]).flatten()
        fits.append(fit(preferred, (1.0 + ALPHA) * preferred + (1.0 - ALPHA) * nonpreferred))
    return np.stack(fits)


PEERS = {"scipy": scipy_fits, "torch": torch_fits}


def check(data: Data, ours: np.ndarray, theirs: np.ndarray, peer: str) -> dict[str, float]:
    """Return how far the fits of a peer are from ours, or raise unless they agree."""
    values = [[numpy_objective(data, i)(fit) for fit in pair] for i, pair in enumerate(zip(ours, theirs, strict=True))]
    risks = np.array([[risk for risk, _ in pair] for pair in values])
    gradients = np.array([[np.abs(gradient).max() for _, gradient in pair] for pair in values])
    logits = [data.features @ fits.T[None] + np.log(data.reference)[:, :, None] for fits in (ours, theirs)]
    policies = [softmax(values, axis=1) for values in logits]
    found = {
        "policy": float(np.abs(policies[0] - policies[1]).max()),
        "risk": float(np.abs(risks[:, 1] / risks[:, 0] - 1.0).max()),
        "our_gradient": float(gradients[:, 0].max()),
        "their_gradient": float(gradients[:, 1].max()),
    }
    if found["policy"] > 1e-6 or found["risk"] > 1e-9:
        raise SystemExit(f"fits of {peer} must agree to 1e-6 in policies and 1e-9 in risks, got {found}")
    if found["their_gradient"] > 1.1 * TOLERANCE:
        raise SystemExit(f"fits of {peer} must end at gradients of about {TOLERANCE}, got {found}")
    if (gradients[:, 0] > np.maximum(gradients[:, 1], 1e-10)).any():
        raise SystemExit(f"our gradients must be no larger than those of {peer} or 1e-10, got {found}")
    return found


def seconds(fit: Callable[[], np.ndarray], fits: int) -> tuple[float, np.ndarray]:
    """Return the time of one of several fits, and what was fitted."""
    start = time.perf_counter()
    parameters = fit()
    return (time.perf_counter() - start) / fits, parameters


def kernel_seconds(data: Data) -> dict[str, float]:
    """Return the times a fit that no batch can do without, once each: exp, log and both products with the features."""
    problems = min(500, len(data.preferred))
    flat = np.ascontiguousarray(data.features.reshape(-1, data.features.shape[2]))
    rng = np.random.default_rng(0)
    cells, vectors = rng.uniform(0.5, 2.0, (len(flat), problems)), rng.normal(size=(flat.shape[1], problems))
    tasks: dict[str, Callable[[], np.ndarray]] = {
        "exp": lambda: np.exp(cells),
        "log": lambda: np.log(cells),
        "product": lambda: flat @ vectors,
        "adjoint": lambda: flat.T @ cells,
    }
    return {name: min(seconds(task, problems)[0] for _ in range(20)) for name, task in tasks.items()}


def measure(data: Data, peers: Sequence[str], loop: int, repeats: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return seconds a fit of ours and of each peer, by repetition, and how well the fits agree."""
    contenders = {"ours": (lambda: fit_batch(data), len(data.preferred))}
    contenders |= {peer: (lambda peer=peer: PEERS[peer](data, loop), loop) for peer in peers}
    for peer in peers:
        PEERS[peer](data, 1)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    fits = {}
    for _ in range(repeats):
        for name, (fit, count) in contenders.items():
            took, fits[name] = seconds(fit, count)
            times[name].append(took)
    return times, {peer: check(data, fits["ours"][:loop], fits[peer], peer) for peer in peers}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS, help="features d (default: 10 100)")
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, help="prompts for each d (default: 10 20)")
    parser.add_argument("--responses", type=int, default=10, help="responses a prompt (default: 10)")
    parser.add_argument("--replicates", type=int, default=2000, help="data sets of the batch (default: 2000)")
    parser.add_argument("--loop", type=int, default=20, help="data sets of each peer (default: 20)")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="peers (default: scipy torch)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    about, measurements, agreement, kernels = machine("numpy", *arguments.peers), [], {}, {}
    if "torch" in arguments.peers:
        import torch

        torch.set_num_threads(1)
    if len(arguments.prompts) != len(arguments.dimensions):
        parser.error(f"--prompts must be as many as --dimensions, got {arguments.prompts} and {arguments.dimensions}")
    for dimension, prompts in zip(arguments.dimensions, arguments.prompts, strict=True):
        with threadpool_limits(1):
            data = draw(prompts, arguments.responses, dimension, arguments.replicates)
            kernels[dimension] = kernel_seconds(data)
            times, agreement[dimension] = measure(data, arguments.peers, arguments.loop, arguments.repeats)
        size = ("features", dimension, "time a fit", "s")
        ours = statistics.median(times["ours"])
        print(f"{dimension} features: {1e6 * ours:,.1f} us a fit in a batch of {arguments.replicates}")
        print("  alone: " + ", ".join(f"{name} {1e6 * took:.2f} us" for name, took in kernels[dimension].items()))
        measurements.append(measurement("relratio, batched", "ours", *size, times["ours"]))
        for peer in arguments.peers:
            theirs = statistics.median(times[peer])
            met = "met" if theirs / ours >= TARGETS[peer] else "missed"
            print(
                f"  {NAMES[peer]}: {1e6 * theirs:,.0f} us, ratio {theirs / ours:,.1f} (target {TARGETS[peer]}: {met}); "
                + ", ".join(f"{name} {value:.1e}" for name, value in agreement[dimension][peer].items())
            )
            measurements.append(measurement(NAMES[peer], "peer", *size, times[peer], TARGETS[peer]))
    facts = {"examples": EXAMPLES, "prompts": arguments.prompts, "responses": arguments.responses}
    save(arguments.output, "log_linear", about, 1, measurements, **facts, agreement=agreement, kernels=kernels)


if __name__ == "__main__":
    main()
