"""One table of what the benchmarks measured, from the results of their last runs.

``make bench`` writes one JSON file for each question into ``benchmarks/results/``, and this ends it by writing
``benchmarks/published.csv``, which is kept in the repository, since the times are those of one machine. A row is one
quantity of one contender at one size: median, least and largest of its repetitions.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["COLUMNS", "measurement", "publish", "save"]

COLUMNS = (
    *("question", "contender", "role", "size_name", "size", "quantity", "unit"),
    *("median", "low", "high", "repetitions", "processor", "cores", "threads", "load", "versions"),
)
"""Columns of the table.

``role`` is "ours" or "peer"; ``size`` counts what ``size_name`` says (responses, examples, tokens, ...); ``low`` and
``high`` are the least and the largest repetition; ``load`` is the load average of the machine before the run, which
tells whether others worked beside it; ``versions`` lists Python and the packages measured.
"""

_ROLES = ("ours", "peer")
_HERE = Path(__file__).resolve().parents[1]


def measurement(
    contender: str, role: str, size_name: str, size: int, quantity: str, unit: str, values: Sequence[float]
) -> dict[str, Any]:
    """Return the repetitions of one quantity of one contender at one size, as `save` takes them.

    Raises
    ------
    ValueError
        If `role` is neither "ours" nor "peer", or there are no values.

    Examples
    --------
    >>> measurement("scipy", "peer", "responses", 20, "time a fit", "s", [0.1, 0.3])["values"]
    [0.1, 0.3]
    """
    if role not in _ROLES:
        raise ValueError(f"role must be one of {', '.join(_ROLES)}; got {role!r}")
    if not len(values):
        raise ValueError(f"{contender} must have at least one value of {quantity}, got none")
    named = {"contender": contender, "role": role, "size_name": size_name, "size": int(size)}
    return {**named, "quantity": quantity, "unit": unit, "values": [float(value) for value in values]}


def save(
    folder: Path,
    question: str,
    machine: dict[str, Any],
    threads: int,
    measurements: Sequence[dict[str, Any]],
    **facts: Any,
) -> Path:
    """Write what a benchmark measured.

    Parameters
    ----------
    folder : Path
        Where to, made if it is missing.
    question : str
        Name of the benchmark's file, which names the question.
    machine : dict
        As `support.child.machine` returns it.
    threads : int
        Threads that each contender had.
    measurements : sequence of dict
        Of `measurement`.
    **facts
        Whatever else the file should tell, such as how well results agree.

    Returns
    -------
    Path
        The file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"question": question, "machine": machine, "threads": threads, **facts, "measurements": [*measurements]}
    path = folder / f"{question}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def publish(results: Path, output: Path) -> int:
    """Write the table of all results, and return its number of rows.

    Parameters
    ----------
    results : Path
        Folder of the JSON files of `save`.
    output : Path
        CSV file.

    Returns
    -------
    int
        Rows written; the same results give the same bytes.

    Raises
    ------
    ValueError
        If there is no result, or a file is not one; nothing is written then.
    """
    paths = sorted(results.glob("*.json"))
    if not paths:
        raise ValueError(f"{results} must hold results of benchmarks, got none; make them with: make bench")
    rows = [row for path in paths for row in _rows(path)]
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of one result."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        machine, versions = content["machine"], content["machine"]["versions"]
        about = {
            **{name: machine[name] for name in ("processor", "cores", "load")},
            "threads": content["threads"],
            "versions": "; ".join(f"{package} {version}" for package, version in versions.items()),
        }
        return [
            {"question": content["question"], **{name: row[name] for name in COLUMNS if name in row}}
            | {name: _digits(value) for name, value in _spread(row["values"]).items()}
            | {"repetitions": len(row["values"]), **about}
            for row in content["measurements"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} must be the result of a benchmark, got {problem}; remake it: make bench") from error


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and largest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _digits(value: float) -> str:
    """Return a number to six significant digits: no clock is better."""
    return f"{value:.6g}"


def main() -> int:
    """Collect, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=_HERE / "results", help="folder of JSON results")
    parser.add_argument("--output", type=Path, default=_HERE / "published.csv", help="the CSV file to write")
    arguments = parser.parse_args()
    try:
        count = publish(arguments.results, arguments.output)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.output}: {count} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
