"""The command precompute, and that training with its values is the same training."""

import re

import pytest

from lm.__main__ import main
from lm.trainer import RatioTrainer

RUN = ["--config", "tiny-qwen2", "--max_steps", "6", "--eval_strategy", "no", "--save_strategy", "no"]
LORA = ["--lora_rank", "2", "--model_dtype", "float32"]


def values_in(folder) -> set:
    return set(folder.rglob("*.parquet"))


@pytest.mark.parametrize("adapter", [[], LORA], ids=["full", "lora"])
def test_training_finds_what_was_precomputed(tmp_path, capsys, adapter):
    arguments = [*RUN, *adapter, "--output_dir", str(tmp_path / "run"), "--reference_cache", str(tmp_path / "cache")]
    assert main(["precompute", *arguments]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"train: 58 reference log-probabilities.*\neval: 12 reference", printed)
    before = values_in(tmp_path)
    assert len(before) == 2
    assert main(["precompute", *arguments]) == 0 and main(["train", *arguments]) == 0
    assert values_in(tmp_path) == before


@pytest.mark.parametrize("method", ["kto", "sft"])
def test_mismatched_completions_and_asked_for_references_are_found_too(tmp_path, method):
    arguments = [*RUN, "--method", method, "--alpha", "null", "--output_dir", str(tmp_path / "run")]
    arguments += ["--reference", "precomputed"]
    assert main(["precompute", *arguments]) == 0
    before = values_in(tmp_path)
    assert main(["train", *arguments]) == 0 and values_in(tmp_path) == before


def test_a_precomputed_reference_changes_neither_order_nor_steps(tmp_path, monkeypatch):
    compute_loss, orders, losses = RatioTrainer.compute_loss, {}, {}

    def watching(trainer, model, inputs, *arguments, **settings):
        loss = compute_loss(trainer, model, inputs, *arguments, **settings)
        orders.setdefault(name, []).append(inputs["rows"].tolist())
        losses.setdefault(name, []).append(loss.item())
        return loss

    monkeypatch.setattr(RatioTrainer, "compute_loss", watching)
    for name in ("frozen", "precomputed", "before"):
        arguments = [*RUN, "--output_dir", str(tmp_path / name), "--reference", name.replace("before", "precomputed")]
        if name == "before":
            assert main(["precompute", *arguments]) == 0
        assert main(["train", *arguments]) == 0
    assert len(orders["frozen"]) == 6 and orders["frozen"] == orders["precomputed"] == orders["before"]
    assert losses["before"] == losses["precomputed"]
    # Log-probabilities of up to 800 nats have roundings of 800 * 2^-24 = 5e-5 from each of a few sums; the losses
    # follow log-ratios with a slope of at most 1 times a weight of 1.3, and Adam's steps carry rounding on.
    assert losses["frozen"] == pytest.approx(losses["precomputed"], abs=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["--method", "sft", "--alpha", "null", "--reference", "null"],
            "precompute is for reference precomputed, got none of method sft",
        ),
        (["--reference", "frozen"], "precompute is for reference precomputed, got frozen of method rdro"),
        (["--train_data", ""], "train_data must be set"),
    ],
)
def test_what_needs_no_values_is_refused(tmp_path, capsys, settings, message):
    assert main(["precompute", *RUN, "--output_dir", str(tmp_path / "run"), *settings]) == 2
    assert message in capsys.readouterr().err
    assert not values_in(tmp_path)
