"""Branches of stationary ratios: each inverts its phi, rises, and starts at the pointwise minimiser."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import alphas
from tests.theory.independent import risk_and_slopes
from theory import get_generator, power
from theory.stationarity import Cells, Numeric, branch_for, denominators, pointwise_minimisers

METHODS = [
    ("rdro", "logistic"),
    ("rdro", "kl"),
    ("rdro", "least_squares"),
    ("rdro", "power"),
    ("ddro", "logistic"),
    ("mle", "logistic"),
]
MASS = st.floats(1e-3, 1.0)


def cell(preferred, nonpreferred, alpha):
    """One problem with one response."""
    return Cells(np.array([[preferred]]), np.array([[nonpreferred]]), np.array([[alpha]]))


@pytest.mark.parametrize(("method", "generator"), METHODS)
@given(MASS, MASS, alphas(0.34, 0.66))
def test_pointwise_minimisers_have_phi_zero(method, generator, preferred, nonpreferred, alpha):
    cells = cell(preferred, nonpreferred, alpha)
    ratio = pointwise_minimisers(method, cells)
    branch = branch_for(method, get_generator(generator), np.array([alpha]))
    found, slope = branch.ratios(cells, np.zeros((1, 1)))
    np.testing.assert_allclose(found, ratio, rtol=1e-12)
    assert (slope > 0).all()
    # It minimises the cell's own risk.
    around = ratio * np.array([[1.0], [0.99], [1.01]])
    risks, _ = risk_and_slopes(method, around, preferred, nonpreferred, alpha, generator)
    assert risks[0] < risks[1:].min()


@pytest.mark.parametrize(("method", "generator"), METHODS)
@given(MASS, MASS, alphas(0.34, 0.66), st.floats(-5.0, 0.99))
@example(0.5, 1e-3, 0.34, -5.0)
@example(1e-3, 1.0, 0.66, -5.0)
def test_branches_invert_phi(method, generator, preferred, nonpreferred, alpha, level):
    cells = cell(preferred, nonpreferred, alpha)
    branch = branch_for(method, get_generator(generator), np.array([alpha]))
    peak = float(branch.peak(cells)[0, 0])
    phi = level * (peak if np.isfinite(peak) else 1.0)
    ratio, slope = branch.ratios(cells, np.array([[phi]]))
    r = float(ratio[0, 0])
    if method == "rdro" and generator == "least_squares" and preferred + phi <= 0:
        assert r == 0.0 and slope[0, 0] == 0.0
        return
    assert r > 0.0
    arguments = (*(np.array([x]) for x in (preferred, nonpreferred)), alpha, generator)

    def value(ratio):
        return float(risk_and_slopes(method, np.array([ratio]), *arguments)[1][0] / ratio)

    # phi is a difference of terms of size (A r + B) f'' and has the condition number 1/(1 - t r) near the edge.
    condition = 1.0 / max(1.0 - alpha * r, 1e-12) if method != "rdro" else 1.0
    size = abs(phi) + (preferred + nonpreferred * r * condition) / r * condition
    assert abs(value(r) - phi) <= 1e-12 * size
    if 1e-3 < level < 0.9 or level < -1e-3:
        # The derivative in phi by a central difference of the branch itself.
        h = 1e-5 * abs(phi)
        ends = [float(branch.ratios(cells, np.array([[phi + sign * h]]))[0][0, 0]) for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * h)
        # Near the edge r is rounded at eps while r moves by h dr/dphi only.
        assert float(slope[0, 0]) == pytest.approx(difference, rel=1e-4, abs=1e-14 * r / h * 10)


@given(MASS, alphas(0.34, 0.66), st.floats(0.0, 3.0))
def test_ddro_reaches_the_edge_of_its_domain(preferred, alpha, level):
    # Without nonpreferred mass phi = -B / (r (1 + (1 - 2 t) r)), which ends at -B t^2 / (1 - t), where r = 1/t.
    phi = -level * preferred * alpha**2 / (1 - alpha)
    branch = branch_for("ddro", get_generator("logistic"), np.array([alpha]))
    (ratio,), (slope,) = (found[0] for found in branch.ratios(cell(preferred, 0.0, alpha), np.array([[phi]])))
    if level <= 1:
        assert alpha * ratio == pytest.approx(1.0, rel=1e-14)
        assert slope * (1 - level) <= 1e-11  # of the closed form at alpha = 1/2 rounding remains
    else:
        assert ratio * (1 + (1 - 2 * alpha) * ratio) == pytest.approx(-preferred / phi, rel=1e-13)


RATIOS = np.geomspace(1e-3, 1e6, 20_001)
SIZES = RATIOS * (1 + RATIOS)


@given(MASS, MASS, alphas(0.05, 0.95))
def test_peak_of_the_logistic_branch_is_its_largest_phi(preferred, nonpreferred, alpha):
    cells = cell(preferred, nonpreferred, alpha)
    branch = branch_for("rdro", get_generator("logistic"), np.array([alpha]))
    peak = float(branch.peak(cells)[0, 0])
    a = float(denominators("rdro", cells)[0, 0])
    phi = (a * RATIOS - preferred) / SIZES
    assert phi.max() <= peak * (1 + 1e-12)
    assert phi.max() >= peak * (1 - 1e-5)


@given(MASS, MASS, alphas(0.34, 0.66), st.floats(-3.0, 0.9))
def test_closed_forms_agree_with_the_numeric_branch(preferred, nonpreferred, alpha, level):
    cells = cell(preferred, nonpreferred, alpha)
    for method, generator in (("rdro", "kl"), ("rdro", "least_squares")):
        branch = branch_for(method, get_generator(generator), np.array([alpha]))
        peak = float(branch.peak(cells)[0, 0])
        phi = np.array([[level * (peak if np.isfinite(peak) else 1.0)]])
        closed = branch.ratios(cells, phi)[0]
        if closed[0, 0] > 1e-6:
            numeric = Numeric(method, get_generator(generator)).ratios(cells, phi)[0]
            np.testing.assert_allclose(numeric, closed, rtol=1e-9)


@pytest.mark.parametrize("generator", ["power", power(0.25)], ids=str)
@pytest.mark.parametrize("phi", [-10.0, -1.0, -0.1])
def test_numeric_branch_reaches_small_ratios(generator, phi):
    # Far below the pointwise minimiser, where phi ~ -B f''(r) with f'' = (1 + b) r^(b-1).
    b, cells = get_generator(generator).exponent, cell(0.5, 0.5, 0.3)
    ratio = float(
        branch_for("rdro", get_generator(generator), np.array([0.3])).ratios(cells, np.array([[phi]]))[0][0, 0]
    )
    assert (1 + b) * ratio ** (b - 1) * (0.5 * ratio - 0.5) == pytest.approx(phi, rel=1e-10)


def test_responses_without_mass_have_ratio_zero():
    cells = Cells(np.zeros((1, 2)), np.zeros((1, 2)), np.full((1, 2), 0.5))
    for method, generator in METHODS:
        branch = branch_for(method, get_generator(generator), np.array([0.5]))
        np.testing.assert_array_equal(branch.ratios(cells, np.zeros((1, 2)))[0], 0.0)
        np.testing.assert_array_equal(pointwise_minimisers(method, cells), 0.0)


def test_rows_of_cells():
    cells = Cells(np.arange(6.0).reshape(3, 2), np.ones((3, 2)), np.full((3, 2), 0.5))
    assert cells[np.array([2, 0])].preferred.tolist() == [[4.0, 5.0], [0.0, 1.0]]
