"""Log-linear fits against scipy loops on the same risks, tabular policies and population targets."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import rel_entr, softmax

from sim.log_linear import fit_log_linear
from tests.sim.log_linear_world import world
from theory import (
    FiniteProblem,
    class_masses,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
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
