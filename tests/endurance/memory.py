"""Memory of a long run: does the resident size of a process grow with the number of tasks that it has done?

    python -m tests.endurance.memory --tasks 2000

One process runs a study of many small tasks. After each task its resident size is noted; the first fifth, in which
libraries and caches fill, is left out. The result is the slope of a line through the rest, in bytes a task, and the
peak while the tables are made.
"""

import argparse
import os
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.engine.runner import run_study
from sim.engine.study import StudyConfig, parse_study

_WARM_UP = 0.2
_LAWS = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Memory:
    """What a run needed.

    Attributes
    ----------
    slope : float
        Bytes of resident size a task.
    growth : float
        Difference of the means of the last and the first fifth that count, in MiB.
    resident : float
        Mean resident size, in MiB.
    peak : float
        Largest resident size, tables included, in MiB.
    """

    slope: float
    growth: float
    resident: float
    peak: float


def study_of(tasks: int) -> StudyConfig:
    """Return a study of many tasks of a few milliseconds each."""
    return parse_study(
        {
            "name": "long",
            "kind": "monte_carlo",
            "question": "Does memory grow?",
            "seed": 1,
            "worlds": [{"name": "laws", **_LAWS}],
            "methods": [{"label": "rdro", "method": "rdro"}],
            "profiles": {"quick": {"n": list(range(40, 40 + tasks)), "replicates": 5}},
        }
    )


def measure(tasks: int, output: Path) -> Memory:
    """Run a study of so many tasks in this process."""
    sizes: list[int] = []
    run_study(study_of(tasks), output, checked=True, progress=lambda done, total: sizes.append(_resident()))
    kept = np.array(sizes[int(_WARM_UP * len(sizes)) :], dtype=float)
    fifth = len(kept) // 5
    return Memory(
        slope=float(np.polyfit(np.arange(len(kept)), kept, 1)[0]),
        growth=float(kept[-fifth:].mean() - kept[:fifth].mean()) / _MEBIBYTE,
        resident=float(kept.mean()) / _MEBIBYTE,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _resident() -> int:
    """Return the resident size of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=2000, metavar="N", help="number of tasks (default: 2000)")
    tasks = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as folder:
        memory = measure(tasks, Path(folder))
    print(
        f"{tasks} tasks: {memory.resident:.0f} MiB resident, {memory.slope:.0f} bytes a task, "
        f"{memory.growth:+.2f} MiB from first to last fifth, peak with tables {memory.peak:.0f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
