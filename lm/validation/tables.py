"""From runs to tables: runs, metrics, timing and their summary."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import special

from lm.files import replacing
from lm.validation.experiments import Run
from lm.validation.outcome import WHOLE_RUN, Outcome

__all__ = ["mean_interval", "part_bytes", "run_row", "runs_of", "share_interval", "summarise", "write_tables"]

_KEYS = ["study", "world", "n", "learning_rate", "method"]
_SCHEMA = pa.schema(
    {name: pa.string() for name in ("study", "world")}
    | {"n": pa.int64(), "learning_rate": pa.float64(), "method": pa.string(), "replicate": pa.int64()}
    | {"status": pa.string(), "step": pa.int64(), "metric": pa.string()}
    | {name: pa.float64() for name in ("value", "standard_error", "exact")}
)
_PARTS = ("total", "cpu", "preparing", "training", "measuring")  # of the time of a run
_RUN = b"relratio.run"  # where a part's metadata keep what became of the run


def run_row(run: Run, outcome: Outcome, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return what became of a run, timing included."""
    return {
        **run.columns,
        "status": outcome.status,
        "message": outcome.message,
        "steps": outcome.steps,
        "seed_key": f"{run.seed}:{run.replicate}",
        "reference": run.reference_key,
        **versions,
        **{f"seconds_{part}": outcome.seconds.get(part, 0.0) for part in _PARTS},
    }


def part_bytes(run: Run, outcome: Outcome, row: Mapping[str, Any]) -> bytes:
    """Return a run's metrics as the bytes of a Parquet file, with what became of it in the metadata."""
    rows = [
        {
            **run.columns,
            "status": outcome.status,
            "step": measured.step,
            "metric": measured.metric,
            "value": measured.score.value,
            "standard_error": measured.score.standard_error,
            "exact": measured.score.exact,
        }
        for measured in outcome.measurements
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata({_RUN: json.dumps(row).encode()}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def runs_of(part: Path) -> dict[str, Any]:
    """Return what became of the run of a saved part."""
    return dict(json.loads(pq.read_metadata(part).metadata[_RUN]))


def write_tables(folder: Path, parts: Sequence[Path]) -> None:
    """Write the tables of an experiment from its parts, in order.

    ``runs.parquet`` and ``metrics.parquet`` depend on settings alone, ``timing.parquet`` on the machine;
    ``summary.parquet`` is made of the metrics.
    """
    rows = pd.DataFrame([runs_of(part) for part in parts])
    timed = [name for name in rows if name.startswith("seconds")]
    metrics = pd.concat(
        [pq.read_table(part).replace_schema_metadata(None).to_pandas() for part in parts], ignore_index=True
    )
    tables = {
        "runs": rows.drop(columns=timed),
        "metrics": metrics,
        "timing": rows[[*_KEYS, "replicate", *timed]],
        "summary": summarise(metrics, rows),
    }
    for name, table in tables.items():
        with replacing(folder / f"{name}.parquet") as temporary:
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd")


def summarise(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Summarise repetitions.

    Parameters
    ----------
    metrics, runs : DataFrame
        As `write_tables` writes them.

    Returns
    -------
    DataFrame
        One row for each world, n, learning rate, method, step and metric: replicates; share_diverged with its exact
        (Clopper-Pearson) 95 % interval share_diverged_low, share_diverged_high; share_error; finite (values used),
        mean, standard_error, low, high (t's 95 % interval over repetitions) and max; exact (mean value at the exact
        targets). What was measured at a step is over runs that ended well, what was measured over whole runs
        (`lm.validation.outcome.WHOLE_RUN`) is over diverged ones as well.
    """
    counts = runs.groupby(_KEYS, sort=False)["status"].agg(
        replicates="size",
        diverged=lambda status: (status == "diverged").sum(),
        failed=lambda status: (status == "error").sum(),
    )
    rows = []
    for key, group in metrics.groupby([*_KEYS, "step", "metric"], sort=False):
        cell = counts.loc[key[:-2]]
        used = group if key[-1] in WHOLE_RUN else group[group["status"] == "ok"]
        values = used["value"].to_numpy()
        values = values[np.isfinite(values)]
        low, high = share_interval(int(cell["diverged"]), int(cell["replicates"]))
        rows.append(
            dict(zip([*_KEYS, "step", "metric"], key, strict=True))
            | {
                "replicates": int(cell["replicates"]),
                "share_diverged": cell["diverged"] / cell["replicates"],
                "share_diverged_low": low,
                "share_diverged_high": high,
                "share_error": cell["failed"] / cell["replicates"],
                "finite": len(values),
                **dict(zip(("mean", "standard_error", "low", "high"), mean_interval(values), strict=True)),
                "max": float(values.max()) if len(values) else np.nan,
                "exact": used["exact"].mean(),
            }
        )
    return pd.DataFrame(rows)


def mean_interval(values: np.ndarray) -> tuple[float, float, float, float]:
    """Return mean, standard error and t's 95 % interval; NaN where there are too few values.

    Examples
    --------
    >>> [round(value, 3) for value in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, 0.577, -0.484, 4.484]
    """
    count = len(values)
    mean = float(values.mean()) if count else np.nan
    if count < 2:
        return mean, np.nan, np.nan, np.nan
    error = float(values.std(ddof=1) / np.sqrt(count))
    reach = float(special.stdtrit(count - 1, 0.975)) * error
    return mean, error, mean - reach, mean + reach


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) 95 % interval of a share.

    Examples
    --------
    >>> [round(value, 3) for value in share_interval(0, 10)]
    [0.0, 0.308]
    """
    low = float(special.betaincinv(count, total - count + 1, 0.025)) if count else 0.0
    high = float(special.betaincinv(count + 1, total - count, 0.975)) if count < total else 1.0
    return low, high
