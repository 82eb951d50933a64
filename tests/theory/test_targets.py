"""Population targets: contract over all methods, an independent scipy solution, risks and errors."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_expit

from tests.strategies import EPS, alphas, problems
from tests.theory.independent import best_policy_of_three, minimise_with_scipy, risk_and_slopes
from theory import GENERATORS, METHODS, FiniteProblem, class_masses, class_weights, population_risk, population_target
from theory.targets import NoTargetError

# Two prompts, four responses, a reference that is not the mixture: every method has an interior or a KTO target.
PROBLEM = FiniteProblem(
    [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]],
    [[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2]],
    [[0.25, 0.25, 0.3, 0.2], [0.2, 0.3, 0.2, 0.3]],
    [0.3, 0.7],
    alpha=0.4,
)
RATIO_CASES = [("rdro", g) for g in GENERATORS] + [("ddro", g) for g in GENERATORS] + [("mle", "logistic")]

each_method = pytest.mark.parametrize("method", METHODS)


def test_registry_is_complete():
    assert set(METHODS) == {"sft", "rdro", "ddro", "mle", "kto", "dpo", "ipo"} and len(METHODS) == 7


@functools.cache
def contract_target(method):
    """Target of the shared problem, computed once."""
    return population_target(PROBLEM, method, **contract_options(method))


def contract_options(method):
    """Return beta = 1 for dpo and ipo: at 0.1 dpo has cells of 1e-12, whose derivatives differences cannot resolve."""
    return {"beta": 1.0} if method in ("dpo", "ipo") else {}


@each_method
def test_contract_targets_beat_200_random_policies(method):
    target = contract_target(method)
    assert target.shape == (2, 4) and (target >= 0).all()
    np.testing.assert_allclose(target.sum(axis=1), 1.0, rtol=8 * EPS)
    rng = np.random.default_rng(1)
    others = [rng.dirichlet(np.ones(4), 2) for _ in range(100)]
    others += [np.stack([rng.dirichlet(300 * row + 1e-3) for row in target]) for _ in range(100)]
    if method == "kto":
        # Its reference point is not differentiated: the target is optimal for the risk at its own reference point.
        kl = kto_reference_point(PROBLEM, target)
        risks = [kto_risk(PROBLEM, law, kl) for law in [target, *others]]
    else:
        risks = [population_risk(PROBLEM, law, method, **contract_options(method)) for law in [target, *others]]
    assert risks[0] <= min(risks[1:]) + 16 * EPS * (1 + abs(risks[0]))


@each_method
def test_contract_targets_satisfy_the_first_order_conditions(method):
    target, options = contract_target(method), contract_options(method)
    kl = kto_reference_point(PROBLEM, target)

    def risk(policy):
        return kto_risk(PROBLEM, policy, kl) if method == "kto" else population_risk(PROBLEM, policy, method, **options)

    # Derivatives along "take from everything in proportion, give to y": grad_y - sum_z p_z grad_z, which is 0 where
    # the target has mass and not negative elsewhere. Central differences with steps of 1e-4 of p_y: truncation 1e-8
    # and rounding eps/(1e-4 p) = 1e-11 of derivatives below 100. Where the target is 0 one side is left; the loss of
    # kto rises there from r = 0 with an infinite slope.
    for x, y in np.ndindex(2, 4):
        step = 1e-4 * target[x, y] if target[x, y] > 0 else 1e-9
        ends = []
        for sign in (1, -1) if target[x, y] > 0 else (1, 0):
            moved = target.copy()
            moved[x] *= 1 - sign * step
            moved[x, y] += sign * step
            ends.append(risk(moved))
        slope = (ends[0] - ends[1]) / (2 * step) / PROBLEM.prompt_probs[x]
        assert slope >= -2e-6
        if target[x, y] > 0:
            assert slope <= 2e-6


def kto_reference_point(problem, policy):
    """E_x KL(policy || reference)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(policy > 0, policy * np.log(policy / problem.reference), 0.0)
    return float(problem.prompt_probs @ terms.sum(axis=1))


