"""Log-linear fits at edges, limits and starts, without data or effect, batched and alone; their statuses and errors."""

import numpy as np
import pytest

import sim.log_linear
import sim.log_linear_newton
from sim.log_linear import fit_log_linear
from tests.sim.log_linear_world import world
from theory import ddro_losses, minimise_over_simplex


def test_tabular_ddro_on_the_extension_may_put_no_mass_on_a_response():
    # Counts of one prompt; the last response was seen in the nonpreferred class alone.
    preferred, nonpreferred = np.array([[[12, 5, 3, 0]]]) / 40, np.array([[[3, 5, 6, 6]]]) / 40
    q = np.array([[0.4, 0.25, 0.2, 0.15]])
    options = {"preferred": preferred, "nonpreferred": nonpreferred, "alpha": 0.5}
    fit = fit_log_linear("ddro", np.eye(4)[None], q, **options, beyond_domain="extend", accept_limits=True)
    assert fit.status[0] == "ok"
    assert fit.policies[0, 0, 3] <= 1e-8
    # The ratios stay below (1 - margin)/alpha here, where both options have the same losses.
    assert (fit.policies[0, 0] / q[0] < 1.9).all()
    inside = minimise_over_simplex("ddro", preferred[0], nonpreferred[0], q, np.array([0.5]))
    np.testing.assert_allclose(fit.policies[0], inside.policy, atol=1e-8)


def test_tabular_ddro_on_the_extension_ends_for_few_examples_too():
    # With nine preferred examples most tables have responses of one class alone, or of none: their share is not
    # determined to more than what the risk costs, 1e-12 of the mass.
    rng = np.random.default_rng(0)
    p_preferred, p_nonpreferred = rng.dirichlet(np.full(10, 2.0), size=2)
    q = (0.3 * p_preferred + 0.7 * p_nonpreferred)[None]
    preferred = rng.multinomial(9, p_preferred, size=(200, 1)) / 18
    nonpreferred = rng.multinomial(21, p_nonpreferred, size=(200, 1)) / 42
    fit = fit_log_linear(
        "ddro",
        np.eye(10)[None],
        q,
        preferred=preferred,
        nonpreferred=nonpreferred,
        alpha=0.3,
        beyond_domain="extend",
        accept_limits=True,
    )
    np.testing.assert_array_equal(fit.status, "ok")
    # Mixing any response in, or out, lowers the risk nowhere: a step of 1e-4 costs at least minus its second order.
    flags, alpha = np.ones((200, 1, 10), dtype=bool), np.full((200, 1, 10), 0.3)

    def risk(policies):
        u = np.log(np.maximum(policies, 1e-300) / q)
        pairs = ((preferred, flags), (nonpreferred, ~flags))
        return sum((mass * ddro_losses(u, flag, alpha, "logistic", "extend")).sum(axis=(1, 2)) for mass, flag in pairs)

    here = risk(fit.policies)
    for y in range(10):
        other = 0.9999 * fit.policies
        other[:, 0, y] += 1e-4
        assert (risk(other) >= here - 1e-6).all()


@pytest.mark.parametrize("method", ["ddro", "mle"])
def test_minima_on_the_edge_of_the_domain_are_those_of_the_tabular_solver(method):
    # The first response is never seen as nonpreferred, and far more often as preferred than alpha r <= 1 can hold.
    preferred, nonpreferred = np.array([[[14, 4, 2]]]) / 40, np.array([[[0, 8, 12]]]) / 40
    q, alpha = np.array([[0.3, 0.4, 0.3]]), 0.5
    fit = fit_log_linear(method, np.eye(3)[None], q, preferred=preferred, nonpreferred=nonpreferred, alpha=alpha)
    assert fit.status[0] == "ok"
    tabular = minimise_over_simplex(method, preferred[0], nonpreferred[0], q, np.array([alpha]))
    assert tabular.policy[0, 0] == pytest.approx(0.6, abs=1e-9)  # the edge
    # The barrier of 1e-9 B holds the ratio back by 1e-9 B over the slope of the rest of the risk there.
    np.testing.assert_allclose(fit.policies[0], tabular.policy, atol=1e-7)
    assert (alpha * fit.policies[0, 0] / q[0] < 1.0)[0]


def test_ddro_without_a_lower_bound_diverges():
    preferred, nonpreferred = np.array([[[14, 4, 2]]]) / 40, np.array([[[0, 8, 12]]]) / 40
    q = np.array([[0.3, 0.4, 0.3]])
    fit = fit_log_linear(
        "ddro", np.eye(3)[None], q, preferred=preferred, nonpreferred=nonpreferred, alpha=0.5, generator="kl"
    )
    assert fit.status[0] == "diverged"


