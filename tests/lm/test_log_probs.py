"""Chunked log-probabilities against the full log-softmax, in value, gradient and memory."""

import numpy as np
import pytest
import torch

from lm import sequence_log_probs, token_log_probs
from tests.lm.peak_memory import peak_memory
from theory import class_weights, rdro_losses, weighted_risk

EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}


def batch(seed=0, dtype=torch.float32, batch_size=3, time=7, width=5, vocabulary=11):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch_size, time, width, generator=generator, dtype=dtype)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=dtype)
    targets = torch.randint(vocabulary, (batch_size, time), generator=generator)
    mask = torch.rand(batch_size, time, generator=generator) < 0.6
    return hidden.requires_grad_(), weight.requires_grad_(), targets, mask


def full_sequence_log_probs(hidden, weight, targets, mask):
    """The textbook path through all logits."""
    logs = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
    return (logs.gather(2, targets[..., None])[..., 0] * mask).sum(dim=1)


@pytest.mark.parametrize("chunk_bytes", [1, 100, 10**6])
def test_values_and_gradients_equal_the_full_path(chunk_bytes):
    # Both paths round sums of about 10 products of size 10: some tens of eps = 1.2e-7 times 10.
    hidden, weight, targets, mask = batch()
    outer = torch.tensor([1.0, -2.0, 0.5])
    fused = sequence_log_probs(hidden, weight, targets, mask, chunk_bytes=chunk_bytes)
    full = full_sequence_log_probs(hidden, weight, targets, mask)
    torch.testing.assert_close(fused, full, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(fused @ outer, (hidden, weight)),
        torch.autograd.grad(full @ outer, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_gradients_agree_with_finite_differences():
    # Float32 normalisers limit the function to about 1e-7: differences over 1e-2 are good to 1e-4.
    hidden, weight, targets, _ = batch(dtype=torch.float64, batch_size=1, time=3)
    value = token_log_probs(hidden[0], weight, targets[0])
    gradient = torch.autograd.grad(value.sum(), weight)[0]
    for i, j in [(0, 0), (4, 2), (10, 4)]:
        step = torch.zeros_like(weight)
        step[i, j] = 1e-2
        difference = sum(s * token_log_probs(hidden[0], weight + s * step, targets[0]).sum() for s in (1, -1)) / 2e-2
        assert float(difference.detach()) == pytest.approx(float(gradient[i, j]), abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype):
    hidden, weight, targets, mask = batch(dtype=torch.float32)
    exact = full_sequence_log_probs(hidden.double(), weight.double(), targets, mask)
    half = sequence_log_probs(hidden.to(dtype), weight.to(dtype), targets, mask)
    assert half.dtype == torch.float32
    # Each logit is a product rounded to 11 or 8 bits, of size below 10: 7 tokens of 10 * 2^-8 at most.
    torch.testing.assert_close(half.double(), exact.double(), rtol=0, atol=7 * 10 * 2.0**-8)


def test_an_all_masked_row_keeps_its_gradient():
    hidden, weight, targets, mask = batch()
    mask[1] = False
    result = sequence_log_probs(hidden, weight, targets, mask)
    assert result[1] == 0.0
    result.sum().backward()
    assert torch.all(hidden.grad[1] == 0)
    empty = sequence_log_probs(hidden, weight, targets, torch.zeros_like(mask))
    empty.sum().backward()
    assert empty.requires_grad and torch.isfinite(weight.grad).all()


def test_the_training_loss_is_theory_on_these_log_probs():
    # Policy = reference: u = 0, balanced loss = ln 2, and the gradient is that of the full path.
    hidden, weight, targets, mask = batch(batch_size=4)
    reference = sequence_log_probs(hidden, weight, targets, mask).detach()
    preferred = torch.tensor([True, False, False, False])
    losses = rdro_losses(sequence_log_probs(hidden, weight, targets, mask) - reference, preferred, alpha=0.39)
    risk = weighted_risk(losses, preferred, class_weights(0.25))
    assert float(risk.detach()) == pytest.approx(np.log(2.0), abs=1e-6)
    full = rdro_losses(full_sequence_log_probs(hidden, weight, targets, mask) - reference, preferred, alpha=0.39)
    one = torch.autograd.grad(risk, weight)[0]
    other = torch.autograd.grad(weighted_risk(full, preferred, class_weights(0.25)), weight)[0]
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_peak_of_a_step_is_a_tile_and_the_gradient_of_the_weights():
    tokens, width, vocabulary, tile = 512, 8, 20_000, 2**20
    hidden = torch.randn(1, tokens, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    targets, mask = torch.zeros(1, tokens, dtype=torch.int64), torch.ones(1, tokens, dtype=torch.bool)
    fused = peak_memory(lambda: sequence_log_probs(hidden, weight, targets, mask, chunk_bytes=tile).sum().backward())
    logits, gradient = 4 * tokens * vocabulary, 4 * width * vocabulary
    # Ten more columns of numbers per token for normalisers, positions and hidden states.
    assert tile <= fused <= tile + gradient + 10 * 8 * tokens * width
    hidden.grad = weight.grad = None
    full = peak_memory(lambda: full_sequence_log_probs(hidden, weight, targets, mask).sum().backward())
    assert full >= 3 * logits  # which the fused path's target of a quarter is a quarter of
    assert fused <= 0.25 * full


def test_half_precision_has_no_copy_of_the_weights():
    # Under autocast each tile of the weights is rounded by itself: a copy of all of them would be 640 KiB.
    hidden, weight, targets = torch.ones(16, 16), torch.ones(20_000, 16), torch.zeros(16, dtype=torch.int64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert peak_memory(lambda: token_log_probs(hidden, weight, targets, chunk_bytes=2**16)) <= 3 * 2**16


def test_autocast_takes_products_in_its_precision_in_both_passes():
    hidden, weight, targets, mask = batch()
    outer = torch.tensor([1.0, -2.0, 0.3])
    with torch.autocast("cpu", torch.bfloat16):
        cast = sequence_log_probs(hidden, weight, targets, mask)
    half = sequence_log_probs(hidden.bfloat16(), weight.bfloat16(), targets, mask)
    assert torch.equal(cast, half)
    ours = torch.autograd.grad(cast @ outer, (hidden, weight))
    theirs = torch.autograd.grad(half @ outer, (hidden, weight))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        # The casts' own backward rounds to 8 bits, and so does the product with the upstream gradient.
        assert (one - other).abs().max() <= 2.0**-6 * other.abs().max()


def test_under_autocast_hidden_states_and_weights_may_differ_in_dtype():
    hidden, weight, targets, mask = batch()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = sequence_log_probs(hidden.bfloat16(), weight, targets, mask)
        assert torch.equal(mixed, sequence_log_probs(hidden, weight, targets, mask))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask": torch.ones(3, 7)}, TypeError, "mask must be boolean"),
        ({"targets": torch.zeros(3, 6, dtype=torch.int64)}, ValueError, "hidden must have shape"),
        ({"targets": torch.full((3, 7), 11)}, ValueError, r"targets must lie in \[0, 11\)"),
        ({"weight": torch.zeros(11, 4)}, ValueError, "weight \\(vocabulary, width\\)"),
        ({"weight": torch.zeros(11, 5, dtype=torch.float64)}, ValueError, "one dtype"),
        ({"chunk_bytes": 0}, ValueError, "chunk_bytes must be at least 1"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    hidden, weight, targets, mask = batch()
    arguments = {"hidden": hidden, "weight": weight, "targets": targets, "mask": mask} | change
    with pytest.raises(error, match=message):
        sequence_log_probs(**arguments)
