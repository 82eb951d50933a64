"""Cost of a simulated replicate against its sample size, with a sampler of single examples as the peer.

Both draw data sets of one world and fit RDRO to them. Ours draws the counts of all responses at once
(`sim.World.sample`); the peer draws every example with `numpy.random.Generator.choice` and counts them. One core: BLAS
threads are pinned to one.
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
from threadpoolctl import threadpool_limits

from sim import Counts, World, build_world, simulate

RESPONSES = 20
SIZES = [10**k for k in range(3, 10)]
LARGEST_OF_PEER = 10**6  # of 10^9 examples a data set would take minutes each
SPEC = {
    "name": "thumbs",
    "preference": "thumbs",
    "options": {"signal": 1.0, "bias": -0.5},
    "responses": RESPONSES,
}


def by_counts(world: World, n: int, replicates: int, rng: np.random.Generator) -> Counts:
    """Return data sets from the sampler of counts."""
    return world.sample(n, replicates, rng)


def by_examples(world: World, n: int, replicates: int, rng: np.random.Generator) -> Counts:
    """Return data sets whose every example is drawn by itself, one data set after the other."""
    problem, fraction = world.problem, float(world.label_fraction[0])
    law = np.concatenate([fraction * problem.p_preferred[0], (1.0 - fraction) * problem.p_nonpreferred[0]])
    drawn = [np.bincount(rng.choice(len(law), n, p=law / law.sum()), minlength=len(law)) for _ in range(replicates)]
    counts = np.array(drawn).reshape(replicates, 2, 1, RESPONSES)
    return Counts(counts[:, 0], counts[:, 1])


def seconds_a_replicate(
    draw: Callable[[World, int, int, np.random.Generator], Counts], n: int, replicates: int, repeats: int
) -> list[float]:
    """Return the time of drawing and fitting, over the number of replicates, for some repetitions."""
    world, rng = build_world(SPEC), np.random.default_rng(20260404)
    simulate(world, "rdro", n, 1, rng)  # what is imported and cached on first use is not measured
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
    about, rows = machine("numpy", "scipy"), {}
    with threadpool_limits(limits=1):
        for n in arguments.sizes:
            rows[n] = {"ours": seconds_a_replicate(by_counts, n, arguments.replicates, arguments.repeats)}
            if n <= LARGEST_OF_PEER:
                repeats = min(arguments.repeats, 3)
                rows[n]["peer"] = seconds_a_replicate(by_examples, n, arguments.peer_replicates, repeats)
    show(rows, arguments.repeats)
    save(arguments.output, "sample_size", about, 1, list(chain(*map(measured, rows, rows.values()))))


def measured(n: int, times: dict[str, list[float]]) -> list[dict[str, object]]:
    """Return what is published of one sample size."""
    contenders = {"ours": "relratio, counts", "peer": "numpy, example by example"}
    return [
        measurement(contenders[role], role, "examples", n, "time a replicate", "s", values)
        for role, values in times.items()
    ]


def show(rows: dict[int, dict[str, list[float]]], repeats: int) -> None:
    """Print a line for each sample size."""
    least = min(rows)
    first = statistics.median(rows[least]["ours"])
    print(f"drawing and fitting rdro, {RESPONSES} responses, medians of {repeats} repetitions (range)")
    for n, times in rows.items():
        ours = [1e6 * second for second in times["ours"]]
        middle = statistics.median(ours)
        line = f"n = {n:<13,} {middle:6.1f} us a replicate ({min(ours):.1f} to {max(ours):.1f}), "
        line += f"{middle / (1e6 * first):.2f} times that of n = {least:,}"
        if "peer" in times:
            line += f"; example by example {1e6 * statistics.median(times['peer']) / middle:,.0f} times as long"
        print(line)


if __name__ == "__main__":
    main()