def kto_risk(problem, policy, kl, beta=0.1):
    """KTO risk at a fixed reference point, balanced classes."""
    with np.errstate(divide="ignore"):
        gain = beta * (np.log(policy / problem.reference) - kl)
    up, down = np.exp(log_expit(-gain)), np.exp(log_expit(gain))
    return float(
        problem.prompt_probs @ (0.5 * problem.p_preferred * up + 0.5 * problem.p_nonpreferred * down).sum(axis=1)
    )


# A minimum of a smooth risk is flat: risks that agree to 1e-12 leave the policy undetermined to 1e-6 / sqrt(curvature)
# = 1e-6. BFGS stops when its gradient (not the risk) has reached rounding, 1e-9 or so, which determines the policy to
# about 1e-8 over the smallest curvature in the logits (0.05 here): a few 1e-7.
@pytest.mark.parametrize(("method", "generator"), RATIO_CASES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.36},
        {"alpha": [0.36, 0.6]},
        {"weighting": "pooled"},
        {"weighting": (1.0, 0.7)},
        {"weighting": ([1.0, 0.5], [0.7, 1.5])},
        {"preferred_fraction": [0.3, 0.6]},
    ],
    ids=str,
)
def test_targets_agree_with_scipy(method, generator, options):
    if method == "mle" and "weighting" in options:
        with pytest.raises(ValueError, match="weighting is an option of rdro, ddro, kto, got it for mle"):
            population_target(PROBLEM, method, **options)
        return
    options = {name: np.array(v) if name != "weighting" else v for name, v in options.items()}
    if method != "mle":
        options["generator"] = generator
    target = population_target(PROBLEM, method, **options)
    alpha = np.broadcast_to(options.get("alpha", 0.4), 2)
    fraction = np.broadcast_to(options.get("preferred_fraction", 0.4), 2)
    pooled = PROBLEM.prompt_probs @ fraction
    weighting = options.get("weighting", "balanced")
    if weighting == "pooled" or method == "mle":
        weighting = (1.0, 1.0)
    elif weighting == "balanced":
        weighting = (0.5 / pooled, 0.5 / (1 - pooled))
    up, down = (np.broadcast_to(w, 2) for w in weighting)
    total = 0.0
    for x in range(2):
        b, d = fraction[x] * up[x] * PROBLEM.p_preferred[x], (1 - fraction[x]) * down[x] * PROBLEM.p_nonpreferred[x]
        q = PROBLEM.reference[x]
        best, risk = minimise_with_scipy(
            lambda logs, b=b, d=d, q=q, x=x: risk_and_slopes(method, np.exp(logs) / q, b, d, alpha[x], generator), q
        )
        np.testing.assert_allclose(target[x], best, atol=5e-7)
        total += PROBLEM.prompt_probs[x] * risk
        here = risk_and_slopes(method, target[x] / q, b, d, alpha[x], generator)[0]
        assert abs(here - risk) <= 1e-12
    assert population_risk(PROBLEM, target, method, **options) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("method", "generator"), RATIO_CASES)
@given(problems(responses=3, foreign_reference=True, alpha=st.just(0.45)))
@settings(max_examples=8)
def test_targets_agree_with_scipy_on_random_problems(method, generator, problem):
    options = {} if method == "mle" else {"generator": generator}
    try:
        target = population_target(problem, method, **options)[0]
    except NoTargetError:
        # Allowed only where the risk is not convex and the stationary policy could not be certified.
        assert method == "ddro" and generator != "logistic"
        return
    mass = class_masses(problem, "pooled" if method == "mle" else "balanced")
    b, d, q = mass.preferred[0], mass.nonpreferred[0], problem.reference[0]
    _, risk = best_policy_of_three(method, b, d, q, 0.45, generator)
    here = risk_and_slopes(method, np.maximum(target, 1e-250) / q, b, d, 0.45, generator)[0]
    assert here <= risk + 1e-12 * (1 + abs(risk))


def pair_risk(method, pairs, beta):
    """Return a function of log-probabilities: the paired risk and its derivatives, for minimise_with_scipy."""

    def risk_of(logs, reference):
        u = logs - np.log(reference)
        margin = u[:, None] - u[None, :]
        if method == "dpo":
            value, slope = -log_expit(beta * margin), -beta * np.exp(log_expit(-beta * margin))
        else:
            value, slope = (margin - 0.5 / beta) ** 2, 2 * (margin - 0.5 / beta)
        weighted = pairs * slope
        return (pairs * value).sum(), weighted.sum(axis=1) - weighted.sum(axis=0)

    return risk_of