def test_parameters_that_run_away_are_told_and_limits_accepted_on_request():
    # All preferred examples lie at the end of a line: the likelihood rises for ever.
    features, q = np.array([[[0.0], [1.0], [2.0]]]), np.full((1, 3), 1 / 3)
    masses = {"preferred": np.array([[[0.0, 0.0, 1.0]], [[0.2, 0.3, 0.5]]]), "nonpreferred": np.zeros((2, 1, 3))}
    fit = fit_log_linear("sft", features, q, **masses)
    np.testing.assert_array_equal(fit.status, ["diverged", "ok"])
    accepted = fit_log_linear("sft", features, q, **masses, accept_limits=True)
    np.testing.assert_array_equal(accepted.status, "ok")
    np.testing.assert_allclose(accepted.policies[0, 0], [0, 0, 1], atol=1e-8)
    np.testing.assert_allclose(accepted.policies[1], fit.policies[1], atol=1e-9)
    pairs = np.zeros((1, 1, 3, 3))
    pairs[0, 0, 2, 0] = 1.0  # the same for pairs: one always wins
    assert fit_log_linear("dpo", features, q, pairs=pairs, beta=0.1).status[0] == "diverged"
    assert fit_log_linear("ipo", features, q, pairs=pairs, beta=0.1).status[0] == "ok"


def test_problems_without_data_are_errors():
    features, reference, preferred, nonpreferred = world()
    preferred[1], nonpreferred[1] = 0.0, 0.0
    fit = fit_log_linear("rdro", features, reference, preferred=preferred, nonpreferred=nonpreferred, alpha=0.3)
    np.testing.assert_array_equal(fit.status, ["ok", "error", "ok"])
    np.testing.assert_allclose(fit.policies[1], reference, rtol=1e-14)  # the start is kept
    np.testing.assert_array_equal(fit.parameters[1], 0.0)
    alone = fit_log_linear(
        "rdro", features, reference, preferred=preferred[2:], nonpreferred=nonpreferred[2:], alpha=0.3
    )
    np.testing.assert_allclose(fit.policies[2], alone.policies[0], atol=1e-12)


def test_directions_without_effect_or_data_have_no_part_in_theta():
    features, reference, preferred, nonpreferred = world()
    wider = np.concatenate([features, np.full((3, 4, 1), 2.0) + np.arange(3)[:, None, None]], axis=2)
    masses = {"preferred": preferred, "nonpreferred": nonpreferred, "alpha": 0.3}
    plain = fit_log_linear("rdro", features, reference, **masses)
    fit = fit_log_linear("rdro", wider, reference, **masses)
    np.testing.assert_allclose(fit.policies, plain.policies, atol=1e-9)
    np.testing.assert_allclose(fit.parameters[:, 2], 0.0, atol=1e-12)  # a feature constant within prompts
    double = fit_log_linear("rdro", np.concatenate([features, features], axis=2), reference, **masses)
    np.testing.assert_allclose(double.parameters, np.tile(plain.parameters / 2, 2), atol=1e-9)
    # A prompt without any example keeps the reference where it has parameters of its own.
    own = np.zeros((3, 4, 12))
    own[np.arange(3)[:, None], np.arange(4), np.arange(12).reshape(3, 4)] = 1.0
    preferred[:, 1], nonpreferred[:, 1] = 0.0, 0.0
    kept = fit_log_linear("rdro", own, reference, **masses)
    np.testing.assert_array_equal(kept.status, "ok")
    np.testing.assert_allclose(kept.policies[:, 1], np.tile(reference[1], (3, 1)), rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 1.0, 1e6])
def test_features_without_any_effect_leave_the_reference(constant):
    _, reference, preferred, nonpreferred = world()
    features = np.full((3, 4, 2), constant)
    fit = fit_log_linear("rdro", features, reference, preferred=preferred, nonpreferred=nonpreferred, alpha=0.3)
    np.testing.assert_array_equal(fit.status, "ok")
    np.testing.assert_allclose(fit.policies, np.stack([reference] * 3), rtol=1e-14)
    pairs = preferred[:, :, :, None] * nonpreferred[:, :, None, :]
    fit = fit_log_linear("dpo", features, reference, pairs=pairs, beta=0.1)
    np.testing.assert_array_equal(fit.status, "ok")
    np.testing.assert_array_equal(fit.parameters, 0.0)


def test_responses_that_the_reference_hardly_ever_gives_are_fitted_too():
    q = np.array([[1e-12, 0.6, 0.4 - 1e-12]])
    masses = {"preferred": np.array([[[0.3, 0.1, 0.1]]]), "nonpreferred": np.array([[[0.1, 0.2, 0.2]]])}
    fit = fit_log_linear("rdro", np.eye(3)[None], q, **masses, alpha=0.5)
    assert fit.status[0] == "ok"
    tabular = minimise_over_simplex("rdro", masses["preferred"][0], masses["nonpreferred"][0], q, np.array([0.5]))
    np.testing.assert_allclose(fit.policies[0], tabular.policy, atol=1e-8)


