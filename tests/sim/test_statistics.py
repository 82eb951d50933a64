"""Means, shares and rates say what they claim."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from scipy.stats import chi2, t

from sim.statistics import STATUSES, fit_rate, fit_rates, summarise

N = np.array([100, 300, 1000, 3000, 10_000])


def metrics(values, status="ok", **columns):
    """Return a table of metrics of one method."""
    rows = {"study": "s", "world": "w", "n": 10, "method": "m", "replicate": np.arange(len(values)), "status": status}
    return pd.DataFrame(rows | {"metric": "tv_target", "value": values, "exact": 0.0} | columns)


def power_law(rng, *, slope=-0.5, error=0.02, bend=0.0):
    """Return a synthetic curve with a known slope and known relative errors."""
    mean = 2.0 * N**slope * (1.0 + bend / np.sqrt(N))
    return pd.DataFrame(
        {"n": N, "mean": mean * np.exp(error * rng.standard_normal(len(N))), "standard_error": error * mean}
    )


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


def test_a_fit_agrees_with_scipy():
    curve = power_law(np.random.default_rng(2))
    fit = fit_rate(curve)
    y, sigma = np.log(curve["mean"]), curve["standard_error"] / curve["mean"]
    best, covariance = curve_fit(lambda x, a, b: a + b * x, np.log(N), y, sigma=sigma, absolute_sigma=True)
    assert fit.slope == pytest.approx(best[1], abs=1e-7)
    assert fit.standard_error == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-6)
    residual = float((((y - best[0] - best[1] * np.log(N)) / sigma) ** 2).sum())
    assert fit.lack_of_fit_p == pytest.approx(chi2.sf(residual, 3), rel=1e-5)
    assert (fit.n_min, fit.n_max, fit.points) == (100, 10_000, 5)
    assert (fit.high - fit.low) / fit.standard_error == pytest.approx(2 * 1.959963985, rel=1e-8)


def test_the_interval_of_a_slope_covers_it_and_the_test_keeps_its_level():
    rng = np.random.default_rng(3)
    fits = [fit_rate(power_law(rng)) for _ in range(2000)]
    covered = sum(fit.low <= -0.5 <= fit.high for fit in fits)
    rejected = sum(fit.lack_of_fit_p < 0.05 for fit in fits)
    # Binomial(2000, .95 and .05): four standard deviations are 39; the weights' own noise adds order error^2 = 4e-4.
    assert abs(covered - 1900) <= 40
    assert abs(rejected - 100) <= 40


def test_a_bent_curve_is_found_out():
    fit = fit_rate(power_law(np.random.default_rng(4), error=0.005, bend=5.0))
    assert fit.lack_of_fit_p < 1e-3 and fit.slope < -0.5


def test_weights_follow_the_errors():
    curve = power_law(np.random.default_rng(5), error=1e-6)
    curve.loc[0, ["mean", "standard_error"]] = [50.0, 500.0]  # nothing is known about the first point
    assert fit_rate(curve).slope == pytest.approx(-0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 0.0}, "mean of a rate fit must be finite and greater than 0, got 0"),
        ({"standard_error": np.nan}, "standard_error of a rate fit must be finite and greater than 0, got nan"),
        ({"n": 1000.0}, "a rate fit must have at least 3 different sample sizes, got"),
    ],
)
def test_a_fit_without_meaning_is_refused(change, message):
    curve = power_law(np.random.default_rng(6)).astype(float)
    curve.loc[0, list(change)] = list(change.values())
    with pytest.raises(ValueError, match=message):
        fit_rate(curve)


def test_two_points_are_not_a_rate():
    with pytest.raises(ValueError, match="a rate fit must have at least 3 different sample sizes, got"):
        fit_rate(power_law(np.random.default_rng(7)).head(2))


def summary_of(metric, exact, *, alpha=0.5, rows=5):
    """Return a summary of one curve with slope -1/2."""
    keys = {"study": "s", "world": "w", "n": N, "alpha": alpha, "method": "m", "metric": metric}
    numbers = {"mean": 1 / np.sqrt(N), "standard_error": 0.01 / np.sqrt(N), "exact": exact}
    numbers |= {"replicates": 200, "finite": 200}
    return pd.DataFrame(keys | numbers).astype({"exact": "Float64"}).head(rows)


def test_rates_are_fitted_where_the_metric_tends_to_zero():
    table = pd.concat(
        [
            summary_of("tv_target", 0.0),
            summary_of("tv_preferred", 1e-12, alpha=0.2),
            summary_of("tv_preferred", 0.3, alpha=0.3),
            summary_of("tv_preferred", pd.NA, alpha=0.4),
            summary_of("max_ratio", 3.0),
            summary_of("tv_target", 0.0, alpha=0.6, rows=2),
        ]
    )
    rates = fit_rates(table)
    assert rates[["alpha", "metric"]].to_numpy().tolist() == [[0.5, "tv_target"], [0.2, "tv_preferred"]]
    assert rates["slope"].to_numpy() == pytest.approx([-0.5, -0.5], abs=1e-12)


def test_unusable_points_are_left_out_visibly():
    table = summary_of("tv_target", 0.0)
    table.loc[0, ["mean", "standard_error"]] = np.nan  # every fit diverged
    (rate,) = fit_rates(table).to_dict("records")
    assert (rate["n_min"], rate["points"]) == (300, 4)


def test_means_of_survivors_are_no_points_of_a_rate():
    table = summary_of("tv_target", 0.0)
    table.loc[0, "finite"] = 197
    (rate,) = fit_rates(table).to_dict("records")
    assert (rate["n_min"], rate["points"]) == (300, 4)


def test_no_curve_gives_an_empty_table_with_all_columns():
    rates = fit_rates(summary_of("max_ratio", 3.0))
    assert len(rates) == 0
    assert rates.columns.tolist() == [
        *("study", "world", "alpha", "method", "metric", "slope", "standard_error", "low", "high", "low90", "high90"),
        *("n_min", "n_max", "points", "lack_of_fit_p", "left_out", "unusable", "boot_low", "boot_high"),
    ]
