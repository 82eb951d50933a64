"""Label noise, thinned overlap, perturbed references and features of worlds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.disturbances import flip_labels, perturb_policy, thin_overlap
from sim.worlds import build_world
from tests.strategies import assert_within_standard_errors, problems

LAWS = {"name": "toy", "p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.3}
HODGE = {"name": "h", "preference": "hodge", "options": {"cyclic_share": 0.4, "signal": 1.0}, "responses": 4}
EPS = np.finfo(float).eps


@given(problem=problems(), noise=st.floats(0.0, 0.49))
def test_noise_keeps_the_mixture_and_all_examples(problem, noise):
    noisy = flip_labels(problem.p_preferred, problem.p_nonpreferred, problem.alpha, problem.alpha, noise)
    weight = noisy.alpha[:, None]
    # Some products of numbers below 1; the weight divides by kept - lost, at least (1 - 2 e) times alpha(1 - alpha).
    tolerance = 64 * EPS / (0.02 * 0.05)
    mixed = weight * noisy.p_preferred + (1 - weight) * noisy.p_nonpreferred
    np.testing.assert_allclose(mixed, problem.mixture, rtol=0, atol=tolerance)
    share = noisy.label_fraction[:, None]
    seen = share * noisy.p_preferred + (1 - share) * noisy.p_nonpreferred
    np.testing.assert_allclose(seen, problem.mixture, rtol=0, atol=32 * EPS)


def test_noise_flips_single_labels():
    world = build_world({**LAWS, "label_noise": 0.25})
    rng = np.random.default_rng(0)
    preferred = rng.random(200_000) < 0.3
    response = np.where(
        preferred, rng.choice(3, 200_000, p=LAWS["p_preferred"]), rng.choice(3, 200_000, p=LAWS["p_nonpreferred"])
    )
    recorded = preferred ^ (rng.random(200_000) < 0.25)
    cells = np.eye(6)[response + 3 * recorded]
    joint = np.concatenate(
        [
            (1 - world.label_fraction) * world.problem.p_nonpreferred[0],
            world.label_fraction * world.problem.p_preferred[0],
        ]
    )
    assert_within_standard_errors(cells, joint)


def test_noise_flips_pairs_and_leaves_the_estimand_clean():
    clean, noisy = build_world(HODGE), build_world({**HODGE, "label_noise": 0.1})
    pairs = clean.problem.pair_probs
    np.testing.assert_allclose(noisy.problem.pair_probs, 0.9 * pairs + 0.1 * pairs.swapaxes(1, 2), atol=4 * EPS)
    assert np.array_equal(noisy.estimand, clean.problem.p_preferred)
    assert np.array_equal(noisy.preference, clean.preference)
    assert noisy.problem.assumption_m_holds
    assert np.abs(noisy.problem.p_preferred - noisy.estimand).max() > 0.01


def test_reporting_bias_leaves_the_estimand_clean():
    spec = {"name": "t", "preference": "thumbs", "options": {"label_probabilities": [0.9, 0.5, 0.2]}}
    biased = build_world({**spec, "options": {**spec["options"], "report_up": [[1.0, 0.5, 0.25]]}})
    assert np.array_equal(biased.estimand, build_world(spec).problem.p_preferred)
    assert np.abs(biased.problem.p_preferred - biased.estimand).max() > 0.05


@given(problem=problems(responses=5), overlap=st.floats(1e-6, 1.0))
def test_overlap_is_thinned_on_the_preferred_half(problem, overlap):
    thinned = thin_overlap(problem.p_preferred, problem.p_nonpreferred, overlap)
    np.testing.assert_allclose(thinned.sum(axis=1), 1.0, atol=16 * EPS)
    kept = thinned < problem.p_nonpreferred * (1 + overlap) / 2
    if overlap < 0.9:
        assert (kept.sum(axis=1) <= 2).all()
    ratio = problem.p_preferred / np.where(problem.p_nonpreferred > 0, problem.p_nonpreferred, np.nan)
    new = problem.p_preferred / np.where(thinned > 0, thinned, np.nan)
    both = np.isfinite(ratio) & np.isfinite(new) & (ratio > 0)
    change = np.log(new[both] / ratio[both])
    assert (change <= -np.log(overlap) + 1e-9).all()


def test_full_overlap_changes_nothing():
    laws = np.array([LAWS["p_preferred"]]), np.array([LAWS["p_nonpreferred"]])
    np.testing.assert_allclose(thin_overlap(*laws, 1.0), laws[1], rtol=4 * EPS)
    world = build_world({**LAWS, "overlap": 0.01})
    assert world.problem.p_nonpreferred[0, 0] == pytest.approx(0.001)
    assert world.problem.assumption_m_holds


def test_perturbed_references_turn_one_dial():
    mixture = build_world(LAWS).problem.mixture
    zero, half, one = (
        build_world({**LAWS, "reference": "perturbed", "reference_error": error}).problem.reference
        for error in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(zero, mixture, rtol=4 * EPS)
    tilt = [np.log(reference / mixture) for reference in (half, one)]
    centred = [t - t.mean() for t in tilt]
    np.testing.assert_allclose(2 * centred[0], centred[1], atol=64 * EPS)
    other = perturb_policy(mixture, 1.0, np.random.default_rng(9))
    assert np.abs(other - one).max() > 0.01


def test_features_are_nested_and_may_contain_the_truth():
    small, large = (build_world({**HODGE, "features": d}).features for d in (2, 5))
    assert np.array_equal(small, large[:, :, :2])
    world = build_world({**HODGE, "features": 3, "well_specified": True})
    logs = np.log(world.problem.reference) + world.features[:, :, 0]
    policy = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(policy, world.estimand, rtol=16 * EPS)


BAD = {
    "noise": ({**LAWS, "label_noise": 0.5}, "label_noise must lie in \\[0, 1/2\\), got 0.5"),
    "noise that leaves no weight": ({**LAWS, "label_noise": 0.45, "label_fraction": 0.05}, "must leave a weight"),
    "overlap": ({**LAWS, "overlap": 0.0}, "overlap must lie in \\(0, 1\\], got 0.0"),
    "overlap of a model": ({**HODGE, "overlap": 0.5}, "follows from its preference model"),
    "error without perturbed": ({**LAWS, "reference_error": 0.5}, "go together, got reference 'mixture'"),
    "perturbed without error": ({**LAWS, "reference": "perturbed"}, "go together, got no reference_error"),
    "error": ({**LAWS, "reference": "perturbed", "reference_error": -1.0}, "at least 0, got -1"),
    "reference": ({**LAWS, "reference": "mixtur"}, "did you mean 'mixture'"),
    "features": ({**LAWS, "features": 0}, "features must be at least 1, got 0"),
    "specified": ({**LAWS, "well_specified": True}, "goes with features"),
    "no mass": (
        {**LAWS, "p_preferred": [0.5, 0.5, 0.0], "features": 2, "well_specified": True},
        "got a response without mass",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_disturbances_are_refused(case):
    spec, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build_world(spec)


def test_specified_must_be_a_truth_value():
    with pytest.raises(TypeError, match="well_specified must be true or false, got 1"):
        build_world({**LAWS, "features": 2, "well_specified": 1})
