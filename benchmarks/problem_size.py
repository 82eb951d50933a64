"""Time and memory of a simulated replicate against responses and prompts, with a scipy loop as the peer.

A replicate is drawn and fitted with RDRO. Examples grow with the cells and replicates shrink with them, so that every
batch holds about as many counts and no cell is empty. The peer fits the same counts with scipy's BFGS, prompt by
prompt, at those sizes that do not take it minutes; drawing is not counted, in its favour. That both find the same
policies is checked to 1e-8 after the timing. Time should grow linearly: slopes of log time on log size are printed.
Memory is the rise of the resident set's high-water mark in a process that draws and fits one batch; its peer is what
any code must hold, the counts of both classes and the policy at eight bytes a number. One core: threads are pinned to
one.
"""

import argparse
import statistics
import time
from itertools import chain
from pathlib import Path

import numpy as np
from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save
from tabular_fit import ALPHA, polished_policy, scipy_fit
from threadpoolctl import threadpool_limits

from sim import Counts, World
from sim.estimators import estimate
from sim.options import MethodOptions
from theory import FiniteProblem

RESPONSES = [10, 100, 1000, 10_000]
PROMPTS = [1, 10, 100, 1000]
OTHER_RESPONSES = 20  # where prompts are varied
CELLS = 200_000  # of a batch: replicates x prompts x responses
EXAMPLES_A_CELL = 1000
LARGEST_OF_PEER = {"responses": 100, "prompts": 10}  # BFGS on 1,000 logits would take minutes a fit
LINEAR = 1.1  # largest slope that is called linear
MEMORY_RESPONSES = [20, 200, 2000]
MEMORY_CELLS = 4_000_000
NUMBERS_A_CELL = 3  # two counts and a probability


def make_world(prompts: int, responses: int, rng: np.random.Generator) -> World:
    """Return a world of Dirichlet laws."""
    p_preferred, p_nonpreferred = rng.dirichlet(np.full(responses, 5.0), size=(2, prompts))
    problem = FiniteProblem(p_preferred, p_nonpreferred, alpha=ALPHA)
    return World("size", problem, "unpaired", problem.alpha)


def replicate(world: World, n: int, replicates: int, rng: np.random.Generator) -> tuple[Counts, np.ndarray]:
    """Draw data sets and fit them: counts and policies (replicates, prompts, responses)."""
    counts = world.sample(n, replicates, rng)
    return counts, estimate(world, counts, "rdro", MethodOptions(), rng).policies


