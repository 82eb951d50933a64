"""Shipped configurations parse, their settings are accepted, and their models have the published sizes."""

import re
import shlex
from dataclasses import replace

import pytest
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from transformers import LlamaConfig, Qwen2Config, training_args
from transformers.integrations import deepspeed

from lm.__main__ import _parser
from lm.config import make_ratio_config
from lm.data import load_examples
from lm.loading import load_config, load_tokenizer, meta_model
from lm.options import load_settings, save_settings, shipped_configs

NAMES = (
    "llama-3.1-8b-zero3",
    "qwen2.5-0.5b-lora",
    "qwen2.5-7b-fsdp2",
    "qwen2.5-7b-zero3",
    "tiny-llama",
    "tiny-qwen2",
)
AUTHORS = ("llama-3.1-8b-zero3", "qwen2.5-7b-fsdp2", "qwen2.5-7b-zero3")

# The architectures as the models' own config.json give them.
QWEN = {"max_position_embeddings": 32_768, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
QWEN_HALF = Qwen2Config(
    **QWEN,
    vocab_size=151_936,
    hidden_size=896,
    intermediate_size=4_864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
QWEN_SEVEN = Qwen2Config(
    **QWEN,
    vocab_size=152_064,
    hidden_size=3_584,
    intermediate_size=18_944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)
LLAMA_EIGHT = LlamaConfig(
    vocab_size=128_256,
    hidden_size=4_096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=131_072,
    rope_parameters={
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8_192,
    },
    tie_word_embeddings=False,
)
ARCHITECTURES = {
    "Qwen/Qwen2.5-0.5B-Instruct": (QWEN_HALF, 494_032_768),
    "Qwen/Qwen2.5-7B-Instruct": (QWEN_SEVEN, 7_615_616_512),
    "meta-llama/Llama-3.1-8B-Instruct": (LLAMA_EIGHT, 8_030_261_248),
}
LARGE = [name for name in NAMES if not name.startswith("tiny")]


class DeepSpeedSettings(deepspeed.HfTrainerDeepSpeedConfig, HfDeepSpeedConfig):
    """The class of transformers with the base that it has where deepspeed is installed."""


@pytest.fixture
def ratio_config(monkeypatch, tmp_path):
    """Return a maker of training settings that believes in a GPU with bfloat16, and leaves DeepSpeed out."""
    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "")  # transformers sets it for good

    def make(settings):
        changes = {"output_dir": str(tmp_path)}
        if "deepspeed" in settings.ratio:  # which is not installed
            changes["deepspeed"] = None
        return make_ratio_config(replace(settings, ratio=settings.ratio | changes))

    return make


def test_all_that_are_documented_are_shipped():
    assert tuple(shipped_configs()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_accepted(name, ratio_config):
    settings = load_settings(name).require("model", "train_data", "output_dir")
    config = ratio_config(settings)
    assert config.method == "rdro" and config.output_dir and settings.ratio["output_dir"] == f"runs/{name}"
    assert config.get_warmup_steps(1000) == 100 and config.lr_scheduler_type == "cosine"
    assert config.resolved.weighting == "balanced"


@pytest.mark.parametrize("name", AUTHORS)
def test_large_runs_have_the_authors_setting(name, ratio_config):
    settings = load_settings(name)
    config = ratio_config(settings)
    assert (config.alpha, config.learning_rate, config.num_train_epochs) == (0.39, 5e-7, 1)
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 16
    assert config.bf16 and settings.model.lora_rank == 0
    # DeepSpeed keeps the float32 weights itself.
    assert settings.model.model_dtype == ("bfloat16" if "deepspeed" in settings.ratio else "float32")


@pytest.mark.parametrize("name", LARGE)
def test_models_have_the_published_number_of_parameters(name):
    model = load_settings(name).model
    architecture, parameters = ARCHITECTURES[model.model]
    built = meta_model(architecture, replace(model, lora_rank=0, lora_alpha=None))
    assert built.num_parameters() == parameters
    assert {p.device.type for p in built.parameters()} == {"meta"}


def test_the_adapter_is_on_every_linear_layer_but_the_head():
    model = load_settings("qwen2.5-0.5b-lora").model
    built = meta_model(QWEN_HALF, model)
    width, inner, keys = 896, 4_864, 128  # keys and values: 2 heads of 64
    shapes = [(width, width), (width, keys), (width, keys), (width, width)]
    shapes += [(width, inner), (width, inner), (inner, width)]
    expected = 24 * sum(16 * (rows + columns) for rows, columns in shapes)
    assert sum(p.numel() for p in built.parameters() if p.requires_grad) == expected


def test_fsdp_wraps_a_layer_that_exists(ratio_config):
    settings = load_settings("qwen2.5-7b-fsdp2")
    config = ratio_config(settings)
    plugin = config.fsdp_plugin_args
    assert plugin["fsdp_version"] == 2 and plugin["reshard_after_forward"] and plugin["activation_checkpointing"]
    assert not plugin["cpu_ram_efficient_loading"] and plugin["state_dict_type"] == "FULL_STATE_DICT"
    layers = {type(module).__name__ for module in meta_model(QWEN_SEVEN, settings.model).modules()}
    assert plugin["transformer_cls_names_to_wrap"] in layers


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("zero3")])
def test_zero3_takes_its_numbers_from_the_settings(name, ratio_config, monkeypatch):
    settings = load_settings(name)
    monkeypatch.setattr(deepspeed, "dep_version_check", lambda package: None)  # deepspeed is not installed
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", None)
    config = ratio_config(settings)
    model = meta_model(ARCHITECTURES[settings.model.model][0], settings.model)
    filled = DeepSpeedSettings(settings.ratio["deepspeed"])
    filled.trainer_config_process(config)
    filled.trainer_config_finalize(config, model, 1000)
    assert filled.is_zero3() and "auto" not in str(filled.config)
    assert filled.config["bf16"] == {"enabled": True} and filled.config["train_micro_batch_size_per_gpu"] == 16


@pytest.mark.parametrize("name", ["tiny-qwen2", "tiny-llama"])
def test_samples_fit_the_tiny_models(name):
    settings = load_settings(name)
    tokenizer = load_tokenizer(settings.model)
    load_config(settings.model, tokenizer, settings.data.max_length)
    for source, rows in ((settings.data.train_data, 58), (settings.data.eval_data, 12)):
        report = load_examples(source, tokenizer, settings.data).report
        assert report.rows == report.kept == rows and report.cut == report.mismatched == 0
        assert 0.3 < report.preferred_fraction < 0.5 and report.repetitions.duplicates == 0
        assert report.repetitions.contradictory == 0


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_comments_are_commands(name):
    text = shipped_configs()[name].read_text()
    commands = re.findall(r"^#   (?:relratio-lm|torchrun --nproc-per-node 8 -m lm) (.*)$", text, flags=re.MULTILINE)
    assert commands
    for command in commands:
        arguments, overrides = _parser().parse_known_args(shlex.split(command))
        assert arguments.config == name
        load_settings(name, overrides)


@pytest.mark.parametrize("name", NAMES)
def test_saved_settings_are_the_same_settings(name, tmp_path):
    settings = load_settings(name)
    save_settings(settings, tmp_path / "settings.yaml")
    assert load_settings(tmp_path / "settings.yaml") == settings