def test_kto_fits_do_not_depend_on_the_order_of_responses():
    # At the reference kto's Hessian is 0 where the classes have equal masses: its rounding once decided where to go.
    features, reference, preferred, nonpreferred = world(problems=8, prompts=5, responses=6, dimension=4)
    nonpreferred = nonpreferred * preferred.sum(axis=2, keepdims=True) / nonpreferred.sum(axis=2, keepdims=True)
    order, fits = np.random.default_rng(1).permutation(6), []
    for some in (np.arange(6), order):
        masses = {"preferred": preferred[:, :, some], "nonpreferred": nonpreferred[:, :, some]}
        options = {"beta": 0.3, "prompt_probs": 0.2, "accept_limits": True}
        fits.append(fit_log_linear("kto", features[:, some], reference[:, some], **masses, **options))
    np.testing.assert_array_equal(fits[0].status, "ok")
    np.testing.assert_allclose(fits[0].policies[:, :, order], fits[1].policies, atol=1e-9)


@pytest.mark.parametrize("method", ["rdro", "ddro", "dpo"])
def test_conjugate_gradients_lead_where_eigenvalues_do(method, monkeypatch):
    features, reference, preferred, nonpreferred = world(problems=6, prompts=5, responses=6, dimension=4)
    options = {"preferred": preferred, "nonpreferred": nonpreferred, "alpha": 0.3}
    if method == "dpo":
        options = {"pairs": preferred[:, :, :, None] * nonpreferred[:, :, None, :], "beta": 0.5}
    fit = fit_log_linear(method, features, reference, **options)
    assert (fit.status == "ok").all()
    monkeypatch.setattr(sim.log_linear_newton, "_PRODUCTS", 0)
    exact = fit_log_linear(method, features, reference, **options)
    np.testing.assert_allclose(fit.policies, exact.policies, atol=1e-12)


def test_each_problem_is_solved_as_if_it_were_alone(monkeypatch):
    features, reference, preferred, nonpreferred = world(problems=5)
    references = np.stack([reference] * 5)
    masses = {"preferred": preferred, "nonpreferred": nonpreferred}
    together = fit_log_linear("ddro", features, references, **masses, alpha=0.3)
    monkeypatch.setattr(sim.log_linear, "_NUMBERS_AT_ONCE", 2 * 3 * 4)
    parts = fit_log_linear("ddro", features, references, **masses, alpha=0.3)
    np.testing.assert_allclose(parts.policies, together.policies, atol=1e-12)
    np.testing.assert_array_equal(parts.status, together.status)
    started = fit_log_linear("ddro", features, reference, **masses, alpha=0.3, start=together.parameters)
    np.testing.assert_allclose(started.policies, together.policies, atol=1e-9)
    assert (started.iterations <= 1).all() and (together.iterations > 1).all()
    # A start beyond the domain is not used.
    far = fit_log_linear("ddro", features, reference, **masses, alpha=0.3, start=np.array([50.0, -50.0]))
    np.testing.assert_allclose(far.policies, together.policies, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("sfd", {}, r"method must be one of .*did you mean 'sft'"),
        ("rdro", {"features": np.zeros((3, 4))}, r"features must have shape \(prompts, responses, d\), got \(3, 4\)"),
        ("rdro", {"preferred": None}, r"preferred must be given for rdro, got None"),
        ("rdro", {"preferred": np.ones((1, 3, 5))}, r"preferred must have shape \(problems, 3, 4\), got \(1, 3, 5\)"),
        ("rdro", {"nonpreferred": -np.ones((3, 3, 4))}, r"nonpreferred must be finite and not negative"),
        ("rdro", {"alpha": None}, r"alpha must be given for rdro, got None"),
        ("rdro", {"alpha": [0.3, 0.3]}, r"alpha must be one number, \(prompts,\) or \(problems, prompts\), got"),
        ("rdro", {"reference": np.ones((3, 5))}, r"reference must have shape .* got \(1, 3, 5\)"),
        ("rdro", {"start": np.zeros(3)}, r"start must have shape \(d,\) or \(problems, d\) with d = 2, got \(3,\)"),
        ("kto", {"beta": 0.1}, r"prompt_probs must be given for kto, got None"),
        ("dpo", {}, r"pairs must be given for dpo, got None"),
        ("dpo", {"pairs": np.ones((1, 3, 4, 4))}, r"beta must be given for dpo, got None"),
        ("rdro", {"beyond_domain": "clip"}, r"beyond_domain must be one of extend, infinite; got 'clip'"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(method, changes, message):
    features, reference, preferred, nonpreferred = world()
    arguments = {"features": features, "reference": reference, "preferred": preferred, "nonpreferred": nonpreferred}
    arguments |= {"alpha": 0.3 if method == "rdro" else None} | changes
    with pytest.raises(ValueError, match=message):
        fit_log_linear(method, **arguments)


def test_mass_must_lie_where_the_reference_has_some():
    features, reference, preferred, nonpreferred = world()
    reference[0] = [0.0, 0.5, 0.25, 0.25]
    with pytest.raises(ValueError, match="masses must lie where the reference has mass"):
        fit_log_linear("sft", features, reference, preferred=preferred, nonpreferred=nonpreferred)
    preferred[:, 0, 0] = nonpreferred[:, 0, 0] = 0.0
    fit = fit_log_linear("sft", features, reference, preferred=preferred, nonpreferred=nonpreferred)
    np.testing.assert_array_equal(fit.status, "ok")
    np.testing.assert_array_equal(fit.policies[:, 0, 0], 0.0)
