"""Time of fitting tabular policies to counts, against the time that drawing those counts takes.

No simulated replicate can cost less than its counts. Ours is the RDRO fit (`sim.estimators.estimate`: class weights,
policies, statuses); the peer is numpy's multinomial sampler, which draws the counts of both classes that are fitted.
A fit should take at most five times as long, for a hundred replicates as for a million. Replicates come in blocks of
the size that studies use, and each block is dropped after its fit, so that memory does not bound their number; draws
and fits take turns. One core: BLAS threads are pinned to one.

At 100 replicates of 20 responses (``--responses 20 --replicates 100``) a fit of all is some 400 calls of NumPy on at
most 2,000 numbers, 1 to 5 us each: about 1 ms at best on a core of an AMD EPYC, 3.5 times the 0.28 ms of drawing. Where
other work shares the core these short calls suffer more than the one long loop of the sampler, beyond the target.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from sample_size import SPEC, cell_law
from support.child import machine
from support.published import measurement, save
from tabular_fit import verdict
from threadpoolctl import threadpool_limits

from sim import Counts, build_world
from sim.engine.kinds import KINDS
from sim.estimators import estimate
from sim.options import MethodOptions

EXAMPLES = 100_000
RESPONSES = [20, 200]
REPLICATES = [10**k for k in range(2, 7)]
BLOCK = KINDS["monte_carlo"].block
ENOUGH = 100_000  # replicates of all repetitions together
TARGET = 0.2  # drawing over fitting, at the fewest and at the most replicates


def seconds_a_replicate(responses: int, replicates: int, repeats: int) -> tuple[list[float], list[float]]:
    """Return the times of drawing and of fitting over the number of replicates, for each repetition."""
    world, rng, options = build_world(SPEC | {"responses": responses}), np.random.default_rng(20260404), MethodOptions()
    law = cell_law(world)
    estimate(world, world.sample(EXAMPLES, 1, rng), "rdro", options, rng)  # imports and caches of first use
    drawing, fitting = np.zeros(repeats), np.zeros(repeats)
    for i in range(repeats):
        for first in range(0, replicates, BLOCK):
            start = time.perf_counter()
            drawn = rng.multinomial(EXAMPLES, law, size=min(BLOCK, replicates - first))
            middle = time.perf_counter()
            counts = drawn.reshape(-1, 2, 1, responses)
            status = estimate(world, Counts(counts[:, 0], counts[:, 1]), "rdro", options, rng).status
            end = time.perf_counter()
            drawing[i] += (middle - start) / replicates
            fitting[i] += (end - middle) / replicates
            if (status != "ok").any():
                raise SystemExit(f"every fit must be ok, got {sorted(set(status))} at {responses} responses")
    return drawing.tolist(), fitting.tolist()


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, nargs="+", default=RESPONSES, help="responses (default 20 200)")
    parser.add_argument("--replicates", type=int, nargs="+", default=REPLICATES, help="default 10^2, 10^3 to 10^6")
    parser.add_argument(
        "--repeats", type=int, default=51, help="most repetitions; fewer of many replicates (default 51)"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    about, measurements = machine("numpy"), []
    print(f"drawing counts of {EXAMPLES:,} examples, and fitting rdro to them, in blocks of {BLOCK:,}")
    for responses in arguments.responses:
        for replicates in arguments.replicates:
            repeats = max(1, min(arguments.repeats, ENOUGH // replicates))
            with threadpool_limits(1):
                drawing, fitting = seconds_a_replicate(responses, replicates, repeats)
            ratio = statistics.median(drawing) / statistics.median(fitting)
            target = TARGET if replicates in (min(arguments.replicates), max(arguments.replicates)) else None
            print(
                f"{responses} responses, {replicates:,} replicates: {1e6 * statistics.median(drawing):.1f} us a draw, "
                f"{1e6 * statistics.median(fitting):.1f} us a fit, ratio {ratio:.2f}{verdict(ratio, target)}"
            )
            size = (f"replicates of {responses} responses", replicates, "time a replicate", "s")
            measurements.append(measurement("relratio, fitting", "ours", *size, fitting))
            measurements.append(measurement("numpy, drawing the counts", "peer", *size, drawing, target))
    save(arguments.output, "drawing_floor", about, 1, measurements, examples=EXAMPLES, block=BLOCK)


if __name__ == "__main__":
    main()
