"""Settings come from a file and the command line with the right types, or a clear refusal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.options import Settings, load_settings, ratio_arguments, shipped_configs
from lm.settings import DataConfig, ModelConfig


@pytest.fixture
def load(tmp_path):
    """Return a loader of a configuration's text and overrides."""

    def load(text, *overrides):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_settings(path, overrides)

    return load


def test_fields_go_to_their_groups(load):
    settings = load("model: a/b\ntrain_data: rows.jsonl\nalpha: 0.3\nlearning_rate: 5e-7\nbf16: true\nmax_length: 64\n")
    assert settings.model == ModelConfig(model="a/b")
    assert settings.data == DataConfig(train_data="rows.jsonl", max_length=64)
    assert settings.ratio == {"alpha": 0.3, "learning_rate": "5e-7", "bf16": True}
    arguments = ratio_arguments(settings)
    assert arguments == {"alpha": 0.3, "learning_rate": 5e-7, "bf16": True}
    assert isinstance(arguments["learning_rate"], float)


def test_the_command_line_takes_the_place_of_the_file(load):
    text = "model: a\noutput_dir: x\nalpha: 0.3\neval_data: held\nseed: 1\n"
    settings = load(text, "--alpha", "auto", "--seed=-2", "--eval_data", "null", "--padding_free", "--max-length", "9")
    assert settings.ratio["alpha"] == "auto" and settings.ratio["padding_free"] is True
    assert settings.data == DataConfig(max_length=9)
    assert ratio_arguments(settings)["seed"] == -2


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("learning_rate", "5e-7", 5e-7),
        ("learning_rate", "1E3", 1000.0),
        ("learning_rate", "1", 1.0),
        ("alpha", "3.9e-1", 0.39),
        ("alpha", "auto_by_prompt", "auto_by_prompt"),
        ("max_steps", "-1", -1),
        ("bf16", "false", False),
        ("tf32", "null", None),
        ("output_dir", "2026", "2026"),
        ("output_dir", "1.50", "1.50"),
        ("run_name", "true", "true"),
        ("run_name", "a: [b", "a: [b"),
        ("report_to", "[tensorboard]", ["tensorboard"]),
        ("report_to", "none", "none"),
        ("lr_scheduler_kwargs", "{num_cycles: 2}", {"num_cycles": 2}),
        ("lr_scheduler_type", "cosine", "cosine"),
        ("fsdp", "true", True),
        ("resume_from_checkpoint", "true", True),
        ("resume_from_checkpoint", "runs/checkpoint-3", "runs/checkpoint-3"),
        ("logging_steps", "10", 10.0),
    ],
)
def test_values_of_the_command_line_have_the_type_of_their_field(field, text, value):
    given_value = ratio_arguments(load_settings(None, [f"--{field}", text]))[field]
    assert given_value == value and type(given_value) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_back(value):
    assert ratio_arguments(load_settings(None, [f"--weight_decay={value!r}"])) == {"weight_decay": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold lines `field: value`, got an empty file"),
        ("# only a comment\n", "must hold lines `field: value`, got an empty file"),
        ("- model\n", "must hold lines `field: value`, got a list"),
        ("model\n", "must hold lines `field: value`, got 'model'"),
        ("3: 4\n", "must hold lines `field: value`, got a mapping"),
        ("model: [a\n", "must be a YAML file in UTF-8"),
        ("model: a\nmodel: b\n", "model is given twice"),
        ("fsdp_config: {version: 1, version: 2}\n", "version is given twice"),
        ("model: !!python/object/apply:os.getcwd []\n", "must be a YAML file in UTF-8"),
        ("model: 3\n", "model must be text, got 3"),
        ("model: null\n", "model must be text, got null"),
        ("max_length: 10.5\n", "max_length must be an integer, got 10.5"),
        ("max_length: true\n", "max_length must be an integer, got true"),
        ("lora_dropout: none\n", "lora_dropout must be a number, got 'none'"),
        ("lora_dropout: .nan\n", "lora_dropout must be a number, got nan"),
        ("padding_free: 1\n", "padding_free must be true or false, got 1"),
        ("alpha: [0.1]\n", "alpha must be a number or text or null, got a list"),
        ("eval_data: {a: b}\n", "eval_data must be text or null, got a mapping"),
    ],
)
def test_malformed_files_are_refused(load, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(text)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"model: \xff\xfe\n")
    with pytest.raises(ValueError, match="must be a YAML file in UTF-8"):
        load_settings(path)
    with pytest.raises(IsADirectoryError):
        load_settings(tmp_path)


def test_missing_files_name_the_nearest_shipped_configuration():
    with pytest.raises(FileNotFoundError, match=r"no configuration file tiny-qwen; did you mean tiny-qwen2\?"):
        load_settings("tiny-qwen")
    with pytest.raises(FileNotFoundError, match=r"no configuration file /x/y\.yaml; shipped: .*tiny-llama"):
        load_settings("/x/y.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stray"], "settings must have the form --field value, got 'stray'"),
        (["-x", "3"], "settings must have the form --field value, got '-x'"),
        (["--seed", "1", "2"], "settings must have the form --field value, got '2'"),
        (["--"], "settings must have the form --field value, got '--'"),
        (["--seed", "1", "--seed=2"], "--seed must be given once, got it twice"),
        (["--max_length", "--seed", "3"], "max_length must be an integer, got true"),
        (["--max_length="], "max_length must be an integer, got null"),
    ],
)
def test_malformed_overrides_are_refused(overrides, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_settings(None, overrides)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rat", 1, "unknown field 'learning_rat'; did you mean learning_rate?"),
        ("max_lenght", 1, "unknown field 'max_lenght'; did you mean max_length"),
        ("alfa", 0.3, "unknown field 'alfa'; did you mean .*alpha"),
        ("lora_ranks", 3, "unknown field 'lora_ranks'; did you mean lora_rank"),
        ("xyzzy", 1, "unknown field 'xyzzy'; see python -m lm train --help"),
        ("learning_rate", "fast", "learning_rate must be a number, got 'fast'"),
        ("learning_rate", True, "learning_rate must be a number, got true"),
        ("bf16", "maybe", "bf16 must be true or false, got 'maybe'"),
        ("seed", 1.5, "seed must be an integer, got 1.5"),
        ("report_to", {"a": 1}, "report_to must be text or a list or null, got a mapping"),
        ("resolved", 1, "unknown field 'resolved'"),
    ],
)
def test_fields_of_training_arguments_are_checked_as_well(name, value, message):
    with pytest.raises(ValueError, match=message):
        ratio_arguments(Settings(ModelConfig(), DataConfig(), {name: value}))


def test_required_fields_are_named():
    settings = load_settings(None, ["--model", "a", "--output_dir", "x"])
    assert settings.require("model", "output_dir") is settings
    with pytest.raises(
        ValueError, match=r"^train_data must be set: a line `train_data: \.\.\.` in the file, or --train"
    ):
        settings.require("model", "train_data")


def test_config_folder_is_the_folder_of_the_file(load, tmp_path):
    settings = load("train_data: ${config_folder}/a.jsonl\noutput_dir: b\n")
    assert settings.data.train_data == f"{tmp_path}/a.jsonl" and settings.ratio["output_dir"] == "b"


def test_shipped_configurations_go_by_name():
    path = shipped_configs()["tiny-qwen2"]
    assert load_settings("tiny-qwen2") == load_settings(path)
