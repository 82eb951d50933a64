"""The command line trains, goes on, and says in one line why not."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm.__main__ import _imported, main
from lm.commands import train as command
from lm.loading import load_trained
from lm.options import load_settings
from lm.settings import DataConfig, MethodConfig, ModelConfig

ROOT = Path(__file__).parents[2]
COMMANDS = ("inspect", "precompute", "train", "evaluate", "validate")


def train(output, *overrides, config="tiny-qwen2"):
    """Run a short training: 6 steps, a checkpoint after every second one."""
    usual = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "logging_steps": 2, "eval_strategy": "no"}
    given = [name for name in usual if f"--{name}" not in overrides]
    settings = [part for name in given for part in (f"--{name}", str(usual[name]))]
    return main(["train", "--config", config, "--output_dir", str(output), *settings, *overrides])


def weights(folder, name="model.safetensors"):
    """Return the bytes of a model's weights."""
    return (Path(folder) / name).read_bytes()


def test_garbage_is_looked_for_again_after_imports(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")  # as before the first import
    frozen = gc.get_freeze_count()
    assert _imported("json") is json
    assert gc.isenabled() and gc.get_freeze_count() > frozen
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _imported("no_such_module")
    assert gc.isenabled()


def test_help_reads_well_and_imports_nothing_heavy():
    code = "import contextlib, io, sys\nfrom lm.__main__ import main\n"
    code += f"for arguments in [['--help'], *([name, '--help'] for name in {COMMANDS})]:\n"
    code += "    try: main(arguments)\n    except SystemExit as end: assert end.code == 0\n"
    heavy = ("numpy", "torch", "transformers", "datasets", "pyarrow", "peft", "yaml")
    code += f"print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]" and "%%" not in result.stdout
    assert all(f"\n    {name}" in result.stdout for name in COMMANDS)
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_settings_are_read_without_torch():
    code = "import sys\nfrom lm.options import load_settings\nload_settings('tiny-qwen2', ['--alpha', '0.3'])\n"
    code += "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"


def test_help_lists_every_field_with_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    listed = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ") and line[2].isalpha()}
    assert {*vars(ModelConfig()), *vars(DataConfig()), *vars(MethodConfig())} <= set(listed)
    flat = " ".join(text.split())
    assert "tokens (default 1024)" in flat and "TrainingArguments" in flat and "(default false)" in flat


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("alpha must\nbe set"), 2, "relratio-lm: alpha must be set\n"),
        (FileNotFoundError("no file"), 2, "relratio-lm: no file\n"),
        (ImportError("pip install it"), 2, "relratio-lm: pip install it\n"),
        (FloatingPointError("loss is nan"), 1, "relratio-lm: loss is nan\n"),
        (KeyboardInterrupt(), 130, "\nrelratio-lm: interrupted; nothing that was saved is lost\n"),
        (KeyboardInterrupt("all is saved"), 130, "\nrelratio-lm: interrupted; all is saved\n"),
    ],
)
def test_errors_are_one_line_and_a_status(monkeypatch, capsys, error, status, line):
    def fail(arguments):
        raise error

    monkeypatch.setattr(command, "train", fail)
    assert main(["train", "--config", "tiny-qwen2"]) == status
    assert capsys.readouterr().err == line


def test_errors_name_the_process_beside_the_first(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    assert main(["train", "--config", "/dev/null"]) == 2
    assert capsys.readouterr().err.startswith("relratio-lm (rank 3): /dev/null must hold lines")


def test_a_closed_pipe_is_no_fault():
    code = "import sys, types\nfrom lm.__main__ import main\n"
    code += "talk = types.SimpleNamespace(train=lambda arguments: [print('x' * 99) for _ in range(9999)] and 0)\n"
    code += "sys.modules['lm.commands.train'] = talk\nsys.exit(main(['train', '--config', 'tiny-qwen2']))"
    line = f'{sys.executable} -c "{code}" | head -1; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 141 and result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["validate", "--alpha", "0.3"], "validate takes no such argument: --alpha"),
        (["validate", "--jobs", "0"], "argument --jobs: must be a positive integer, got '0'"),
        (["train", "--config"], "argument --config: expected one argument"),
    ],
)
def test_wrong_commands_show_the_usage(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a training from beginning to end."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train(folder) == 0
    return folder


def test_training_leaves_a_model_that_others_load(trained, toy):
    model = AutoModelForCausalLM.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    rows = [{"role": "user", "content": "Why?"}]
    ids = tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert ids.tolist()[0] == toy.apply_chat_template(rows, add_generation_prompt=True)["input_ids"]
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > ids.shape[1]
    start = torch.load(trained / "training_args.bin", weights_only=False)
    assert (start.method, start.max_steps) == ("rdro", 6)
    assert sorted(path.name for path in trained.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert "trained with `rdro` for 6 optimiser steps" in (trained / "README.md").read_text()
    assert 0.0 < yaml.safe_load((trained / "eval_results.json").read_text())["eval_loss"] < 2.0


def test_saved_settings_repeat_the_run(trained, tmp_path):
    settings = load_settings(trained / "settings.yaml")
    assert settings.data == load_settings("tiny-qwen2").data and settings.ratio["max_steps"] == 6
    again = ["train", "--config", str(trained / "settings.yaml"), "--output_dir", str(tmp_path / "run")]
    assert main(again) == 0
    assert weights(tmp_path / "run") == weights(trained)


def test_a_second_run_does_not_mix_with_the_first(trained, capsys):
    before = weights(trained)
    assert train(trained) == 2
    assert "output_dir must be free for a new run, got" in capsys.readouterr().err
    assert train(trained, "--resume_from_checkpoint", str(trained)[:-1]) == 2
    assert "must be true or the folder of a checkpoint" in capsys.readouterr().err
    assert weights(trained) == before


def test_an_interrupted_run_says_how_to_go_on_and_ends_the_same(trained, tmp_path, monkeypatch, capsys):
    class Interrupted(command.RatioTrainer):
        def training_step(self, *arguments, **options):
            if self.state.global_step == 3:
                raise KeyboardInterrupt
            return super().training_step(*arguments, **options)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(command, "RatioTrainer", Interrupted)
        assert train(tmp_path / "early", "--save_strategy", "no") == 130
        assert capsys.readouterr().err.endswith("no checkpoint was saved yet; start again by the same command\n")
        assert train(folder) == 130
    line = f"{folder}/checkpoint-2 is saved; go on by the same command with --resume_from_checkpoint true\n"
    assert capsys.readouterr().err.endswith(line)
    assert train(folder, "--resume_from_checkpoint", "true") == 0
    assert weights(folder) == weights(trained)
    assert "resume_from_checkpoint" not in (folder / "settings.yaml").read_text()


def test_an_adapter_is_trained_and_loaded(tmp_path, toy_llama):
    assert train(tmp_path, config="tiny-llama") == 0
    settings = load_settings("tiny-llama").model
    model = load_trained(tmp_path, settings, toy_llama)
    trained = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert len(trained) == 14 and all(p.any() for p in trained)


def test_other_references_are_loaded_where_they_are_named(trained, tmp_path, capsys):
    options = ["--model", str(trained), "--reference_model", "tiny-qwen2", "--max_steps", "2"]
    assert train(tmp_path / "a", *options) == 2  # the policy differs from its reference at the start
    assert "training must start from the reference" in capsys.readouterr().err
    assert train(tmp_path / "b", *options, "--check_start", "false", "--reference", "frozen") == 0
