"""Continuous worlds: densities and samplers agree, networks fit, divergence is counted, metrics mean what they say."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad

from sim.continuous.laws import SHAPES, ContinuousLaw
from sim.continuous.networks import NetworkSettings, fit_networks
from sim.continuous.scenario import CONTINUOUS_METHODS, build_continuous, check_continuous, estimate_ratio

WORLD = {"name": "bells", "dimension": 1, "separation": 1.0, "test_size": 2000, "reference_size": 500}
QUICK = NetworkSettings(hidden=8, steps=60, patience=20, learning_rate=0.02, held_out=0.2)


def laws(shape, dimension, separation=1.5):
    return [ContinuousLaw(shape, dimension, separation, flag) for flag in (True, False)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preferred", [True, False])
def test_densities_integrate_to_one(shape, preferred):
    dimension = 2 if shape == "banana" else 1
    law = ContinuousLaw(shape, dimension, 1.5, preferred)
    if dimension == 1:
        total = quad(lambda y: np.exp(law.log_density([y])), -12, 12)[0]
    else:  # the second coordinate is centred on a parabola: integrate around it
        total = dblquad(
            lambda v, y: np.exp(law.log_density([y, v])), -8, 8, lambda y: -9 - y**2, lambda y: 9 + y**2, epsabs=1e-5
        )[0]
    assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dimension", [2, 5])
def test_samplers_follow_the_densities(shape, dimension):
    # E_{p+}[p-/(p+ + p-)] = E_{p-}[p+/(p+ + p-)] for any two laws, and draws of one law under its own density have the
    # mean log-density that importance weights from the other law give: both within 5 Monte-Carlo errors.
    size = 200_000
    up, down = laws(shape, dimension, 1.0)
    for p, q in ((up, down), (down, up)):
        y = q.sample((size,), np.random.default_rng(0))
        weights = np.exp(p.log_density(y) - q.log_density(y))
        assert abs(weights.mean() - 1) <= 5 * weights.std() / np.sqrt(size)
        other = p.sample((size,), np.random.default_rng(1))
        for feature in (lambda y: np.tanh(y).sum(axis=1), lambda y: np.tanh(y[:, 0] * y[:, 1])):
            values, direct = weights * feature(y), feature(other)
            error = np.hypot(values.std(), direct.std()) / np.sqrt(size)
            assert abs(values.mean() - direct.mean()) <= 5 * error


def test_separation_is_the_overlap_dial():
    # TV of N(-s/2 e, I) and N(s/2 e, I) is 2 Phi(s/2) - 1 in every dimension: .383 at s = 1; and .954 at s = 4.
    for separation, expected in ((1.0, 0.3829), (4.0, 0.9545)):
        w = build_continuous({**WORLD, "dimension": 3, "separation": separation, "test_size": 100_000})
        # TV(p+, p-) = E_m |r - (1 - alpha r)/(1 - alpha)| / 2; the sample's error is about 0.002.
        tv = 0.5 * np.abs(w.test_ratio - (2.0 - w.test_ratio)).mean()
        assert tv == pytest.approx(expected, abs=0.01)


def test_data_sets_have_fixed_class_sizes_and_a_mixture_reference():
    w = build_continuous({**WORLD, "alpha": 0.3, "separation": 8.0, "reference_size": 20_000})
    data = w.sample(101, 4, np.random.default_rng(0))
    assert data.preferred.shape == (4, 30, 1) and data.nonpreferred.shape == (4, 71, 1)
    # At this separation the sign tells the class: 30 % of 80,000 with an error of 0.16 %, 5 of which are 0.8 %.
    assert (data.reference > 0).mean() == pytest.approx(0.3, abs=0.008)
    assert (w.test_ratio <= 1 / 0.3 + 1e-12).all()


@pytest.mark.parametrize("method", CONTINUOUS_METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_method_beats_the_reference(method, shape):
    # The reference itself, r = 1 everywhere, has the error sd(r_alpha). Little more can be asked of uLSIF on bimodal
    # laws, where the direct ratio grows in the tails and a sum of kernels ends there at 0.
    settings = {"shape": shape, "dimension": 2, "separation": 4.0 if shape == "bimodal" else 2.0, "alpha": 0.4}
    w = build_continuous({**WORLD, **settings})
    options = {"beyond_domain": "extend"} if method == "ddro" else {}
    outcome = estimate_ratio(w, method, 800, 3, np.random.default_rng(0), **options)
    started = np.sqrt(np.mean((w.test_ratio - 1) ** 2))
    some = outcome.status == "ok"
    assert some.all() or method == "mle"
    assert (outcome.metrics["ratio_error"][some] < 0.9 * started).all()
    assert np.isnan(outcome.metrics["ratio_error"][~some]).all()


def test_rdro_error_falls_with_n():
    w = build_continuous({**WORLD, "dimension": 2})
    errors = [
        estimate_ratio(w, "rdro", n, 5, np.random.default_rng(0)).metrics["ratio_error"].mean() for n in (100, 3000)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_ddro_and_mle_diverge_where_the_ratio_nears_its_bound():
    # p+/p- is unbounded here, so that fitted ratios cross 1/alpha at some training example.
    w = build_continuous({**WORLD, "separation": 3.0})
    data = w.sample(500, 4, np.random.default_rng(0))
    outcomes = {m: estimate_ratio(w, m, 500, 4, np.random.default_rng(1), data=data) for m in ("rdro", "ddro", "mle")}
    assert (outcomes["rdro"].status == "ok").all()
    for method in ("ddro", "mle"):
        assert (outcomes[method].status == "diverged").all()
        assert all(np.isnan(values).all() for values in outcomes[method].metrics.values())
    extended = estimate_ratio(w, "ddro", 500, 4, np.random.default_rng(1), data=data, beyond_domain="extend")
    assert (extended.status == "ok").all()


def test_networks_start_at_the_reference_and_keep_the_best_step():
    rng = np.random.default_rng(0)
    same = [rng.normal(size=(3, size, 2)) for size in (60, 60, 200)]
    fit = fit_networks("rdro", *same, same[2][0], 0.5, dataclasses.replace(QUICK, steps=1), rng)
    # At most one step of Adam: each of the 8 units moves f by at most its learning rate.
    assert np.abs(fit.log_ratio).max() <= 2 * 8 * 0.02
    assert set(fit.best_step) <= {0.0, 1.0}


def test_replicates_of_networks_do_not_disturb_each_other():
    w = build_continuous({**WORLD, "separation": 1.0})
    data = w.sample(200, 2, np.random.default_rng(0))
    wild = np.stack([data.preferred[0], data.preferred[1] * 0 + 50.0])  # far off: its ratio crosses the domain at once
    runs = []
    for rows, preferred in (((0, 1), wild), ((0, 1), data.preferred)):
        groups = (preferred, data.nonpreferred[list(rows)], data.reference[list(rows)])
        runs.append(fit_networks("ddro", *groups, w.test, 0.5, QUICK, np.random.default_rng(0)))
    np.testing.assert_array_equal(runs[0].log_ratio[0], runs[1].log_ratio[0])
    assert runs[0].diverged[1] and np.isnan(runs[0].log_ratio[1]).all()


def test_policies_of_networks_are_normalised_on_the_reference_sample():
    w = build_continuous(WORLD)
    data = w.sample(300, 1, np.random.default_rng(0))
    fit = fit_networks(
        "rdro",
        data.preferred,
        data.nonpreferred,
        data.reference,
        data.reference[0],
        0.5,
        QUICK,
        np.random.default_rng(0),
    )
    assert np.exp(fit.log_ratio).mean() == pytest.approx(1.0, abs=1e-5)  # float32


def test_mle_and_logistic_ddro_agree_at_one_half():
    # Proposition P7: one loss up to a constant, so that networks take the same steps up to float32 roundings.
    w = build_continuous({**WORLD, "separation": 0.3})
    data = w.sample(400, 2, np.random.default_rng(0))
    groups = (data.preferred, data.nonpreferred, data.reference, w.test, 0.5, dataclasses.replace(QUICK, steps=10))
    fits = [fit_networks(method, *groups, np.random.default_rng(0)) for method in ("mle", "ddro")]
    np.testing.assert_allclose(fits[0].log_ratio, fits[1].log_ratio, atol=1e-4)


def test_metrics_of_the_exact_ratio_are_exact():
    w = build_continuous(WORLD)
    exact = estimate_ratio(w, "rulsif", 100, 1, np.random.default_rng(0)).exact
    assert exact["ratio_error"] == 0.0 and exact["tv_preferred"] == pytest.approx(0.0, abs=1e-15)
    assert exact["share_above_bound"] == 0.0 and exact["max_ratio"] == w.test_ratio.max() <= 2.0


@pytest.mark.parametrize("method", CONTINUOUS_METHODS)
def test_same_seed_same_bits(method):
    w = build_continuous({**WORLD, "steps": 5, "separation": 0.2})
    threads = torch.get_num_threads()
    first, second, other = (
        estimate_ratio(w, method, 100, 3, np.random.default_rng(seed), label="l").table() for seed in (1, 1, 2)
    )
    assert first.equals(second) and not first.equals(other)
    assert list(first.columns) == ["method", "replicate", "status", "metric", "value", "exact"]
    assert set(first.method) == {"l"} and torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "bananas"}, "shape must be one of .*did you mean 'banana'"),
        ({"shape": "banana", "dimension": 1}, "dimension must be at least 2, got 1"),
        ({"separation": -1.0}, "separation must be finite and greater than 0, got -1.0"),
        ({"alpha": 0.0}, "alpha must lie strictly between 0 and 1, got 0"),
        ({"held_out": 1.0}, "held_out must lie strictly between 0 and 1, got 1"),
        ({"test_size": 10}, "test_size must be at least 100, got 10"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"seperation": 1.0}, "did you mean 'separation'"),
        ({"name": ""}, "name must be a non-empty string"),
    ],
)
def test_wrong_settings_state_the_rule(settings, message):
    with pytest.raises(ValueError, match=message):
        build_continuous({**WORLD, **settings})


@pytest.mark.parametrize(
    ("method", "n", "options", "message"),
    [
        ("rdr", 100, {}, "method must be one of .*did you mean 'rdro'"),
        ("rdro", 100, {"generator": "logistc"}, "did you mean 'logistic'"),
        ("mle", 100, {"generator": "kl"}, "generator is an option of rdro, ddro, got it for mle"),
        ("rdro", 100, {"beyond_domain": "extend"}, "beyond_domain is an option of ddro, got it for rdro"),
        ("rdro", 100, {"beta": 0.1}, "option of rdro must be one of beyond_domain, generator; got 'beta'"),
        ("rdro", 19, {}, "each class must have at least 10 examples, got 10 and 9"),
    ],
)
def test_wrong_methods_and_options_state_the_rule(method, n, options, message):
    with pytest.raises(ValueError, match=message):
        check_continuous(build_continuous(WORLD), n, method, options)


def test_a_world_needs_a_name_and_data_their_replicates():
    with pytest.raises(ValueError, match="a world must have a name, got none"):
        build_continuous({"shape": "gaussian"})
    w = build_continuous(WORLD)
    data = w.sample(100, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="data must hold 3 replicates, got 2"):
        estimate_ratio(w, "rulsif", 100, 3, np.random.default_rng(0), data=data)
