"""A cell's statistics are those of all its replicates, however they arrive."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import binom, binomtest

from sim.statistics.accumulate import CellAccumulator, clopper_pearson, keyed_bootstrap
from sim.statistics.summary import summarise


def part(values, *, first=0, method="m", metric="tv", status="ok", exact=0.0):
    """Return the rows of one metric of one method."""
    rows = {"method": method, "replicate": first + np.arange(len(values)), "status": status, "metric": metric}
    return pd.DataFrame(rows | {"value": values, "exact": exact})


def accumulated(*parts, seed=0, draws=0):
    """Return an accumulator that has seen the parts in order."""
    cell = CellAccumulator(np.random.default_rng(seed), draws)
    for one in parts:
        cell.add(pa.table(one))
    return cell


def test_parts_and_their_order_do_not_matter():
    values = np.random.default_rng(0).gamma(2.0, size=1000)
    whole = accumulated(part(values)).summary()
    blocks = [part(values[i : i + 250], first=i) for i in range(0, 1000, 250)]
    pd.testing.assert_frame_equal(accumulated(*blocks).summary(), whole, check_exact=True)
    pd.testing.assert_frame_equal(accumulated(*blocks[::-1]).summary(), whole, check_exact=True)


def test_a_cell_is_summarised_as_a_table_is():
    rng = np.random.default_rng(1)
    status = rng.choice(["ok", "ok", "ok", "nonconverged", "diverged", "error", "timeout"], 300)
    rows = pd.concat([part(rng.random(300), method=m, status=status, metric=k) for m in "ab" for k in ("tv", "kl")])
    table = summarise(rows.assign(study="s", world="w", n=10)[["study", "world", "n", *rows.columns]])
    cell = accumulated(rows[rows["replicate"] < 100], rows[rows["replicate"] >= 100]).summary()
    pd.testing.assert_frame_equal(table.drop(columns=["study", "world", "n"]), cell, check_exact=True)


def test_categorical_columns_are_read_as_their_names():
    rows = part([1.0, 2.0, np.nan, np.nan], status=["ok", "ok", "timeout", "diverged"])
    kinds = {"method": "category", "status": "category", "metric": "category"}
    pd.testing.assert_frame_equal(accumulated(rows.astype(kinds)).summary(), accumulated(rows).summary())


def test_every_status_has_a_share_and_failures_an_interval():
    status = ["ok"] * 6 + ["nonconverged", "diverged", "error", "timeout"]
    (row,) = accumulated(part(np.arange(10.0), status=status)).summary().to_dict("records")
    shares = [row[f"share_{name}"] for name in ("ok", "nonconverged", "diverged", "error", "timeout", "failed")]
    assert shares == [0.6, 0.1, 0.1, 0.1, 0.1, 0.4]
    expected = binomtest(4, 10).proportion_ci(0.95, method="exact")
    assert (row["share_failed_low"], row["share_failed_high"]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert (row["replicates"], row["finite"], row["mean"], row["max"]) == (10, 6, 2.5, 5.0)


@pytest.mark.parametrize(("count", "trials"), [(0, 20), (1, 20), (7, 30), (20, 20), (399, 400)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_exact_intervals_of_shares_agree_with_scipy(count, trials, level):
    expected = binomtest(count, trials).proportion_ci(level, method="exact")
    assert clopper_pearson(count, trials, level) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-15)


def test_the_mean_of_zeros_and_ones_has_an_exact_interval():
    (row,) = accumulated(part(np.repeat([0.0, 1.0], [37, 3]), metric="direct_infinite")).summary().to_dict("records")
    assert (row["low"], row["high"]) == pytest.approx(clopper_pearson(3, 40))
    (all_ones,) = accumulated(part(np.ones(40))).summary().to_dict("records")
    assert all_ones["standard_error"] == 0.0 and all_ones["high"] == 1.0
    assert all_ones["low"] == pytest.approx(0.025 ** (1 / 40))


def test_the_interval_of_a_median_covers_it_without_any_moment():
    rows = part(np.random.default_rng(2).standard_cauchy(100_000)).assign(study="s", world="w")
    rows["n"] = rows["replicate"] // 100
    table = summarise(rows)
    covered = int(((table["median_low"] <= 0.0) & (table["median_high"] >= 0.0)).sum())
    # The interval covers when 40 to 60 of 100 values lie below, probability .9648; four standard deviations are 23.
    exact = binom.cdf(60, 100, 0.5) - binom.cdf(39, 100, 0.5)
    assert exact >= 0.95 and abs(covered - 1000 * exact) <= 24


def test_few_values_do_not_bound_an_extreme_quantile():
    (row,) = accumulated(part(np.arange(50.0))).summary().to_dict("records")
    assert row["q975_high"] == np.inf and 40.0 < row["q975_low"] < row["q975"] < row["max"] == 49.0
    (many,) = accumulated(part(np.arange(2000.0))).summary().to_dict("records")
    assert many["q975_low"] < many["q975"] < many["q975_high"] < many["max"]


def test_the_bootstrap_agrees_with_the_standard_error():
    values = np.random.default_rng(3).gamma(2.0, size=400)
    cell = accumulated(part(values), draws=4000)
    draws = cell.bootstrap_means()["m", "tv"]
    error = values.std(ddof=1) / 20.0
    # The spread of 4000 draws has relative standard error 1/sqrt(8000) = 1.1 %, four of them are 4.5 %; ratios of
    # Poisson sums add order 1/400. The mean of the draws has an error of error/sqrt(4000).
    assert draws.std() == pytest.approx(error, rel=0.05)
    assert abs(draws.mean() - values.mean()) <= 4.0 * error / np.sqrt(4000) + error / 400


def test_methods_and_metrics_share_the_weights_of_a_replicate():
    rng = np.random.default_rng(4)
    values = rng.random(2500)
    both = [part(values), part(3.0 * values + 1.0, method="other"), part(-values, metric="minus")]
    # Shuffled rows, and two parts, the first larger than a batch of weights.
    rows = pd.concat(both).sample(frac=1.0, random_state=5)
    means = accumulated(rows[rows["replicate"] < 1500], rows[rows["replicate"] >= 1500], draws=50).bootstrap_means()
    assert means["other", "tv"] == pytest.approx(3.0 * means["m", "tv"] + 1.0, rel=1e-12)
    assert means["m", "minus"] == pytest.approx(-means["m", "tv"], rel=1e-12)


def test_failed_replicates_do_not_enter_the_bootstrap():
    status = np.where(np.arange(100) % 4 == 0, "diverged", "ok")
    values = np.where(status == "ok", 2.0, 1e6)
    means = accumulated(part(values, status=status), draws=50).bootstrap_means()
    assert means["m", "tv"] == pytest.approx(np.full(50, 2.0))


def test_a_method_that_never_succeeded_has_no_mean():
    cell = accumulated(part([np.nan] * 5, status="error"), draws=10)
    assert np.isnan(cell.bootstrap_means()["m", "tv"]).all()
    assert np.isnan(cell.summary()["median_low"]).all() and cell.summary()["share_error"].tolist() == [1.0]


def test_the_same_stream_gives_the_same_draws():
    values = np.random.default_rng(6).random(100)
    first, again, other = (accumulated(part(values), seed=s, draws=20).bootstrap_means()["m", "tv"] for s in (7, 7, 8))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_memory_grows_by_one_number_a_value():
    values = np.random.default_rng(9).random(1000)
    cell = accumulated(part(values), draws=2)
    tracemalloc.start()
    for first in range(1000, 101_000, 1000):
        cell.add(pa.table(part(values, first=first)))
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/sim/statistics/accumulate.py")])
    tracemalloc.stop()
    held = sum(trace.size for trace in snapshot.traces)
    # Bytes a value: eight, one for the replicate, and the headers of one array for each thousand.
    assert 9.0 <= held / 100_000 <= 9.3


def test_values_beyond_those_kept_add_no_memory_and_lose_no_moment(monkeypatch):
    values = np.random.default_rng(10).standard_normal(5000)
    whole = accumulated(part(values)).summary().iloc[0]
    monkeypatch.setattr("sim.statistics.accumulate._KEPT", 1500)
    cell = CellAccumulator(np.random.default_rng(0), draws=2)
    for first in range(0, 5000, 1000):
        cell.add(pa.table(part(values[first : first + 1000], first=first)))
    row, kept = cell.summary().iloc[0], accumulated(part(values[:1500])).summary().iloc[0]
    for name in ("replicates", "finite", "max", "share_ok"):
        assert row[name] == whole[name]
    for name in ("mean", "standard_error", "low", "high"):
        assert row[name] == pytest.approx(whole[name], rel=1e-12)  # sums of 5000 terms, in another order
    for name in ("median", "q975", "q975_low"):
        assert row[name] == kept[name]


def test_zeros_and_ones_beyond_those_kept_have_their_exact_interval(monkeypatch):
    values = np.tile([1.0, 0.0, 0.0], 40)
    monkeypatch.setattr("sim.statistics.accumulate._KEPT", 50)
    row = accumulated(part(values)).summary().iloc[0]
    assert (row["low"], row["high"]) == clopper_pearson(40, 120)
    assert row["mean"] == pytest.approx(1 / 3, rel=1e-12)


def test_keys_of_a_study_name_the_cell():
    cell = accumulated(part([1.0, 2.0]), draws=3)
    keyed = keyed_bootstrap({"study": "s", "world": "w", "n": 10, "alpha": 0.2}, cell.bootstrap_means())
    assert list(keyed) == [("s", "w", 10, 0.2, "m", "tv")]


def test_wrong_parts_are_refused():
    with pytest.raises(ValueError, match=r"status must be one of ok, .*timeout; got 'lost'"):
        accumulated(part([1.0], status="lost"))
    with pytest.raises(ValueError, match=r"a part must have the columns .*; got none called exact"):
        accumulated(part([1.0]).drop(columns="exact"))
    with pytest.raises(
        ValueError, match="a part must hold all rows of its replicates, got 1 that came with an earlier"
    ):
        accumulated(part([1.0, 2.0]), part([1.0, 2.0], first=1, method="other"))
    with pytest.raises(ValueError, match="draws must be at least 0, got -1"):
        CellAccumulator(np.random.default_rng(0), -1)
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator, got int"):
        CellAccumulator(0)
