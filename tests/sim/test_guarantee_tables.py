"""Tables of the guarantees: found errors respect and approach their constants; curvatures are those of the risk."""

import inspect

import numpy as np
import pandas as pd
import pytest

from sim.guarantee_tables import convexities, guarantees
from theory import GENERATORS, relative_from_direct

ALPHAS = [0.2, 0.8]
RATIOS = [2.0, 100.0, 1e6]


@pytest.fixture(scope="module")
def table():
    return guarantees(alphas=ALPHAS, largest_ratios=RATIOS)


def test_errors_found_respect_the_guarantees_and_come_near_them(table):
    assert len(table) == 2 * len(ALPHAS) * len(RATIOS)
    assert (table["worst"] <= table["guarantee"]).all()
    # Models are at least half a per cent from the truth, where f'' differs by a few per cent from its least value.
    far = table[table["largest_ratio"] == 1e6]
    assert (far["worst"] >= 0.97 * far["guarantee"]).all()


def test_only_the_guarantee_of_ddro_depends_on_overlap(table):
    spread = table.groupby(["alpha", "method"])["guarantee"].nunique().unstack()
    assert spread["rdro"].tolist() == [1, 1]
    assert spread["ddro"].tolist() == [3, 3]
    assert table["rdro_guarantee"].to_numpy() == pytest.approx(np.repeat([60.0, 5.625], 6))


@pytest.mark.parametrize("generator", GENERATORS)
def test_curvature_is_the_second_derivative_of_the_risk(generator):
    step = 1e-4
    table = convexities(alphas=[0.3], direct_ratio=5.0, generators=[generator], log_ratios=(-2.0, 2.0), points=9)
    ratio, chosen = np.exp(table["log_ratio"].to_numpy()), GENERATORS[generator]
    preferred = relative_from_direct(5.0, 0.3)

    def risk(r):
        return chosen.conjugate(np.log(r)) - preferred * chosen.slope(np.log(r))

    difference = risk(ratio * (1 + step)) - 2 * risk(ratio) + risk(ratio * (1 - step))
    # Errors of O(step^2) from the difference, of eps |risk| / step^2 from rounding.
    assert table["curvature"].to_numpy() == pytest.approx(difference / step**2, abs=1e-5)


@pytest.mark.parametrize(
    ("build", "parameters", "message"),
    [
        (guarantees, {"alphas": [], "largest_ratios": [2.0]}, "must not be empty, ratios above 1; got"),
        (guarantees, {"alphas": [0.5], "largest_ratios": [1.0]}, "must not be empty, ratios above 1; got"),
        (guarantees, {"alphas": [1.5], "largest_ratios": [2.0]}, "alpha must lie strictly between 0 and 1, got 1.5"),
        (convexities, {"alphas": [1.5]}, "alpha must lie strictly between 0 and 1, got 1.5"),
        (convexities, {"alphas": [0.5], "direct_ratio": 0.0}, "direct_ratio must be"),
        (convexities, {"alphas": [0.5], "generators": ["logstic"]}, "generator must be one of .*; got 'logstic'"),
        (convexities, {"alphas": []}, "alphas must hold at least one number, got none"),
    ],
)
def test_bad_parameters_are_refused(build, parameters, message):
    with pytest.raises(ValueError, match=message):
        build(**parameters)


def test_tables_are_documented_and_deterministic(table):
    pd.testing.assert_frame_equal(table, guarantees(alphas=ALPHAS, largest_ratios=RATIOS))
    assert all(inspect.getdoc(build) for build in (guarantees, convexities))
