"""Losses and gradients stay finite where policy and reference disagree by thousands of nats."""

import numpy as np
import pytest
import torch

from lm.collate import Collator
from lm.examples import ExampleSet
from lm.log_probs import token_log_probs
from lm.output_head import MODES, LogProbHead
from lm.tiny_models import tiny_qwen2
from theory import ddro_losses, dpo_losses, ipo_losses, kto_losses, rdro_losses, sft_losses

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LOSSES = {
    "sft": lambda u, preferred: sft_losses(u, preferred),
    "rdro": lambda u, preferred: rdro_losses(u, preferred, 0.39),
    "ddro": lambda u, preferred: ddro_losses(u, preferred, 0.39, beyond_domain="extend"),
    "kto": lambda u, preferred: kto_losses(u, preferred, 0.1, 0.0),
    "dpo": lambda u, _: dpo_losses(u[::2], u[1::2], 0.1),
    "ipo": lambda u, _: ipo_losses(u[::2], u[1::2], 0.1),
}
FAR = [1e4, -1e4, -1e4, 1e4, 0.0, 1e4, -1e4, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_far_log_ratios_have_finite_values_and_gradients_in_every_dtype(name, dtype):
    u = torch.tensor(FAR, dtype=dtype, requires_grad=True)
    losses = LOSSES[name](u, torch.arange(len(FAR)) % 2 == 0)
    losses.sum().backward()
    assert losses.dtype == torch.float32 and torch.isfinite(losses).all()
    assert torch.isfinite(u.grad).all()


def test_the_slopes_there_are_those_of_theory():
    u = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    rdro_losses(u, torch.tensor([True, True, False, False]), 0.39).sum().backward()
    torch.testing.assert_close(u.grad, torch.tensor([0.39, -1.0, 0.61, 0.0]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ipo"])  # its slope of 4e4 overflows float16
def test_gradients_of_a_model_are_finite_for_far_log_ratios(name, dtype, mode):
    model = tiny_qwen2(16, hidden_size=8, layers=1).to(dtype)
    ids = [np.array([1, i], dtype=np.int32) for i in range(len(FAR))]
    data = ExampleSet(ids, ids, np.arange(len(FAR)) % 2 == 0, np.arange(len(FAR)))
    batch = Collator(0)([data[i] for i in range(len(FAR))])
    with LogProbHead(model, mode) as head:
        sums = head.sequence_log_probs(model, batch)
    assert sums.dtype == torch.float32
    losses = LOSSES[name](sums - (sums.detach() - torch.tensor(FAR)), batch["preferred"])
    losses.mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert torch.isfinite(losses).all() and all(torch.isfinite(gradient).all() for gradient in gradients)
    assert name == "kto" or any((gradient != 0).any() for gradient in gradients)  # kto's losses are flat out there


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_near_the_edge_of_half_precision_are_harmless(dtype):
    # Logits of +-6e4, close to float16's 65,504: the token with the largest has log-probability 0, the other -1.2e5.
    hidden = torch.full((2, 1), 300.0, dtype=dtype, requires_grad=True)
    weight = torch.tensor([[200.0], [-200.0]], dtype=dtype, requires_grad=True)
    values = token_log_probs(hidden, weight, torch.tensor([0, 1]))
    torch.testing.assert_close(values, torch.tensor([0.0, -1.2e5]), rtol=2.0**-8, atol=0)
    values.sum().backward()
    # d/dh = w_1 - w_0 = -400 for the second, and 300 (onehot - softmax) for the weights.
    torch.testing.assert_close(hidden.grad.float(), torch.tensor([[0.0], [-400.0]]))
    torch.testing.assert_close(weight.grad.float(), torch.tensor([[-300.0], [300.0]]))


def test_a_loss_scale_does_not_overflow_inside_the_head():
    # A scale of 2^15 on gradients of 1/16: the results fit float16, and so must everything in between.
    generator = torch.Generator().manual_seed(0)
    hidden = (torch.randn(4, 8, generator=generator) / 64).half().requires_grad_()
    weight = (torch.randn(32, 8, generator=generator) / 64).half().requires_grad_()
    values = token_log_probs(hidden, weight, torch.arange(4))
    plain = torch.autograd.grad(values.sum(), (hidden, weight), retain_graph=True)
    scaled = torch.autograd.grad(2.0**15 * values.sum(), (hidden, weight))
    for one, other in zip(plain, scaled, strict=True):
        assert torch.isfinite(other).all()
        torch.testing.assert_close(other.float() / 2.0**15, one.float(), rtol=2.0**-9, atol=2.0**-14)


def test_targets_that_could_not_be_checked_give_nan():
    from lm.log_probs import _TokenLogProbs

    hidden, weight = torch.zeros(3, 2), torch.zeros(4, 2)
    values = _TokenLogProbs.apply(hidden, weight, torch.tensor([-1, 3, 4]), 2, torch.float32)
    assert torch.isnan(values).tolist() == [True, False, True]
