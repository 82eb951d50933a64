"""Log-linear fits against scipy loops on the same risks, tabular solvers, population targets; statuses and edges."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import rel_entr, softmax

import sim.log_linear
import sim.log_linear_newton
from sim.log_linear import fit_log_linear
from theory import (
    FiniteProblem,
    class_masses,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    minimise_over_simplex,
    mle_losses,
    population_target,
    power,
    rdro_losses,
    sft_losses,
)

UNPAIRED = {
    "sft": {},
    "rdro": {"alpha": 0.3},
    "rdro kl": {"alpha": 0.3, "generator": "kl"},
    "rdro least squares": {"alpha": 0.3, "generator": "least_squares"},
    "rdro power": {"alpha": np.array([0.3, 0.5, 0.2]), "generator": power(0.25)},
    "ddro": {"alpha": np.array([0.3, 0.5, 0.2])},
    "ddro extend": {"alpha": 0.3, "beyond_domain": "extend"},
    "ddro kl extend": {"alpha": 0.3, "generator": "kl", "beyond_domain": "extend"},
    "ddro least squares": {"alpha": 0.3, "generator": "least_squares"},
    "mle": {"alpha": 0.3},
}


def world(problems=3, prompts=3, responses=4, dimension=2, seed=0):
    """Features, reference and positive masses of both classes, which sum to 1 in each problem."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(prompts, responses, dimension))
    reference = rng.dirichlet(np.full(responses, 3.0), size=prompts)
    tilted = softmax(np.log(reference) + features @ rng.normal(scale=0.4, size=dimension), axis=1)
    masses = []
    for law in (tilted, reference):
        counts = 2 + rng.poisson(40 * law, size=(problems, prompts, responses))
        masses.append(0.5 * counts / counts.sum(axis=(1, 2), keepdims=True))
    return features, reference, *masses


def losses(method, u, flag, options):
    """Losses of one class, straight from theory.losses."""
    flags = np.full(u.shape, flag)
    alpha = np.array(np.broadcast_to(np.reshape(options.get("alpha", 0.5), (-1, 1)), u.shape))
    generator = options.get("generator", "logistic")
    match method.split()[0]:
        case "sft":
            return sft_losses(u, flags)
        case "rdro":
            return rdro_losses(u, flags, alpha, generator)
        case "ddro":
            return ddro_losses(u, flags, alpha, generator, options.get("beyond_domain", "infinite"))
        case _:
            return mle_losses(u, flags, alpha)


def log_ratios(features, reference, theta):
    """u at one theta, by the definition."""
    return np.log(softmax(np.log(reference) + features @ theta, axis=1) / reference)


def scipy_policy(risk, features, reference, theta=None):
    """Policy of the minimiser that Nelder and Mead's method finds from the reference, or from theta."""
    # Restarted once, so that its simplex has not collapsed; values that differ by eps leave theta with about 1e-8.
    options = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 4000, "maxfev": 4000}
    theta = np.zeros(features.shape[2]) if theta is None else theta
    for _ in range(3):
        theta = minimize(
            lambda t: risk(log_ratios(features, reference, t)), theta, method="Nelder-Mead", options=options
        ).x
    return reference * np.exp(log_ratios(features, reference, theta))


@pytest.mark.parametrize("method", UNPAIRED)
def test_unpaired_fits_agree_with_scipy(method):
    features, reference, preferred, nonpreferred = world()
    options = UNPAIRED[method]
    fit = fit_log_linear(
        method.split()[0], features, reference, preferred=preferred, nonpreferred=nonpreferred, **options
    )
    np.testing.assert_array_equal(fit.status, "ok")
    assert (fit.gradient_norm <= 1e-9).all()
    for i in range(2):

        def risk(u, i=i):
            return (preferred[i] * losses(method, u, True, options)).sum() + (
                nonpreferred[i] * losses(method, u, False, options)
            ).sum()

        expected = scipy_policy(risk, features, reference)
        # A risk of order 1 is flat to eps within sqrt(eps / curvature): 1e-8 / sqrt(0.01) of theta.
        np.testing.assert_allclose(fit.policies[i], expected, atol=1e-6)
        here = risk(np.log(fit.policies[i] / reference))
        assert here <= risk(np.log(expected / reference)) + 1e-14


@pytest.mark.parametrize("beta", [0.05, 0.8])
def test_kto_fits_are_optimal_at_their_own_reference_point(beta):
    # Of these data sets some have their optimum at a deterministic policy, others at a finite theta.
    features, reference, preferred, nonpreferred = world(problems=8, prompts=10, responses=5)
    shares = np.random.default_rng(1).dirichlet(np.ones(10), size=8)
    fit = fit_log_linear(
        "kto", features, reference, preferred=preferred, nonpreferred=nonpreferred, beta=beta, prompt_probs=shares
    )
    finite = np.nonzero(fit.status == "ok")[0]
    assert finite.size >= 3
    for i in finite[:3]:
        kl = float(shares[i] @ rel_entr(fit.policies[i], reference).sum(axis=1))  # a constant of the risk

        def risk(u, i=i, kl=kl):
            return sum(
                (mass[i] * kto_losses(u, np.full(u.shape, flag), beta, kl)).sum()
                for mass, flag in ((preferred, True), (nonpreferred, False))
            )

        # The risk is not convex: scipy starts nearby. Curvatures of beta/100 leave theta with 1e-8 / sqrt(5e-4).
        nearby = scipy_policy(risk, features, reference, fit.parameters[i] + 0.2)
        np.testing.assert_allclose(fit.policies[i], nearby, atol=1e-5)


