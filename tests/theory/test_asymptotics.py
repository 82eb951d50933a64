"""Limiting covariances against Monte Carlo, exact identities, efficiencies and errors (P7)."""

import numpy as np
import pytest
from hypothesis import example, given, settings

from tests.strategies import alphas, assert_within_standard_errors, problems
from theory import (
    GENERATORS,
    FiniteProblem,
    asymptotic_covariance,
    asymptotic_kl,
    cramer_rao_bound,
    efficiency,
    kl_divergence,
    minimise_over_simplex,
    population_target,
)

P, M = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
REPLICATES = 20_000
# Monte Carlo at n = N estimates n Cov(p_hat), which differs from its limit by O(1/n). Second-order terms are a few
# multiples of C/n; at n = 40,000 they are below a tenth of the standard error of C, sqrt(2/20,000) = 1 % of it.
N = 40_000


def draw_counts(problem, fraction, rng, paired=False):
    """Draw class counts (replicates, prompts, K) of N labelled examples (or N/2 pairs)."""
    prompts, responses = problem.prompts, problem.responses
    if paired:
        law = (problem.prompt_probs[:, None, None] * problem.pair_probs).ravel()
        pairs = rng.multinomial(N // 2, law, REPLICATES).reshape(REPLICATES, prompts, responses, responses)
        return pairs.sum(axis=3), pairs.sum(axis=2)
    rates = np.broadcast_to(fraction, prompts)[:, None]
    up = problem.prompt_probs[:, None] * rates * problem.p_preferred
    down = problem.prompt_probs[:, None] * (1 - rates) * problem.p_nonpreferred
    counts = rng.multinomial(N, np.concatenate([up.ravel(), down.ravel()]), REPLICATES)
    counts = counts.reshape(REPLICATES, 2, prompts, responses)
    return counts[:, 0], counts[:, 1]


def estimates(problem, method, counts, alpha, generator="logistic", weighting="balanced"):
    """Estimate policies (replicates, prompts, K): class-weighted masses, then the exact minimiser."""
    preferred, nonpreferred = (c.astype(float) for c in counts)
    if method == "sft":
        return preferred / preferred.sum(axis=2, keepdims=True)
    if method == "mle" or weighting != "balanced":
        up, down = weighting if isinstance(weighting, tuple) else (1.0, 1.0)
        masses = up * preferred / N, down * nonpreferred / N
    else:
        masses = tuple(c / (2 * c.sum(axis=(1, 2), keepdims=True)) for c in (preferred, nonpreferred))
    policies = []
    for x in range(problem.prompts):
        weight = np.full(REPLICATES, np.broadcast_to(alpha, problem.prompts)[x])
        solution = minimise_over_simplex(
            method, masses[0][:, x], masses[1][:, x], problem.reference[[x]], weight, generator
        )
        assert solution.converged.all()
        policies.append(solution.policy)
    return np.stack(policies, axis=1)


ONE = FiniteProblem(P, M, alpha=0.5)
TWO = FiniteProblem([P, [0.2, 0.3, 0.5]], [M, [0.4, 0.4, 0.2]], prompt_probs=[0.3, 0.7], alpha=0.4)
FOREIGN = FiniteProblem(P, M, [0.3, 0.4, 0.3], alpha=0.4)
PREFERENCE = np.array([[0.5, 0.8, 0.6], [0.2, 0.5, 0.9], [0.4, 0.1, 0.5]])
BASE = np.array([0.3, 0.3, 0.4])
PAIRS = 2 * BASE[:, None] * BASE[None, :] * PREFERENCE
PAIRED = FiniteProblem(PAIRS.sum(axis=1), PAIRS.sum(axis=0), BASE, alpha=0.5, pair_probs=PAIRS)


@pytest.mark.parametrize(
    ("problem", "method", "options"),
    [
        (ONE, "sft", {}),
        (ONE, "rdro", {}),
        (ONE, "rdro", {"generator": "kl"}),
        (ONE, "rdro", {"generator": "least_squares"}),
        (ONE, "ddro", {}),
        (ONE, "mle", {}),
        (ONE, "rdro", {"preferred_fraction": 0.3}),
        (ONE, "rdro", {"weighting": "pooled", "preferred_fraction": 0.3}),
        (ONE, "rdro", {"weighting": (1.0, 0.5), "preferred_fraction": 0.3}),
        (ONE, "mle", {"preferred_fraction": 0.7}),
        (FiniteProblem(P, M, alpha=0.2), "rdro", {}),
        (FiniteProblem(P, M, alpha=0.8), "rdro", {}),
        (FiniteProblem(P, M, alpha=0.2), "mle", {}),
        (FOREIGN, "rdro", {}),
        (FOREIGN, "mle", {}),
        (
            FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.25, 0.5, 0.25], alpha=0.4),
            "mle",
            {"preferred_fraction": 0.3},
        ),
        (FOREIGN, "rdro", {"alpha": 0.5}),
        (TWO, "sft", {}),
        (TWO, "rdro", {}),
        (TWO, "ddro", {}),
        (TWO, "mle", {}),
        (PAIRED, "rdro", {"paired": True}),
        (PAIRED, "ddro", {"paired": True}),
        (PAIRED, "mle", {"paired": True}),
        (PAIRED, "sft", {"paired": True}),
        (PAIRED, "rdro", {}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict | str) else None,
)
def test_covariances_agree_with_monte_carlo(problem, method, options):
    rng = np.random.default_rng(20_260_404)
    limit = asymptotic_covariance(problem, method, **options)
    fraction = options.get("preferred_fraction", problem.alpha)
    counts = draw_counts(problem, fraction, rng, options.get("paired", False))
    policies = estimates(
        problem,
        method,
        counts,
        options.get("alpha", problem.alpha),
        options.get("generator", "logistic"),
        options.get("weighting", "balanced"),
    )
    accepted = {k: v for k, v in options.items() if k != "paired"}
    deviations = np.sqrt(N) * (policies - population_target(problem, method, **accepted))
    upper = np.triu_indices(3)
    for x in range(problem.prompts):
        centred = deviations[:, x] - deviations[:, x].mean(axis=0)
        products = centred[:, upper[0]] * centred[:, upper[1]]
        assert_within_standard_errors(products, limit[x][upper])


