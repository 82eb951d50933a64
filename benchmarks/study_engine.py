"""What the engine of studies adds to the work of its tasks: check, seeds, parts on disk, tables.

Three questions, each with its peer, all contenders in processes of their own that take turns; their imports are not
timed. Results are compared between contenders.

1. A study at the quick profile with one worker against its tasks alone: the same data drawn and the same methods
   fitted in a bare loop, nothing checked, saved or summarised.
2. Two workers against one, on a study at the quick size, and with twenty and a hundred times its replicates. Starting
   the workers counts, as do the check before and the tables after, which one process makes.
3. Tasks that do nothing (each draws one number) through `sim.engine.runner.run_study`, tables included, against as many
   calls that `joblib.Memory` caches, from both of which the time of the bare loop is taken; and both again, when all is
   found saved. Of ours each task is one file, known by its checksum and therefore not flushed, and read again for the
   tables; Memory flushes nothing either.

What the engine adds at the quick profile does not shrink with the number of replicates, which is why the smallest
studies miss the target. Where it goes tells

    python -m cProfile -s cumulative -m sim run class_weighting --profile quick --output FOLDER --jobs 1

to every second of its tasks come .4 of `check_study`, which fits every method to one data set in every world, so that
no error comes after hours, and .4 of `collect`, of which .15 each for verdicts with rates and for statistics.

Two workers share neither these nor their own start, with which NumPy, SciPy and Arrow are imported twice. In a long
study it is the tables that one process makes alone:

    cd benchmarks && python -m cProfile -s cumulative study_engine.py --child class_weighting 1 10000

has a sixth of the time of `run_study` in `collect`, 20 ms a task of 1,000 replicates and two methods, half of it for
statistics (500 bootstrap draws of all replicates), the rest to read and write rows: then two workers could gain 1.7 at
best. The machine is no bound: ``--child class_weighting alone 10000`` takes as long when started twice at once.

A task that does nothing is some hundred calls of Arrow, NumPy and the system, of which none stands out:

    cd benchmarks && python -m cProfile -s cumulative study_engine.py --child trivial 1 2000

has, of the time of `run_study`, 37 % for what is the task's own (`draw_data`, `estimate_method`), 9 % for the row of
its run, 7 % for the bytes of its part, 17 % for its file and 6 % for the tables. Less would take several tasks to a
file. Tasks of the shipped studies take tens of milliseconds to seconds.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from support.child import machine, peak_mebibytes, report, run_child
from support.published import measurement, save

STUDIES = ("class_weighting", "wrong_alpha", "annotators", "label_noise")
SCALED, SCALED_REPLICATES = "class_weighting", (10_000, 50_000)
OVERHEAD_TARGET, SCALING_TARGET, TASK_TARGET = 1.0 / 1.2, 1.8, 0.001


class Numbers:
    """A world whose data sets are one number each."""

    def sample(self, n: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
        """Draw them."""
        return rng.random(replicates)


def build(settings: dict[str, Any]) -> Numbers:
    """Return the world."""
    return Numbers()


def check(world: Numbers, n: int, method: str, options: dict[str, Any]) -> None:
    """Refuse nothing."""


def estimate(
    world: Numbers, method: str, n: int, replicates: int, rng: np.random.Generator, *, label: str, data: np.ndarray
) -> Any:
    """Return the data as the estimates."""
    from sim.outcomes import Outcome

    return Outcome(method, label, np.full(len(data), "ok"), {"value": data}, {})


def trivial_study(tasks: int) -> Any:
    """Return a study of tasks that do nothing."""
    from sim.engine.kinds import KINDS, Kind
    from sim.engine.study import parse_study

    KINDS["trivial"] = Kind("study_engine:build", "study_engine:check", "study_engine:estimate", 1, metric="value")
    return parse_study(
        {
            "name": "trivial",
            "kind": "trivial",
            "question": "What does a task cost that does nothing?",
            "seed": 20260404,
            "worlds": [{"name": "numbers"}],
            "methods": [{"label": "echo", "method": "echo"}],
            "profiles": {"quick": {"n": [1], "replicates": tasks}},
        }
    )


def sized_study(name: str, replicates: int) -> Any:
    """Return a shipped study with some replicates at the quick profile; 0 for as many as it has; or the trivial one."""
    from sim.engine.study import load_study

    if name == "trivial":
        return trivial_study(replicates)
    study = load_study(name)
    quick = study.profile("quick")
    return replace(study, profiles={"quick": replace(quick, replicates=replicates or quick.replicates)})


def run_alone(name: str, replicates: int) -> dict[str, Any]:
    """Run the tasks of a study in a bare loop."""
    from threadpoolctl import threadpool_limits

    from sim.engine.tasks import draw_data, estimate_method, study_tasks

    tasks = study_tasks(sized_study(name, replicates), "quick")
    tasks[0].kind.load()
    total = 0.0
    start = time.perf_counter()
    with threadpool_limits(limits=1):
        for task in tasks:
            drawn = draw_data(task)
            for method in task.methods:
                total += float(np.nansum(finite(estimate_method(task, method, *drawn))))
    return {"seconds": time.perf_counter() - start, "tasks": len(tasks), "total": total}


def run_engine(name: str, replicates: int, jobs: int) -> dict[str, Any]:
    """Run a study."""
    from sim.engine.kinds import KINDS
    from sim.engine.runner import run_study

    study = sized_study(name, replicates)
    KINDS[study.kind].load()
    before = peak_mebibytes()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = run_study(study, folder, jobs=jobs)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        if run_study(study, folder, jobs=jobs).computed:
            raise SystemExit(f"a second run of {name} must have nothing to do, got tasks computed")
        again = time.perf_counter() - start
        recorded = float(result.table("timing")["seconds"].sum())
        total = float(np.nansum(finite(result.table("metrics"))))
        bytes_saved = sum(path.stat().st_size for path in result.folder.rglob("*.parquet"))
    if result.errors:
        raise SystemExit(f"no run of {name} must fail, got {result.errors[0]}")
    facts = {"recorded_seconds": recorded, "peak_mebibytes": peak_mebibytes() - before, "bytes": bytes_saved}
    return {"seconds": seconds, "again": again, "tasks": result.tasks, "total": total, **facts}


def run_memory(tasks: int) -> dict[str, Any]:
    """Call a function that does nothing, whose results are cached on disk."""
    from joblib import Memory

    with tempfile.TemporaryDirectory() as folder:
        call = Memory(folder, verbose=0).cache(drawn_number)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            total = sum(float(call(index)["value"].sum()) for index in range(tasks))
            times.append(time.perf_counter() - start)
    return dict(zip(("seconds", "again"), times, strict=True)) | {"tasks": tasks, "total": total}


def drawn_number(index: int) -> pd.DataFrame:
    """Return what a task that does nothing finds."""
    from sim.outcomes import Outcome

    drawn = np.random.default_rng((20260404, index)).random(1)
    return Outcome("echo", "echo", np.array(["ok"]), {"value": drawn}, {}).table()


def finite(table: pd.DataFrame) -> np.ndarray:
    """Return the values of a table, those that are not finite as NaN."""
    values = table["value"].to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def child(name: str, contender: str, size: int) -> dict[str, Any]:
    """Return what a contender reports from a process of its own."""
    return run_child(__file__, "--child", name, contender, size, threads=1)


def take_turns(name: str, contenders: tuple[str, ...], size: int, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Return the reports of contenders, whose results must agree."""
    runs: dict[str, list[dict[str, Any]]] = {contender: [] for contender in contenders}
    for _ in range(repeats):
        for contender in contenders:
            runs[contender].append(child(name, contender, size))
    totals = [run["total"] for run in itertools.chain(*runs.values())]
    if "memory" not in contenders and not np.allclose(totals, totals[0], rtol=1e-12):
        raise SystemExit(f"all contenders on {name} must find the same, got sums of values {totals}")
    return runs


