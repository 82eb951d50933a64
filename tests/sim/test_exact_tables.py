"""The exact tables hold what the theory's functions say, and their derivatives are derivatives."""

import inspect

import numpy as np
import pandas as pd
import pytest

from sim.exact_tables import EXACT_TABLES, efficiencies, loss_shapes, ratio_shapes
from theory import EXTENSION_MARGIN, FiniteProblem, cramer_rao_bound, ddro_losses, relative_ratio

ALPHAS = [0.1, 0.5, 0.9]
LAWS = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6]}
OTHERS = {"efficiencies": LAWS, "loss_shapes": {}, "ratio_shapes": {}}


def test_tables_are_those_by_alpha_and_those_with_tests_of_their_own():
    assert set(EXACT_TABLES) == {*OTHERS, "bt_distances", "convexities", "guarantees"}


@pytest.mark.parametrize("name", OTHERS)
def test_every_table_is_documented_deterministic_and_without_missing_values(name):
    build = EXACT_TABLES[name]
    table = build(alphas=ALPHAS, **OTHERS[name])
    pd.testing.assert_frame_equal(table, build(alphas=ALPHAS, **OTHERS[name]))
    assert inspect.getdoc(build) and not table.isna().any(axis=None)
    assert sorted(table["alpha"].unique()) == ALPHAS


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": []}, "alphas must hold at least one number, got none"),
        ({"alphas": [0.5, 1.2]}, "alpha must lie strictly between 0 and 1, got 1.2"),
    ],
)
def test_bad_alphas_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        EXACT_TABLES[name](**parameters, **OTHERS[name])


@pytest.mark.parametrize("name", ["loss_shapes", "ratio_shapes"])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": [0.5], "points": 1}, "points must be an integer of at least 2, got 1"),
        ({"alphas": [0.5], "points": 10.0}, "points must be an integer of at least 2, got 10.0"),
    ],
)
def test_bad_numbers_of_points_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        EXACT_TABLES[name](**parameters)


@pytest.mark.parametrize("ends", [(2.0, 1.0), (1.0, 1.0), (0.0, np.inf), (0.0,)])
def test_ends_that_are_not_increasing_are_refused(ends):
    with pytest.raises(ValueError, match="decades must be two finite numbers, the smaller one first"):
        ratio_shapes(alphas=[0.5], decades=ends)
    with pytest.raises(ValueError, match="log_ratios must be two finite numbers, the smaller one first"):
        loss_shapes(alphas=[0.5], log_ratios=ends)


def test_relative_ratios_are_those_of_two_laws_with_the_direct_ratio():
    table = ratio_shapes(alphas=ALPHAS)
    expected = relative_ratio(table["direct_ratio"], np.ones(len(table)), table["alpha"])
    # Both are sums of two positive terms and a quotient: four roundings each.
    np.testing.assert_allclose(table["relative_ratio"], expected, rtol=8 * np.finfo(float).eps)
    assert (table["relative_ratio"] <= table["relative_ratio_bound"]).all()
    assert table["direct_ratio"].agg(["min", "max"]).tolist() == [1e-3, 1e6]


def test_rdro_gradient_is_bounded_by_one_and_the_ddro_gradient_is_not():
    table = loss_shapes(alphas=ALPHAS)
    steepest = table.assign(steepness=table["derivative"].abs()).groupby(["method", "beyond_domain"])["steepness"].max()
    assert steepest["rdro", "none"] <= 1
    assert steepest["ddro", "infinite"] > 1e5  # 1/(1 - alpha r) at 1e-6 nats from the edge is 1e6
    assert steepest["ddro", "extend"] <= 1 / EXTENSION_MARGIN * (1 + 1e-12)


def test_infinite_losses_are_exactly_those_beyond_the_domain_of_the_infinite_ddro():
    table = loss_shapes(alphas=ALPHAS)
    beyond = np.log(table["alpha"]) + table["log_ratio"] >= 0
    infinite = (table["beyond_domain"] == "infinite") & beyond
    assert infinite.any()
    assert (np.isinf(table["loss"]) == infinite).all()


@pytest.mark.parametrize("generator", ["logistic", "kl", "least_squares"])
@pytest.mark.parametrize("preferred", [True, False])
def test_extended_derivative_is_the_slope_of_the_extended_loss(preferred, generator):
    table = loss_shapes(alphas=[0.3], points=41, generator=generator).query(
        "beyond_domain == 'extend' and preferred == @preferred"
    )
    u, step = table["log_ratio"].to_numpy(), 1e-6
    knot = np.log((1 - EXTENSION_MARGIN) / 0.3)
    flags = np.full(u.shape, preferred)
    up, down = (ddro_losses(u + s, flags, 0.3, generator, "extend") for s in (step, -step))
    away = np.abs(u - knot) > 2 * step  # the second derivative jumps at the knot
    assert (away & (u > knot)).any()
    # Central differences: rounding eps * loss / step, about 1e-10 of the loss, and curvature^2 step^2 below that.
    scale = 1 + np.abs(up) + np.abs(table["derivative"])
    assert (np.abs((up - down) / (2 * step) - table["derivative"]) / scale)[away].max() < 1e-6


def test_efficiencies_are_limits_over_the_bound():
    table = efficiencies(alphas=ALPHAS, **LAWS).set_index(["alpha", "method", "generator"])
    for alpha in ALPHAS:
        bound = cramer_rao_bound(FiniteProblem(**LAWS, alpha=alpha))[0]
        least = 0.5 * float((np.diagonal(bound) / np.array(LAWS["p_preferred"])).sum())
        rows = table.loc[alpha]
        # A division and sums of three terms.
        np.testing.assert_allclose(rows["efficiency"] * rows["asymptotic_kl"], least, rtol=1e-12)
        assert rows.loc[("mle", "none"), "efficiency"] == pytest.approx(1.0, abs=1e-12)
        assert (rows["efficiency"] <= 1.0 + 1e-12).all()
    with pytest.raises(ValueError, match="generator"):
        efficiencies(alphas=[0.5], **LAWS, generators=["logistics"])
