"""Models as users name them: the right precision, no dropout, adapters in their place, or a refusal before weights."""

import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, Qwen2Config

from lm import loading
from lm.loading import load_config, load_model, load_reference, load_tokenizer, load_trained, meta_model
from lm.settings import ModelConfig
from lm.tokenizers import toy_tokenizer

LORA = {"model": "tiny-qwen2", "lora_rank": 4}


@pytest.fixture
def saved(tiny_model, toy, tmp_path):
    """Return the folder of a tiny Qwen2 with dropout in its configuration, and of its tokenizer."""
    model = tiny_model("qwen2", seed=3, attention_dropout=0.1)
    model.save_pretrained(tmp_path / "model")
    toy.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def no_weights(monkeypatch):
    """Fail when weights are read or made."""

    def refuse(*_, **__):
        pytest.fail("weights were read")

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", refuse)


@pytest.mark.parametrize(("name", "template"), [("tiny-qwen2", "qwen2.5"), ("tiny-llama", "llama-3")])
def test_tiny_models_have_the_tokenizer_of_their_kind(name, template):
    for named in (None, "toy"):
        settings = ModelConfig(model=name, tokenizer=named)
        tokenizer = load_tokenizer(settings)
        assert tokenizer.chat_template == toy_tokenizer(template).chat_template
    model = load_model(settings, tokenizer)
    assert model.config.vocab_size == len(tokenizer) and model.config.model_type == name.removeprefix("tiny-")
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    same = load_model(settings, tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_a_tiny_model_takes_the_real_tokenizer(qwen):
    settings = ModelConfig(model="tiny-qwen2", tokenizer="qwen2.5")
    tokenizer = load_tokenizer(settings)
    assert tokenizer.get_vocab() == qwen.get_vocab()
    assert load_config(settings, tokenizer, max_length=2048).vocab_size == 151_665


def test_a_saved_model_is_read_in_float32_without_dropout(saved, tiny_model):
    settings = ModelConfig(model=saved)
    model = load_model(settings, load_tokenizer(settings))
    original = tiny_model("qwen2", seed=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), original.parameters(), strict=True))
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training
    assert model.config.attention_dropout == 0.0
    assert {layer.self_attn.attention_dropout for layer in model.model.layers} == {0.0}


def test_every_kind_of_dropout_is_off(toy, tmp_path):
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 300, "n_positions": 64}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(tmp_path)
    settings = ModelConfig(model=str(tmp_path), tokenizer="toy")
    model = load_model(settings, load_tokenizer(settings)).train()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert len(layers) == 4 and {layer.p for layer in layers} == {0.0}
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_attention_is_the_one_that_is_named(saved, attention):
    for name in (saved, "tiny-llama"):
        settings = ModelConfig(model=name, tokenizer="toy", attention=attention)
        assert load_model(settings, load_tokenizer(settings)).config._attn_implementation == attention


def test_lora_trains_float32_adapters_on_a_bfloat16_model(toy):
    model = load_model(ModelConfig(**LORA), toy)
    assert isinstance(model, PeftModel)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {p.dtype for p in frozen.values()} == {torch.bfloat16}
    # Two matrices for each of seven linear layers in each of two blocks, none on the head.
    assert len(trained) == 28 and all(".layers." in name for name in trained)
    settings = model.peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (4, 8, 0.0)


def test_adapters_depend_on_the_seed_alone(toy):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = get_peft_model_state_dict(load_model(ModelConfig(**LORA), toy, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = get_peft_model_state_dict(load_model(ModelConfig(**LORA), toy, seed=5))
    other = get_peft_model_state_dict(load_model(ModelConfig(**LORA), toy, seed=6))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert any(not torch.equal(other[name], value) for name, value in first.items())


def test_layers_for_lora_may_be_named(toy):
    model = load_model(ModelConfig(**LORA, lora_targets="q_proj, v_proj", lora_alpha=4.0, lora_dropout=0.1), toy)
    names = {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"q_proj", "v_proj"} and model.peft_config["default"].lora_alpha == 4.0
    assert {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)} == {0.1}


def test_bfloat16_for_all_weights_warns(toy):
    with pytest.warns(UserWarning, match="all weights are trained in bfloat16: steps below 1/256"):
        model = load_model(ModelConfig(model="tiny-qwen2", model_dtype="bfloat16"), toy)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_references_are_frozen_and_have_the_policys_precision(saved, toy):
    policy = load_model(ModelConfig(model=saved, lora_rank=2), toy)
    reference = load_reference(ModelConfig(model=saved, lora_rank=2), toy)
    assert not isinstance(reference, PeftModel) and not any(p.requires_grad for p in reference.parameters())
    with policy.disable_adapter():
        ids = torch.tensor([[1, 2, 3]])
        assert torch.equal(policy(ids).logits, reference(ids).logits)
    other = load_reference(ModelConfig(model="tiny-qwen2"), toy, saved)
    original = load_model(ModelConfig(model=saved), toy)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), original.parameters(), strict=True))