def compared(
    runs: dict[str, list[dict[str, Any]]], ours: tuple[str, str], peer: tuple[str, str], quantity: str, target: float
) -> list[dict[str, Any]]:
    """Print how many times as long the peer takes, and return both rows; each is a key of `runs` and a name."""
    times = {key: [run["seconds"] for run in runs[key]] for key, _ in (ours, peer)}
    ratio = statistics.median(times[peer[0]]) / statistics.median(times[ours[0]])
    tasks = runs[ours[0]][0]["tasks"]
    print(
        f"{quantity}, {tasks:,} tasks: {ours[1]} {statistics.median(times[ours[0]]):.2f} s, "
        f"{peer[1]} {statistics.median(times[peer[0]]):.2f} s, ratio {ratio:.3f}; "
        f"target {target:.3f}: {'met' if ratio >= target else 'missed'}",
        flush=True,
    )
    about = ("tasks", tasks, quantity, "s")
    return [
        measurement(ours[1], "ours", *about, times[ours[0]]),
        measurement(peer[1], "peer", *about, times[peer[0]], target),
    ]


def bookkeeping(runs: dict[str, list[dict[str, Any]]], tasks: int) -> list[dict[str, Any]]:
    """Print what keeping a task costs, its own time taken off, and to find one saved, and return the rows."""
    own = statistics.median(run["seconds"] for run in runs["alone"])
    rows = []
    for key, quantity in (("seconds", "time to keep a task"), ("again", "time to find a saved task")):
        less = own if key == "seconds" else 0.0
        ours, peer = ([(run[key] - less) / tasks for run in runs[contender]] for contender in ("1", "memory"))
        middle = statistics.median(ours)
        print(
            f"{quantity}, of {tasks:,}: {1e3 * middle:.3f} ms, joblib.Memory {1e3 * statistics.median(peer):.3f} ms; "
            f"target {1e3 * TASK_TARGET:g} ms: {'met' if middle <= TASK_TARGET else 'missed'}",
            flush=True,
        )
        rows.append(measurement("relratio, study", "ours", "tasks", tasks, quantity, "s", ours, TASK_TARGET))
        rows.append(measurement("joblib.Memory", "peer", "tasks", tasks, quantity, "s", peer))
    return rows


