"""What became of replicated runs: a status and metrics per replicate, and the long table that studies store."""

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
        frames = [
            pd.DataFrame(
                {
                    "method": self.label,
                    "replicate": np.arange(len(values)),
                    "status": self.status,
                    "metric": name,
                    "value": values,
                    "exact": self.exact.get(name, np.nan),
                }
            )
            for name, values in self.metrics.items()
        ]
        return pd.concat(frames, ignore_index=True)
