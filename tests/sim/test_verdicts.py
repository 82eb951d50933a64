"""Claims come out supported when true, rejected when false, and undecided when the data cannot tell."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from sim.claims.claim import parse_claim
from sim.claims.verdicts import judge
from sim.statistics.accumulate import CellAccumulator, keyed_bootstrap
from sim.statistics.equivalence import holm

N = (100, 316, 1000, 3162, 10_000, 31_623, 100_000)


def study(rng, law, *, methods=("m",), worlds=("w",), alphas=(0.5,), replicates=400, metric="tv", exact=0.0, sizes=N):
    """Return summary and bootstrap of a study; law(world, alpha, method, n, normal) gives values and statuses."""
    summaries, bootstrap = [], {}
    for world in worlds:
        for alpha in alphas:
            for n in sizes:
                normal = rng.standard_normal(replicates)
                cell = CellAccumulator(rng, draws=200)
                rows = {"replicate": np.arange(replicates), "metric": metric, "exact": exact}
                made = {method: law(world, alpha, method, n, normal) for method in methods}
                frames = [
                    pd.DataFrame(rows | {"method": method, "status": status, "value": values})
                    for method, (values, status) in made.items()
                ]
                cell.add(pa.table(pd.concat(frames, ignore_index=True)))
                columns = {"study": "s", "world": world, "n": n, "alpha": alpha}
                table = cell.summary()
                summaries.append(table.assign(**columns)[[*columns, *table.columns]])
                bootstrap |= keyed_bootstrap(columns, cell.bootstrap_means())
    return pd.concat(summaries, ignore_index=True), bootstrap


def power_law(slope, floor=0.0, failed=0.0):
    """Return the law of |normal| values that fall as n^slope to a floor, in a share of failed fits."""

    def law(world, alpha, method, n, normal):
        status = np.where(np.arange(len(normal)) < failed * len(normal), "diverged", "ok")
        return floor + np.abs(normal) * float(n) ** slope, status

    return law


def verdicts(kind, data, **settings):
    """Return the verdicts on one claim."""
    table = {"claim": "it holds", "kind": kind, "metric": "tv"} | settings
    if table["metric"] is None:
        del table["metric"]
    return judge([parse_claim("claims[0]", table)], *data).to_dict("records")


def verdict(kind, data, **settings):
    """Return the only verdict on one claim."""
    (row,) = verdicts(kind, data, **settings)
    return row


@pytest.mark.parametrize(
    ("slope", "replicates", "expected"),
    [(-0.5, 400, "supported"), (-0.7, 400, "rejected"), (-0.5, 8, "inconclusive"), (-0.55, 400, "inconclusive")],
)
def test_rates_are_judged_by_equivalence(slope, replicates, expected):
    row = verdict("rate", study(np.random.default_rng(0), power_law(slope), replicates=replicates))
    assert row["verdict"] == expected
    assert row["as_expected"] == (expected == "supported")
    assert (row["exact"], row["n_min"], row["n_max"]) == (-0.5, 3162, 100_000)
    assert row["low"] < row["estimate"] < row["high"]


def test_a_false_claim_is_seldom_supported_and_a_true_one_seldom_rejected():
    rng = np.random.default_rng(1)
    worlds = [f"w{i}" for i in range(40)]
    sizes = (1000, 3162, 10_000)

    def law(world, alpha, method, n, normal):  # just outside, and just inside
        return np.abs(normal) * float(n) ** {"false": -0.5501, "true": -0.5499}[method], "ok"

    data = study(rng, law, worlds=worlds, methods=("false", "true"), replicates=200, sizes=sizes)
    claims = [
        parse_claim("", {"claim": w, "kind": "rate", "metric": "tv", "worlds": [w], "methods": [m]})
        for w in worlds
        for m in ("false", "true")
    ]
    table = judge(claims, *data)
    supported = ((table["method"] == "false") & (table["verdict"] == "supported")).sum()
    rejected = ((table["method"] == "true") & (table["verdict"] == "rejected")).sum()
    # Each at most Binomial(40, .05), which is more than 8 with probability 1.4e-4.
    assert supported <= 8 and rejected <= 8


def test_a_negative_control_is_flagged():
    data = study(np.random.default_rng(2), power_law(-0.5, floor=0.3), exact=0.3)
    row = verdict("rate", data, control="negative")
    assert (row["verdict"], row["control"], row["expected"], row["as_expected"]) == (
        *("rejected", "negative", "rejected"),
        True,
    )
    assert abs(row["estimate"]) < 0.1


def test_a_bent_curve_supports_nothing():
    def bent(world, alpha, method, n, normal):
        return (10.0 + np.abs(normal)) * n**-0.5 * (1.0 + 0.3 * np.sin(np.log(n))), "ok"

    row = verdict("rate", study(np.random.default_rng(3), bent), margin=0.5)
    assert row["verdict"] == "inconclusive" and row["note"].startswith("lack of fit, p = ")
    assert row["p"] == 1.0 and abs(row["estimate"] + 0.5) < 0.4


@pytest.mark.parametrize("kind", ["rate", "target", "floor"])
def test_means_of_survivors_prove_nothing(kind):
    data = study(np.random.default_rng(4), power_law(-0.5, failed=0.02))
    row = verdict(kind, data)
    assert row["verdict"] == "inconclusive" and row["note"].startswith("2.0% of the replicates of m have no value at n")
    few = study(np.random.default_rng(5), power_law(-0.5, failed=0.01))
    assert verdict(kind, few)["verdict"] == "supported"
    if kind != "rate":
        assert verdict(kind, data, max_failed=0.05)["verdict"] == "supported"


@pytest.mark.parametrize(
    ("exact", "margin", "expected"), [(0.3, 0.01, "supported"), (0.28, 0.01, "rejected"), (0.3, 4e-5, "inconclusive")]
)
@pytest.mark.parametrize("kind", ["target", "floor"])
def test_biased_targets_are_compared_with_the_exact_one(kind, exact, margin, expected):
    def law(world, alpha, method, n, normal):
        return np.sqrt(0.09 + 2.0 / n) * (1.0 + 0.5 * normal / np.sqrt(n)), "ok"

    row = verdict(kind, study(np.random.default_rng(5), law, exact=exact), margin=margin)
    assert row["verdict"] == expected and row["exact"] == exact
    assert row["low"] < row["estimate"] < row["high"] and row["estimate"] == pytest.approx(0.3, abs=0.002)


def test_a_floor_of_zero_is_within_its_margin():
    row = verdict("floor", study(np.random.default_rng(6), power_law(-0.5)), margin=0.005)
    assert row["verdict"] == "supported" and row["low"] == 0.0 and "; floor = 0 has p = " in row["note"]
    far = verdict("floor", study(np.random.default_rng(6), power_law(-0.5, floor=0.1)), exponent=1.0, margin=0.05)
    assert far["verdict"] == "rejected"
    free = verdict("floor", study(np.random.default_rng(6), power_law(-0.4)), exponent="free", margin=0.05)
    assert free["verdict"] == "supported"


def test_a_floor_that_its_margin_hardly_bounds_must_agree_within_its_errors():
    data = study(np.random.default_rng(20), power_law(-1.0, floor=0.008), exact=0.007)
    row = verdict("floor", data, margin=0.01)
    assert row["verdict"] == "inconclusive" and row["p"] == 1.0
    assert float(row["note"].split()[0]) > 4.0


def test_without_an_exact_value_there_is_nothing_to_hold_against():
    data = study(np.random.default_rng(7), power_law(-0.5), exact=np.nan)
    for kind in ("target", "floor", "constant"):
        row = verdict(kind, data)
        assert row["verdict"] == "inconclusive" and "no exact value" in row["note"]


@pytest.mark.parametrize(("truth", "expected"), [(2.0, "supported"), (2.3, "rejected"), (2.1, "inconclusive")])
def test_constants_are_pooled_over_large_sizes(truth, expected):
    def law(world, alpha, method, n, normal):  # a bias of higher order at small n only
        return truth * (1.0 + 50.0 * (n < 1000)) * (1.0 + 0.3 * normal), "ok"

    row = verdict("constant", study(np.random.default_rng(8), law, exact=2.0), n_min=1000)
    assert row["verdict"] == expected
    assert row["estimate"] == pytest.approx(truth / 2.0, abs=0.02) and "standard errors from exact" in row["note"]


def test_a_constant_without_spread_cannot_be_pooled():
    def law(world, alpha, method, n, normal):
        return np.full(len(normal), 2.5), "ok"

    row = verdict("constant", study(np.random.default_rng(21), law, exact=2.5))
    assert (row["verdict"], row["note"]) == ("inconclusive", "an error is zero or missing")


def test_a_constant_far_from_exact_at_one_size_is_not_supported():
    def law(world, alpha, method, n, normal):
        return 2.0 * (1.0 + 0.1 * (n == 3162)) * (1.0 + 0.2 * normal), "ok"

    row = verdict("constant", study(np.random.default_rng(9), law, exact=2.0), margin=0.1, n_min=1000)
    assert row["verdict"] == "inconclusive" and row["note"].endswith("n = 3162")


@pytest.mark.parametrize(
    ("failed", "limit", "expected"),
    [
        (0.0, {"most": 0.01}, "supported"),
        (0.3, {"most": 0.1}, "rejected"),
        (0.1, {"most": 0.1}, "inconclusive"),
        (0.3, {"least": 0.2}, "supported"),
        (0.1, {"least": 0.2}, "rejected"),
    ],
)
def test_shares_of_failures_are_judged_by_exact_tests(failed, limit, expected):
    data = study(np.random.default_rng(10), power_law(-0.5, failed=failed))
    row = verdict("failures", data, metric=None, **limit)
    assert (row["verdict"], row["metric"], row["estimate"]) == (expected, "failed", pytest.approx(failed))
    ((side, threshold),) = limit.items()
    count = round(400 * failed)
    alternative = {"most": "less", "least": "greater"}[side]
    assert row["p"] == pytest.approx(binomtest(count, 400, threshold, alternative=alternative).pvalue, rel=1e-9)
    interval = binomtest(count, 400).proportion_ci(0.9, method="exact")
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_a_share_of_ones_is_judged_as_failures_are():
    def law(world, alpha, method, n, normal):
        return (np.arange(400) < 100).astype(float), "ok"

    data = study(np.random.default_rng(11), law, metric="direct_infinite")
    assert verdict("failures", data, metric="direct_infinite", least=0.2)["verdict"] == "supported"
    other = study(np.random.default_rng(11), power_law(-0.5))
    assert verdict("failures", other, least=0.2)["note"] == "values other than 0 and 1, or none"


def pair(factor, noise=0.0):
    """Return the law of two methods on the same data, the first with `factor` times the errors of the second."""

    def law(world, alpha, method, n, normal):
        own = 1.0 + noise * np.sin(1e6 * normal)
        return (factor * own if method == "rdro" else 1.0) * np.abs(normal), "ok"

    return law


def test_contrasts_of_means_are_paired():
    summary, bootstrap = study(np.random.default_rng(12), pair(0.97, noise=0.1), methods=("rdro", "ddro"))
    row = verdict("contrast", (summary, bootstrap), other="ddro")
    assert (row["method"], row["verdict"], row["exact"]) == ("rdro", "supported", 1.0)
    assert row["estimate"] == pytest.approx(0.97, abs=0.02) and row["high"] < 1.0
    # Alone, each mean has a relative error of .76/20 = 3.8 %, which hides a difference of 3 %.
    assert verdict("contrast", (summary, {}), other="ddro")["verdict"] == "inconclusive"
    assert verdict("contrast", (summary, bootstrap), other="ddro", factor=0.9)["verdict"] == "rejected"


def test_the_interval_of_a_ratio_covers_it():
    rng = np.random.default_rng(13)
    worlds = [f"w{i}" for i in range(100)]
    data = study(rng, pair(0.8, noise=0.5), methods=("rdro", "ddro"), worlds=worlds, replicates=100, sizes=(10,))
    rows = verdicts("contrast", data, other="ddro")
    covered = sum(row["low"] <= 0.8 <= row["high"] for row in rows)
    # Binomial(100, .9): four standard deviations are 12.
    assert abs(covered - 90) <= 12


@pytest.mark.parametrize("statistic", ["median", "q975"])
def test_quantiles_are_compared_without_moments(statistic):
    def law(world, alpha, method, n, normal):
        heavy = np.abs(normal) ** 5 * np.exp(np.square(normal) / 2.0)  # no mean
        return heavy if method == "ddro" else np.abs(normal) / 10.0, "ok"

    data = study(np.random.default_rng(14), law, methods=("rdro", "ddro"), replicates=2000)
    assert verdict("contrast", data, other="ddro", statistic=statistic)["verdict"] == "supported"
    swapped = verdict("contrast", data, methods=["ddro"], other="rdro", statistic=statistic)
    assert swapped["verdict"] == ("rejected" if statistic == "median" else swapped["verdict"])
    few = study(np.random.default_rng(14), law, methods=("rdro", "ddro"), replicates=30)
    assert statistic == "median" or verdict("contrast", few, other="ddro", statistic=statistic)["p"] == 0.5


def test_holm_corrects_over_the_rows_of_a_claim():
    data = study(np.random.default_rng(15), power_law(-0.5), worlds=("a", "b", "c"), replicates=20)
    rows = verdicts("rate", data)
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]).tolist())
    assert [row["p_opposite_holm"] for row in rows] == pytest.approx(holm([row["p_opposite"] for row in rows]).tolist())
    (alone,) = verdicts("rate", data, worlds=["b"])
    assert alone["p_holm"] == alone["p"] == rows[1]["p"]


def test_scenarios_are_those_that_the_claim_names():
    methods, alphas = ("m", "other"), (0.2, 0.5)
    data = study(np.random.default_rng(16), power_law(-0.5), worlds=("a", "b"), methods=methods, alphas=alphas)
    every = verdicts("rate", data)
    assert [(row["world"], row["where"], row["method"]) for row in every] == [
        (world, f'{{"alpha": {alpha}}}', method) for world in "ab" for alpha in alphas for method in methods
    ]
    some = verdicts("rate", data, worlds=["b"], methods=["other"], where={"alpha": 0.2})
    assert [(row["world"], row["where"], row["method"]) for row in some] == [("b", '{"alpha": 0.2}', "other")]
    with pytest.raises(ValueError, match=r"key of where must be one of alpha; got 'alpah' \(did you mean 'alpha'"):
        verdicts("rate", data, where={"alpah": 0.2})


@pytest.mark.parametrize(
    ("kind", "settings", "note"),
    [
        ("rate", {"worlds": ["elsewhere"], "methods": ["m"]}, "no results of this world, method and metric"),
        ("rate", {"methods": ["nobody"]}, "no results of this world, method and metric"),
        ("rate", {"n_min": 31_623}, "fewer than three sample sizes"),
        ("floor", {"n_min": 10_000, "exponent": "free"}, "fewer than 4 sample sizes"),
        ("target", {"at_n": 10**9}, "no results at n = 1000000000"),
        ("constant", {"n_min": 10**9}, "no sample size that is large enough"),
        ("failures", {"metric": None, "most": 0.1, "at_n": 5}, "no results at n = 5"),
        ("contrast", {"other": "nobody"}, "no results of both methods at the same sample size"),
    ],
)
def test_what_was_not_run_is_neither_success_nor_failure(kind, settings, note):
    row = verdict(kind, study(np.random.default_rng(17), power_law(-0.5)), **settings)
    assert (row["verdict"], row["note"]) == ("not_run", note)
    assert row["as_expected"] is None and np.isnan([row["p"], row["p_holm"], row["estimate"]]).all()


def test_a_method_that_runs_in_some_worlds_is_judged_in_these():
    summary, bootstrap = study(np.random.default_rng(18), power_law(-0.5), worlds=("a", "b"), methods=("m", "ipo"))
    summary = summary[(summary["method"] == "m") | (summary["world"] == "a")]
    assert [row["world"] for row in verdicts("rate", (summary, bootstrap), methods=["ipo"])] == ["a"]
    rows = verdicts("rate", (summary, bootstrap), methods=["ipo"], worlds=["a", "b"])
    assert [(row["world"], row["verdict"]) for row in rows] == [("a", "supported"), ("b", "not_run")]


def test_settings_that_are_names_are_matched_as_such():
    data = study(np.random.default_rng(22), power_law(-0.5), alphas=("logistic", "square"))
    (row,) = verdicts("rate", data, where={"alpha": ["square"]})
    assert row["where"] == '{"alpha": "square"}' and row["verdict"] == "supported"


def test_no_claims_give_an_empty_table_with_all_columns():
    table = judge([], *study(np.random.default_rng(19), power_law(-0.5), replicates=10))
    assert len(table) == 0
    assert table.columns.tolist() == [
        *("claim", "kind", "world", "where", "method", "metric", "n_min", "n_max", "estimate", "low", "high", "exact"),
        *("p", "p_holm", "p_opposite", "p_opposite_holm", "verdict", "control", "expected", "as_expected", "note"),
    ]
