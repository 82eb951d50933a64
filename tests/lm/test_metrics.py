"""Every reported number against its definition in NumPy, over batches, processes and checkpoints."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from transformers import EvalPrediction

from lm.method import METHODS, resolve_method
from lm.metrics import MetricSums, auc, average_ranks, batch_sums, set_metrics, summarise, token_sums
from lm.objective import Objective
from lm.settings import MethodConfig

CPU = torch.device("cpu")


def _batch(name, seed=0, examples=9):
    """Return the objective, and a batch whose log-ratios and log-probabilities are random float64 numbers."""
    rng = np.random.default_rng(seed)
    method = resolve_method(MethodConfig(name))
    n = examples * method.width
    preferred = np.arange(n) % 2 == 0 if method.pairs else np.repeat(rng.random(examples) < 0.5, method.width)
    columns = {"preferred": preferred, "weights": rng.random(n), "alpha": rng.uniform(0.3, 0.6, n)}
    batch = {key: torch.tensor(value) for key, value in columns.items()}
    log_ratios, log_probs = torch.tensor(rng.normal(size=n)), torch.tensor(rng.normal(-9.0, 1.0, n))
    if name in ("ddro", "mle"):
        log_ratios = log_ratios - 4.0  # inside the domain
    return Objective(method), batch, log_ratios, log_probs


def _sums(objective, batch, log_ratios, log_probs, used=None):
    losses = objective.losses(log_ratios, batch)
    used = torch.ones_like(losses, dtype=torch.bool) if used is None else used
    return batch_sums(objective, log_ratios, log_probs, losses, batch, used), losses


def _defined(objective, batch, log_ratios, log_probs, losses):
    """Return every metric as it is defined."""
    u, logp, loss, preferred, weights = (
        each.numpy() for each in (log_ratios, log_probs, losses, batch["preferred"], batch["weights"])
    )
    name, width = objective.method.name, objective.method.width
    values = {"loss": np.mean(weights[::width] * loss)}
    if name == "kto":
        values["kl"] = max(0.0, u[1::2].mean())
        u, logp, preferred = u[::2], logp[::2], preferred[::2]
    for label, members in (("chosen", preferred), ("rejected", ~preferred)):
        values[f"rewards/{label}"], values[f"logps/{label}"] = u[members].mean(), logp[members].mean()
        if not objective.method.pairs:
            values[f"loss/{label}"] = loss[members].mean()
    values["rewards/margins"] = u[preferred].mean() - u[~preferred].mean()
    if objective.method.pairs:
        values["rewards/accuracies"] = np.mean(u[::2] > u[1::2])
    if name in ("rdro", "ddro", "mle"):
        values["logratio/over_bound"] = np.mean(u > np.log(1.0 / batch["alpha"].numpy()))
    values["logratio/max_abs"] = np.abs(u).max()
    return values


@pytest.mark.parametrize("name", [name for name in METHODS if name != "sft"])
def test_metrics_are_what_they_are_called(name):
    objective, *batch = _batch(name)
    sums, losses = _sums(objective, *batch)
    values = summarise({key: (total.item(), count.item()) for key, (total, count) in sums.items()})
    assert values == pytest.approx(_defined(objective, *batch, losses), rel=1e-13)  # sums of 18 float64 numbers


def test_sft_without_a_reference_has_no_rewards():
    objective, batch, log_ratios, log_probs = _batch("sft")
    batch["preferred"][:] = True
    losses = objective.losses(log_ratios, batch)
    every = torch.ones_like(losses, dtype=torch.bool)
    sums = batch_sums(objective, log_ratios, log_probs, losses, batch, every, has_reference=False)
    values = summarise({key: (total.item(), count.item()) for key, (total, count) in sums.items()})
    assert set(values) == {"loss", "logps/chosen", "loss/chosen"}


def test_a_metric_without_count_is_left_out_never_zero():
    objective, batch, *values = _batch("rdro")
    batch["preferred"][:] = True
    sums, _ = _sums(objective, batch, *values)
    named = summarise({key: (total.item(), count.item()) for key, (total, count) in sums.items()})
    assert not {"rewards/rejected", "rewards/margins", "logps/rejected", "loss/rejected", "nonfinite"} & set(named)


def test_examples_left_out_count_as_zero_loss_and_nowhere_else():
    objective, batch, log_ratios, log_probs = _batch("rdro")
    log_ratios[4] = math.nan
    used = torch.arange(9) != 4
    sums, losses = _sums(objective, batch, log_ratios, log_probs, used)
    values = summarise({key: (total.item(), count.item()) for key, (total, count) in sums.items()})
    rest = {key: column[used] for key, column in batch.items()}
    expected = _defined(objective, rest, log_ratios[used], log_probs[used], losses[used])
    assert values.pop("nonfinite") == 1
    assert values.pop("loss") == pytest.approx(expected.pop("loss") * 8 / 9, rel=1e-13)
    assert values == pytest.approx(expected, rel=1e-13)


def test_sums_over_batches_and_processes_are_those_of_all_examples():
    parts = [_batch("rdro", seed=seed, examples=examples) for seed, examples in enumerate((9, 4, 2, 7))]
    others = MetricSums(gather=lambda sums: sums)
    for part in parts[2:]:
        others.add(_sums(*part)[0])
    theirs = []
    MetricSums.totals(_with_gather(others, lambda sums: theirs.append(sums) or sums))
    ours = MetricSums(gather=lambda sums: torch.cat([sums, *theirs]))
    for part in parts[:2]:
        ours.add(_sums(*part)[0])
    objective = parts[0][0]
    batch = {key: torch.cat([part[1][key] for part in parts]) for key in parts[0][1]}
    log_ratios, log_probs = (torch.cat([part[k] for part in parts]) for k in (2, 3))
    losses = objective.losses(log_ratios, batch)
    expected = _defined(objective, batch, log_ratios, log_probs, losses)
    assert summarise(ours.totals()) == pytest.approx(expected, rel=1e-13)
    ours.clear()
    assert ours.totals() == {}


def _with_gather(sums, gather):
    sums._gather = gather
    return sums


def test_totals_of_a_checkpoint_are_counted_once():
    sums = MetricSums(gather=lambda own: own)
    objective, *batch = _batch("rdro")
    sums.add(_sums(objective, *batch)[0])
    totals = sums.totals()
    main, other = MetricSums(gather=lambda own: own), MetricSums(gather=lambda own: own)
    main.restore(totals, main=True, device=CPU)
    other.restore(totals, main=False, device=CPU)
    assert main.totals() == totals
    assert all(pair == (0.0, 0.0) for pair in other.totals().values()) and list(other.totals()) == list(totals)


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 1.0, 2.0, 2.0, -1.0], [1.0, math.nan, 0.0]])
def test_ranks_are_those_of_scipy(values):
    np.testing.assert_array_equal(average_ranks(np.array(values)), rankdata(np.array(values)))


@pytest.mark.parametrize("digits", [0, 1, 6])  # many ties, some, none
def test_auc_counts_pairs(digits):
    rng = np.random.default_rng(2)
    u, preferred = rng.normal(size=40).round(digits), rng.random(40) < 0.3
    difference = u[preferred][:, None] - u[~preferred][None, :]
    expected = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert auc(u, preferred) == pytest.approx(expected, rel=1e-14)
    assert auc(u, np.ones(40, dtype=bool)) is None


@pytest.mark.parametrize("name", METHODS)
def test_metrics_of_a_set_do_not_depend_on_its_batches(name):
    objective, batch, log_ratios, log_probs = _batch(name)
    if name == "sft":
        batch["preferred"][:] = True
    columns = torch.stack([log_ratios, log_probs, batch["weights"], batch["alpha"]], dim=1)
    values = columns.view(9, -1, 4).numpy()
    classes = batch["preferred"].long().view(9, -1).numpy()
    whole = set_metrics(objective, EvalPrediction(values, classes))
    parts = set_metrics(
        objective, EvalPrediction([values[:5], values[5:8], values[8:]], [classes[:5], classes[5:8], classes[8:]])
    )
    assert whole == parts
    assert whole["loss"] == pytest.approx(
        (batch["weights"][:: objective.method.width] * objective.losses(log_ratios, batch)).mean().item(), rel=1e-13
    )
    own = slice(None, None, 2 if name == "kto" else 1)
    assert whole.get("rewards/auc") == auc(log_ratios[own].numpy(), batch["preferred"][own].numpy())


def test_an_infinite_held_out_loss_is_reported():
    objective, batch, log_ratios, log_probs = _batch("ddro")
    log_ratios[0] = 5.0
    values = torch.stack([log_ratios, log_probs, batch["weights"], batch["alpha"]], dim=1).view(9, 1, 4).numpy()
    metrics = set_metrics(objective, EvalPrediction(values, batch["preferred"].long().view(9, 1).numpy()))
    assert metrics["loss"] == math.inf and math.isfinite(metrics["rewards/chosen"])


def test_accuracy_counts_ties_by_half():
    objective, batch, log_ratios, log_probs = _batch("dpo", examples=4)
    log_ratios = torch.tensor([1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 1.0], dtype=torch.float64)
    sums, _ = _sums(objective, batch, log_ratios, log_probs)
    assert [value.item() for value in sums["rewards/accuracies"]] == [2.5, 4.0]


def test_tokens_are_counted_without_padding():
    ids = torch.zeros(2, 5, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert token_sums({"input_ids": ids, "attention_mask": mask})["num_tokens"][0] == 8
    assert token_sums({"input_ids": ids.view(1, 10)})["num_tokens"][0] == 10