@pytest.mark.parametrize("method", ["dpo", "ipo"])
@pytest.mark.parametrize("beta", [0.5, 2.0])
@pytest.mark.parametrize("dependent", [False, True])
def test_paired_targets_agree_with_scipy(method, beta, dependent):
    pairs = np.array([[0.05, 0.1, 0.2], [0.05, 0.1, 0.15], [0.1, 0.2, 0.05]])
    p, m, q = pairs.sum(axis=1), pairs.sum(axis=0), np.array([0.2, 0.5, 0.3])
    problem = FiniteProblem(p, m, q, alpha=0.5, pair_probs=pairs if dependent else None)
    target = population_target(problem, method, beta=beta)[0]
    risk_of = pair_risk(method, pairs if dependent else np.outer(p, m), beta)
    best, risk = minimise_with_scipy(lambda logs: risk_of(logs, q), q)
    np.testing.assert_allclose(target, best, atol=5e-7)
    assert population_risk(problem, target[None], method, beta=beta) == pytest.approx(risk, abs=1e-12)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "kto"])
@given(problems(prompts=2, foreign_reference=True, alpha=alphas(0.35, 0.65)), st.permutations(range(4)))
@settings(max_examples=20)
def test_targets_and_risks_follow_permutations_of_the_responses(method, problem, order):
    order = list(order)
    moved = FiniteProblem(
        problem.p_preferred[:, order],
        problem.p_nonpreferred[:, order],
        problem.reference[:, order],
        problem.prompt_probs,
        alpha=problem.alpha,
    )
    risk = population_risk(problem, problem.reference, method)
    assert population_risk(moved, moved.reference, method) == pytest.approx(risk, rel=64 * EPS)
    target = population_target(problem, method)
    np.testing.assert_allclose(population_target(moved, method), target[:, order], rtol=1e-8, atol=1e-11)


@given(problems(prompts=2, foreign_reference=True))
@settings(max_examples=30)
def test_risks_are_means_of_losses(problem):
    u = np.log(problem.p_preferred / problem.reference)
    softplus, a, rho = np.logaddexp(u, 0), problem.alpha[0], problem.prompt_probs
    up, down = (1 + a) * softplus - u, (1 - a) * softplus
    each = problem.p_preferred * up, problem.p_nonpreferred * down
    size = rho @ sum(np.abs(e) for e in each).sum(axis=1)
    balanced = 0.5 * rho @ sum(each).sum(axis=1)
    pooled = rho @ (a * each[0] + (1 - a) * each[1]).sum(axis=1)
    assert abs(population_risk(problem, problem.p_preferred, "rdro") - balanced) <= 32 * EPS * size
    assert abs(population_risk(problem, problem.p_preferred, "rdro", weighting="pooled") - pooled) <= 32 * EPS * size
    assert population_risk(problem, problem.p_preferred, "sft") == pytest.approx(
        -rho @ (problem.p_preferred * u).sum(axis=1), abs=64 * EPS
    )


def test_risks_of_policies_that_exclude_something():
    problem = FiniteProblem([0.5, 0.5, 0.0], [0.2, 0.3, 0.5], alpha=0.4)
    excluded = np.array([[0.0, 0.5, 0.5]])
    for method in ("sft", "rdro", "ddro", "mle"):
        assert population_risk(problem, excluded, method) == np.inf
    assert np.isfinite(population_risk(problem, excluded, "kto"))
    # What was never preferred may be excluded at no cost.
    for method in ("sft", "rdro", "mle"):
        assert np.isfinite(population_risk(problem, [[0.5, 0.5, 0.0]], method))


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_pairs_of_a_response_with_itself_have_margin_zero_even_if_excluded(method):
    # Response 0 is drawn as (chosen, rejected) = (0, 0) too: log p_0 - log p_0 is 0 for every policy, also as p_0 -> 0.
    problem = FiniteProblem([0.5, 0.5, 0.0], [0.2, 0.3, 0.5], alpha=0.4)
    assert population_risk(problem, [[0.0, 0.5, 0.5]], method) == np.inf


