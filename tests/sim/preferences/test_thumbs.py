"""Thumbs: the class laws, and the labels and reports they stand for."""

import numpy as np
from scipy.special import expit

from sim.preferences import thumbs
from tests.sim.preferences.models import EPS, ETA, exceeds_chance


def test_thumbs_follow_the_formula():
    mu = np.array([[0.1, 0.2, 0.3, 0.4]])
    laws = thumbs(label_probabilities=ETA).class_laws(mu)
    eta_bar = float((mu * ETA).sum())
    np.testing.assert_allclose(laws.p_preferred, mu * ETA / eta_bar, rtol=4 * EPS)
    np.testing.assert_allclose(laws.p_nonpreferred, mu * (1 - ETA) / (1 - eta_bar), rtol=8 * EPS)
    np.testing.assert_allclose(laws.alpha, eta_bar, rtol=4 * EPS)
    np.testing.assert_allclose(laws.reported, 1.0, rtol=4 * EPS)


def test_reporting_that_ignores_the_response_changes_only_alpha():
    mu = np.array([[0.1, 0.2, 0.3, 0.4]])
    plain = thumbs(label_probabilities=ETA).class_laws(mu)
    biased = thumbs(label_probabilities=ETA, report_up=0.9, report_down=0.2).class_laws(mu)
    np.testing.assert_allclose(biased.p_preferred, plain.p_preferred, rtol=8 * EPS)
    np.testing.assert_allclose(biased.p_nonpreferred, plain.p_nonpreferred, rtol=8 * EPS)
    up, down = 0.9 * plain.alpha, 0.2 * (1 - plain.alpha)
    np.testing.assert_allclose(biased.alpha, up / (up + down), rtol=8 * EPS)
    np.testing.assert_allclose(biased.reported, up + down, rtol=8 * EPS)
    mixture = biased.alpha * biased.p_preferred + (1 - biased.alpha) * biased.p_nonpreferred
    assert np.abs(mixture - mu).max() > 0.05  # the base policy is no longer the mixture


def test_reporting_that_depends_on_the_response_tilts_the_laws():
    mu, report = np.array([[0.1, 0.2, 0.3, 0.4]]), np.array([[0.2, 0.4, 0.6, 1.0]])
    laws = thumbs(label_probabilities=ETA, report_up=report).class_laws(mu)
    tilted = mu * report * ETA
    np.testing.assert_allclose(laws.p_preferred, tilted / tilted.sum(), rtol=8 * EPS)
    assert np.abs(laws.p_preferred - thumbs(label_probabilities=ETA).class_laws(mu).p_preferred).max() > 0.05


def test_label_law_is_that_of_showing_labelling_and_reporting_one_by_one():
    rng, mu = np.random.default_rng(21), np.array([0.1, 0.2, 0.3, 0.4])
    shown = rng.choice(4, size=200_000, p=mu)
    label = (rng.random(shown.size) < ETA[shown]).astype(int)
    reported = rng.random(shown.size) < np.where(label == 1, 0.9, 0.3)
    counts = np.zeros((4, 2))
    np.add.at(counts, (shown[reported], label[reported]), 1)
    law = thumbs(label_probabilities=ETA, report_up=0.9, report_down=0.3).label_law(mu)[0]
    assert not exceeds_chance(counts, law)


def test_random_thumbs_have_the_stated_logits():
    def build(**options):
        return thumbs(400, 300, rng=np.random.default_rng(2), **options)

    same = build(signal=0.0, bias=-1.0).label_probabilities
    np.testing.assert_allclose(same, expit(-1.0), rtol=4 * EPS)
    eta = build(signal=0.5, bias=-1.0, bias_spread=2.0).label_probabilities
    logits = np.log(eta) - np.log1p(-eta)
    # Standard errors: 2/sqrt(300) = .115 of the mean, 2/sqrt(600) = .082 and .5/sqrt(240000) = .001 of the deviations.
    assert abs(logits.mean() + 1.0) < 4 * 0.116
    assert abs(logits.mean(axis=1).std(ddof=1) - 2.0) < 4 * 0.082
    assert abs(np.sqrt(logits.var(axis=1, ddof=1).mean()) - 0.5) < 4 * 0.001
