"""Tiny models are what their arguments say, and the same on every call."""

import pytest
import torch

from lm.tiny_models import tiny_llama, tiny_qwen2

BUILDERS = [tiny_qwen2, tiny_llama]


@pytest.mark.parametrize("build", BUILDERS)
def test_the_seed_alone_decides_the_weights(build):
    state = torch.get_rng_state()
    one = build(20, seed=1).state_dict()
    torch.manual_seed(7)
    two, other = build(20, seed=1).state_dict(), build(20, seed=2).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    torch.set_rng_state(state)
    build(20)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("tie", [True, False])
def test_sizes_ids_and_ties_are_those_asked_for(build, tie):
    model = build(23, hidden_size=16, layers=3, tie=tie, eos_token_id=5, pad_token_id=6, max_position_embeddings=64)
    assert model.config.num_hidden_layers == len(model.model.layers) == 3
    assert model.lm_head.weight.shape == (23, 16)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tie
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (5, 6)
    assert model.config.max_position_embeddings == 64
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 23)


@pytest.mark.parametrize("hidden_size", [0, 12])
def test_widths_that_do_not_divide_are_refused(hidden_size):
    with pytest.raises(ValueError, match=f"hidden_size must be a multiple of 8, got {hidden_size}"):
        tiny_qwen2(20, hidden_size=hidden_size)