def test_trained_models_come_back(toy, tmp_path):
    whole = ModelConfig(model="tiny-llama", tokenizer="toy")
    model = load_model(whole, load_tokenizer(whole))
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    model.save_pretrained(tmp_path / "whole")
    back = load_trained(tmp_path / "whole", whole, load_tokenizer(whole))
    assert torch.equal(back.lm_head.weight, model.lm_head.weight)

    adapted = load_model(ModelConfig(**LORA), toy)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.fill_(0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    back = load_trained(tmp_path / "adapter", ModelConfig(**LORA), toy)
    ids = torch.tensor([[1, 2, 3]])
    assert isinstance(back, PeftModel) and torch.equal(back(ids).logits, adapted(ids).logits)
    with pytest.raises(ValueError, match=r"checkpoint must hold a model .* or an adapter"):
        load_trained(tmp_path, whole, toy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention": "fast"},
            "attention must be one of eager, flash_attention_2, flash_attention_3, flex_attention, sdpa; got 'fast'",
        ),
        ({"model_dtype": "int8"}, "model_dtype must be one of bfloat16, float16, float32; got 'int8'"),
        (
            {"model_dtype": "float16"},
            "model_dtype must be float32 or bfloat16 where all weights are trained, got float16",
        ),
        ({"lora_rank": -1}, "lora_rank must be at least 0, got -1"),
        ({"lora_rank": 2, "lora_dropout": 1.0}, r"lora_dropout must lie in \[0, 1\), got 1.0"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "lora_alpha must be greater than 0, got 0.0"),
        ({"lora_alpha": 16.0}, "lora_alpha needs lora_rank, got lora_alpha 16.0 with lora_rank 0"),
        ({"lora_dropout": 0.1}, "lora_dropout needs lora_rank"),
        ({"lora_targets": "q_proj"}, "lora_targets needs lora_rank"),
        (
            {"model": "./nowhere"},
            "model must be a folder, a hub name or one of tiny-qwen2, tiny-llama, got './nowhere'",
        ),
        ({"model": "a/b/c"}, "got 'a/b/c', and there is no such folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(no_weights, toy, changes, message):
    with pytest.raises(ValueError, match=message):
        load_config(ModelConfig(**{"model": "tiny-qwen2"} | changes), toy)


def test_lora_on_the_head_is_refused(toy):
    with pytest.raises(
        ValueError, match="lora_targets must leave out the output head, got lm_head among q_proj,lm_head"
    ):
        load_model(ModelConfig(**LORA, lora_targets="q_proj,lm_head"), toy)
    with pytest.raises(ValueError, match="nonsense"):  # peft's own
        load_model(ModelConfig(**LORA, lora_targets="nonsense"), toy)


def test_models_that_do_not_fit_the_data_are_refused(no_weights, saved, toy, qwen):
    with pytest.raises(ValueError, match="must hold every id of the tokenizer, got 260 rows and id 151664"):
        load_config(ModelConfig(model=saved), qwen)
    assert load_config(ModelConfig(model=saved), toy, max_length=2048).vocab_size == 260
    with pytest.raises(ValueError, match=r"max_length must be at most 2048, what .* is made for, got 2049"):
        load_config(ModelConfig(model=saved), toy, max_length=2049)


def test_adapters_as_models_are_refused(no_weights, toy, tmp_path):
    load_model(ModelConfig(**LORA), toy).save_pretrained(tmp_path)
    for use in (load_config, load_reference):
        with pytest.raises(
            ValueError, match=r"model must be a whole model, got an adapter in .*merge it into its base"
        ):
            use(ModelConfig(model=str(tmp_path)), toy)


def test_pickled_weights_are_refused(saved, toy, tmp_path):
    torch.save({}, f"{saved}/pytorch_model.bin")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="safetensors"):
        load_model(ModelConfig(model=saved), toy)


def test_code_that_comes_with_a_model_is_not_run(saved, toy, tmp_path):
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "own.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_config(ModelConfig(model=saved), toy)


def test_padding_tokens_are_asked_for(tiny_model, toy_llama, tmp_path):
    saved = str(tmp_path)
    tiny_model("llama").save_pretrained(saved)  # a tokenizer beside a Qwen2 gets one from AutoTokenizer
    toy_llama.save_pretrained(saved)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"must have a padding token, got none: set pad_token \(its special tokens: <"):
        load_tokenizer(ModelConfig(model=saved))
    padded = load_tokenizer(ModelConfig(model=saved, pad_token="<|finetune_right_pad_id|>"))
    assert padded.pad_token_id == toy_llama.pad_token_id
    with pytest.raises(ValueError, match=r"pad_token must be a token of the tokenizer .*, got '<pad>'"):
        load_tokenizer(ModelConfig(model=saved, pad_token="<pad>"))


@pytest.mark.parametrize("config", [Qwen2Config(num_hidden_layers=2), LlamaConfig(num_hidden_layers=2)])
def test_meta_models_have_shapes_and_adapters_but_no_storage(config):
    model = meta_model(config, ModelConfig(model="any", lora_rank=3))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert len([p for p in model.parameters() if p.requires_grad]) == 28
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_a_hub_that_is_out_of_reach_is_said_so(monkeypatch, toy):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="some/model"):
        load_tokenizer(ModelConfig(model="some/model"))
    with pytest.raises(OSError, match="some/model"):
        load_config(ModelConfig(model="some/model"), toy)
