"""Tests of equivalence keep their level, and Holm's correction is the one done by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from sim.statistics.equivalence import equivalence_p, holm


@given(st.floats(-1.0, 1.0), st.floats(1e-3, 1.0))
def test_five_per_cent_is_where_the_90_per_cent_interval_lies_inside(estimate, error):
    inside, outside = equivalence_p(estimate, error, -0.3, 0.3)
    low, high = norm.interval(0.9, loc=estimate, scale=error)
    if abs(inside - 0.05) > 1e-9:
        assert (inside < 0.05) == (low > -0.3 and high < 0.3)
    assert 0.0 <= outside <= 1.0
    assert inside >= 0.05 or outside >= 0.05  # no estimate supports both


@pytest.mark.parametrize(("truth", "error"), [(0.3, 0.02), (-0.3, 0.1), (0.3, 0.5)])
def test_both_tests_keep_their_level_at_the_ends_of_the_interval(truth, error):
    estimates = truth + error * np.random.default_rng(0).standard_normal(4000)
    p = np.array([equivalence_p(b, error, -0.3, 0.3) for b in estimates])
    inside, outside = (p <= 0.05).sum(axis=0)
    # Binomial(4000, .05): four standard deviations are 55. Support needs both one-sided tests, so that it may be rarer.
    assert inside <= 255
    assert abs(outside - 200) <= 55


def test_a_one_sided_interval_is_a_one_sided_test():
    inside, outside = equivalence_p(0.1, 0.05, -math.inf, 0.2)
    assert inside == pytest.approx(norm.sf(2.0)) and outside == pytest.approx(norm.cdf(2.0))
    inside, outside = equivalence_p(0.4, 0.05, 0.2, math.inf)
    assert inside == pytest.approx(norm.sf(4.0)) and outside == pytest.approx(norm.cdf(4.0))


def test_an_exact_estimate_needs_no_test_and_a_missing_one_has_none():
    assert equivalence_p(0.1, 0.0, 0.0, 0.2) == (0.0, 1.0)
    assert equivalence_p(0.3, 0.0, 0.0, 0.2) == (1.0, 0.0)
    assert equivalence_p(math.nan, 0.1, 0.0, 0.2) == equivalence_p(0.1, math.nan, 0.0, 0.2) == (1.0, 1.0)


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match=r"low must be less than high, got 0.2 and 0.2"):
        equivalence_p(0.1, 0.1, 0.2, 0.2)


@pytest.mark.parametrize(
    ("p", "by_hand"),
    [
        # Times 4, 3, 2, 1 in ascending order, never below the one before.
        ([0.01, 0.005, 0.04, 0.03], [0.03, 0.02, 0.06, 0.06]),
        ([0.2, 0.001], [0.2, 0.002]),
        ([0.6, 0.7, 0.9], [1.0, 1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(p, by_hand):
    assert holm(p) == pytest.approx(by_hand, abs=1e-15)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_holm_lies_between_no_correction_and_bonferroni(p):
    adjusted = holm(p)
    assert np.all(adjusted >= np.array(p)) and np.all(adjusted <= np.minimum(len(p) * np.array(p), 1.0))
    order = np.argsort(p)
    assert np.all(np.diff(adjusted[order]) >= 0.0)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\], got 1.5"):
        holm([0.1, 1.5])