def main() -> None:
    """Measure, print and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", default=STUDIES, help=f"studies (default: {' '.join(STUDIES)})")
    parser.add_argument("--replicates", type=int, default=0, help="replicates of a cell (default: those of quick)")
    parser.add_argument(
        "--scaled", type=int, nargs="+", default=SCALED_REPLICATES, help="replicates for two workers (10000 50000)"
    )
    parser.add_argument("--tasks", type=int, default=2000, help="tasks that do nothing (default: 2000)")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions (default: 5; of long runs 3 at most)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, contender, size = arguments.child
        kinds = {"alone": run_alone, "memory": lambda _, tasks: run_memory(tasks)}
        report(kinds[contender](name, int(size)) if contender in kinds else run_engine(name, int(size), int(contender)))
        return
    about, rows, few = machine("numpy", "pandas", "pyarrow", "joblib"), [], min(arguments.repeats, 3)
    facts: dict[str, Any] = {}
    for name in arguments.studies:
        runs = take_turns(name, ("1", "alone"), arguments.replicates, arguments.repeats)
        pair = ("1", "relratio, study"), ("alone", "its tasks alone")
        rows += compared(runs, *pair, f"time of {name}, quick", OVERHEAD_TARGET)
        facts[name] = [run["recorded_seconds"] for run in runs["1"]]
    for replicates in (arguments.replicates, *arguments.scaled):
        runs = take_turns(SCALED, ("2", "1"), replicates, few)
        pair = ("2", "relratio, 2 workers"), ("1", "relratio, 1 worker")
        found = compared(runs, *pair, f"time of {SCALED}", SCALING_TARGET)
        if replicates == arguments.replicates:
            del found[1]["target"]  # at the quick size most is what does not scale
        rows += found
    runs = take_turns("trivial", ("1", "alone", "memory"), arguments.tasks, few)
    rows += bookkeeping(runs, arguments.tasks)
    facts["trivial"] = {name: [run[name] for run in runs["1"]] for name in ("peak_mebibytes", "bytes")}
    print(f"peak memory {max(facts['trivial']['peak_mebibytes']):.0f} MiB more than before the study")
    save(arguments.output, "study_engine", about, 1, rows, facts=facts)


if __name__ == "__main__":
    main()
