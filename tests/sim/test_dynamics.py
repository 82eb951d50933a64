"""Training against steps by hand, exact fits and derived bounds; divergence is recorded and stays in its row."""

import dataclasses

import numpy as np
import pytest
import torch

from sim import simulate
from sim.dynamics.training import TRAINING_RECORDS, TrainingSettings, build_training, check_training, train
from sim.log_linear import fit_log_linear
from sim.sampling import Counts
from theory import METHODS, class_weights, lipschitz_bound, loss_derivatives, population_target, total_variation

LAWS = {"name": "toy", "p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.2, 0.3, 0.5], "alpha": 0.5}
# The second response has no support under p-: whoever fits direct ratios is drawn beyond the domain.
STRESS = {"name": "stress", "p_preferred": [0.4, 0.3, 0.3], "p_nonpreferred": [0.5, 0.0, 0.5], "alpha": 0.5}
FULL = {"batch_size": "full", "optimiser": "sgd"}
DATA = Counts(np.array([[[50, 30, 20]]]), np.array([[[10, 20, 70]]]))


def moved(run, world, row=0):
    """Log-ratios of a policy, up to the constant that normalises it."""
    u = np.log(run.policies[row] / world.problem.reference)
    return u - u[:, :1]


def gradient_at_reference(method, world, data):
    """The gradient in the softmax parameters at u = 0, from closed-form derivatives of the losses."""
    up, down = data.preferred[0], data.nonpreferred[0]
    n = up.sum() + down.sum()
    if method in ("dpo", "ipo"):
        # d/dm softplus(-beta m) = -beta/2 and d/dm (m - 1/(2 beta))^2 = -1/beta at m = 0, with beta = 0.1.
        slope = -0.05 if method == "dpo" else -10.0
        pairs = data.pairs[0].sum()
        return slope * (data.pairs[0].sum(axis=2) - data.pairs[0].sum(axis=1)) / pairs
    if method == "sft":
        return world.problem.reference - up / up.sum()
    zero, flags = np.zeros(2), np.array([True, False])
    slopes = np.array([-0.025, 0.025]) if method == "kto" else loss_derivatives(method, zero, flags, 0.5).first
    weights = class_weights(up.sum() / n, "pooled" if method == "mle" else "balanced")
    scores = (weights.preferred * slopes[0] * up + weights.nonpreferred * slopes[1] * down) / n
    return scores - world.problem.reference * scores.sum()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_first_step_is_the_one_by_hand(method, optimiser):
    w = build_training({**LAWS, **FULL, "optimiser": optimiser, "steps": 1, "learning_rate": 0.01})
    pairs = np.array([[[[0, 20, 30], [5, 0, 25], [5, 15, 0]]]])
    data = dataclasses.replace(DATA, pairs=pairs) if method in ("dpo", "ipo") else DATA
    run = train(w, method, 200, 1, np.random.default_rng(0), data=data)
    gradient = gradient_at_reference(method, w.world, data)
    # Adam's first step is the gradient over its own size, up to its epsilon of 1e-8 beside entries above 1e-3.
    step = gradient if optimiser == "sgd" else np.sign(gradient)
    expected = -0.01 * (step - step[:, :1])
    np.testing.assert_allclose(moved(run, w.world), expected, atol=1e-12 if optimiser == "sgd" else 1e-6)
    assert run.metrics["largest_gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient), rel=1e-12)


@pytest.mark.parametrize("method", ["sft", "rdro", "ddro", "mle", "dpo"])
@pytest.mark.parametrize(("optimiser", "learning_rate"), [("sgd", 3.0), ("adam", 0.05)])
def test_full_batch_training_ends_at_the_exact_fit(method, optimiser, learning_rate):
    w = build_training(
        {**LAWS, **FULL, "optimiser": optimiser, "learning_rate": learning_rate, "steps": 300, "tolerance": 1e-3}
    )
    options = {"beta": 1.0} if method == "dpo" else {}
    data = w.sample(400, 5, np.random.default_rng(1))
    run = train(w, method, 400, 5, np.random.default_rng(0), data=data, **options)
    fit = simulate(w.world, method, 400, 5, np.random.default_rng(0), data=data, **options)
    assert (run.status == "ok").all() and (fit.status == "ok").all()
    # Both contract geometrically here; Adam's last steps are the longer ones.
    np.testing.assert_allclose(run.policies, fit.policies, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "options"), [("kto", {"beta": 0.5}), ("ipo", {"beta": 1.0}), ("rdro", {"alpha": 0.3})]
)
def test_training_on_the_laws_ends_at_the_exact_target(method, options):
    # Counts in exact proportion to the laws make the empirical risk the population one.
    laws = {**LAWS, "p_preferred": [0.4, 0.4, 0.2]}
    w = build_training({**laws, **FULL, "optimiser": "adam", "learning_rate": 0.05, "steps": 1000})
    law = np.outer(laws["p_preferred"], laws["p_nonpreferred"])
    counts = (np.array([[law]]) * 10_000).round().astype(np.int64)
    data = Counts(counts.sum(axis=3), counts.sum(axis=2), counts)
    run = train(w, method, 20_000, 1, np.random.default_rng(0), data=data, **options)
    # kto's target drops a response, whose mass falls like the inverse of the logits' growth: 3e-4 after 1000 steps.
    np.testing.assert_allclose(
        run.policies[0],
        population_target(w.world.problem, method, **options),
        atol=5e-4 if method == "kto" else 1e-9,
    )
    assert run.metrics["tv_target"][0] < 1e-3


def test_minibatch_steps_are_unbiased():
    settings = {"optimiser": "sgd", "steps": 1, "learning_rate": 1.0}
    data = Counts(DATA.preferred.repeat(4000, axis=0), DATA.nonpreferred.repeat(4000, axis=0))
    w = build_training({**LAWS, **settings, "batch_size": 8})
    run = train(w, "rdro", 200, 4000, np.random.default_rng(0), data=data)
    steps = np.stack([moved(run, w.world, row) for row in range(4000)])
    gradient = gradient_at_reference("rdro", w.world, DATA)
    error = steps.std(axis=0) / np.sqrt(4000)
    assert (np.abs(steps.mean(axis=0) + gradient - gradient[:, :1]) <= 4 * error).all()


def test_small_steps_on_minibatches_stay_near_the_exact_fit():
    # The stationary spread of SGD is of order sqrt(learning rate / batch size): 0.03 here, in log-ratios.
    w = build_training({**LAWS, "learning_rate": 0.2, "batch_size": 200, "steps": 500})
    data = w.sample(1000, 20, np.random.default_rng(1))
    run = train(w, "rdro", 1000, 20, np.random.default_rng(0), data=data)
    fit = simulate(w.world, "rdro", 1000, 20, np.random.default_rng(0), data=data)
    assert 0.5 * np.abs(run.policies - fit.policies).sum(axis=2).max() < 0.03


def test_ddro_and_mle_diverge_without_overlap_and_rdro_does_not():
    w = build_training({**STRESS, "learning_rate": 5.0, "batch_size": 32, "steps": 100})
    data = w.sample(500, 40, np.random.default_rng(2))
    results = {m: train(w, m, 500, 40, np.random.default_rng(3), data=data) for m in ("rdro", "ddro", "mle")}
    assert (results["ddro"].status == "diverged").all() and (results["mle"].status == "diverged").all()
    assert not (results["rdro"].status == "diverged").any()


def test_gradients_of_rdro_keep_their_bound_and_those_of_ddro_do_not():
    # At the exact policy ddro's slope for a nonpreferred example of the second response is already 5.
    w = build_training({**STRESS, "p_nonpreferred": [0.47, 0.06, 0.47], "learning_rate": 0.5, "steps": 300})
    data = w.sample(500, 40, np.random.default_rng(2))
    rdro, ddro = (train(w, m, 500, 40, np.random.default_rng(3), data=data) for m in ("rdro", "ddro"))
    # A batch's scores s sum to at most L max w in absolute value, and |s - p sum(s)| <= 2 |s|_1.
    share = data.preferred.sum(axis=(1, 2)) / 500
    bound = 2 * lipschitz_bound(0.5) * 0.5 / np.minimum(share, 1 - share)
    assert (rdro.metrics["largest_gradient_norm"] <= bound).all()
    assert (ddro.metrics["largest_gradient_norm"] > bound).any()


def test_extended_ddro_runs_where_the_infinite_one_diverges():
    w = build_training({**STRESS, "learning_rate": 0.5, "batch_size": 32, "steps": 300})
    data = w.sample(500, 10, np.random.default_rng(2))
    run = train(w, "ddro", 500, 10, np.random.default_rng(3), data=data, beyond_domain="extend")
    assert not (run.status == "diverged").any() and np.isfinite(run.policies).all()
    # p+ lies in the continued part, where the loss is another one.
    assert total_variation(run.target, w.world.estimand).max() > 0.005


def test_frozen_rows_do_not_disturb_others():
    w = build_training({**LAWS, "batch_size": "full", "optimiser": "adam", "learning_rate": 0.2, "steps": 200})
    calm = Counts(np.array([[[60, 50, 40]]]), np.array([[[40, 50, 60]]]))
    wild = Counts(np.array([[[99, 50, 1]]]), np.array([[[0, 50, 100]]]))
    both = Counts(*(np.concatenate([getattr(d, k) for d in (wild, calm)]) for k in ("preferred", "nonpreferred")))
    mixed = train(w, "ddro", 300, 2, np.random.default_rng(0), data=both)
    alone = train(w, "ddro", 300, 1, np.random.default_rng(0), data=calm)
    assert mixed.status.tolist() == ["diverged", "ok"]
    np.testing.assert_array_equal(mixed.policies[1], alone.policies[0])
    assert np.isnan(mixed.policies[0]).all()
    assert mixed.metrics["diverged"].tolist() == [1.0, 0.0]
    assert 0 < mixed.metrics["diverged_at"][0] < 200 and np.isnan(mixed.metrics["diverged_at"][1])
    rows = mixed.table().query("replicate == 0").set_index("metric")
    assert set(rows.status[list(TRAINING_RECORDS)]) == {"ok"} and rows.value["diverged"] == 1.0
    assert set(rows.status.drop(list(TRAINING_RECORDS))) == {"diverged"}
    assert np.isnan(mixed.metrics["tv_preferred"][0]) and np.isfinite(mixed.metrics["largest_gradient_norm"]).all()


@pytest.mark.parametrize("steps", [1, 50])
def test_divergence_is_dated_by_the_updates_made(steps):
    # One step of length 1000 overshoots the domain; with a single step only the final check can see it.
    w = build_training({**LAWS, **FULL, "learning_rate": 1000.0, "steps": steps})
    run = train(w, "ddro", 200, 1, np.random.default_rng(0), data=DATA)
    assert run.status[0] == "diverged" and run.metrics["diverged_at"][0] == 1.0


def test_runs_that_hardly_moved_are_not_converged():
    w = build_training({**LAWS, **FULL, "learning_rate": 1e-3, "steps": 10})
    run = train(w, "rdro", 200, 1, np.random.default_rng(0), data=DATA)
    assert run.status[0] == "nonconverged" and np.isfinite(run.policies).all()


def test_data_without_a_class_are_errors_and_disturb_no_others():
    empty = Counts(
        np.concatenate([np.zeros_like(DATA.preferred), DATA.preferred]),
        np.concatenate([DATA.nonpreferred, DATA.nonpreferred]),
    )
    w = build_training({**LAWS, **FULL, "steps": 20})
    run = train(w, "rdro", 100, 2, np.random.default_rng(0), data=empty)
    alone = train(w, "rdro", 100, 1, np.random.default_rng(0), data=DATA)
    assert run.status.tolist() == ["error", alone.status[0]]
    np.testing.assert_array_equal(run.policies[1], alone.policies[0])
    assert all(np.isnan(values[0]) for values in run.metrics.values())
    assert set(run.table().query("replicate == 0").status) == {"error"}


def test_clipping_shortens_the_step_and_not_the_record():
    w = build_training({**LAWS, **FULL, "learning_rate": 1.0, "steps": 1, "clip_norm": 1e-3})
    run = train(w, "rdro", 200, 1, np.random.default_rng(0), data=DATA)
    gradient = gradient_at_reference("rdro", w.world, DATA)
    expected = -1e-3 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(moved(run, w.world), expected - expected[:, :1], atol=1e-12)
    assert run.metrics["largest_gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient))


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits(method):
    w = build_training({**LAWS, "optimiser": "adam", "steps": 30})
    threads = torch.get_num_threads()
    first, second, other = (train(w, method, 200, 8, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.table().equals(second.table())
    assert not first.table().equals(other.table())
    assert torch.get_num_threads() == threads


def test_log_linear_training_with_one_feature_per_response_is_tabular():
    settings = {**FULL, "learning_rate": 0.5, "steps": 100}
    w = build_training({**LAWS, **settings})
    one_hot = dataclasses.replace(w, world=dataclasses.replace(w.world, features=np.eye(3)[None]))
    runs = [train(v, "rdro", 200, 1, np.random.default_rng(0), data=DATA) for v in (w, one_hot)]
    np.testing.assert_allclose(runs[0].policies, runs[1].policies, atol=1e-14)


def test_log_linear_training_ends_at_the_exact_fit_with_its_own_target():
    w = build_training({**LAWS, **FULL, "optimiser": "adam", "learning_rate": 0.05, "steps": 600})
    features = np.array([[[1.0], [0.0], [2.0]]])
    w = dataclasses.replace(w, world=dataclasses.replace(w.world, features=features))
    run = train(w, "rdro", 200, 1, np.random.default_rng(0), data=DATA)
    masses = {"preferred": DATA.preferred / 200, "nonpreferred": DATA.nonpreferred / 200}
    fit = fit_log_linear("rdro", features, w.world.problem.reference, **masses, alpha=0.5)
    np.testing.assert_allclose(run.policies, fit.policies, atol=1e-4)
    assert run.exact["tv_target"] == pytest.approx(0.0, abs=1e-12) and run.exact["tv_preferred"] > 0.01


def test_prompts_have_their_own_alpha():
    spec = {"preference": "thumbs", "name": "t", "options": {"signal": 1.0}, "responses": 3, "prompts": 2}
    w = build_training({**spec, **FULL, "learning_rate": 3.0, "steps": 400})
    data = w.sample(20_000, 3, np.random.default_rng(0))
    run = train(w, "rdro", 20_000, 3, np.random.default_rng(0), data=data)
    fit = simulate(w.world, "rdro", 20_000, 3, np.random.default_rng(0), data=data)
    np.testing.assert_allclose(run.policies, fit.policies, atol=1e-4)


def test_table_has_the_columns_of_a_simulation():
    w = build_training({**LAWS, "steps": 5})
    run = train(w, "rdro", 100, 3, np.random.default_rng(0), label="ours")
    fit = simulate(w.world, "rdro", 100, 3, np.random.default_rng(0))
    assert list(run.table().columns) == list(fit.table().columns)
    assert set(run.table().method) == {"ours"} and set(run.table().metric) == set(run.metrics)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": "sdg"}, "optimiser must be one of adam, sgd; got 'sdg' .did you mean 'sgd'"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and greater than 0, got 0.0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 0, got -1"),
        ({"batch_size": "all"}, "batch_size must be one of full; got 'all'"),
        ({"clip_norm": -1.0}, "clip_norm must be finite and greater than 0, got -1.0"),
        ({"tolerance": 0.0}, "tolerance must be finite and greater than 0, got 0.0"),
        ({"learning_rat": 0.1}, "did you mean 'learning_rate'"),
        ({"p_prefered": [1.0]}, "did you mean 'p_preferred'"),
    ],
)
def test_wrong_settings_state_the_rule(settings, message):
    with pytest.raises(ValueError, match=message):
        build_training({**LAWS, **settings})


@pytest.mark.parametrize("key", ["prompts", "responses", "seed", "base", "reference", "features", "overlap", "options"])
def test_no_key_of_a_world_is_taken_for_a_misspelt_training_setting(key):
    with pytest.raises(ValueError, match="must have a name"):
        build_training({key: 1})


@pytest.mark.parametrize(
    ("method", "n", "options", "message"),
    [
        ("rdr", 100, {}, "method must be one of .*did you mean 'rdro'"),
        ("rdro", 0, {}, "n must be at least 1, got 0"),
        ("rdro", 100, {"beta": 0.1}, "beta is an option of kto, dpo, ipo, got it for rdro"),
        ("rdro", 100, {"alfa": 0.1}, "did you mean 'alpha'"),
        ("mle", 100, {"beyond_domain": "extend"}, "beyond_domain is an option of ddro, got it for mle"),
        ("ddro", 100, {"beyond_domain": "extended"}, "did you mean 'extend'"),
        ("dpo", 100, {}, "batch_size must be even for dpo, which draws pairs, got 33"),
    ],
)
def test_wrong_methods_and_options_state_the_rule(method, n, options, message):
    with pytest.raises(ValueError, match=message):
        check_training(build_training({**LAWS, "batch_size": 33}), n, method, options)


def test_odd_numbers_of_examples_are_refused_where_they_come_in_pairs():
    w = build_training({"name": "bt", "preference": "bradley_terry", "options": {"signal": 1.0}, "responses": 3})
    with pytest.raises(ValueError, match="n must be even in the paired regime, where examples come in pairs, got 7"):
        check_training(w, 7, "rdro", {})


def test_data_must_hold_the_replicates_asked_for():
    with pytest.raises(ValueError, match="data must hold 3 replicates, got 1"):
        train(build_training(LAWS), "rdro", 200, 3, np.random.default_rng(0), data=DATA)


def test_batch_size_zero_means_all_data():
    assert TrainingSettings(batch_size="full") == TrainingSettings(batch_size=0)
