"""What became of replicated runs: a status and metrics per replicate, and the long table that studies store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from theory.checks import FloatArray

if TYPE_CHECKING:
    import pandas as pd  # which the workers of a study do not need, and whose import takes long

__all__ = ["ROWS", "Outcome"]

ROWS = pa.schema(
    {
        "method": pa.string(),
        "replicate": pa.int64(),
        "status": pa.string(),
        "metric": pa.string(),
        "value": pa.float64(),
        "exact": pa.float64(),
    }
)
"""Columns of what a study stores of each replicate, beside those of its cell."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Statuses and metrics of one method's replicates.

    Attributes
    ----------
    method, label : str
        Registry name, and the name in tables.
    status : ndarray of str
        "ok", "nonconverged", "diverged" or "error", shape (replicates,).
    metrics : dict of str to ndarray
        Values of each metric, shape (replicates,); NaN where a replicate has none.
    exact : dict of str to float
        The value of a metric at the method's exact target, where there is one.

    Examples
    --------
    >>> outcome = Outcome("rdro", "rdro", np.array(["ok", "ok"]), {"tv": np.array([0.1, 0.2])}, {"tv": 0.0})
    >>> outcome.table().value.to_list()
    [0.1, 0.2]
    """

    method: str
    label: str
    status: NDArray[np.str_]
    metrics: dict[str, FloatArray]
    exact: dict[str, float]

    def rows(self) -> pa.Table:
        """Return the metrics as a long table with the columns of `ROWS`; missing values are null."""
        metrics, replicates = len(self.metrics), len(self.status)
        statuses, codes = np.unique(
            np.concatenate([self.status_of(name) for name in self.metrics]), return_inverse=True
        )
        exact = np.array([self.exact.get(name, np.nan) for name in self.metrics])
        columns = [
            pa.repeat(self.label, metrics * replicates),
            pa.array(np.tile(np.arange(replicates), metrics)),
            _strings(codes, statuses.tolist()),
            _strings(np.repeat(np.arange(metrics), replicates), [*self.metrics]),
            pa.array(np.concatenate([*self.metrics.values()]), pa.float64(), from_pandas=True),
            pa.array(np.repeat(exact, replicates), from_pandas=True),
        ]
        return pa.Table.from_arrays(columns, schema=ROWS)

    def table(self) -> "pd.DataFrame":
        """Return the metrics as a long table: method, replicate, status, metric, value, exact."""
        return self.rows().to_pandas()

    def status_of(self, metric: str) -> NDArray[np.str_]:
        """Return the statuses of the values of a metric, shape (replicates,): those of the replicates."""
        return self.status


def _strings(codes: NDArray[np.integer], values: Sequence[str]) -> pa.StringArray:
    """Return the values that codes stand for; a string a row would take longer than many a fit."""
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(values, pa.string())).dictionary_decode()
