"""Attention of padding-free rows, a sequence at a time."""

import pytest
import torch

import lm.packed_attention
from lm.packed_attention import PackedAttention, attention_by_sequence
from lm.tiny_models import tiny_llama, tiny_qwen2

POSITIONS = torch.tensor([[0, 1, 2, 3, 0, 0, 1, 2]])  # three sequences of 4, 1 and 3 tokens
IDS = torch.tensor([[5, 6, 7, 8, 9, 5, 6, 7]])


def logits_and_gradient(model, **inputs):
    model.zero_grad()
    logits = model(**inputs, use_cache=False).logits
    logits.square().sum().backward()
    return logits.detach(), model.model.layers[0].self_attn.k_proj.weight.grad


@pytest.fixture
def blocks(monkeypatch):
    """Shapes of queries that are attended to at once."""
    seen, original = [], lm.packed_attention.sdpa_attention_forward

    def recorded(module, query, *rest, **settings):
        seen.append(tuple(query.shape[::2]))
        return original(module, query, *rest, **settings)

    monkeypatch.setattr(lm.packed_attention, "sdpa_attention_forward", recorded)
    return seen


@pytest.mark.parametrize(
    "model",
    [
        tiny_llama(10, hidden_size=16, layers=1),
        tiny_qwen2(10, hidden_size=16, layers=1, use_sliding_window=True, sliding_window=2, max_window_layers=0),
    ],
    ids=["causal", "sliding window"],
)
def test_blocks_give_what_the_mask_over_all_pairs_gives(model, blocks):
    expected = logits_and_gradient(model, input_ids=IDS, position_ids=POSITIONS)
    attention = PackedAttention(model)
    found = logits_and_gradient(model, input_ids=IDS, position_ids=POSITIONS)
    attention.remove()
    assert blocks == [(1, 4), (1, 1), (1, 3)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_blocks_survive_checkpointing_whose_second_pass_comes_later(blocks):
    model = tiny_qwen2(10, hidden_size=16, layers=1).train()
    expected = logits_and_gradient(model, input_ids=IDS, position_ids=POSITIONS)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()  # its newer name
    PackedAttention(model)
    found = logits_and_gradient(model, input_ids=IDS, position_ids=POSITIONS)
    assert blocks == 2 * [(1, 4), (1, 1), (1, 3)]
    torch.testing.assert_close(found[1], expected[1])


def test_other_rows_are_attended_to_whole(blocks):
    model = tiny_qwen2(10, hidden_size=16, layers=1)
    PackedAttention(model)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    model(input_ids=IDS.view(2, 4), attention_mask=mask, use_cache=False)
    model(input_ids=IDS, use_cache=False)
    model.generate(IDS[:, :3], max_new_tokens=2, min_new_tokens=2, do_sample=False, pad_token_id=0)
    assert blocks == [(2, 4), (1, 8), (1, 3), (1, 1)]


def test_rows_whose_positions_do_not_begin_at_0_are_attended_to_whole(blocks):
    query = torch.randn(1, 2, 3, 4)
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    attention_by_sequence(torch.nn.Module(), query, query, query, mask, torch.tensor([[4, 0, 1]]))
    assert blocks == [(1, 3)]


def test_models_with_another_attention_keep_it():
    model = tiny_qwen2(10, hidden_size=16, layers=1)
    model.set_attn_implementation("eager")
    attention = PackedAttention(model)
    assert model.config._attn_implementation == "eager"
    attention.remove()
    PackedAttention(torch.nn.Linear(1, 1)).remove()
