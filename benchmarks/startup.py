"""How long a user waits before any work is done, with what Python's own world starts as the peer.

Every measurement is a fresh process, from its start to its end; contenders take turns. Measured are ``import theory``
beside ``import numpy``, ``--help`` of every command beside ``pip --help`` (of each package the slowest command is
published), a request that is refused at once beside pip's refusal, and the main job (``make figures``) where nothing is
left to do beside GNU make asked about the same tables. Make looks at times of files, the job at checksums of tables,
code and packages, and at every figure. No help may import torch.

The job runs on ``results/quick`` where a finished ``make figures`` has left it as the code is now (12 minutes of two
cores), else on tables with invented numbers, all of whose figures are drawn first. ``--parts job`` measures it alone,
but writes a result of it alone, too: for the published table run all parts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.child import machine
from support.published import measurement, save

from figures.job.freshness import is_fresh

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "sim": ("", "list", "estimate", "run", "collect", "status", "summary", "diff", "replay", "distance"),
    "lm": ("", "inspect", "precompute", "train", "evaluate", "validate"),
    "figures": ("",),
    "figures.reproduce": ("",),
}
REFUSED = {
    "sim": ("-m", "sim", "run", "no_such_study"),
    "lm": ("-m", "lm", "train", "--config", "tiny-qwen2", "--alpha", "wrong"),
    "figures": ("-m", "figures", "no_such_figure"),
}
PIP_HELP, PIP_REFUSES = ("-m", "pip", "--help"), ("-m", "pip", "no_such_command")
IMPORTS = {"relratio": "import theory", "numpy": "import numpy", "numpy and scipy": "import numpy, scipy.special"}
HELP_TARGET, JOB_TARGET = 0.5, 5.0  # seconds
MODULES = """\
import contextlib, io, runpy, sys
sys.argv = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
print(*sorted(sys.modules))
"""
MAKE_TABLES = """\
import sys
from pathlib import Path
from figures.job.freshness import write_stamp
from tests.figures.tables import write_tables
write_tables(Path(sys.argv[1]))
write_stamp(Path(sys.argv[1]), "quick")
"""


def seconds(*command: str, status: int = 0) -> float:
    """Return how long a command takes, which must end with the status."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    taken = time.perf_counter() - start
    if done.returncode != status:
        raise SystemExit(f"{' '.join(command)} must end with status {status}, got {done.returncode}\n{done.stderr}")
    return taken


def rounds(commands: dict[str, Sequence[str]], repeats: int, status: int = 0) -> dict[str, list[float]]:
    """Return the times of Python's processes by name; they take turns, and a first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, arguments in commands.items():
            taken = seconds(sys.executable, *arguments, status=status)
            if turn:
                times[name].append(taken)
    return times


def help_of(package: str, command: str) -> tuple[str, ...]:
    """Return the arguments of Python that show a command's help."""
    return ("-m", package, *((command,) if command else ()), "--help")


def modules_of_help(package: str, command: str) -> int:
    """Return the number of modules that a command's help imports, none of which may be torch."""
    arguments = (sys.executable, "-c", MODULES, *help_of(package, command)[1:])
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    if "torch" in modules:
        raise SystemExit(f"{' '.join(help_of(package, command))} must not import torch, got it imported")
    return len(modules)


def show(name: str, values: Sequence[float], target: float | None = None) -> None:
    """Print a line."""
    middle = statistics.median(values)
    aim = "" if target is None else f"; target {target:g} s: {'met' if middle < target else 'missed'}"
    print(f"{name:36} {middle:7.3f} s ({min(values):.3f} to {max(values):.3f}){aim}", flush=True)


def imports(repeats: int) -> list[dict[str, Any]]:
    """Measure imports."""
    times = rounds({name: ("-c", code) for name, code in IMPORTS.items()}, repeats)
    rows = []
    for name, values in times.items():
        ours = name == "relratio"
        target = HELP_TARGET if ours else None
        show(IMPORTS[name], values, target)
        about = ("packages", 1, "time to import theory", "s")
        rows.append(measurement(f"{name}: {IMPORTS[name]}", "ours" if ours else "peer", *about, values, target))
    return rows