def time_both(
    prompts: int, responses: int, cells: int, loop: int, repeats: int
) -> tuple[list[float], list[float], float]:
    """Return seconds a replicate of ours and of the peer, by repetition, and the largest difference of policies.

    The peer fits `loop` replicates; none leaves its list empty.
    """
    rng = np.random.default_rng(20260404)
    world = make_world(prompts, responses, rng)
    n, replicates = EXAMPLES_A_CELL * prompts * responses, max(1, cells // (prompts * responses))
    counts, policies = replicate(world, n, replicates, rng)  # imports and caches of first use
    loop = min(loop, replicates)
    ours, peer, fits = [], [], []
    for _ in range(repeats):
        start = time.perf_counter()
        counts, policies = replicate(world, n, replicates, rng)
        ours.append((time.perf_counter() - start) / replicates)
        if loop:
            start = time.perf_counter()
            fits = peer_fits(world, counts, loop)
            peer.append((time.perf_counter() - start) / loop)
    exact = np.reshape([polished_policy(*fit) for fit in fits], policies[:loop].shape)
    difference = float(np.abs(exact - policies[:loop]).max(initial=0.0))
    return ours, peer, difference


def peer_fits(world: World, counts: Counts, replicates: int) -> list[tuple[np.ndarray, ...]]:
    """Return logits, masses and reference of every prompt of some data sets, fitted by scipy.

    The policy of a prompt does not change with the scale of its masses, so that each prompt has mass one.
    """
    fits = []
    for i in range(replicates):
        up, down = (0.5 * count[i] / count[i].sum() for count in (counts.preferred, counts.nonpreferred))
        for preferred, nonpreferred, reference in zip(up, down, world.problem.reference, strict=True):
            total = preferred.sum() + nonpreferred.sum()
            problem = (preferred / total, nonpreferred / total, reference)
            fits.append((scipy_fit(*problem), *problem))
    return fits


def bytes_a_replicate(responses: int, replicates: int) -> dict[str, float]:
    """Return the rise of the peak of this process's memory over one batch, a replicate, in bytes."""
    rng = np.random.default_rng(20260404)
    world = make_world(1, responses, rng)
    with threadpool_limits(1):
        replicate(world, EXAMPLES_A_CELL * responses, 1, rng)  # what is imported on first use is not measured
        before = peak_mebibytes()
        replicate(world, EXAMPLES_A_CELL * responses, replicates, rng)
    return {"bytes": (peak_mebibytes() - before) * 2**20 / replicates}


def slope(sizes: list[int], seconds: list[list[float]]) -> float:
    """Return the least-squares slope of log median time on log size."""
    return float(np.polyfit(np.log(sizes), np.log([statistics.median(values) for values in seconds]), 1)[0])


def times(name: str, sizes: list[int], cells: int, loop: int, repeats: int) -> tuple[list[dict], dict[str, float]]:
    """Measure and print the times against one kind of size: what is published, and slopes by contender."""
    rows, kept = [], {"ours": [], "peer": []}
    for size in sizes:
        shape = (1, size) if name == "responses" else (size, OTHER_RESPONSES)
        with threadpool_limits(1):
            ours, peer, difference = time_both(*shape, cells, loop * (size <= LARGEST_OF_PEER[name]), repeats)
        if difference > 1e-8:
            raise SystemExit(f"both fits must agree to 1e-8, got {difference:.1e} at {size} {name}")
        kept["ours"].append(ours)
        about = (name, size, "time a replicate", "s")
        rows.append(measurement("relratio, drawing and fitting", "ours", *about, ours))
        line = f"{size:,} {name}: {1e6 * statistics.median(ours):,.1f} us a replicate"
        if peer:
            kept["peer"].append(peer)
            rows.append(measurement("scipy BFGS, prompt by prompt", "peer", *about, peer))
            line += f", scipy {statistics.median(peer) / statistics.median(ours):,.0f} times as long, "
            line += f"largest difference {difference:.1e}"
        print(line)
    slopes = {role: slope(sizes[: len(values)], values) for role, values in kept.items() if len(values) > 1}
    for role, value in slopes.items():
        judged = f" (at most {LINEAR}: {'met' if value <= LINEAR else 'missed'})" if role == "ours" else ""
        print(f"time grows as {name} to the power {value:.2f}, {role}{judged}")
    return rows, slopes


def memory(sizes: list[int], cells: int, rounds: int) -> list[dict]:
    """Measure and print memory against responses: what is published."""
    rows = []
    for size in sizes:
        replicates = max(1, cells // size)
        ours = [run_child(__file__, "--child", size, replicates, threads=1)["bytes"] for _ in range(rounds)]
        held = 8.0 * NUMBERS_A_CELL * size
        about = ("responses", size, "memory a replicate", "bytes")
        rows.append(measurement("relratio, peak", "ours", *about, ours))
        rows.append(measurement("counts and policy themselves", "peer", *about, [held]))
        middle = statistics.median(ours)
        print(
            f"{size:,} responses: {middle:,.0f} bytes a replicate at the peak, {middle / held:.1f} times what it holds"
        )
    return rows


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, nargs="+", default=RESPONSES, help="default 10 100 1000 10000")
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, help="default 1 10 100 1000")
    parser.add_argument("--cells", type=int, default=CELLS, help="replicates x prompts x responses (default 200000)")
    parser.add_argument("--loop", type=int, default=20, help="most replicates of the scipy loop (default 20)")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of each time (default 7)")
    parser.add_argument("--memory-responses", type=int, nargs="+", default=MEMORY_RESPONSES, help="default 20 200 2000")
    parser.add_argument(
        "--memory-cells", type=int, default=MEMORY_CELLS, help="of the measured batch (default 4000000)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes of each memory (default 3)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        report(bytes_a_replicate(*arguments.child))
        return
    about = machine("numpy", "scipy")
    budget = (arguments.cells, arguments.loop, arguments.repeats)
    measured = {name: times(name, getattr(arguments, name), *budget) for name in ("responses", "prompts")}
    rows = [*chain(*(rows for rows, _ in measured.values()))]
    rows += memory(arguments.memory_responses, arguments.memory_cells, arguments.rounds)
    facts = {"alpha": ALPHA, "examples_a_cell": EXAMPLES_A_CELL, "responses_of_prompts": OTHER_RESPONSES}
    slopes = {name: slopes for name, (_, slopes) in measured.items()}
    save(arguments.output, "problem_size", about, 1, rows, slopes=slopes, **facts)


if __name__ == "__main__":
    main()