@pytest.mark.parametrize("method", ["sft", "rdro", "ddro", "mle"])
@pytest.mark.parametrize("problem", [ONE, TWO], ids=["one prompt", "two prompts"])
def test_divergences_agree_with_monte_carlo(method, problem):
    rng = np.random.default_rng(20_260_405)
    policies = estimates(problem, method, draw_counts(problem, problem.alpha, rng), problem.alpha)
    truth = np.broadcast_to(problem.p_preferred, policies.shape)
    draws = N * kl_divergence(truth, policies) @ problem.prompt_probs
    assert_within_standard_errors(draws, asymptotic_kl(problem, method))


def test_prompts_with_few_examples_are_estimated_at_their_own_rate():
    # Nothing is shared between prompts: C(x) is that of a single prompt over rho(x), up to the random class counts,
    # which the likelihood does not notice.
    both = asymptotic_covariance(TWO, "mle")
    for x in range(2):
        alone = FiniteProblem(TWO.p_preferred[x], TWO.p_nonpreferred[x], alpha=0.4)
        np.testing.assert_allclose(both[x], asymptotic_covariance(alone, "mle")[0] / TWO.prompt_probs[x], rtol=1e-10)


# Sandwiches are products of three matrices whose condition number is that of the curvatures, exp(2 * 2 * 2) here.
@pytest.mark.parametrize("method", ["sft", "rdro", "ddro", "mle"])
@given(problems(prompts=2, spread=1.0))
@settings(max_examples=15)
def test_covariances_are_covariances_on_the_tangent_space(method, problem):
    covariance = asymptotic_covariance(problem, method)
    size = np.abs(covariance).max()
    np.testing.assert_allclose(covariance, np.swapaxes(covariance, 1, 2), atol=1e-12 * size)
    assert np.linalg.eigvalsh(covariance).min() >= -1e-12 * size
    np.testing.assert_allclose(covariance.sum(axis=2), 0, atol=1e-11 * size)


@given(problems(prompts=2, spread=1.0), alphas(0.1, 0.9))
@settings(max_examples=60)
@example(TWO, 0.5)
def test_likelihood_attains_the_cramer_rao_bound(problem, fraction):
    # Under assumption M the information equality makes the sandwich the inverse information, exactly.
    bound = cramer_rao_bound(problem, preferred_fraction=problem.alpha)
    np.testing.assert_allclose(
        asymptotic_covariance(problem, "mle"), bound, rtol=1e-9, atol=1e-12 * np.abs(bound).max()
    )
    assert efficiency(problem, "mle") == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(
    ("method", "generator"), [*(("rdro", g) for g in GENERATORS), ("ddro", "logistic"), ("sft", None)]
)
@given(problems(spread=1.0))
@settings(max_examples=8)
def test_no_method_beats_the_bound(method, generator, problem):
    options = {"generator": generator} if generator else {}
    value = efficiency(problem, method, **options)
    assert 0.0 < value <= 1.0 + 1e-9
    # Not only the trace: C - bound is positive semi-definite.
    excess = asymptotic_covariance(problem, method, **options)[0] - cramer_rao_bound(problem)[0]
    assert np.linalg.eigvalsh(excess).min() >= -1e-10 * np.abs(excess).max() - 1e-12


