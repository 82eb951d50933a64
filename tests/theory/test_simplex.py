"""Minimisation over the simplex: optimality, propositions P3 and P9, empty cells, batches."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, assert_first_order_optimal, laws, problems, samples
from tests.theory.independent import best_policy, best_policy_of_three, risk_and_slopes
from theory import GENERATORS, minimise_over_simplex, power, relative_ratio, simplex

CONVEX = [("rdro", "kl"), ("rdro", "least_squares"), ("rdro", "power"), ("mle", "logistic")]
ALL = [("rdro", "logistic"), *CONVEX, ("ddro", "logistic")]


def solve(method, preferred, nonpreferred, reference, alpha, generator="logistic"):
    """Solve one problem with 1-D masses."""
    arrays = (np.asarray(x, dtype=float)[None] for x in (preferred, nonpreferred, reference))
    return minimise_over_simplex(method, *arrays, np.array([alpha], dtype=float), generator)


def masses(sample):
    """Class-balanced empirical masses of a sample."""
    return sample.preferred / sample.preferred.sum() / 2, sample.nonpreferred / sample.nonpreferred.sum() / 2


@pytest.mark.parametrize(("method", "generator"), ALL)
@given(problems(foreign_reference=True), alphas(0.34, 0.66))
@settings(max_examples=60)
def test_solutions_are_normalised_and_stationary(method, generator, problem, alpha):
    preferred, nonpreferred, reference = problem.p_preferred[0] / 2, problem.p_nonpreferred[0] / 2, problem.reference[0]
    solution = solve(method, preferred, nonpreferred, reference, alpha, generator)
    policy = solution.policy[0]
    assert solution.converged.all() and (policy >= 0).all() and abs(policy.sum() - 1) <= 8 * EPS
    _, slopes = risk_and_slopes(
        method, np.maximum(policy, 1e-250) / reference, preferred, nonpreferred, alpha, generator
    )
    # Slopes in p = slopes in log p / p. Policies are exact to about 1e-12 of themselves (residual 1e-10 at most), and
    # the laws' smallest cells are exp(-4)/4 of the largest ones, so that second derivatives stay below 1e3.
    assert_first_order_optimal((slopes / np.maximum(policy, 1e-250))[None], policy[None], tolerance=1e-8)


@pytest.mark.parametrize(("method", "generator"), ALL)
@given(problems(foreign_reference=True), alphas(0.34, 0.66), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_no_random_policy_is_better(method, generator, problem, alpha, seed):
    preferred, nonpreferred, reference = problem.p_preferred[0] / 2, problem.p_nonpreferred[0] / 2, problem.reference[0]
    policy = solve(method, preferred, nonpreferred, reference, alpha, generator).policy[0]
    rng = np.random.default_rng(seed)
    others = np.concatenate([rng.dirichlet(np.ones(4), 50), rng.dirichlet(200 * policy + 1e-3, 50)])
    ratios = np.maximum([policy, *others], 1e-250) / reference
    risks, _ = risk_and_slopes(method, ratios, preferred, nonpreferred, alpha, generator)
    assert risks[0] <= risks[1:].min() + 16 * EPS * (1 + abs(risks[0]))


# --- P3 ---------------------------------------------------------------------------------------------------------

P, M = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.05, 0.15, 0.3, 0.5])


def test_p3_normalised_policy_may_exceed_the_bound_in_a_small_sample():
    # A sample of n = 100 at alpha = 0.2 from P and M: an example, found by search, and no bound.
    preferred, nonpreferred = np.array([19, 0, 1, 0]) / 20, np.array([5, 17, 25, 33]) / 80
    mixture = 0.2 * P + 0.8 * M
    policy = solve("rdro", preferred / 2, nonpreferred / 2, mixture, 0.2).policy[0]
    assert policy.max() == pytest.approx(0.9413, abs=1e-4)
    assert (policy / mixture).max() > 6.7 > 1 / 0.2
    # It is the minimiser indeed, and the unnormalised estimate of the same sample keeps the bound (P2).
    best, risk = best_policy("rdro", preferred / 2, nonpreferred / 2, mixture, 0.2)
    assert (
        risk_and_slopes("rdro", np.maximum(policy, 1e-250) / mixture, preferred / 2, nonpreferred / 2, 0.2)[0]
        <= risk + 1e-12
    )
    np.testing.assert_allclose(policy, best, atol=1e-6)
    assert relative_ratio(preferred, nonpreferred, 0.2).max() <= 5.0


def test_p3_population_policy_obeys_the_bound():
    mixture = 0.2 * P + 0.8 * M
    policy = solve("rdro", P / 2, M / 2, mixture, 0.2).policy[0]
    np.testing.assert_allclose(policy, P, rtol=1e-12)
    assert (policy / mixture).max() < 5.0


@pytest.mark.parametrize(("method", "generator"), ALL)
@given(samples())
@settings(max_examples=40)
def test_every_sample_has_a_policy(method, generator, sample):
    if method == "ddro" and not 0.34 <= sample.problem.alpha[0] <= 0.66:
        method = "mle"  # logistic ddro is convex for alpha in [1/3, 2/3] only: the likelihood stands in elsewhere
    solution = solve(method, *masses(sample), sample.problem.reference[0], sample.problem.alpha[0], generator)
    assert solution.converged.all() and (solution.residual <= 1e-10).all()
    policy = solution.policy[0]
    assert (policy >= 0).all() and abs(policy.sum() - 1) <= 8 * EPS


@pytest.mark.parametrize(("method", "generator"), ALL)
def test_extreme_problems_converge(method, generator):
    # Masses and references of any size and a third of all cells empty: Newton's steps alone may go round for ever.
    rng = np.random.default_rng(1)
    preferred, nonpreferred = rng.dirichlet(np.full(4, 0.5), (2, 20_000)) * (rng.random((2, 20_000, 4)) > 0.3)
    for masses in (preferred, nonpreferred):
        masses[masses.sum(axis=1) == 0, 0] = 1.0
        masses /= 2 * masses.sum(axis=1, keepdims=True)
    reference, alpha = rng.dirichlet(np.ones(4), 20_000), rng.uniform(0.34, 0.66, 20_000)
    solution = minimise_over_simplex(method, preferred, nonpreferred, reference, alpha, generator)
    assert solution.converged.all()
    # Near the peak of a KL response, and where logistic RDRO nearly has two minima, S is steep.
    steep = {("rdro", "kl"): 1e-9, ("rdro", "logistic"): 1e-11}
    assert solution.residual.max() <= steep.get((method, generator), 1e-12)


@pytest.mark.parametrize(
    ("method", "preferred", "nonpreferred", "reference", "alpha"),
    [
        (
            "ddro",
            [0.4008321832505131, 0.0991678167494868],
            [0.4988959146802661, 0.0011040853197339],
            [0.6253474909651172, 0.3746525090348828],
            0.64,
        ),
        (
            "mle",
            [0.0, 0.09100254419221479, 0.2421744237705456, 0.1668230320372396],
            [0.17700248998209617, 0.0, 0.23113865729662522, 0.09185885272127867],
            [0.4609475300445068, 0.22911659001120777, 0.049920341576793315, 0.2600155383674921],
            0.36,
        ),
    ],
)
def test_newton_steps_that_go_to_and_fro_are_cut_short(method, preferred, nonpreferred, reference, alpha):
    solution = solve(method, preferred, nonpreferred, reference, alpha)
    assert solution.residual[0] <= 1e-14 and solution.iterations <= 20


def binary_risk(share, preferred, nonpreferred, reference, alpha):
    """Logistic RDRO risk of policies (share, 1 - share), at many shares at once."""
    u = np.log(np.stack([share, 1 - share], axis=-1) / reference)
    mixture = alpha * preferred + (1 - alpha) * nonpreferred
    return (mixture * np.logaddexp(u, 0) + preferred * np.logaddexp(-u, 0)).sum(axis=-1)


@pytest.mark.parametrize(
    ("preferred", "nonpreferred", "reference", "alpha", "minima"),
    [(0.95, 0.05, 0.02, 0.2, (0.10398, 0.90722)), (0.05, 0.95, 0.95, 0.3, (0.12866, 0.79172))],
)
def test_p9_two_minima_of_different_risk(preferred, nonpreferred, reference, alpha, minima):
    b, d, q = (np.array([x, 1 - x]) for x in (preferred, nonpreferred, reference))
    grid = np.linspace(0, 1, 100_001)[1:-1]
    risk = binary_risk(grid, b / 2, d / 2, q, alpha)
    lowest = np.nonzero((risk[1:-1] < risk[:-2]) & (risk[1:-1] < risk[2:]))[0] + 1
    np.testing.assert_allclose(grid[lowest], minima, atol=2e-5)
    assert abs(risk[lowest[0]] - risk[lowest[1]]) > 1e-3
    policy = solve("rdro", b / 2, d / 2, q, alpha).policy[0]
    best = grid[lowest[np.argmin(risk[lowest])]]
    assert abs(policy[0] - best) <= 1e-5  # one step of the grid
    # One response lies beyond its inflection r = sqrt(p+)/(sqrt(m + p+) - sqrt(p+)).
    mixture = alpha * b + (1 - alpha) * d
    inflection = np.sqrt(b) / (np.sqrt(mixture + b) - np.sqrt(b))
    assert (policy / q > inflection).sum() == 1


@given(laws(responses=3, spread=3.5), laws(responses=3, spread=3.5), laws(responses=3, spread=3.5), alphas(0.05, 0.95))
@settings(max_examples=40)
@example(np.array([0.95, 0.03, 0.02]), np.array([0.03, 0.95, 0.02]), np.array([0.02, 0.96, 0.02]), 0.2)
def test_p9_global_minimum_equals_the_best_of_many_scipy_starts(p, m, q, alpha):
    policy = solve("rdro", p / 2, m / 2, q, alpha).policy[0]
    best, risk = best_policy_of_three("rdro", p / 2, m / 2, q, alpha, starts=8)
    here = risk_and_slopes("rdro", policy / q, p / 2, m / 2, alpha)[0]
    assert here <= risk + 1e-12
    if here >= risk - 1e-12:
        # A risk that is flat to 1e-12 determines the policy to 1e-6 / sqrt(curvature); BFGS's gradient does better.
        np.testing.assert_allclose(policy, best, atol=1e-5)


@given(problems(responses=3, spread=3.0))
@settings(max_examples=40)
def test_p9_no_second_minimum_under_assumption_m(problem):
    # Each cell attains its own minimum at r_alpha, so that none can be better.
    policy = solve(
        "rdro", problem.p_preferred[0] / 2, problem.p_nonpreferred[0] / 2, problem.reference[0], problem.alpha[0]
    )
    np.testing.assert_allclose(policy.policy[0], problem.p_preferred[0], rtol=1e-12)


def curvature(generator, ratio, mixture, preferred):
    """Second derivative in r of ``m c(log r) - p+ f'(r)``, from the generator's weights."""
    u, chosen = np.log(ratio), GENERATORS[generator]
    first = mixture * chosen.conjugate_slope(u) - preferred * chosen.weight(u)
    second = mixture * chosen.conjugate_curvature(u) - preferred * chosen.weight_slope(u)
    return (second - first) / ratio**2, (np.abs(second) + np.abs(first)) / ratio**2


@given(st.floats(1e-3, 1.0), st.floats(1e-3, 1.0), st.floats(0.05, 0.95), st.floats(-6.0, 6.0))
def test_p9_convexity_of_each_generator(preferred, nonpreferred, alpha, u):
    mixture, ratio = alpha * preferred + (1 - alpha) * nonpreferred, np.exp(np.array(u))
    for generator in ("kl", "least_squares", "power"):
        second, size = curvature(generator, ratio, mixture, preferred)
        assert second >= -16 * EPS * size
    inflection = np.sqrt(preferred) / (np.sqrt(mixture + preferred) - np.sqrt(preferred))
    assert inflection > preferred / mixture
    for factor, sign in ((0.99, 1), (1.01, -1)):
        assert sign * curvature("logistic", factor * inflection, mixture, preferred)[0] > 0


@pytest.mark.parametrize(("method", "generator"), ALL)
def test_responses_without_evidence_take_what_is_left_over(method, generator):
    preferred, nonpreferred = np.array([0.3, 0.2, 0.0, 0.0]), np.array([0.1, 0.4, 0.0, 0.0])
    reference = np.array([0.3, 0.3, 0.3, 0.1])
    policy = solve(method, preferred, nonpreferred, reference, 0.4, generator).policy[0]
    # The others reach their pointwise minima B/A, whose reference mass is below one; the rest is shared 3 to 1.
    a = 0.4 * preferred + 0.6 * nonpreferred if method != "mle" else 0.4 * (preferred + nonpreferred)
    expected = reference[:2] * preferred[:2] / a[:2]
    assert expected.sum() < 1
    np.testing.assert_allclose(policy[:2], expected, rtol=1e-12)
    np.testing.assert_allclose(policy[2:], (1 - expected.sum()) * np.array([0.75, 0.25]), rtol=1e-12)


@pytest.mark.parametrize(("method", "generator"), ALL)
def test_responses_without_evidence_get_nothing_if_nothing_is_left_over(method, generator):
    preferred, nonpreferred = np.array([0.3, 0.2, 0.0]), np.array([0.1, 0.4, 0.0])
    policy = solve(method, preferred, nonpreferred, [0.5, 0.25, 0.25], 0.4, generator).policy[0]
    a = 0.4 * preferred + 0.6 * nonpreferred if method != "mle" else 0.4 * (preferred + nonpreferred)
    if ((np.array([0.5, 0.25]) * preferred[:2] / a[:2]).sum()) >= 1:
        assert policy[2] == 0.0
    assert abs(policy.sum() - 1) <= 8 * EPS


@pytest.mark.parametrize("generator", [*GENERATORS, power(0.25)])
def test_responses_never_preferred_keep_no_more_than_the_constraint_forces(generator):
    policy = solve("rdro", [0.3, 0.2, 0.0], [0.1, 0.2, 0.2], [0.3, 0.3, 0.4], 0.5, generator).policy[0]
    used = np.array([0.3, 0.3]) * np.array([0.3, 0.2]) / np.array([0.2, 0.2])
    # Pointwise minimisers use 0.75 of the mass: the rest is spread where it costs least, not thrown away.
    assert used.sum() == pytest.approx(0.75) and abs(policy.sum() - 1) <= 8 * EPS and (policy[:2] >= used).all()


def test_likelihood_without_nonpreferred_mass_stops_at_the_edge():
    # Response 0 was never dispreferred: its ratio is 1/t exactly if the others leave room.
    policy = solve("mle", [0.2, 0.3], [0.0, 0.5], [0.2, 0.8], 0.5).policy[0]
    assert policy[0] == pytest.approx(0.4, rel=4 * EPS)


@pytest.mark.parametrize("cells_at_once", [1, 12, 10**6])
def test_size_of_the_blocks_of_a_batch_changes_nothing(cells_at_once, monkeypatch):
    rng = np.random.default_rng(20260404)
    p, m = (rng.multinomial(20, law, size=50) / 40 for law in rng.dirichlet(np.ones(4), 2))
    q, alpha = np.full((1, 4), 0.25), np.full(1, 0.3)
    whole = minimise_over_simplex("rdro", p, m, q, alpha)
    monkeypatch.setattr(simplex, "_CELLS_AT_ONCE", cells_at_once)
    blocks = minimise_over_simplex("rdro", p, m, q, alpha)
    for name in ("policy", "multiplier", "residual", "converged", "iterations"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name), err_msg=name)


@pytest.mark.parametrize("method", ["rdro", "ddro", "mle"])
def test_no_problems_have_no_solutions(method):
    solution = minimise_over_simplex(
        method, np.empty((0, 3)), np.empty((0, 3)), np.full((1, 3), 1 / 3), np.full(1, 0.3)
    )
    assert solution.policy.shape == (0, 3) and solution.converged.shape == (0,) and solution.iterations == 0


@pytest.mark.parametrize(("method", "generator"), ALL)
@given(st.lists(samples(), min_size=3, max_size=3))
@settings(max_examples=10)
def test_a_batch_is_solved_like_its_members(method, generator, batch):
    alpha = np.full(3, 0.45)
    rows = [(*masses(s), s.problem.reference[0]) for s in batch]
    together = minimise_over_simplex(method, *(np.stack(x) for x in zip(*rows, strict=True)), alpha, generator)
    for i, row in enumerate(rows):
        alone = solve(method, *row, 0.45, generator)
        # Newton steps are the same; SIMD lanes may round them differently, and S has K = 4 terms.
        np.testing.assert_allclose(together.policy[i], alone.policy[0], atol=1e-12)
        assert together.converged[i] == alone.converged[0]


@pytest.mark.parametrize(("method", "generator"), ALL)
@given(problems(foreign_reference=True, alpha=st.just(0.4)), st.permutations(range(4)))
@settings(max_examples=25)
def test_solutions_follow_permutations_of_the_responses(method, generator, problem, order):
    arrays = problem.p_preferred[0] / 2, problem.p_nonpreferred[0] / 2, problem.reference[0]
    policy = solve(method, *arrays, 0.4, generator).policy[0]
    permuted = solve(method, *(x[list(order)] for x in arrays), 0.4, generator).policy[0]
    np.testing.assert_allclose(permuted, policy[list(order)], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("method", "generator"), ALL)
@given(problems(foreign_reference=True, alpha=st.just(0.4)), st.floats(1e-3, 1e3))
@settings(max_examples=25)
def test_scaling_both_masses_changes_nothing(method, generator, problem, scale):
    arrays = problem.p_preferred[0] / 2, problem.p_nonpreferred[0] / 2
    policy = solve(method, *arrays, problem.reference[0], 0.4, generator).policy[0]
    scaled = solve(method, *(scale * x for x in arrays), problem.reference[0], 0.4, generator).policy[0]
    np.testing.assert_allclose(scaled, policy, rtol=1e-9, atol=1e-12)


def test_one_response_gets_everything():
    for method, generator in ALL:
        assert solve(method, [0.5], [0.5], [1.0], 0.4, generator).policy[0, 0] == 1.0
