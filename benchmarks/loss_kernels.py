"""Throughput of the elementwise losses and their gradients, against a bare softplus and its gradient.

Each contender returns value and gradient of the same 10^6 log-ratios in one thread, classes mixed. With NumPy in double
precision, ours are the losses of `theory` and their derivatives in closed form (first and second, as the module gives
them), the peer is ``logaddexp(0, u)`` and ``scipy.special.expit(u)``. With torch in single precision, where it is
installed, both are a forward and a backward pass, ours through the functions that the trainer calls. A softplus and its
gradient are one pass each over the memory; a loss needs some more for its classes, so that at most three times the
peer is aimed at for rdro. The answers checked are losses and gradients of rdro, against their formulas with the peer's
softplus and sigmoid.

torch stands at the target for rdro or misses it (``--libraries torch --repeats 25``): beside the logarithm 18
elementwise operations read and write all numbers, against the one fused softplus and its gradient. A choice by class
(torch.where) is no way out, nor is the gradient of torch.clip, which makes one: with mixed classes each takes as long
as a softplus. Values and gradients computed together, in place, would need fewer passes, at the price of a second place
for the gradient.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from support.child import machine
from support.published import measurement, save
from threadpoolctl import threadpool_limits

from theory import ddro_losses, kto_losses, loss_derivatives, mle_losses, rdro_losses, sft_losses

ALPHA, BETA, POINT = 0.4, 0.1, 0.3
SIZE = 10**6
TARGET = 1.0 / 3.0
LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "rdro": lambda u, c: rdro_losses(u, c, ALPHA),
    "ddro": lambda u, c: ddro_losses(u, c, ALPHA, beyond_domain="extend"),
    "mle": lambda u, c: mle_losses(u, c, ALPHA),
    "kto": lambda u, c: kto_losses(u, c, BETA, POINT),
    "sft": sft_losses,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "rdro": {"alpha": ALPHA},
    "ddro": {"alpha": ALPHA, "beyond_domain": "extend"},
    "mle": {"alpha": ALPHA},
    "kto": {"beta": BETA, "kl": POINT},
    "sft": {},
}
# Large arrays are otherwise given back to the system and fetched anew, page by page, at each temporary.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**31), "MALLOC_TRIM_THRESHOLD_": str(2**31)}


def numpy_work(u: np.ndarray, preferred: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return what computes value and gradient with NumPy, by contender."""

    def of(method: str) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        return lambda: (LOSSES[method](u, preferred), loss_derivatives(method, u, preferred, **OPTIONS[method]).first)

    return {method: of(method) for method in LOSSES} | {"softplus": lambda: (np.logaddexp(0.0, u), expit(u))}


def torch_work(u: np.ndarray, preferred: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return what computes value and gradient with torch, by contender."""
    import torch

    torch.set_num_threads(1)
    inputs, flags = torch.tensor(u, dtype=torch.float32, requires_grad=True), torch.tensor(preferred)

    def of(loss: Callable[[Any], Any]) -> Callable[[], tuple[Any, Any]]:
        def work() -> tuple[Any, Any]:
            losses = loss(inputs)
            return losses.detach(), torch.autograd.grad(losses.sum(), inputs)[0]

        return work

    return {method: of(lambda x, loss=loss: loss(x, flags)) for method, loss in LOSSES.items()} | {
        "softplus": of(torch.nn.functional.softplus)
    }


def measure(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each contender by repetition, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repetition in range(repeats + 1):
        for name, compute in work.items():
            start = time.perf_counter()
            compute()
            if repetition:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def check(what: str, found: Any, expected: Any, most: float) -> float:
    """Return the largest difference of two arrays, or stop if it is too large."""
    difference = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
    if not difference <= most:
        raise SystemExit(f"{what} must agree to {most:g}, got {difference:.1e}")
    return difference


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE, help="log-ratios (default 10^6)")
    parser.add_argument("--repeats", type=int, default=15, help="repetitions (default 15)")
    parser.add_argument("--libraries", nargs="+", choices=("numpy", "torch"), help="default: both, if torch is there")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    if not KEEP_MEMORY.items() <= os.environ.items():  # read by the allocator when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)
    libraries = arguments.libraries or ["numpy", *(["torch"] if find_spec("torch") else [])]
    rng = np.random.default_rng(20260404)
    u, preferred = rng.normal(-0.2, 1.0, arguments.size), rng.random(arguments.size) < ALPHA
    softplus, sigmoid = np.logaddexp(0.0, u), expit(u)
    value = np.where(preferred, (1.0 + ALPHA) * softplus - u, (1.0 - ALPHA) * softplus)
    slope = np.where(preferred, (1.0 + ALPHA) * sigmoid - 1.0, (1.0 - ALPHA) * sigmoid)
    about, rows, differences = machine("scipy", *libraries), [], {}
    with threadpool_limits(1):
        for library in libraries:
            work = (numpy_work if library == "numpy" else torch_work)(u, preferred)
            most = 1e-14 if library == "numpy" else 1e-5
            differences[library] = [
                check(f"{what} of rdro with {library} and their formulas", found, expected, most * (1.0 + abs(u).max()))
                for what, found, expected in zip(("losses", "gradients"), work["rdro"](), (value, slope), strict=True)
            ]
            seconds = measure(work, arguments.repeats)
            peer = statistics.median(seconds["softplus"])
            for method in LOSSES:
                about_size = ("log-ratios", arguments.size, f"value and gradient, {method}, {library}", "s")
                aim = TARGET if method == "rdro" else None
                rows.append(measurement(f"relratio, {method}", "ours", *about_size, seconds[method]))
                rows.append(measurement("bare softplus", "peer", *about_size, seconds["softplus"], target=aim))
                ours = statistics.median(seconds[method])
                met = "" if aim is None else f" (target at most 3: {'met' if peer >= aim * ours else 'missed'})"
                print(
                    f"{library}, {method}: {1e3 * ours:.4g} ms, softplus {1e3 * peer:.4g} ms, "
                    f"{ours / peer:.2f} times as long{met}",
                    flush=True,
                )
    save(arguments.output, "loss_kernels", about, 1, rows, alpha=ALPHA, beta=BETA, largest_differences=differences)


if __name__ == "__main__":
    main()
