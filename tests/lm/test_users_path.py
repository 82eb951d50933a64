"""A user's way from a file of conversations to a model, killed on the way, with the real tokenizer of Qwen2.5."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm.__main__ import main
from lm.tiny_models import tiny_qwen2

ROWS, HELD_OUT = 64, 12
STEPS, SAVED = 4, 2


def conversations() -> list[dict]:
    """Return rows of TRL's unpaired preference format; sums are right where the label is true."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(ROWS):
        a, b = (int(value) for value in rng.integers(10, 99, 2))
        right = bool(rng.random() < 0.4)
        prompt = [{"role": "user", "content": f"How much is {a} plus {b}?"}]
        answer = f"{a} + {b} = {a + b if right else a + b + int(rng.integers(1, 9))}"
        rows.append({"prompt": prompt, "completion": [{"role": "assistant", "content": answer}], "label": right})
    return rows


def as_pairs(rows: list[dict]) -> list[dict]:
    """Return rows of TRL's explicit preference format: the right sum is chosen over the one of the row or the next."""
    pairs = []
    for row in rows:
        question = row["prompt"][0]["content"]
        a, b = (int(word.strip("?")) for word in question.split() if word.strip("?").isdigit())
        said = row["completion"][0]["content"]
        chosen, rejected = f"{a} + {b} = {a + b}", f"{a} + {b} = {a + b + 1}" if row["label"] else said
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
        pairs.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
    return pairs


