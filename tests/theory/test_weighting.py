"""Class weights: balanced, pooled and explicit ones, and the unbiasedness of weighted batch means."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.strategies import EPS, alphas, assert_within_eps, log_ratios
from theory import ClassWeights, class_weights, rdro_losses, weighted_risk


@given(alphas(1e-6, 1 - 1e-6))
@example(0.5)
def test_balanced_classes_weigh_one_half_and_pooled_ones_their_share(fraction):
    # One rounding in each of a quotient, a difference and a product.
    balanced = class_weights(fraction)
    for weight in balanced.risk_weights:
        assert_within_eps(weight, 0.5, multiple=4)
    assert balanced.preferred * 2 * fraction == pytest.approx(1.0, rel=4 * EPS)
    pooled = class_weights(fraction, "pooled")
    assert pooled.preferred == pooled.nonpreferred == 1.0
    assert_within_eps(np.array(pooled.risk_weights), [fraction, 1 - fraction], multiple=2)


def test_schemes_agree_exactly_where_the_classes_are_balanced():
    assert class_weights(0.5) == class_weights(0.5, "pooled") == ClassWeights(*map(np.asarray, (1.0, 1.0, 0.5)))


def test_explicit_weights_are_kept():
    weights = class_weights(0.2, (3.0, np.array([0.5, 1.0])))
    assert weights.preferred == 3.0 and weights.preferred_fraction == 0.2
    np.testing.assert_array_equal(weights.nonpreferred, [0.5, 1.0])


def test_one_fraction_a_prompt_gives_one_weight_a_prompt():
    weights = class_weights([0.2, 0.5])
    np.testing.assert_allclose(weights.preferred, [2.5, 1.0], rtol=4 * EPS)
    np.testing.assert_allclose(weights.nonpreferred, [0.625, 1.0], rtol=4 * EPS)


@given(log_ratios(limit=5.0, size=5), st.integers(1, 4))
def test_weighted_mean_is_the_mean_of_class_means(u, count):
    preferred = np.arange(5) < count
    losses = rdro_losses(u, preferred, 0.3)
    weights = class_weights(count / 5)
    expected = 0.5 * losses[preferred].mean() + 0.5 * losses[~preferred].mean()
    assert_within_eps(weighted_risk(losses, preferred, weights), expected, multiple=16, size=1 + losses.max())
    pooled = weighted_risk(losses, preferred, class_weights(count / 5, "pooled"))
    assert_within_eps(pooled, losses.mean(), multiple=16, size=1 + losses.max())


def test_batches_of_one_class_average_to_the_whole():
    # Ten one-class batches of a data set: static weights make their mean the data set's own risk.
    losses, preferred = np.arange(20.0), np.repeat([True, False], [4, 16])
    weights = class_weights(0.2)
    batches = [weighted_risk(losses[i : i + 2], preferred[i : i + 2], weights) for i in range(0, 20, 2)]
    assert np.mean(batches) == pytest.approx(float(weighted_risk(losses, preferred, weights)), rel=16 * EPS)


def test_torch_losses_keep_their_gradient_and_dtype():
    losses = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    preferred = torch.tensor([True, False, False])
    risk = weighted_risk(losses, preferred, class_weights(1 / 3))
    risk.backward()
    assert risk.dtype == torch.float32 and risk.ndim == 0
    # float32 roundings of 1/(2 pi n) and 1/(2 (1 - pi) n)
    np.testing.assert_allclose(losses.grad.numpy(), [0.5, 0.25, 0.25], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_weights(0.0), r"preferred_fraction must lie strictly between 0 and 1, got 0"),
        (
            lambda: class_weights(0.5, "balance"),
            r"weighting must be one of balanced, pooled; got 'balance' \(did you mean 'balanced'\?\)",
        ),
        (lambda: class_weights(0.5, (1.0, 2.0, 3.0)), r"pair \(preferred, nonpreferred\), got "),
        (lambda: class_weights(0.5, (0.0, 0.0)), r"weighting must be finite, not negative and not zero for both"),
        (lambda: class_weights(0.5, (-1.0, 1.0)), r"weighting must be finite, not negative"),
        (lambda: class_weights(0.5, (np.inf, 1.0)), r"weighting must be finite"),
        (lambda: class_weights(0.5, (np.nan, 1.0)), r"weighting must not contain NaN"),
        (lambda: weighted_risk(np.zeros(2), np.array([True]), class_weights(0.5)), r"must have the same shape"),
        (
            lambda: weighted_risk(np.zeros(2), np.array([True, False]), class_weights([0.5, 0.2])),
            r"weights must be scalars",
        ),
    ],
)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
