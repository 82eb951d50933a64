"""One table of what the benchmarks measured, from the results of their last runs.

``make bench`` writes one JSON file for each question into ``benchmarks/results/``, and this ends it by writing
``benchmarks/published.csv``, which is kept in the repository, since the times are those of one machine, and README's
table of those rows that have a target. A row is one quantity of one contender at one size: median, least and largest
of its repetitions.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["COLUMNS", "measurement", "publish", "save", "speed_table"]

COLUMNS = (
    *("question", "contender", "role", "size_name", "size", "quantity", "unit"),
    *("median", "low", "high", "repetitions", "ratio", "target"),
    *("processor", "cores", "threads", "load", "versions"),
)
"""Columns of the table.

``role`` is "ours" or "peer"; ``size`` counts what ``size_name`` says (responses, examples, tokens, ...); ``low`` and
``high`` are the least and the largest repetition. In the row of a peer, ``ratio`` is its median over that of ours, the
first one of the same size and quantity, and ``target`` the least ratio aimed at; in a row of ours, ``target`` is the
largest median aimed at. Both are empty where there is none. ``load`` is the load average of the machine before the
run, which tells whether others worked beside it; ``versions`` lists Python and the packages measured.
"""

_ROLES = ("ours", "peer")
_HERE = Path(__file__).resolve().parents[1]


def measurement(
    contender: str,
    role: str,
    size_name: str,
    size: int,
    quantity: str,
    unit: str,
    values: Sequence[float],
    target: float | None = None,
) -> dict[str, Any]:
    """Return the repetitions of one quantity of one contender at one size, as `save` takes them.

    Parameters
    ----------
    contender : str
        Who was measured.
    role : {"ours", "peer"}
        Whose code that is.
    size_name, size : str and int
        What was varied, and its value.
    quantity, unit : str
        What was measured: the less the better.
    values : sequence of float
        One for each repetition.
    target : float, optional
        Of a peer, how many times the median of ours it should need at least; of ours, the largest median aimed at.

    Returns
    -------
    dict
        The row.

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
    about = {"quantity": quantity, "unit": unit} | ({} if target is None else {"target": target})
    return {**named, **about, "values": [float(value) for value in values]}


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
        measured: list[dict[str, Any]] = content["measurements"]
        return [
            {"question": content["question"], **{name: row[name] for name in COLUMNS if name in row}}
            | {name: _digits(value) for name, value in _spread(row["values"]).items()}
            | {"repetitions": len(row["values"]), "ratio": _ratio(row, measured), **about}
            for row in measured
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} must be the result of a benchmark, got {problem}; remake it: make bench") from error


def _ratio(row: dict[str, Any], measured: list[dict[str, Any]]) -> str:
    """Return how many times our median a peer's is, or nothing if the row is ours or ours was not measured there."""
    if row["role"] == "ours":
        return ""
    alike = ("size_name", "size", "quantity")
    ours = [o for o in measured if o["role"] == "ours" and all(o[name] == row[name] for name in alike)]
    return _digits(statistics.median(row["values"]) / statistics.median(ours[0]["values"])) if ours else ""


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and largest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _digits(value: float) -> str:
    """Return a number to six significant digits: no clock is better."""
    return f"{value:.6g}"


def speed_table(published: Path) -> str:
    """Return a Markdown table of the published rows that have a target, and of what they were measured on.

    Parameters
    ----------
    published : Path
        CSV file of `publish`.

    Returns
    -------
    str
        A line for each target: medians with the least and largest repetition of ours and of the peer, the ratio, and
        whether it meets the target.

    Raises
    ------
    ValueError
        If a row with a target has nobody to be compared with.
    """
    with published.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [
        "| question | at | relratio | peer | peer over relratio | target |",
        "|---|---|---|---|---|---|",
        *(_line(row, rows) for row in rows if row["target"]),
    ]
    versions = dict.fromkeys(version for row in rows for version in row["versions"].split("; "))
    machines = dict.fromkeys(f"{row['processor']}, {row['cores']} cores" for row in rows)
    return "\n".join(["", *lines, "", f"Measured on: {'; '.join(machines)}. Versions: {', '.join(versions)}.", ""])


def _line(row: dict[str, str], rows: list[dict[str, str]]) -> str:
    """Return the line of the table of one row that has a target."""
    alike = ("question", "size_name", "size", "quantity")
    role = {"ours": "peer", "peer": "ours"}[row["role"]]
    others = [other for other in rows if other["role"] == role and all(other[name] == row[name] for name in alike)]
    if not others:
        raise ValueError(f"a row with a target must have a row to be compared with, got none for {row}")
    ours, peer = (row, others[0]) if role == "peer" else (others[0], row)
    target = float(row["target"])
    if role == "peer":
        met, aim = float(ours["median"]) <= target, f"at most {target:g} {ours['unit']}"
    else:
        met, aim = float(peer["ratio"]) >= target, f"at least {_number(target)}"
    cells = (
        f"{row['question']}, {row['quantity']}",
        f"{_number(float(row['size']))} {row['size_name']}",
        _cell(ours),
        _cell(peer),
        _number(float(peer["ratio"])),
        f"{aim}: {'met' if met else '**missed**'}",
    )
    return f"| {' | '.join(cells)} |"


def _cell(row: dict[str, str]) -> str:
    """Return median, range, unit and contender of a row."""
    middle, low, high = (_number(float(row[name])) for name in ("median", "low", "high"))
    return f"{middle} ({low} to {high}) {row['unit']}, {row['contender']}"


def _number(value: float) -> str:
    """Return a number to three significant digits, large and small ones with a power of ten.

    Examples
    --------
    >>> _number(1234.5), _number(1e6), _number(0.000012345)
    ('1,234', '10^6', '1.23e-05')
    """
    if value >= 1e6:
        exponent = len(f"{value:.0f}") - 1
        return f"10^{exponent}" if value == 10**exponent else f"{value:.3g}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def main() -> int:
    """Collect, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=_HERE / "results", help="folder of JSON results")
    parser.add_argument("--output", type=Path, default=_HERE / "published.csv", help="the CSV file to write")
    parser.add_argument("--readme", type=Path, help="file whose place for the table of targets is filled")
    arguments = parser.parse_args()
    try:
        count = publish(arguments.results, arguments.output)
        if arguments.readme:
            from figures.readme import fill  # not above: benchmarks import this module before they measure memory

            text = arguments.readme.read_text(encoding="utf-8")
            arguments.readme.write_text(fill(text, "speed", speed_table(arguments.output)), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.output}: {count} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