def helps(repeats: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure the help of each command, and return also the medians and modules of all of them."""
    every = {(package, command): help_of(package, command) for package, names in COMMANDS.items() for command in names}
    named = {" ".join(arguments[1:]): arguments for arguments in every.values()}
    modules = {" ".join(arguments[1:]): modules_of_help(*key) for key, arguments in every.items()}
    times = rounds({**named, "pip --help": PIP_HELP}, repeats)
    for name, values in times.items():
        show(name, values, HELP_TARGET if name in named else None)
    rows = []
    for package, commands in COMMANDS.items():
        own = {name: times[name] for name, arguments in named.items() if arguments[1] == package}
        slowest = max(own, key=lambda name: statistics.median(own[name]))
        about = ("commands", len(commands), f"time of help, {package}", "s")
        rows.append(measurement(f"relratio: {slowest}", "ours", *about, own[slowest], HELP_TARGET))
        rows.append(measurement("pip --help", "peer", *about, times["pip --help"]))
    facts = {name: {"median": statistics.median(times[name]), "modules": modules[name]} for name in named}
    return rows, facts


def refusals(repeats: int) -> list[dict[str, Any]]:
    """Measure the time to the message about a wrong request."""
    theirs = rounds({"pip": PIP_REFUSES}, repeats, status=1)["pip"]
    ours = rounds(REFUSED, repeats, status=2)
    rows = []
    for package, values in ours.items():
        show(" ".join(REFUSED[package][1:]), values)
        about = ("commands", 1, f"time to refuse a request, {package}", "s")
        rows.append(measurement(f"relratio: {' '.join(REFUSED[package][1:4])}", "ours", *about, values))
        rows.append(measurement("pip no_such_command", "peer", *about, theirs))
    show("pip no_such_command", theirs)
    return rows


@contextmanager
def finished_job() -> Iterator[tuple[Path, Path]]:
    """Give folders of results and figures in which the main job has nothing to do."""
    results, output = ROOT / "results" / "quick", ROOT / "figures" / "output" / "quick"
    if is_fresh(results, "quick") and (output / "report.html").is_file():
        yield results, output
        return
    with tempfile.TemporaryDirectory() as name:
        results, output = Path(name, "results"), Path(name, "output")
        results.mkdir()
        seconds(sys.executable, "-c", MAKE_TABLES, str(results))
        yield results, output


def job(repeats: int) -> list[dict[str, Any]]:
    """Measure the main job with nothing to do."""
    with finished_job() as (results, output), tempfile.TemporaryDirectory() as folder:
        arguments = ("-m", "figures.reproduce", "--results", str(results), "--output", str(output))
        print(f"first run of the job: {seconds(sys.executable, *arguments):.1f} s", flush=True)
        tables = sorted(results.glob("*/*.parquet"))
        makefile, report = Path(folder, "Makefile"), output / "report.html"
        makefile.write_text(f"{report}: {' '.join(map(str, tables))}\n\ttouch $@\n", encoding="utf-8")
        os.utime(report)
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(repeats):
            times["ours"].append(seconds(sys.executable, *arguments))
            times["peer"].append(seconds("make", "--question", "--file", str(makefile)))
    show("second run of the main job", times["ours"], JOB_TARGET)
    show("make, of as many tables", times["peer"])
    about = ("tables", len(tables), "time of a job with nothing to do", "s")
    return [
        measurement("relratio: main job, by checksums", "ours", *about, times["ours"], JOB_TARGET),
        measurement("GNU make, by times of files", "peer", *about, times["peer"]),
    ]


def main() -> None:
    """Measure, print and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each contender (default: 5)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON result")
    arguments = parser.parse_args()
    about = machine("numpy", "scipy", "pip")
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"bare_python": rounds({"bare": ("-c", "pass")}, arguments.repeats)["bare"]}
    show("python -c pass", facts["bare_python"])
    for part in arguments.parts:
        found = PARTS[part](arguments.repeats)
        if isinstance(found, tuple):
            found, facts["help"] = found
        rows += found
    save(arguments.output, "startup", about, 1, rows, **facts)


PARTS = {"imports": imports, "help": helps, "refusals": refusals, "job": job}


if __name__ == "__main__":
    main()