@pytest.mark.parametrize(("method", "loss"), [("dpo", dpo_losses), ("ipo", ipo_losses)])
def test_paired_fits_agree_with_scipy(method, loss):
    features, reference, preferred, nonpreferred = world()
    pairs = preferred[:, :, :, None] * nonpreferred[:, :, None, :]
    fit = fit_log_linear(method, features, reference, pairs=pairs, beta=0.5)
    np.testing.assert_array_equal(fit.status, "ok")
    for i in range(2):

        def risk(u, i=i):
            chosen, rejected = (np.broadcast_to(v, pairs[i].shape) for v in (u[:, :, None], u[:, None, :]))
            return (pairs[i] * loss(chosen, rejected, 0.5)).sum()

        np.testing.assert_allclose(fit.policies[i], scipy_policy(risk, features, reference), atol=1e-6)


def well_specified(dimension=2):
    """A log-linear world of three prompts under assumption M, its p+ and features."""
    features, reference, _, _ = world(dimension=dimension, seed=2)
    theta = np.full(dimension, 0.3)
    law = softmax(np.log(reference) + features @ theta, axis=1)
    probs, alpha = np.array([0.2, 0.3, 0.5]), 0.3
    problem = FiniteProblem(law, (reference - alpha * law) / (1 - alpha), reference, probs, alpha=alpha)
    return problem, features, theta


def weighted(problem, weighting="balanced"):
    """Masses (1, prompts, responses) with the prompts' shares inside."""
    masses = class_masses(problem, weighting)
    share = problem.prompt_probs[:, None]
    return {"preferred": (share * masses.preferred)[None], "nonpreferred": (share * masses.nonpreferred)[None]}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sft", {}),
        ("mle", {}),
        ("rdro", {}),
        ("rdro", {"generator": "kl"}),
        ("rdro", {"generator": "least_squares"}),
        ("ddro", {}),
        ("ddro", {"generator": "kl"}),
        ("ddro", {"beyond_domain": "extend"}),
    ],
)
def test_well_specified_worlds_have_p_plus_as_target(method, options):
    problem, features, theta = well_specified()
    if method != "sft":
        options = options | {"alpha": problem.alpha}
    masses = weighted(problem, "pooled" if method == "mle" else "balanced")
    fit = fit_log_linear(method, features, problem.reference, **masses, **options)
    np.testing.assert_array_equal(fit.status, "ok")
    # The Newton step that ends the iteration is at most 1e-9 in the log-ratios, its successor the square of it.
    np.testing.assert_allclose(fit.policies[0], problem.p_preferred, atol=1e-9)
    np.testing.assert_allclose(fit.parameters[0], theta, atol=1e-8)


TABULAR = FiniteProblem([0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.3, 0.25, 0.2, 0.25], alpha=0.4)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sft", {}),
        ("rdro", {"alpha": 0.4}),
        ("rdro", {"alpha": 0.4, "generator": "least_squares"}),
        ("rdro", {"alpha": 0.2, "generator": "kl"}),
        ("ddro", {"alpha": 0.4}),
        ("mle", {"alpha": 0.4}),
    ],
)
def test_indicator_features_give_the_tabular_policies(method, options):
    masses = weighted(TABULAR, "pooled" if method == "mle" else "balanced")
    fit = fit_log_linear(method, np.eye(4)[None], TABULAR.reference, **masses, **options)
    assert fit.status[0] == "ok"
    np.testing.assert_allclose(fit.policies[0], population_target(TABULAR, method, **options), atol=1e-9)
    # Constants change nothing: the shortest parameters have mean zero.
    assert abs(fit.parameters.sum()) <= 1e-12


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_indicator_features_give_the_tabular_policies_of_pairs(method):
    fit = fit_log_linear(method, np.eye(4)[None], TABULAR.reference, pairs=TABULAR.pair_probs[None], beta=0.7)
    assert fit.status[0] == "ok"
    np.testing.assert_allclose(fit.policies[0], population_target(TABULAR, method, beta=0.7), atol=1e-10)


@pytest.mark.parametrize("beta", [0.1, 0.6])
def test_indicator_features_give_the_tabular_policies_of_kto(beta):
    # Two prompts share one reference point; responses with B <= D fall to probability 0, a limit.
    problem = FiniteProblem(
        [[0.5, 0.3, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]],
        [[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2]],
        [[0.25, 0.25, 0.3, 0.2], [0.2, 0.3, 0.2, 0.3]],
        [0.3, 0.7],
        alpha=0.4,
    )
    features = np.eye(8).reshape(2, 4, 8)
    arguments = weighted(problem) | {"beta": beta, "prompt_probs": problem.prompt_probs}
    fit = fit_log_linear("kto", features, problem.reference, **arguments, accept_limits=True)
    assert fit.status[0] == "ok"
    np.testing.assert_allclose(fit.policies[0], population_target(problem, "kto", beta=beta), atol=1e-8)
    assert fit_log_linear("kto", features, problem.reference, **arguments).status[0] == "diverged"


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
