"""Thorough: every property test with 100,000 examples, which takes hours, in as many sittings as one likes.

    python -m tests.thorough --jobs 8 --limit 3600
    python -m tests.thorough tests/theory
    TMPDIR=/dev/shm python -m tests.thorough tests/fuzz
    python -m tests.thorough --report

Each test function has a pytest process of its own, under the Hypothesis profile `thorough` and with one thread; a
parametrised one divides its examples over its parameters. Those that have never run come first, then the cheapest.
How each ended is added to tests/thorough.csv at once, so whatever stops a sitting, only functions under way are lost; a
function that has passed is left out until the code that it tests changes. What each printed last is in
.hypothesis/thorough/. Those that read damaged files write each of them first, and on a disk wait for it most of the
time: hence a folder in memory above.

Columns: `examples` that Hypothesis drew and that passed, `seconds` of CPU, the `date` (UTC), the checksum of the
`sources`, and the `outcome`:

    passed      each case had all its examples, or all there are (`examples` is then below 100,000)
    failed      an example is wrong
    unfinished  the limit came first
    short       a case was skipped, or Hypothesis gave up looking for valid examples
    broken      pytest itself was killed or stopped
"""

import argparse
import ast
import csv
import functools
import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """How a test function ended; the module's docstring says what each column is."""

    function: str
    examples: int
    seconds: float
    outcome: str
    date: str
    sources: str


def collect(root: Path, paths: list[str]) -> list[str]:
    """Return the names of all property test functions in some files and folders, ``FILE::FUNCTION``."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-m", "hypothesis", *paths]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"pytest must collect property tests, got status {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return sorted({line.split("[")[0] for line in done.stdout.splitlines() if re.match(r"tests/\S+\.py::", line)})


@functools.cache
def parsed(path: Path, changed: int) -> ast.Module:
    """Return what a Python file does, changed at some time: neither comments nor docstrings nor line breaks count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def tree_of(path: Path) -> ast.Module:
    """Return what a Python file does now."""
    return parsed(path, path.stat().st_mtime_ns)


def home(root: Path, module: str, name: str = "") -> set[Path]:
    """Return the file of a module, or of a name in it; of a package that does not say where a name is from, all files.

    Modules of others have none.
    """
    if name and (submodule := home(root, f"{module}.{name}")):
        return submodule
    base = root.joinpath(*module.split("."))
    file, start = base.with_name(f"{base.name}.py"), base / "__init__.py"
    if file.exists():
        return {file}
    for node in tree_of(start).body if start.exists() else ():
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return home(root, node.module, name)
    return set(base.rglob("*.py")) if start.exists() else set()


def imports(root: Path, path: Path) -> set[Path]:
    """Return the files that a file imports from; of one that imports by names it computes, all of its package."""
    found: set[Path] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(*(home(root, alias.name) for alias in node.names))
        elif isinstance(node, ast.ImportFrom) and node.module == "importlib":
            found.update((root / path.relative_to(root).parts[0]).rglob("*.py"))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(*(home(root, node.module, alias.name) for alias in node.names))
    return found


def sources(root: Path, file: str) -> str:
    """Return a checksum of the code that a file tests with: itself, its folder's conftest, and whatever these import.

    The conftest of all tests is about the run: profiles, threads, skips.
    """
    test, known = root / file, set[Path]()
    waiting = {test, *(folder / "conftest.py" for folder in test.parents if folder.is_relative_to(root / "tests"))}
    waiting.discard(root / "tests" / "conftest.py")
    while waiting := {path for path in waiting - known if path.exists()}:
        known |= waiting
        waiting = set().union(*(imports(root, path) for path in waiting))
    digest = hashlib.sha256()
    for path in sorted(known):
        digest.update(f"{path.relative_to(root)}\n{ast.unparse(tree_of(path))}\n".encode())
    return digest.hexdigest()[:16]


def read(table: Path) -> list[Row]:
    """Return all rows, the oldest first; none where there is no table yet."""
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return [
            Row(**row | {"examples": int(row["examples"]), "seconds": float(row["seconds"])})
            for row in csv.DictReader(file)
        ]


def write(table: Path, row: Row) -> None:
    """Add a row."""
    new = not table.exists()
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def present(root: Path, functions: list[str], rows: list[Row]) -> dict[str, Row]:
    """Return what is known about functions at the present sources: that they have passed, or how they ended last."""
    known: dict[str, Row] = {}
    checksums = {file: sources(root, file) for file in {function.split("::")[0] for function in functions}}
    for row in rows:
        if (
            row.function in functions
            and row.sources == checksums[row.function.split("::")[0]]
            and (row.function not in known or known[row.function].outcome != "passed")
        ):
            known[row.function] = row
    return known


