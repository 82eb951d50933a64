"""Malformed configurations are refused on one line that says what is wrong, before any model is loaded."""

import json

import pytest
import yaml

from lm.__main__ import main
from lm.commands import train as command
from lm.loading import load_model
from lm.settings import ModelConfig

ROWS = [{"prompt": f"What is {i} plus {i}?", "completion": f" {2 * i + i % 2}", "label": i % 2 == 0} for i in range(10)]
PAIRS = [{"prompt": "Two?", "chosen": f" {i}", "rejected": f" {i + 1}"} for i in range(4)]


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Fail when a model is loaded."""

    def refuse(*_, **__):
        pytest.fail("a model was loaded")

    for name in ("load_model", "load_reference", "RatioTrainer"):
        monkeypatch.setattr(command, name, refuse)


@pytest.fixture
def refusal(tmp_path, capsys):
    """Return a runner of `train` with changed settings and rows, which returns the one line of the refusal."""

    def run(changes=None, rows=ROWS, text=None):
        for name, content in (("rows", rows), ("pairs", PAIRS)):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        settings = {
            "model": "tiny-qwen2",
            "train_data": "${config_folder}/rows.jsonl",
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
        }
        settings = {name: value for name, value in (settings | (changes or {})).items() if value != "absent"}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings) if text is None else text)
        assert main(["train", "--config", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return captured.err.removeprefix("relratio-lm: ").rstrip("\n").replace(str(tmp_path), "DIR")

    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # the file's fields
        ({"model": "absent"}, "model must be set: a line `model: ...` in the file, or --model ..."),
        ({"train_data": "absent"}, "train_data must be set: a line `train_data: ...` in the file, or --train_data ..."),
        ({"output_dir": "absent"}, "output_dir must be set: a line `output_dir: ...` in the file, or --output_dir ..."),
        ({"learning_rat": 1e-6}, "unknown field 'learning_rat'; did you mean learning_rate?"),
        ({"lora_rnak": 8}, "unknown field 'lora_rnak'; did you mean lora_rank or "),
        ({"trust_remote_code": True}, "unknown field 'trust_remote_code'; see python -m lm train --help"),
        ({"overwrite_output_dir": True}, "unknown field 'overwrite_output_dir'; did you mean output_dir?"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"num_train_epochs": True}, "num_train_epochs must be a number, got true"),
        ({"per_device_train_batch_size": 1.5}, "per_device_train_batch_size must be an integer, got 1.5"),
        ({"max_length": "long"}, "max_length must be an integer, got 'long'"),
        ({"padding_free": "perhaps"}, "padding_free must be true or false, got 'perhaps'"),
        # the method
        ({"method": "orpo"}, "method must be one of ddro, dpo, ipo, kto, mle, rdro, sft; got 'orpo'"),
        ({"beta": 0.1}, "beta is an option of kto, dpo, ipo, got it for rdro"),
        ({"loss_type": "sigmoid"}, "unknown field 'loss_type'"),
        ({"desirable_weight": 1.0}, "unknown field 'desirable_weight'"),
        ({"method": "dpo", "alpha": 0.3}, "alpha is an option of rdro, ddro, mle, got it for dpo"),
        ({"method": "sft", "weighting": "pooled"}, "weighting is an option of rdro, ddro, kto, got it for sft"),
        ({"beyond_domain": "extend"}, "beyond_domain is an option of ddro, got it for rdro"),
        ({"method": "kto", "beta": 0.0}, "beta must be "),
        ({"alpha": 1.2}, "alpha must lie strictly between 0 and 1, got 1.2"),
        ({"alpha": "half"}, "alpha must be one of auto, auto_by_prompt, column; got 'half'"),
        ({"generator": "cubic"}, "generator must be one of "),
        ({"reference": "adapter_off"}, "reference adapter_off needs an adapter, got lora_rank 0"),
        ({"log_probs": "quick"}, "log_probs must be one of checkpoint, full, fused; got 'quick'"),
        ({"chunk_mebibytes": 0}, "chunk_mebibytes must be a whole number of at least 1, got 0"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor has no meaning for losses of log-ratios, got 0.1"),
        ({"remove_unused_columns": True}, "remove_unused_columns must be off"),
        ({"lr_scheduler_type": "sine"}, "sine is not a valid SchedulerType"),
        # what belongs together
        ({"eval_strategy": "epoch"}, "eval_strategy needs eval_data, got eval_strategy epoch without it"),
        ({"sample_completions": 4}, "sample_completions needs eval_data, got sample_completions 4 without it"),
        ({"resume_from_checkpoint": True}, "resuming needs a complete checkpoint, got none in DIR/out"),
        ({"resume_from_checkpoint": "DIR/x"}, "resume_from_checkpoint must be true or the folder of a checkpoint, got"),
        # the model
        (
            {"model": "tiny-qwen3"},
            "model must be a folder, a hub name or one of tiny-qwen2, tiny-llama, got 'tiny-qwen3'",
        ),
        (
            {"model": "/no/such/folder"},
            "model must be a folder, a hub name or one of tiny-qwen2, tiny-llama, got '/no/such/folder'",
        ),
        (
            {"tokenizer": "./nowhere"},
            "tokenizer must be a folder, a hub name or one of tiny-qwen2, tiny-llama, got './nowhere'",
        ),
        ({"attention": "fast"}, "attention must be one of eager, flash_attention_2"),
        ({"model_dtype": "float16"}, "model_dtype must be float32 or bfloat16 where all weights are trained, got flo"),
        ({"lora_dropout": 0.1}, "lora_dropout needs lora_rank, got lora_dropout 0.1 with lora_rank 0"),
        ({"pad_token": "<pad>"}, "pad_token must be a token of the tokenizer tiny-qwen2, got '<pad>'"),
        ({"max_length": 4096}, "max_length must be at most 2048, what tiny-qwen2 is made for, got 4096"),
        # the data
        ({"train_data": "DIR/none.jsonl"}, "DIR/none.jsonl"),
        ({"max_length": 1}, "max_length must be at least 2"),
        ({"overlong": "wrap"}, "overlong must be one of completion_right, drop, prompt_left; got 'wrap'"),
        ({"boundary": "suffix"}, "boundary must be one of prefix, separate; got 'suffix'"),
        ({"max_lost": 1.5}, "max_lost must be a share in [0, 1], got 1.5"),
        ({"max_length": 12}, "at most max_lost = 0.1 of the examples may be dropped or cut"),
        ({"method": "ipo"}, "dpo and ipo need pairs, rows with the columns chosen + rejected; got single responses"),
        ({"alpha": "column"}, "alpha 'column' needs"),
        (
            {"method": "dpo", "train_data": "${config_folder}/pairs.jsonl", "eval_data": "${config_folder}/rows.jsonl"},
            "dpo and ipo need pairs",
        ),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items())[:60] if isinstance(value, dict) else "",
)
def test_a_malformed_configuration_is_refused(refusal, tmp_path, changes, message):
    changes = {
        name: value.replace("DIR", str(tmp_path)) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    assert message in refusal(changes)


@pytest.mark.parametrize("label", [True, False])
def test_data_of_one_class_are_refused(refusal, label):
    rows = [row | {"label": label} for row in ROWS]
    assert "both classes" in refusal(rows=rows)


def test_files_that_are_no_configuration_are_refused(refusal):
    assert refusal(text="") == "DIR/config.yaml must hold lines `field: value`, got an empty file"
    assert refusal(text="model: x\nmodel: y\n").startswith(
        "DIR/config.yaml must be a YAML file in UTF-8, got: model is"
    )
    assert refusal(text="- a\n").endswith("got a list")


def test_an_adapter_as_model_is_refused(refusal, toy, tmp_path):
    load_model(ModelConfig(model="tiny-qwen2", lora_rank=2), toy).save_pretrained(tmp_path / "adapter")
    toy.save_pretrained(tmp_path / "adapter")
    assert "model must be a whole model, got an adapter" in refusal({"model": str(tmp_path / "adapter")})


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(refusal, tiny_model, toy, tmp_path):
    folder = str(tmp_path / "model")
    model = tiny_model("qwen2")
    model.resize_token_embeddings(250)
    model.save_pretrained(folder)
    toy.save_pretrained(folder)
    assert "must hold every id of the tokenizer, got 250 rows and id 259" in refusal({"model": folder})
