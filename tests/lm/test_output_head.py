"""The head inside a model: the right numbers where they are asked for, the original model everywhere else."""

import copy
import io

import numpy as np
import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

from lm.collate import Collator
from lm.examples import ExampleSet
from lm.output_head import MODES, LogProbHead
from lm.tiny_models import tiny_llama, tiny_qwen2
from tests.lm.peak_memory import peak_memory

# peft 0.21 asks transformers for a name that 5.23 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

VOCABULARY = 37
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}


def examples(n=5, seed=0):
    """Sequences of different lengths, in which the padding token 0 occurs as well."""
    rng = np.random.default_rng(seed)
    prompts, completions = (
        [rng.integers(VOCABULARY, size=size).astype(np.int32) for size in rng.integers(1, 8, size=n)] for _ in range(2)
    )
    return ExampleSet(prompts, completions, np.arange(n) % 2 == 0, np.arange(n))


def batch(data=None, padding_free=False):
    data = examples() if data is None else data
    return Collator(0, padding_free)([data[i] for i in range(len(data))])


def lively(model):
    """Return the model with weights large enough for far from uniform predictions."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim == 2 else 1.0)
    return model


def plain_log_probs(model, data):
    """Each sequence by itself, through the logits of the unpatched model."""
    sums = []
    for prompt, completion in zip(data.prompt_ids, data.completion_ids, strict=True):
        ids = torch.from_numpy(np.concatenate([prompt, completion]).astype(np.int64))[None]
        logs = torch.log_softmax(model(ids, use_cache=False).logits[0, :-1].float(), dim=-1)
        sums.append(logs.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())
    return torch.stack(sums)


def gradients(model, sums):
    """Return the gradient of a combination of the sums in all trainable parameters, as one vector."""
    model.zero_grad()
    (sums * torch.arange(1.0, len(sums) + 1)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def lora(model, **options):
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM", **options)
    return get_peft_model(model, config)


@pytest.mark.parametrize("with_lora", [False, True])
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("build", [tiny_qwen2, tiny_llama])
def test_values_and_gradients_equal_plain_logits_sequence_by_sequence(build, tie, with_lora):
    # The head sums in float32, eps = 1.2e-7. The layers are in float64: in float32 two forward passes of these lively
    # models differ by roundings that depend on the processor, and their gradients by far more.
    model = lively(build(VOCABULARY, hidden_size=16, tie=tie))
    model = (lora(model) if with_lora else model).double()
    data = examples()
    expected = plain_log_probs(model, data)
    slope = gradients(model, expected)
    for mode in MODES:
        for padding_free in (False, True):
            with LogProbHead(model, mode) as head:
                sums = head.sequence_log_probs(model, batch(data, padding_free))
            torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-5)
            torch.testing.assert_close(gradients(model, sums), slope, rtol=0, atol=2e-6 * float(slope.abs().max()))


def packed_sums(model, packed, **inputs):
    """Sum each sequence's log-probabilities from plain logits of a packed batch."""
    logits = model(packed["input_ids"], use_cache=False, **inputs).logits
    logs = torch.log_softmax(logits[0, :-1], dim=-1).gather(1, packed["input_ids"][0, 1:, None])[:, 0]
    mask = packed["completion_mask"][0, 1:]
    sums = torch.zeros(len(packed["preferred"]))
    return sums.index_add(0, packed["sequence_ids"][0, 1:][mask], logs[mask])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("build", [tiny_qwen2, tiny_llama])
def test_padding_free_sequences_do_not_see_each_other(build, attention):
    model = lively(build(VOCABULARY, hidden_size=16, attn_implementation=attention))
    before, after = batch(padding_free=True), batch(padding_free=True)
    first = after["sequence_ids"] == 0
    after["input_ids"][first] = (after["input_ids"][first] + 1) % VOCABULARY
    with LogProbHead(model) as head, torch.no_grad():
        one, two = (head.sequence_log_probs(model, each) for each in (before, after))
    assert one[0] != two[0]
    assert torch.equal(one[1:], two[1:])  # hidden entries have weight exp(-inf) = 0 exactly
    # The check can see a leak: with a mask of ones, the same batches let every later sequence see the first.
    with torch.no_grad():
        leaks = [
            packed_sums(model, each, position_ids=each["position_ids"], attention_mask=torch.ones_like(first).long())
            for each in (before, after)
        ]
    assert ((leaks[0] - leaks[1]).abs()[1:] > 1e-4).all()  # ten times the rounding of such sums


