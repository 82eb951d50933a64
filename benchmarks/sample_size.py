"""Cost of a simulated replicate against its sample size, with a sampler of single examples as the peer.

Both draw data sets of one world and fit RDRO to them. Ours draws the counts of all responses at once
(`sim.World.sample`); the peer draws every example with `numpy.random.Generator.choice` and counts them. One core: BLAS
threads are pinned to one.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from sim import Counts, World, build_world, simulate

RESPONSES = 20
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
    parser.add_argument("--repeats", type=int, default=7, help="repetitions (default: 7)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    rows = []
    with threadpool_limits(limits=1):
        for n in (10**3, 10**6, 10**9):
            ours = seconds_a_replicate(by_counts, n, arguments.replicates, arguments.repeats)
            # A peer of 10^9 examples a data set would take minutes each.
            peer = seconds_a_replicate(by_examples, n, arguments.peer_replicates, 3) if n <= 10**6 else None
            rows.append({"n": n, "seconds": ours, "peer_seconds": peer})
    first = statistics.median(rows[0]["seconds"])
    print(f"drawing and fitting rdro, {RESPONSES} responses, medians of {arguments.repeats} repetitions (range)")
    for row in rows:
        ours = [1e6 * second for second in row["seconds"]]
        middle = statistics.median(ours)
        line = f"n = {row['n']:<13,} {middle:6.1f} us a replicate ({min(ours):.1f} to {max(ours):.1f}), "
        line += f"{middle / (1e6 * first):.2f} times that of n = 1,000"
        if row["peer_seconds"]:
            line += f"; example by example {1e6 * statistics.median(row['peer_seconds']) / middle:,.0f} times as long"
        print(line)
    arguments.output.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    arguments.output.write_text(
        json.dumps({"versions": versions, "responses": RESPONSES, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