@given(problems(spread=1.0, alpha=alphas(0.5, 0.5)))
@settings(max_examples=40)
def test_p7_ddro_at_one_half_attains_the_bound(problem):
    np.testing.assert_allclose(population_target(problem, "ddro"), population_target(problem, "mle"), rtol=1e-11)
    expected = asymptotic_covariance(problem, "mle")
    actual = asymptotic_covariance(problem, "ddro")
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_p7_ddro_elsewhere_is_close_to_the_bound_and_does_not_attain_it():
    for alpha in (0.2, 0.35, 0.8):
        value = efficiency(FiniteProblem(P, M, alpha=alpha), "ddro")
        assert 0.95 < value < 1.0 - 1e-6


@given(problems(prompts=1, spread=1.5), alphas(0.1, 0.9))
@settings(max_examples=40)
def test_sft_has_its_closed_form(problem, fraction):
    # n pi examples of a multinomial law: C = (diag(p) - p p^T)/pi and n E[KL] -> (K - 1)/(2 pi).
    p = problem.p_preferred[0]
    covariance = asymptotic_covariance(problem, "sft", preferred_fraction=fraction)[0]
    np.testing.assert_allclose(covariance, (np.diag(p) - np.outer(p, p)) / fraction, rtol=1e-10, atol=1e-13)
    assert asymptotic_kl(problem, "sft", preferred_fraction=fraction) == pytest.approx(3 / (2 * fraction), rel=1e-11)


def test_rdro_gains_much_over_sft_and_loses_little_to_the_bound():
    for alpha, least, most in ((0.5, 1.5, 3.0), (0.8, 2.5, 6.0)):
        problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=alpha)
        gain = asymptotic_kl(problem, "sft") / asymptotic_kl(problem, "rdro")
        assert least < gain < most
        assert 0.85 < efficiency(problem, "rdro") < 1.0
        assert efficiency(problem, "rdro") < efficiency(problem, "ddro") <= 1.0 + 1e-12
        # The other generators lie between logistic rdro and the bound.
        for generator in ("kl", "least_squares"):
            assert efficiency(problem, "rdro") < efficiency(problem, "rdro", generator=generator) <= 1.0 + 1e-12


def test_responses_without_preferred_mass_have_no_variance():
    problem = FiniteProblem([0.6, 0.4, 0.0], [0.2, 0.3, 0.5], alpha=0.5)
    for method in ("sft", "rdro", "mle"):
        covariance = asymptotic_covariance(problem, method)[0]
        assert (covariance[2] == 0).all() and (covariance[:, 2] == 0).all() and covariance[0, 0] > 0
    assert asymptotic_kl(problem, "mle") == pytest.approx(
        0.5 * np.trace(cramer_rao_bound(problem)[0] / [0.6, 0.4, 1.0])
    )


EDGE = FiniteProblem([0.5, 0.5, 0.0], [0.0, 0.5, 0.5], alpha=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: asymptotic_covariance(ONE, "dpo"), r"method must be one of ddro, mle, rdro, sft; got 'dpo'"),
        (lambda: asymptotic_kl(ONE, "mel"), r"method must be one of .*did you mean 'mle'"),
        (
            lambda: asymptotic_kl(ONE, "rdro", weighting="pooled", preferred_fraction=0.3),
            r"n E\[KL\(p\+ \|\| p_hat\)\] has a limit only if",
        ),
        (lambda: asymptotic_kl(FOREIGN, "rdro"), r"only if the target of rdro is p\+, got one up to"),
        (lambda: cramer_rao_bound(FOREIGN), r"the Cramer-Rao bound needs assumption M"),
        (lambda: cramer_rao_bound(EDGE), r"p_nonpreferred must be positive wherever p_preferred is, got 0 at prompt 0"),
        (lambda: asymptotic_covariance(EDGE, "mle"), r"the target of mle must lie inside its domain alpha p < p_ref"),
        (
            lambda: asymptotic_covariance(FiniteProblem([P, P], [M, M], prompt_probs=[1.0, 0.0], alpha=0.5), "rdro"),
            r"prompt_probs must be positive .*got 0 at prompt 1",
        ),
        (
            lambda: asymptotic_covariance(ONE, "rdro", preferred_fraction=0.3, paired=True),
            r"pairs hold as many preferred as nonpreferred examples, got preferred_fraction 0\.3",
        ),
        (lambda: asymptotic_covariance(ONE, "rdro", alpha=1.0), r"alpha must lie strictly between 0 and 1, got 1"),
        (
            lambda: asymptotic_covariance(ONE, "rdro", preferred_fraction=1.0),
            r"preferred_fraction must lie strictly between 0 and 1, got 1",
        ),
        (
            lambda: asymptotic_covariance(ONE, "sft", alpha=0.5),
            r"alpha is an option of rdro, ddro, mle, got it for sft",
        ),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