def test_class_masses_with_weights_for_each_prompt():
    problem = FiniteProblem([[0.5, 0.5]] * 2, [[0.1, 0.9]] * 2, alpha=[0.2, 0.6])
    weights = class_weights(problem.alpha)
    masses = class_masses(problem, (weights.preferred, weights.nonpreferred))
    np.testing.assert_allclose(masses.preferred, problem.p_preferred / 2, rtol=4 * EPS)
    np.testing.assert_allclose(masses.nonpreferred, problem.p_nonpreferred / 2, rtol=4 * EPS)
    # The static balance of the whole data set leaves prompt 0 with w+ = .2/.8 and w- = .8/1.2.
    masses = class_masses(problem)
    np.testing.assert_allclose(masses.preferred.sum(axis=1), [0.25, 0.75], rtol=8 * EPS)
    np.testing.assert_allclose(masses.nonpreferred.sum(axis=1), [2 / 3, 1 / 3], rtol=8 * EPS)


SIMPLE = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.4)
NEVER_DISPREFERRED = FiniteProblem([0.5, 0.5, 0.0], [0.0, 0.5, 0.5], alpha=0.4)


@pytest.mark.parametrize(
    ("problem", "method", "options", "message"),
    [
        (
            FiniteProblem([0.5, 0.5], [0.5, 0.5], alpha=0.4),
            "kto",
            {},
            r"no response is weighted more as preferred .*prompt: 0",
        ),
        (
            SIMPLE,
            "kto",
            {"beta": 1.5},
            r"beta must be at most 1 for the kto risk to be concave in the policy, got 1\.5",
        ),
        (
            NEVER_DISPREFERRED,
            "dpo",
            {},
            r"dpo target does not exist at prompt 0: .*no chain of wins from item 1 to item 0",
        ),
        (
            NEVER_DISPREFERRED,
            "ddro",
            {"generator": "kl"},
            r"ddro with generator kl has no target where p_nonpreferred vanishes",
        ),
        (FiniteProblem([1.0, 0.0], [1.0, 0.0], [0.5, 0.5], alpha=0.4), "kto", {}, r"the kto target does not exist"),
    ],
)
def test_targets_that_do_not_exist_are_refused(problem, method, options, message):
    with pytest.raises(NoTargetError, match=message):
        population_target(problem, method, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("rdo",), {}, r"method must be one of .*; got 'rdo' \(did you mean 'rdro'\?\)"),
        (("rdro",), {"alpha": 1.0}, r"alpha must lie strictly between 0 and 1, got 1"),
        (("rdro",), {"alpha": [0.4, 0.5]}, r"alpha must be one number or one per prompt \(1\), got shape \(2,\)"),
        (("rdro",), {"generator": "kullback"}, r"generator must be one of"),
        (("rdro",), {"weighting": "mean"}, r"weighting must be one of balanced, pooled"),
        (
            ("rdro",),
            {"weighting": ([1.0, 1.0], [1.0, 1.0])},
            r"weighting must hold numbers or one weight per prompt, got shape \(2,\)",
        ),
        (("rdro",), {"preferred_fraction": 0.0}, r"preferred_fraction must lie strictly between 0 and 1, got 0"),
        (("rdro",), {"preferred_fraction": [0.5, 0.5]}, r"preferred_fraction must be one number or one per prompt"),
        (("rdro",), {"beta": 0.1}, r"beta is an option of kto, dpo, ipo, got it for rdro"),
        (("dpo",), {"alpha": 0.5}, r"alpha is an option of rdro, ddro, mle, got it for dpo"),
        (("sft",), {"generator": "kl"}, r"generator is an option of rdro, ddro, got it for sft"),
        (("dpo",), {"beta": -1.0}, r"beta must be finite and greater than 0, got -1\.0"),
    ],
)
def test_errors_state_the_rule_and_what_was_received(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        population_target(SIMPLE, *arguments, **options)
    with pytest.raises(ValueError, match=message):
        population_risk(SIMPLE, SIMPLE.reference, *arguments, **options)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([[0.5, 0.3, 0.1]], r"policy must sum to 1"),
        ([[0.5, 0.5]], r"policy and p_preferred must have the same shape"),
        ([[0.5, np.nan, 0.5]], r"policy must not contain NaN"),
    ],
)
def test_policies_that_are_no_laws_are_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        population_risk(SIMPLE, policy, "rdro")