def test_outside_a_call_the_model_is_the_original():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16, eos_token_id=1, pad_token_id=0))
    ids = torch.tensor([[3, 4, 5]])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    logits, generated = model(ids).logits, model.generate(ids, **options)
    head = LogProbHead(model)
    head.sequence_log_probs(model, batch())
    assert torch.equal(model(ids).logits, logits)
    assert torch.equal(model.generate(ids, **options), generated)
    head.remove()
    head.remove()
    assert "forward" not in vars(model.lm_head)
    with pytest.raises(RuntimeError, match="did not call this output head"):
        head.sequence_log_probs(model, batch())


def test_an_error_inside_the_forward_leaves_nothing_behind():
    model = tiny_qwen2(VOCABULARY, hidden_size=16)
    ids = torch.tensor([[3, 4, 5]])
    with LogProbHead(model) as head:
        bad = batch()
        bad["completion_mask"] = bad["completion_mask"][:, :-1]
        with pytest.raises(ValueError, match="hidden states of all positions"):
            head.sequence_log_probs(model, bad)
        assert model(ids).logits.shape == (1, 3, VOCABULARY)


def test_a_head_answers_for_its_own_model_only():
    policy, reference = tiny_qwen2(VOCABULARY, seed=1), tiny_qwen2(VOCABULARY, seed=2)
    with LogProbHead(policy) as head, LogProbHead(reference) as other:
        with pytest.raises(RuntimeError, match="belongs to another model"):
            head.sequence_log_probs(reference, batch())
        assert not torch.equal(head.sequence_log_probs(policy, batch()), other.sequence_log_probs(reference, batch()))


def test_copies_pickles_and_checkpoints_are_unpatched(tmp_path):
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16))
    with LogProbHead(model) as head:
        expected = head.sequence_log_probs(model, batch())
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        model.save_pretrained(tmp_path)
        copies = [
            copy.deepcopy(model),
            torch.load(file, weights_only=False),
            AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32),
        ]
        for each in copies:
            assert each.lm_head.forward.__self__ is each.lm_head
            with LogProbHead(each) as own:
                assert torch.equal(own.sequence_log_probs(each, batch()), expected)


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_without_any_completion_token_keeps_its_graph(mode, padding_free):
    model = tiny_qwen2(VOCABULARY, hidden_size=16, tie=False)
    empty = batch(padding_free=padding_free)
    empty["completion_mask"] = torch.zeros_like(empty["completion_mask"])
    with LogProbHead(model, mode) as head:
        sums = head.sequence_log_probs(model, empty)
    assert torch.equal(sums, torch.zeros(5))
    assert torch.equal(gradients(model, sums), torch.zeros(sum(p.numel() for p in model.parameters())))


@pytest.mark.parametrize("mode", MODES)
def test_without_gradients_nothing_is_kept(mode):
    model = tiny_qwen2(VOCABULARY, hidden_size=16)
    with LogProbHead(model, mode) as head, torch.no_grad():
        assert not head.sequence_log_probs(model, batch()).requires_grad


def test_autocast_has_one_precision_in_all_modes_and_gradients_in_float32():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16))
    results = {}
    for mode in MODES:
        with LogProbHead(model, mode) as head:
            with torch.autocast("cpu", torch.bfloat16):
                sums = head.sequence_log_probs(model, batch())
            results[mode] = sums, gradients(model, sums)
            assert sums.dtype == torch.float32 and model.lm_head.weight.grad.dtype == torch.float32
    sums, slope = results["full"]
    for mode in MODES:
        # The same bfloat16 products; of the backward pass, tiles and sums are rounded to 8 bits at other places.
        torch.testing.assert_close(results[mode][0], sums, rtol=0, atol=1e-5)
        assert (results[mode][1] - slope).norm() <= 2.0**-6 * slope.norm()
    with LogProbHead(model, "full") as head:
        exact = head.sequence_log_probs(model, batch())
    assert 0 < (sums - exact).abs().max() < 1.0  # autocast does round


