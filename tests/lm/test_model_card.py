"""The model card: what it says is what was done."""

import ast
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from lm.config import RatioConfig
from lm.data import load_examples
from lm.evaluation import Estimate
from lm.method import METHODS
from lm.model_card import model_card, write_model_card
from lm.objective import prepare_examples
from lm.settings import DataConfig, ModelConfig

RESULTS = {"rewards/auc": Estimate(0.75, 0.0625, 40), "loss": Estimate(np.inf, None, 40)}


def card(toy, folder, method="rdro", model=None, results=RESULTS, **options) -> str:
    rows = [{"prompt": "2+2=", "chosen": "4", "rejected": str(i)} for i in range(5, 8)]
    if method in ("rdro", "ddro"):
        rows = [
            {"prompt": f"{prompt}+2=", "completion": str(i), "label": i == 4}
            for prompt, wrong in ((2, 1), (3, 3))
            for i in (4, 4, 4, *range(5, 5 + wrong))
        ]
    config = RatioConfig(output_dir=str(folder / "run"), method=method, use_cpu=True, learning_rate=2e-5, **options)
    data = load_examples(rows, toy, DataConfig(), pairs=config.resolved.pairs)
    _, resolved = prepare_examples(data.examples, config)
    return model_card(model or ModelConfig("some/model"), config, resolved, {"train": data.report}, results, 1234)


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_card_with_its_loss(toy, tmp_path, method):
    text = card(toy, tmp_path, method)
    assert f"trained with `{method}` for 1,234 optimiser steps" in text
    assert re.search(r"Loss: `.+` \(.*(arXiv \d{4}\.\d{5}|maximum likelihood|derived).*\)", text)
    assert front(text)["tags"] == ["relratio", "alignment", method]


def test_what_was_resolved_is_told(toy, tmp_path):
    text = card(toy, tmp_path, "rdro", alpha=0.375)
    assert "| alpha | 0.375 |" in text and "| generator | logistic |" in text and "| learning_rate | 2e-05 |" in text
    assert "| weight of a preferred example | 0.833333 |" in text  # 10 rows / (2 * 6 preferred ones)
    text = card(toy, tmp_path, "ddro")
    assert "| alpha (auto) | 0.6 |" in text and "| beyond_domain | infinite |" in text
    assert "| alpha (auto_by_prompt) | 0.5 to 0.7 |" in card(toy, tmp_path, "rdro", alpha="auto_by_prompt")
    assert "| beta | 0.1 |" in card(toy, tmp_path, "dpo") and "alpha (" not in card(toy, tmp_path, "dpo")


def test_data_and_results_are_tables(toy, tmp_path):
    text = card(toy, tmp_path)
    assert "| preferred sequences | 6 |" in text and "| dropped as too long | 0 |" in text
    assert "| rewards/auc | 0.7500 | 0.0625 | 40 |" in text and "| loss | inf | - | 40 |" in text
    assert "No held-out data was given." in card(toy, tmp_path, results={})


def test_front_matter_names_a_base_model_of_the_hub_only(toy, tmp_path):
    assert front(card(toy, tmp_path))["base_model"] == "some/model"
    assert "base_model" not in front(card(toy, tmp_path, model=ModelConfig("tiny-qwen2")))
    assert "base_model" not in front(card(toy, tmp_path, model=ModelConfig(str(tmp_path))))


@pytest.mark.parametrize(
    ("rank", "library", "loader"), [(0, "transformers", "AutoModel"), (4, "peft", "AutoPeftModel")]
)
def test_the_way_to_load_it_is_python(toy, tmp_path, rank, library, loader):
    text = card(toy, tmp_path, model=replace(ModelConfig("some/model"), lora_rank=rank))
    assert front(text)["library_name"] == library
    code = text.split("```python\n")[1].split("```")[0]
    ast.parse(code)
    assert f"{loader}ForCausalLM" in code and ("| lora_rank | 4 |" in text) == bool(rank)


def test_a_card_is_written_beside_the_model(toy, tmp_path):
    text = card(toy, tmp_path)
    write_model_card(tmp_path, text)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text and text.endswith("\n")
