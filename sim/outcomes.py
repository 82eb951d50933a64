"""What became of replicated runs: a status and metrics per replicate, and the long table that studies store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from theory.checks import FloatArray

__all__ = ["Outcome"]


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

    def table(self) -> pd.DataFrame:
        """Return the metrics as a long table: method, replicate, status, metric, value, exact."""
        metrics, replicates = len(self.metrics), len(self.status)
        codes, statuses = pd.factorize(self.status)
        return pd.DataFrame(
            {
                "method": _strings(np.zeros(metrics * replicates, dtype=np.intp), [self.label]),
                "replicate": np.tile(np.arange(replicates), metrics),
                "status": _strings(np.tile(codes, metrics), statuses),
                "metric": _strings(np.repeat(np.arange(metrics), replicates), [*self.metrics]),
                "value": np.concatenate([*self.metrics.values()]),
                "exact": np.repeat([self.exact.get(name, np.nan) for name in self.metrics], replicates),
            }
        )


def _strings(codes: NDArray[np.intp], values: Sequence[str]) -> pd.api.extensions.ExtensionArray | NDArray[np.object_]:
    """Return the values that codes stand for, as strings; a string a row would take longer than many a fit."""
    return pd.Series([*values], dtype=str).array.take(codes)