class HalfOutputs(torch.nn.Module):
    """A wrapper that casts outputs, as FSDP2 does with mixed precision."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, **inputs):
        outputs = self.model(**inputs)
        outputs["logits"] = outputs.logits.to(torch.bfloat16)
        return outputs


def test_values_keep_their_digits_when_a_wrapper_casts_outputs():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16))
    with LogProbHead(model) as head:
        expected = head.sequence_log_probs(model, batch())
        slope = gradients(model, expected)
        sums = head.sequence_log_probs(HalfOutputs(model), batch())
    assert torch.equal(sums, expected)
    torch.testing.assert_close(gradients(model, sums), slope)  # 1, ..., 5 are bfloat16 numbers


def test_accelerate_s_conversion_of_outputs_changes_nothing():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16))
    with LogProbHead(model) as head:
        expected = head.sequence_log_probs(model, batch())
        model.forward = convert_outputs_to_fp32(model.forward)
        assert torch.equal(head.sequence_log_probs(model, batch()), expected)


def test_checkpointing_of_the_body_changes_no_gradient():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16)).train()
    with LogProbHead(model) as head:
        slope = gradients(model, head.sequence_log_probs(model, batch()))
        model.activation_checkpointing_enable()
        torch.testing.assert_close(gradients(model, head.sequence_log_probs(model, batch())), slope)


# Dynamo looks at .grad of what the head returns, where it breaks the graph.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
def test_a_compiled_model_asks_the_same_head():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16, layers=1))
    with LogProbHead(model) as head:
        expected = head.sequence_log_probs(model, batch())
        sums = head.sequence_log_probs(torch.compile(model, backend="eager"), batch())
        torch.testing.assert_close(sums, expected)
        torch.testing.assert_close(gradients(model, sums), gradients(model, expected))


def test_the_peak_of_a_step_is_far_below_that_of_the_logits():
    # One row of 1 + 384 tokens: all logits are 385 * 8192 * 4 bytes = 12 MiB, the tile 1 MiB, the weights 256 KiB.
    model = tiny_qwen2(8192, hidden_size=8, layers=1)
    ids = np.arange(385, dtype=np.int32)
    one = batch(ExampleSet([ids[:1]], [ids[1:]], np.array([True]), np.array([0])))
    peaks = {}
    for mode in MODES:
        model.zero_grad()
        with LogProbHead(model, mode, chunk_mebibytes=1) as head:
            peaks[mode] = peak_memory(lambda head=head: head.sequence_log_probs(model, one).sum().backward())
    assert peaks["full"] >= 3 * 12 * 2**20
    assert peaks["fused"] < peaks["checkpoint"] < 0.25 * peaks["full"]
    assert peaks["fused"] <= 0.15 * peaks["full"]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.25)), id="scaled"),
        pytest.param(lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=5.0)), id="capped"),
    ],
)
def test_models_that_change_logits_after_the_head_are_refused_except_by_full(model):
    model = lively(model().eval())
    for mode in ("fused", "checkpoint"):
        with LogProbHead(model, mode) as head, pytest.raises(ValueError, match="scales, caps or slices"):
            head.sequence_log_probs(model, batch())
    with LogProbHead(model, "full") as head:
        sums = head.sequence_log_probs(model, batch())
    torch.testing.assert_close(sums, plain_log_probs(model, examples()), rtol=0, atol=1e-5)


def with_bias():
    model = lively(tiny_qwen2(VOCABULARY, hidden_size=16, tie=False))
    model.lm_head = torch.nn.Linear(16, VOCABULARY)
    return model


def with_lora():
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["lm_head", "q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(lively(tiny_qwen2(VOCABULARY, hidden_size=16, tie=False)), config)


@pytest.mark.parametrize("make", [with_bias, with_lora])
def test_heads_that_are_not_plain_are_refused_by_fused_and_served_by_the_oracles(make):
    model = make()
    with pytest.raises(ValueError, match="needs a plain linear output head without bias, adapter or quantisation"):
        LogProbHead(model)
    expected = plain_log_probs(model, examples())
    slope = gradients(model, expected)
    for mode in ("checkpoint", "full"):
        with LogProbHead(model, mode) as head:
            sums = head.sequence_log_probs(model, batch())
        torch.testing.assert_close(sums, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(gradients(model, sums), slope, rtol=0, atol=1e-5 * float(slope.abs().max()))


def test_what_cannot_work_is_refused_at_once():
    model = tiny_qwen2(VOCABULARY, hidden_size=16)
    with pytest.raises(ValueError, match="mode must be one of"):
        LogProbHead(model, "quick")
    with pytest.raises(ValueError, match="chunk_mebibytes must be at least 1, got 0"):
        LogProbHead(model, chunk_mebibytes=0)
    with pytest.raises(ValueError, match=r"must have an output head .*, got Qwen2Model"):
        LogProbHead(model.model)
    with LogProbHead(model) as head:
        with pytest.raises(ValueError, match="replaced already"):
            LogProbHead(lora(model))
        with pytest.raises(ValueError, match="DataParallel"):
            head.sequence_log_probs(torch.nn.DataParallel(model), batch())
    LogProbHead(model).remove()
