"""Rates are those of the curves, at large n, with the errors they claim."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.optimize import curve_fit
from scipy.stats import chi2

from sim.statistics.accumulate import CellAccumulator, keyed_bootstrap
from sim.statistics.rates import asymptotic_sizes, complete
from sim.statistics.summary import fit_rate, fit_rates

N = np.array([100, 300, 1000, 3000, 10_000])


def power_law(rng, *, slope=-0.5, error=0.02, bend=0.0):
    """Return a synthetic curve with a known slope and known relative errors."""
    mean = 2.0 * N**slope * (1.0 + bend / np.sqrt(N))
    return pd.DataFrame(
        {"n": N, "mean": mean * np.exp(error * rng.standard_normal(len(N))), "standard_error": error * mean}
    )


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


def test_small_sizes_are_left_out_by_the_design_alone():
    assert asymptotic_sizes([10_000, 100, 316, 1_000, 3_162, 100_000, 31_622, 1_000_000]).tolist() == [
        *(10_000, 31_622, 100_000, 1_000_000)
    ]
    assert asymptotic_sizes([1, 10, 100, 1000]).tolist() == [1, 10, 100, 1000]  # four are kept
    assert asymptotic_sizes([300, 100]).tolist() == [100, 300]
    assert asymptotic_sizes([100, 200, 300], n_min=250).tolist() == [300]
    assert asymptotic_sizes([]).size == 0


def test_a_declared_size_replaces_the_rule():
    table = summary_of("tv_target", 0.0)
    (rule,) = fit_rates(table).to_dict("records")
    (declared,) = fit_rates(table, n_min=100).to_dict("records")
    assert (rule["points"], rule["left_out"], rule["n_min"]) == (4, 1, 300)
    assert (declared["points"], declared["left_out"], declared["n_min"]) == (5, 0, 100)
    assert len(fit_rates(table, n_min=3000)) == 0


def test_infinite_values_make_a_point_unusable_as_failures_do():
    table = summary_of("kl_preferred", 0.0)
    table.loc[2, "finite"] = 190
    (rate,) = fit_rates(table).to_dict("records")
    assert (rate["points"], rate["unusable"], rate["left_out"]) == (3, 1, 1)


@pytest.mark.parametrize(("finite", "expected"), [(396, True), (395, False), (400, True)])
def test_one_per_cent_of_failures_is_the_limit(finite, expected):
    assert complete(pd.DataFrame({"finite": [finite], "replicates": 400})).tolist() == [expected]


def study(rng, replicates, draws):
    """Return summary and bootstrap of a metric with |normal| values that falls as n^-1/2."""
    summaries, bootstrap = [], {}
    for n in N.tolist():
        values = np.abs(rng.standard_normal(replicates)) / np.sqrt(n)
        rows = {"method": "m", "replicate": np.arange(replicates), "status": "ok", "metric": "tv_target"}
        cell = CellAccumulator(rng, draws)
        cell.add(pa.table(pd.DataFrame(rows | {"value": values, "exact": 0.0})))
        columns = {"study": "s", "world": "w", "n": n, "alpha": 0.5}
        summary = cell.summary().assign(**columns)
        summaries.append(summary[[*columns, *summary.columns.drop(list(columns))]])
        bootstrap |= keyed_bootstrap(columns, cell.bootstrap_means())
    return pd.concat(summaries, ignore_index=True), bootstrap


def test_the_bootstrapped_slope_agrees_with_the_delta_method():
    (rate,) = fit_rates(*study(np.random.default_rng(8), 400, 1000)).to_dict("records")
    # With 1000 draws an end of the interval has a standard error of sqrt(.025 * .975 / 1000) / phi(1.96) = .085
    # standard errors of the slope, so four of them .34; bootstrap and delta method differ by order 1/400.
    for end in ("low", "high"):
        assert abs(rate[f"boot_{end}"] - rate[end]) <= 0.35 * rate["standard_error"]


def test_a_bootstrapped_interval_covers_the_slope():
    rng = np.random.default_rng(9)
    rates = [fit_rates(*study(rng, 100, 200)).iloc[0] for _ in range(40)]
    covered = sum(rate["boot_low"] <= -0.5 <= rate["boot_high"] for rate in rates)
    # Binomial(40, .95) is at most 31 with probability 1.3e-4.
    assert covered > 31


def test_no_bootstrap_leaves_its_columns_empty():
    (rate,) = fit_rates(summary_of("tv_target", 0.0)).to_dict("records")
    assert np.isnan([rate["boot_low"], rate["boot_high"]]).all()
    assert rate["low"] < rate["low90"] < rate["slope"] < rate["high90"] < rate["high"]
