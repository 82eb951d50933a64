"""Two processes train as one does: DDP and FSDP2 on CPU."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

import tests.lm.distributed_worker as worker

# Gradients are sums of at most 60 tokens' float32 terms of size 1, in another order: some tens of roundings of 6e-8.
GRADIENT = 2e-6
# Adam divides what is left of that by its epsilon, times the learning rate, at each of at most 6 steps.
WEIGHT = 6 * worker.LEARNING_RATE * GRADIENT / worker.EPSILON
# Of Trainer's own figures these tell of the clock, of padding, or of what was after an interruption alone.
NOT_COMPARED = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"}
NOT_COMPARED |= {"tokens_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_two_processes_train_as_one_does(tmp_path, subtests):
    # One launch for all cases, as imports cost more than the runs.
    one, two = tmp_path / "one", tmp_path / "two"
    launch(two)
    for case in worker.CASES:
        there = torch.load(two / f"{case.name}.pt", weights_only=False)
        if "bf16" in case.settings:  # FSDP2 rounds the weights, so that one process would compute something else
            with subtests.test("the reference is rounded as the policy is", case=case.name):
                assert there["reports"][0]["logratio/max_abs"] == 0.0
            continue
        here = worker.run(case, one)
        with subtests.test("the processes were wrapped, and saw what they should", case=case.name):
            check_setting(case, there)
        with subtests.test("gradients and weights agree", case=case.name):
            check_training(here, there)
        with subtests.test("reports and evaluations agree", case=case.name):
            check_reports(here, there)
        if not case.lora:
            with subtests.test("the saved model is whole", case=case.name):
                check_saved(two / case.name, there["weights"])


def launch(folder):
    """Run all cases in two processes."""
    folder.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(worker.ROOT)}
    command = [sys.executable, worker.__file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def check_setting(case, there):
    assert there["kind"] == ("FSDP, FSDPQwen2ForCausalLM" if case.fsdp else "MULTI_CPU, DistributedDataParallel")
    if case.order is not None:
        first, second = there["classes"]
        assert all(all(batch) for batch in first) and not any(any(batch) for batch in second)


def check_training(here, there):
    assert len(here["gradients"]) == len(there["gradients"]) >= 3
    for one, two in zip(here["gradients"], there["gradients"], strict=True):
        assert max(gradient.abs().max() for gradient in one.values()) > 1e3 * GRADIENT
        check_close(two, one, GRADIENT)
    check_close(there["weights"], here["weights"], WEIGHT)


def check_close(values, expected, tolerance):
    assert values.keys() == expected.keys()
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name], rtol=0.0, atol=tolerance, msg=lambda text: f"{name}: {text}")  # noqa: B023


def check_reports(here, there):
    # Sums of at most 8 log-probabilities follow the weights through slopes of some tens; the rest is rounding.
    pairs = [*zip(here["reports"], there["reports"], strict=True), (here["evaluation"], there["evaluation"])]
    for one, two in pairs:
        assert one.keys() == two.keys()
        for name in one.keys() - NOT_COMPARED:
            assert two[name] == pytest.approx(one[name], rel=0.0, abs=100 * WEIGHT), name


def check_saved(folder, weights):
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    check_close({name: weight.detach() for name, weight in saved.named_parameters()}, weights, 0.0)