def start(root: Path, function: str, log: Path, limit: int) -> subprocess.Popen:
    """Begin to run a function, for at most `limit` seconds of CPU."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    command = [sys.executable, "-m", "pytest", function, "-m", "hypothesis", "--quiet", "-p", "no:cacheprovider"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--hypothesis-show-statistics"],
            cwd=root,
            env=os.environ | {"HYPOTHESIS_PROFILE": "thorough", "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, hard)),
        )


def outcome(status: int, output: str) -> tuple[int, str]:
    """Return the number of examples that passed, and in a word how pytest ended."""
    examples = sum(map(int, re.findall(r"- (\d+) passing", output)))
    reasons = re.findall(r"- Stopped because (.*)", output)
    whole = reasons and all(re.fullmatch(r"settings\.max_examples=\d+|nothing left to do", each) for each in reasons)
    if status == 0:
        return examples, "passed" if whole and not re.search(r"\d skipped", output) else "short"
    return examples, {1: "failed", -signal.SIGXCPU: "unfinished"}.get(status, "broken")


def run(root: Path, functions: list[str], jobs: int, limit: int) -> None:
    """Run functions, `jobs` at a time, and add a row for each; processes under way end with this one."""
    table, logs = root / "tests" / "thorough.csv", root / ".hypothesis" / "thorough"
    logs.mkdir(parents=True, exist_ok=True)
    seconds = {row.function: row.seconds for row in read(table)}
    waiting = sorted(functions, key=lambda function: seconds.get(function, 0.0), reverse=True)
    running: dict[int, tuple[str, str, Path, subprocess.Popen]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                function = waiting.pop()
                log = logs / f"{function.replace('/', '.').replace('::', '.')}.txt"
                process = start(root, function, log, limit)
                running[process.pid] = function, sources(root, function.split("::")[0]), log, process
            pid, status, usage = os.wait4(-1, 0)
            function, checksum, log, process = running.pop(pid)
            process.returncode = os.waitstatus_to_exitcode(status)
            examples, how = outcome(process.returncode, log.read_text(encoding="utf-8", errors="replace"))
            spent = round(usage.ru_utime + usage.ru_stime, 1)
            write(table, Row(function, examples, spent, how, datetime.now(UTC).date().isoformat(), checksum))
            print(f"{how:10} {examples:7} examples {spent:8.1f} s  {function}", flush=True)
    finally:
        for *_, process in running.values():
            process.kill()
            process.wait()


def report(functions: list[str], known: dict[str, Row]) -> str:
    """Return how much has passed at the present sources, and a line for each function that has not, or has run out."""
    passed = [row for row in known.values() if row.outcome == "passed"]
    lines = [f"{known[name].outcome if name in known else 'not run':10} {name}" for name in functions]
    lines = [line for line in lines if not line.startswith("passed ")]
    lines += [
        f"passed with all {row.examples} examples there are: {row.function}" for row in passed if row.examples < 100_000
    ]
    examples, hours = sum(row.examples for row in passed), sum(row.seconds for row in passed) / 3600
    return "\n".join(
        [
            *lines,
            f"{len(passed)} of {len(functions)} functions have passed at the present sources: "
            f"{examples:,} examples, {hours:.1f} hours of CPU",
        ]
    )


def main(arguments: list[str] | None = None, root: Path = Path(__file__).parents[1]) -> int:
    """Run what has not passed yet, and return 1 if something has failed at the present sources."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.thorough", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", default=["tests"], metavar="PATH", help="what to test (default: tests)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="at a time (default: all cores)")
    parser.add_argument(
        "--limit", type=int, default=36_000, metavar="SECONDS", help="of CPU for a function (default: 36000)"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, say what has passed")
    given = parser.parse_args(arguments)
    functions = collect(root, given.paths)
    table = root / "tests" / "thorough.csv"
    if not given.report:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        known = present(root, functions, read(table))
        done = {name for name, row in known.items() if row.outcome == "passed"}
        run(root, [name for name in functions if name not in done], given.jobs, given.limit)
    known = present(root, functions, read(table))
    print(report(functions, known))
    return int(any(row.outcome == "failed" for row in known.values()))


if __name__ == "__main__":
    sys.exit(main())
