"""Sampled completions: the model's own law, seeds, files that outlive a stopped run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from lm.completions import SampleCompletions, distinct_prompts, sample_completions, write_alpaca
from lm.examples import ExampleSet
from lm.settings import MethodConfig
from lm.tiny_models import tiny_qwen2


class Letters:
    """A tokenizer of letters: id i is chr(97 + i), 0 fills up and 1 ends."""

    pad_token_id, eos_token_id = 0, 1

    def batch_decode(self, sequences, skip_special_tokens=False):
        return ["".join(chr(97 + int(i)) for i in ids if int(i) > 1 or not skip_special_tokens) for ids in sequences]


def model(vocabulary: int = 12, **settings) -> torch.nn.Module:
    return tiny_qwen2(vocabulary, hidden_size=16, **settings)


def prompts(*lengths: int) -> list[np.ndarray]:
    return [np.arange(2, 2 + length, dtype=np.int32) for length in lengths]


def sample(network, wanted, **settings) -> list[str]:
    return sample_completions(network, Letters(), wanted, **{"max_new_tokens": 6, **settings})


def test_a_seed_gives_the_same_completions_and_moves_no_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = sample(model(), prompts(3, 5, 4), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert sample(model(), prompts(3, 5, 4), seed=1) == first
    assert sample(model(), prompts(3, 5, 4), seed=2) != first


def test_padding_changes_no_completion_and_the_likeliest_tokens_are_taken():
    network = model()
    wanted = prompts(3, 7, 5)
    together = sample(network, wanted, temperature=0)
    expected = []
    for prompt in wanted:
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        for _ in range(6):
            token = int(network(ids).logits[0, -1].argmax())
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
            if token == 1:
                break
        expected.append(Letters().batch_decode(ids[:, len(prompt) :], skip_special_tokens=True)[0])
    assert together == expected
    assert sample(network, wanted, temperature=0, batch_size=1) == expected


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_models_law_whatever_its_generation_settings(temperature):
    network = model()
    network.lm_head.weight.data *= 5.0  # far from uniform
    network.generation_config = GenerationConfig(do_sample=True, top_k=2, top_p=0.5, repetition_penalty=3.0)
    count = 4000
    drawn = sample(network, prompts(3) * count, max_new_tokens=1, temperature=temperature, batch_size=count)
    logits = network(torch.tensor([[2, 3, 4]])).logits[0, -1].double() / temperature
    law = torch.softmax(logits, dim=0).detach().numpy()
    letters = Letters().batch_decode([[i] for i in range(12)], skip_special_tokens=True)
    for i in range(2, 12):
        # Five standard deviations of a binomial share, and 1/count where the law is next to nothing.
        assert abs(drawn.count(letters[i]) / count - law[i]) < 5 * np.sqrt(law[i] / count) + 1 / count
    assert (law[2:] > 0.02).sum() > 2  # what top_k = 2 would have cut off


def test_the_model_keeps_its_mode():
    network = model().train()
    sample(network, prompts(2))
    assert network.training and all(module.training for module in network.modules())


@pytest.mark.parametrize("temperature", [-0.1, float("inf"), float("nan")])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="sample_temperature must be finite and not negative"):
        sample(model(), prompts(2), temperature=temperature)


def test_alpacas_form(tmp_path):
    write_alpaca(tmp_path / "deep" / "a.json", ["één?", "two"], ["1", "2"], "ours", "sums")
    assert json.loads((tmp_path / "deep" / "a.json").read_text(encoding="utf-8")) == [
        {"instruction": "één?", "output": "1", "generator": "ours", "dataset": "sums"},
        {"instruction": "two", "output": "2", "generator": "ours", "dataset": "sums"},
    ]
    with pytest.raises(ValueError, match="zip"):
        write_alpaca(tmp_path / "b.json", ["one"], [], "ours", "sums")
    assert not (tmp_path / "b.json").exists()


def examples() -> ExampleSet:
    ids = [prompt for prompt in prompts(3, 4, 5) for _ in range(2)]
    return ExampleSet(ids, prompts(1) * 6, np.tile([True, False], 3), np.arange(6))


def test_prompts_are_taken_once():
    assert distinct_prompts(examples()) == [0, 2, 4]


def test_samples_of_a_run_that_goes_on_are_not_there_twice(tmp_path):
    args = SimpleNamespace(output_dir=str(tmp_path), seed=0)
    config = MethodConfig(sample_completions=2, sample_new_tokens=4)
    network = model()

    def lines():
        return [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]

    def at(step):
        return SimpleNamespace(global_step=step, is_world_process_zero=True)

    callback = SampleCompletions(Letters(), examples(), config)
    callback.on_train_begin(args, at(0), None)
    for step in (5, 10, 10):  # the last evaluation of a run may be of the same step
        callback.on_evaluate(args, at(step), None, network)
    assert [line["step"] for line in lines()] == [5, 5, 10, 10]
    assert [line["prompt"] for line in lines()[:2]] == ["cde", "cdef"]
    before = lines()
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"step": 15, "pro')  # killed here
    resumed = SampleCompletions(Letters(), examples(), config)
    resumed.on_train_begin(args, at(5), None)
    assert lines() == before[:2]
    resumed.on_evaluate(args, at(10), None, network)
    assert lines() == before
