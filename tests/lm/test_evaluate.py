"""Held-out estimates against direct computation and the bootstrap; the command evaluate."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lm.__main__ import main
from lm.evaluation import Estimate, estimates, table
from lm.examples import ExampleSet
from lm.method import resolve_method
from lm.metrics import auc
from lm.objective import Objective, prepare_examples
from lm.settings import MethodConfig
from theory import rdro_losses


def held_out(count: int = 60, prompts: int | None = None, seed: int = 0) -> tuple[ExampleSet, np.ndarray, np.ndarray]:
    """Return examples, log-probabilities and log-ratios that the class and the prompt move."""
    rng = np.random.default_rng(seed)
    prompt = np.arange(count) if prompts is None else np.arange(count) % prompts
    preferred = rng.random(count) < 0.4
    effect = rng.normal(size=count)[prompt]
    ratios = 0.5 * preferred + 0.5 * effect + 0.3 * rng.normal(size=count)
    ids = [np.array([7, number], dtype=np.int32) for number in prompt]
    completions = [np.arange(1 + number % 5, dtype=np.int32) for number in range(count)]
    log_probs = -3.0 * np.array([len(ids) for ids in completions]) + rng.normal(size=count)
    return ExampleSet(ids, completions, preferred, np.arange(count)), log_probs, ratios


def objective(name: str = "rdro", alpha: float | None = 0.4, **options) -> Objective:
    return Objective(resolve_method(MethodConfig(name, **options)), alpha)


def test_values_are_those_of_a_direct_computation():
    data, log_probs, u = held_out()
    prepared, _ = prepare_examples(data, MethodConfig("rdro", alpha=0.4))
    found = estimates(objective(), prepared, log_probs, u)
    up = data.preferred
    losses = rdro_losses(u, up, 0.4)
    assert found["loss"].value == pytest.approx((losses[up].mean() + losses[~up].mean()) / 2)
    assert found["loss/chosen"].value == pytest.approx(losses[up].mean())
    assert found["rewards/chosen"].value == pytest.approx(u[up].mean())
    assert found["rewards/rejected"].value == pytest.approx(u[~up].mean())
    assert found["rewards/margins"].value == pytest.approx(u[up].mean() - u[~up].mean())
    assert found["rewards/auc"].value == auc(u, up)
    assert found["logratio/over_bound"].value == np.mean(u > np.log(1 / 0.4))
    tokens = np.array([len(ids) for ids in data.completion_ids])
    assert found["logps_per_token/chosen"].value == pytest.approx(log_probs[up].sum() / tokens[up].sum())
    assert (found["rewards/chosen"].count, found["loss"].count) == (up.sum(), 60)


def test_errors_of_means_are_the_textbooks_where_prompts_differ():
    data, log_probs, u = held_out()
    found = estimates(objective(), data, log_probs, u)
    up = data.preferred
    for name, members in (("chosen", up), ("rejected", ~up)):
        expected = u[members].std(ddof=1) / np.sqrt(members.sum())
        assert found[f"rewards/{name}"].standard_error == pytest.approx(expected)


@pytest.mark.parametrize("prompts", [None, 15])
def test_errors_agree_with_a_bootstrap_of_prompts(prompts):
    data, log_probs, u = held_out(240, prompts)
    found = estimates(objective(), data, log_probs, u)
    number = np.array([ids[1] for ids in data.prompt_ids])
    places = [np.nonzero(number == prompt)[0] for prompt in np.unique(number)]
    rng = np.random.default_rng(1)
    names = ("rewards/auc", "rewards/margins", "rewards/chosen", "logps_per_token/rejected", "logratio/over_bound")
    draws = []
    for _ in range(400):
        chosen = np.concatenate([places[i] for i in rng.integers(len(places), size=len(places))])
        again = estimates(objective(), data.select(chosen), log_probs[chosen], u[chosen])
        draws.append([again[name].value for name in names])
    # 400 replicates know a deviation to 1/sqrt(800) = 3.5 %, 4 of these are 14 %; the linearisation over 15 prompts,
    # with 14/15 of the variance in the bootstrap, is another 10 %.
    np.testing.assert_allclose([found[name].standard_error for name in names], np.std(draws, axis=0), rtol=0.25)


def test_completions_of_one_prompt_do_not_count_as_independent():
    data, log_probs, u = held_out(40)
    once = estimates(objective(), data, log_probs, u)
    order = np.repeat(np.arange(40), 5)  # each five times says no more
    often = estimates(objective(), data.select(order), log_probs[order], u[order])
    for name in ("rewards/chosen", "rewards/auc"):
        assert often[name].value == pytest.approx(once[name].value)
        assert often[name].standard_error == pytest.approx(once[name].standard_error)


def test_pairs_have_accuracies_and_no_loss_by_class():
    data, log_probs, _ = held_out(8)
    pairs = replace(
        data, width=2, preferred=np.tile([True, False], 4), prompt_ids=[p for p in data.prompt_ids[:4] for _ in "12"]
    )
    u = np.array([1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.5, 0.5])
    found = estimates(objective("dpo", None), pairs, log_probs, u)
    assert found["rewards/accuracies"].value == (1 + 1 + 0 + 0.5) / 4
    assert found["loss"].value == pytest.approx(np.logaddexp(0, -0.1 * (u[::2] - u[1::2])).mean())
    assert "loss/chosen" not in found and found["loss"].count == 4


def test_mismatched_completions_of_kto_are_no_examples():
    data, log_probs, _ = held_out(10)
    prepared, _ = prepare_examples(data, MethodConfig("kto"))
    u = np.tile([0.5, 0.2], 10)
    found = estimates(objective("kto", None), prepared, np.repeat(log_probs, 2), u)
    assert found["kl"].value == pytest.approx(0.2)
    assert found["rewards/chosen"].value == pytest.approx(0.5) and found["rewards/chosen"].count == data.preferred.sum()


def test_sft_has_a_risk_of_preferred_rows_and_rewards_of_both():
    data, log_probs, u = held_out()
    found = estimates(objective("sft", None), data, log_probs, u)
    assert found["loss"].value == pytest.approx(-u[data.preferred].mean())
    assert found["loss"].count == data.preferred.sum() and "loss/rejected" not in found
    assert found["rewards/auc"].value == auc(u, data.preferred)
    alone = estimates(objective("sft", None), data, log_probs)
    assert alone["loss"].value == pytest.approx(-log_probs[data.preferred].mean())
    assert not any(name.startswith("rewards") for name in alone)


def test_infinite_losses_are_told_and_have_no_error():
    data, log_probs, u = held_out()
    found = estimates(objective("ddro", 0.4), data, log_probs, np.where(np.arange(60) == 3, 5.0, u))
    assert found["loss"] == Estimate(np.inf, None, 60)
    assert found["loss"].as_dict() == {"value": "inf", "standard_error": None, "count": 60}


def test_what_the_data_cannot_tell_is_none_or_left_out():
    data, log_probs, u = held_out(6)
    separated = np.where(data.preferred, 1.0, -1.0) + 0.1 * u
    found = estimates(objective(), data, log_probs, separated)
    assert found["rewards/auc"] == Estimate(1.0, None, 6)
    ones = data.select(np.nonzero(data.preferred)[0])
    found = estimates(objective(), ones, log_probs[data.preferred], u[data.preferred])
    assert not {"rewards/auc", "rewards/margins", "rewards/rejected", "loss/rejected"} & set(found)


def test_tables_are_aligned():
    lines = table({"a": Estimate(-1.0, 0.25, 1234), "long/name": Estimate(np.inf, None, 3)}).splitlines()
    assert lines[1].split() == ["a", "-1.0000", "0.2500", "1,234"]
    assert lines[2].split() == ["long/name", "+inf", "-", "3"]
    assert len({len(line) for line in lines}) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a tiny model that was trained on the sample."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    overrides = ["--num_train_epochs", "1", "--eval_strategy", "no", "--save_strategy", "no"]
    assert main(["train", "--config", "tiny-qwen2", "--output_dir", str(folder), *overrides]) == 0
    return folder


def test_the_command_reports_writes_and_says_what_to_run(trained, capsys, tmp_path):
    completions = tmp_path / "completions.json"
    overrides = ["--sample_new_tokens", "4", "--sample_completions", "2"]
    arguments = ["evaluate", "--config", "tiny-qwen2", "--output_dir", str(trained), "--completions", str(completions)]
    assert main([*arguments, *overrides]) == 0
    printed = capsys.readouterr().out
    assert f"lm_eval --model hf --model_args pretrained={trained},dtype=bfloat16 --tasks bbh" in printed
    assert f"alpaca_eval --model_outputs {completions}" in printed
    saved = json.loads((trained / "evaluation.json").read_text())
    logged = json.loads((trained / "eval_results.json").read_text())
    assert saved["alpha"] == pytest.approx(22 / 58)  # of the training set, not of the held-out one
    for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/auc"):
        # The trainer computed the same from the same weights, in batches of another order.
        assert saved["estimates"][name]["value"] == pytest.approx(logged[f"eval_{name}"], abs=1e-4)
    rows = json.loads(completions.read_text(encoding="utf-8"))
    assert [set(row) for row in rows] == [{"instruction", "output", "generator", "dataset"}] * 2
    assert rows[0]["instruction"] == "Why is the sea salty?" and rows[0]["dataset"] == "sample_heldout"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--eval_data", ""], "eval_data must be set"),
        (["--checkpoint", "nowhere"], "checkpoint must hold a model"),
        (["--sample_temperature", "-1"], "sample_temperature must be finite and not negative, got -1"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(trained, capsys, overrides, message):
    assert main(["evaluate", "--config", "tiny-qwen2", "--output_dir", str(trained), *overrides]) == 2
    assert message in capsys.readouterr().err


def test_an_adapter_is_evaluated_on_its_base(tmp_path, capsys):
    settings = ["--config", "tiny-qwen2", "--output_dir", str(tmp_path / "run"), "--lora_rank", "2"]
    settings += ["--method", "kto", "--alpha", "null", "--max_steps", "2", "--model_dtype", "float32"]
    settings += ["--eval_strategy", "no", "--save_strategy", "no", "--learning_rate", "1e-2"]
    assert main(["train", *settings]) == 0 and main(["evaluate", *settings]) == 0
    assert f"pretrained=tiny-qwen2,peft={tmp_path / 'run'},dtype=bfloat16" in capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())["estimates"]
    logged = json.loads((tmp_path / "run" / "eval_results.json").read_text())
    assert abs(found["rewards/chosen"]["value"]) > 0.01  # the adapter is on in the policy and off in the reference
    for name in ("loss", "rewards/chosen", "kl"):
        assert found[name]["value"] == pytest.approx(logged[f"eval_{name}"], abs=1e-3)