@pytest.fixture(scope="module")
def place(tmp_path_factory, qwen) -> Path:
    """Return a folder with data, the base model (2 layers) with its tokenizer, and a configuration of each format."""
    folder = tmp_path_factory.mktemp("path")
    rows = conversations()
    for name, content in (("unpaired", rows), ("pairs", as_pairs(rows))):
        for part, chosen in (("train", content[HELD_OUT:]), ("heldout", content[:HELD_OUT])):
            lines = "".join(json.dumps(row) + "\n" for row in chosen)
            (folder / f"{name}-{part}.jsonl").write_text(lines, encoding="utf-8")
        lines = [
            f"model: {folder / 'base'}",
            f"train_data: {folder / name}-train.jsonl",
            f"eval_data: {folder / name}-heldout.jsonl",
            f"method: {'dpo' if name == 'pairs' else 'rdro'}",
            f"reference_cache: {folder / 'reference'}",
            "per_device_train_batch_size: 4",
            "gradient_accumulation_steps: 2",
            "learning_rate: 1.0e-3",
            "lr_scheduler_type: cosine",
            f"max_steps: {STEPS}",
            f"save_steps: {SAVED}",
            "logging_steps: 1",
            "report_to: none",
            "use_cpu: true",
            "disable_tqdm: true",
        ]
        (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ends = {"eos_token_id": qwen.eos_token_id, "pad_token_id": qwen.pad_token_id}
    tiny_qwen2(len(qwen), hidden_size=16, layers=2, **ends).save_pretrained(folder / "base")
    qwen.save_pretrained(folder / "base")
    return folder


def run(command: str, place: Path, name: str, output: str, *overrides: str) -> int:
    return main([command, "--config", str(place / f"{name}.yaml"), "--output_dir", str(place / output), *overrides])


def inspect_shows_the_rows_as_the_model_sees_them(place, capsys):
    assert run("inspect", place, "unpaired", "whole", "--json") == 0
    seen = json.loads(capsys.readouterr().out)
    assert run("inspect", place, "pairs", "pairs") == 0
    printed = capsys.readouterr().out
    assert [seen[part]["kept"] for part in ("train", "eval")] == [
        ROWS - HELD_OUT,
        HELD_OUT,
    ] and "examples (pairs)" in printed
    assert "<|im_start|>assistant" in printed and "<|im_end|>" in printed


def train_and_kill(place: Path, name: str, output: str) -> None:
    """Start training in a process of its own, and kill it once its first checkpoint is there."""
    command = [sys.executable, "-m", "lm", "train", "--config", str(place / f"{name}.yaml")]
    folder = place / output
    training = subprocess.Popen(
        [*command, "--output_dir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    state = folder / f"checkpoint-{SAVED}" / "trainer_state.json"
    while not state.exists() and training.poll() is None:
        time.sleep(0.005)
    training.send_signal(signal.SIGKILL)
    _, errors = training.communicate()
    assert training.returncode == -signal.SIGKILL, errors
    assert not (folder / "model.safetensors").exists()


def a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(place, capsys):
    assert run("precompute", place, "unpaired", "whole") == 0
    values = set((place / "reference").rglob("*.parquet"))
    assert run("train", place, "unpaired", "whole") == 0
    train_and_kill(place, "unpaired", "killed")
    assert run("train", place, "unpaired", "killed") == 2  # not silently from the start
    assert "--resume_from_checkpoint true" in capsys.readouterr().err
    assert run("train", place, "unpaired", "killed", "--resume_from_checkpoint", "true") == 0
    assert set((place / "reference").rglob("*.parquet")) == values  # precomputed once, for all of them
    whole, resumed = (load_file(place / name / "model.safetensors") for name in ("whole", "killed"))
    start = load_file(place / "base" / "model.safetensors")
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    assert any(not torch.equal(whole[name], start[name]) for name in whole)
    histories = [
        [
            entry
            for entry in json.loads((place / name / "trainer_state.json").read_text())["log_history"]
            if "loss" in entry
        ]
        for name in ("whole", "killed")
    ]
    for first, second in zip(*histories, strict=True):
        clock = {"tokens_per_second"}
        assert {k: v for k, v in first.items() if k not in clock} == {k: v for k, v in second.items() if k not in clock}
    # A window's loss depends on its share of preferred rows, as alpha is .4 or so; their mean is near that at one half.
    losses = [entry["loss"] for entry in histories[0]]
    assert np.mean(losses) == pytest.approx(np.log(2), abs=0.2) and len(losses) == STEPS


def the_model_is_evaluated_loaded_and_asked(place, capsys):
    completions = place / "completions.json"
    asked = ["--completions", str(completions), "--sample_completions", "2", "--sample_new_tokens", "3"]
    assert run("evaluate", place, "unpaired", "whole", *asked) == 0
    assert "rewards/auc" in capsys.readouterr().out
    found = json.loads((place / "whole" / "evaluation.json").read_text())["estimates"]
    logged = json.loads((place / "whole" / "eval_results.json").read_text())
    # float32 sums of about 20 log-probabilities near -12, in batches of another shape: 240 * 2^-24 * sqrt(20) = 1e-4.
    assert found["loss"]["value"] == pytest.approx(logged["eval_loss"], abs=1e-4)
    assert json.loads(completions.read_text())[0]["instruction"].startswith("How much is")
    card = (place / "whole" / "README.md").read_text()
    assert "| preferred sequences |" in card and "relative density ratio" in card

    model = AutoModelForCausalLM.from_pretrained(place / "whole")
    tokenizer = AutoTokenizer.from_pretrained(place / "whole")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How much is 2 plus 2?"}], add_generation_prompt=True, return_tensors="pt"
    )
    new = model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert 1 <= len(new) <= 3 and int(new.max()) < len(tokenizer)


def test_from_conversations_to_a_model_that_answers(place, capsys):
    # One test, as its parts follow from each other and pytest-xdist may put tests into different processes.
    inspect_shows_the_rows_as_the_model_sees_them(place, capsys)
    a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(place, capsys)
    the_model_is_evaluated_loaded_and_asked(place, capsys)


def test_pairs_train_dpo_from_the_same_start(place):
    assert run("train", place, "pairs", "dpo", "--max_steps", "3", "--save_strategy", "no") == 0
    logged = json.loads((place / "dpo" / "trainer_state.json").read_text())["log_history"]
    assert logged[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)  # policy = reference
    assert "eval_rewards/accuracies" in json.loads((place / "dpo" / "eval_results.json").read_text())
