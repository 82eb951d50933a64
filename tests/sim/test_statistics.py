"""Means and shares say what they claim."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from sim.statistics.summary import STATUSES, summarise


def metrics(values, status="ok", **columns):
    """Return a table of metrics of one method."""
    rows = {"study": "s", "world": "w", "n": 10, "method": "m", "replicate": np.arange(len(values)), "status": status}
    return pd.DataFrame(rows | {"metric": "tv_target", "value": values, "exact": 0.0} | columns)


def test_a_summary_of_good_replicates():
    values = np.random.default_rng(0).gamma(2.0, size=400)
    (row,) = summarise(metrics(values)).to_dict("records")
    assert (row["replicates"], row["finite"], row["share_ok"], row["exact"]) == (400, 400, 1.0, 0.0)
    assert row["mean"] == pytest.approx(values.mean(), rel=1e-14)
    error = values.std(ddof=1) / 20
    assert row["standard_error"] == pytest.approx(error, rel=1e-14)
    low, high = t.interval(0.95, 399, loc=values.mean(), scale=error)
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-10)
    expected = np.quantile(values, [0.025, 0.5, 0.975])
    assert (row["q025"], row["median"], row["q975"]) == pytest.approx(tuple(expected), rel=1e-14)


def test_failures_are_counted_and_do_not_enter_the_mean():
    status = ["ok", "ok", "nonconverged", "diverged", "diverged", "error", "ok", "ok"]
    values = [1.0, 3.0, 100.0, np.nan, np.nan, np.nan, np.inf, 2.0]
    (row,) = summarise(metrics(values, status)).to_dict("records")
    assert [row[f"share_{name}"] for name in STATUSES] == [4 / 8, 1 / 8, 2 / 8, 1 / 8, 0]
    assert (row["replicates"], row["finite"], row["mean"], row["median"]) == (8, 3, 2.0, 2.0)


def test_what_cannot_be_estimated_is_missing():
    (none,) = summarise(metrics([np.nan, np.nan], "diverged")).to_dict("records")
    assert none["finite"] == 0 and np.isnan([none["mean"], none["standard_error"], none["low"], none["median"]]).all()
    (one,) = summarise(metrics([2.0])).to_dict("records")
    assert one["mean"] == 2.0 and np.isnan([one["standard_error"], one["high"]]).all()


def test_a_missing_target_is_missing_and_not_a_number():
    table = summarise(pd.concat([metrics([1.0, 2.0], exact=np.nan), metrics([1.0, 2.0], n=20)]))
    assert table["exact"].dtype == "Float64"
    assert table["exact"].isna().tolist() == [True, False]


def test_groups_keep_their_order_and_swept_settings():
    frames = [
        metrics([1.0, 2.0], world=world, alpha=alpha, method=m) for world in "ba" for alpha in (0.5, 0.1) for m in "zy"
    ]
    table = summarise(pd.concat(frames))
    assert table.columns[:6].tolist() == ["study", "world", "n", "alpha", "method", "metric"]
    assert table["world"].tolist() == list("bbbbaaaa") and table["alpha"].tolist() == [0.5, 0.5, 0.1, 0.1] * 2
    assert table["method"].tolist() == list("zy") * 4


def test_the_interval_of_a_mean_covers_it():
    rng = np.random.default_rng(1)
    table = summarise(pd.concat([metrics(rng.normal(3.0, 1.0, 10), n=n) for n in range(1, 401)]))
    covered = int(((table["low"] <= 3.0) & (table["high"] >= 3.0)).sum())
    # Binomial(400, .95): four standard deviations are 4 * 4.4 = 17.
    assert abs(covered - 380) <= 17


def test_a_table_without_a_column_is_refused():
    with pytest.raises(ValueError, match=r"metrics must have the columns .*; got none called status"):
        summarise(metrics([1.0]).drop(columns="status"))
