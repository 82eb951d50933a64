"""Cost of a simulated replicate against its sample size, with a sampler of single examples as the peer.

Both draw data sets of one world and fit RDRO to them. Ours draws the counts of all responses at once
(`sim.World.sample`), so that a replicate of 10^12 examples should take no longer than one of 10^3; the peer draws every
example with `numpy.random.Generator.choice` and counts them. One core: BLAS threads are pinned to one.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
from support.child import machine
from support.published import measurement, save
from tabular_fit import verdict
from threadpoolctl import threadpool_limits

from sim import Counts, World, build_world, simulate

RESPONSES = 20
SIZES = [10**k for k in range(3, 13)]
LARGEST_OF_PEER = 10**6  # of 10^9 examples a data set would take minutes each
TARGET = 1000.0  # of the peer at its largest size
SPEC = {
    "name": "thumbs",
    "preference": "thumbs",
    "options": {"signal": 1.0, "bias": -0.5},
    "responses": RESPONSES,
}


def cell_law(world: World) -> np.ndarray:
    """Return the law of the cells (class, response) of a world of one prompt, preferred first, in one row."""
    problem, fraction = world.problem, float(world.label_fraction[0])
    law = np.concatenate([fraction * problem.p_preferred[0], (1.0 - fraction) * problem.p_nonpreferred[0]])
    return law / law.sum()


def by_counts(world: World, n: int, replicates: int, rng: np.random.Generator) -> Counts:
    """Return data sets from the sampler of counts."""
    return world.sample(n, replicates, rng)


def by_examples(world: World, n: int, replicates: int, rng: np.random.Generator) -> Counts:
    """Return data sets whose every example is drawn by itself, one data set after the other."""
    law = cell_law(world)
    drawn = [np.bincount(rng.choice(len(law), n, p=law), minlength=len(law)) for _ in range(replicates)]
    counts = np.array(drawn).reshape(replicates, 2, 1, RESPONSES)
    return Counts(counts[:, 0], counts[:, 1])


def seconds_a_replicate(
    draw: Callable[[World, int, int, np.random.Generator], Counts], n: int, replicates: int, repeats: int
) -> list[float]:
    """Return the time of drawing and fitting, over the number of replicates, for some repetitions."""
    world, rng = build_world(SPEC), np.random.default_rng(20260404)
    simulate(world, "rdro", n, replicates, rng)  # what is imported and cached on first use is not measured
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        simulate(world, "rdro", n, replicates, rng, data=draw(world, n, replicates, rng))
        times.append((time.perf_counter() - start) / replicates)
    return times


def main() -> None:
    """Measure, print a table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=4000, help="data sets of ours (default: 4000)")
    parser.add_argument("--peer-replicates", type=int, default=20, help="data sets of the peer (default: 20)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions (default: 7; of the peer 3 at most)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sample sizes (default: 10^3 to 10^9)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    about, rows = machine("numpy", "scipy"), {n: {} for n in arguments.sizes}
    with threadpool_limits(limits=1):
        for n in arguments.sizes:
            if n <= LARGEST_OF_PEER:
                repeats = min(arguments.repeats, 3)
                rows[n]["peer"] = seconds_a_replicate(by_examples, n, arguments.peer_replicates, repeats)
        for _ in range(arguments.repeats):  # in turns, so that sizes are compared with each other at the same time
            for n in arguments.sizes:
                rows[n].setdefault("ours", []).extend(seconds_a_replicate(by_counts, n, arguments.replicates, 1))
    show(rows, arguments.repeats)
    save(arguments.output, "sample_size", about, 1, list(chain(*map(measured, rows, rows.values()))))


def measured(n: int, times: dict[str, list[float]]) -> list[dict[str, object]]:
    """Return what is published of one sample size."""
    size = ("examples", n, "time a replicate", "s")
    ours = [measurement("relratio, counts", "ours", *size, times["ours"])]
    if "peer" not in times:
        return ours
    target = TARGET if n == LARGEST_OF_PEER else None
    return [*ours, measurement("numpy, example by example", "peer", *size, times["peer"], target)]


def show(rows: dict[int, dict[str, list[float]]], repeats: int) -> None:
    """Print a line for each sample size, and whether the cost is flat."""
    print(f"drawing and fitting rdro, {RESPONSES} responses, medians of {repeats} repetitions (range)")
    least, most = min(rows), max(rows)
    medians = {n: 1e6 * statistics.median(times["ours"]) for n, times in rows.items()}
    for n, times in rows.items():
        low, high = 1e6 * min(times["ours"]), 1e6 * max(times["ours"])
        line = f"n = {n:<17,} {medians[n]:6.1f} us a replicate ({low:.1f} to {high:.1f}), "
        line += f"{medians[n] / medians[least]:.2f} times that of n = {least:,}"
        if "peer" in times:
            ratio = 1e6 * statistics.median(times["peer"]) / medians[n]
            line += f"; example by example {ratio:,.0f} times as long"
            line += verdict(ratio, TARGET if n == LARGEST_OF_PEER else None)
        print(line)
    flat = "flat" if medians[most] <= medians[least] else "not flat"
    print(f"{flat}: {medians[most]:.1f} us at n = {most:,}, {medians[least]:.1f} us at n = {least:,}")


if __name__ == "__main__":
    main()
