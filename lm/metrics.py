"""What training and evaluation report: sums and counts that stay on the device until they are logged."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from transformers import EvalPrediction

from lm.method import RATIO_METHODS
from lm.objective import Objective

__all__ = ["MAXIMUM", "MetricSums", "auc", "average_ranks", "batch_sums", "set_metrics", "summarise", "token_sums"]

Sums = dict[str, tuple[torch.Tensor, torch.Tensor]]

MAXIMUM = "logratio/max_abs"


def batch_sums(
    objective: Objective,
    log_ratios: torch.Tensor,
    log_probs: torch.Tensor,
    losses: torch.Tensor,
    batch: Mapping[str, torch.Tensor],
    used: torch.Tensor,
    has_reference: bool = True,
) -> Sums:
    """Sum every metric over a batch.

    Parameters
    ----------
    objective : Objective
        The losses' method and alpha.
    log_ratios, log_probs : Tensor
        Log-ratios u and log-probabilities under the policy in nats, shape (sequences,).
    losses : Tensor
        Losses without weights, shape (examples,).
    batch : mapping of str to Tensor
        "preferred", "weights" and, where the objective asks for it, "alpha", each of shape (sequences,).
    used : Tensor
        False for examples to be left out, shape (examples,), bool; they count in "loss" (as 0) and "nonfinite" alone.
    has_reference : bool
        Whether log-ratios are any; sft without a reference has log-probabilities in their place, and no rewards.

    Returns
    -------
    dict
        Sum and count (0-d tensors) by name. `MAXIMUM` holds a maximum in place of a sum.
    """
    u, log_probs, losses, weights = map(_wide, (log_ratios, log_probs, losses, batch["weights"]))
    method = objective.method
    width = method.width
    left_out = (~used).to(u.dtype).sum()
    sums = {"loss": (_total(weights[::width] * losses, used)[0], torch.ones_like(losses).sum())}
    sums["nonfinite"] = (left_out, (left_out > 0).to(u.dtype))
    of_sequence = used.repeat_interleave(width)
    if method.name == "kto":  # mismatched completions are no examples
        mismatched = torch.arange(len(u), device=u.device) % 2 == 1
        sums["kl"] = _total(u, of_sequence & mismatched)
        of_sequence = of_sequence & ~mismatched
    for name, of_class in (("chosen", batch["preferred"]), ("rejected", ~batch["preferred"])):
        sums[f"logps/{name}"] = _total(log_probs, of_sequence & of_class)
        if has_reference:
            sums[f"rewards/{name}"] = _total(u, of_sequence & of_class)
        if not method.pairs:
            sums[f"loss/{name}"] = _total(losses, used & of_class[::width])
    if method.pairs:
        margin = u[::2] - u[1::2]
        sums["rewards/accuracies"] = _total(torch.heaviside(margin, margin.new_tensor(0.5)), used)
    if has_reference:
        largest = torch.where(of_sequence, u.abs(), 0.0).amax() if len(u) else u.new_tensor(0.0)
        sums[MAXIMUM] = (largest, of_sequence.to(u.dtype).sum())
    if method.name in RATIO_METHODS:
        alpha = _wide(batch["alpha"]) if objective.alpha is None else torch.full_like(u, objective.alpha)
        sums["logratio/over_bound"] = _total((u > -alpha.log()).to(u.dtype), of_sequence)
    return sums


def token_sums(batch: Mapping[str, torch.Tensor]) -> Sums:
    """Return the number of tokens of a batch, padding left out, as the sum "num_tokens"."""
    mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
    tokens = _wide(mask.sum())
    return {"num_tokens": (tokens, torch.ones_like(tokens))}


def summarise(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Turn sums and counts into means; `MAXIMUM` and "nonfinite" stay as they are. A metric without count is left out.

    Examples
    --------
    >>> summarise({"rewards/chosen": (3.0, 2), "rewards/rejected": (1.0, 1), "loss/chosen": (0.0, 0)})
    {'rewards/chosen': 1.5, 'rewards/rejected': 1.0, 'rewards/margins': 0.5}
    """
    values = {
        name: total if name in (MAXIMUM, "nonfinite") else total / count
        for name, (total, count) in sums.items()
        if count > 0
    }
    if "rewards/chosen" in values and "rewards/rejected" in values:
        values["rewards/margins"] = values["rewards/chosen"] - values["rewards/rejected"]
    if "kl" in values:
        values["kl"] = max(0.0, values["kl"])
    return values


def auc(log_ratios: np.ndarray, preferred: np.ndarray) -> float | None:
    """Probability that a preferred example has the greater log-ratio: ``P(u+ > u-) + P(u+ = u-) / 2``.

    Parameters
    ----------
    log_ratios : ndarray
        Shape (examples,).
    preferred : ndarray of bool
        Class of each example, shape (examples,).

    Returns
    -------
    float or None
        In [0, 1]; None if a class is missing.

    Examples
    --------
    >>> auc(np.array([1.0, 0.0, 0.0]), np.array([True, True, False]))
    0.75
    """
    n_preferred = int(preferred.sum())
    n_others = len(preferred) - n_preferred
    if not n_preferred * n_others:
        return None
    ranks = average_ranks(log_ratios)
    return float((ranks[preferred].sum() - n_preferred * (n_preferred + 1) / 2) / (n_preferred * n_others))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank; `scipy.stats` has them too, at the price of its import.

    Parameters
    ----------
    values : ndarray
        Shape (examples,).

    Returns
    -------
    ndarray
        Float64, same shape; all NaN if a value is NaN.

    Examples
    --------
    >>> average_ranks(np.array([2.0, 1.0, 2.0]))
    array([2.5, 1. , 2.5])
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return np.full_like(ranks, np.nan) if np.isnan(values).any() else ranks


def set_metrics(objective: Objective, prediction: EvalPrediction, has_reference: bool = True) -> dict[str, float]:
    """Return the metrics of a whole held-out set.

    Parameters
    ----------
    objective : Objective
        The losses.
    prediction : EvalPrediction
        Of every example: log-ratio, log-probability, weight and alpha, shape (examples, width, 4), and classes
        (examples, width); arrays, or lists of arrays by batch.
    has_reference : bool
        As in `batch_sums`.

    Returns
    -------
    dict of str to float
        Means as in training, kto's reference point being that of the whole set, and "rewards/auc". An infinite loss
        is one that the set has.
    """
    values, classes = (
        torch.from_numpy(np.concatenate(each) if isinstance(each, list) else each).flatten(0, 1)
        for each in (prediction.predictions, prediction.label_ids)
    )
    log_ratios, log_probs, weights, alpha = values.double().unbind(dim=1)
    batch = {"preferred": classes.bool(), "weights": weights, "alpha": alpha}
    losses = objective.losses(log_ratios, batch)
    used = torch.ones_like(losses, dtype=torch.bool)
    sums = batch_sums(objective, log_ratios, log_probs, losses, batch, used, has_reference)
    metrics = summarise({name: (float(total), float(count)) for name, (total, count) in sums.items()})
    own = slice(None, None, 2 if objective.method.name == "kto" else 1)
    area = auc(log_ratios[own].numpy(), batch["preferred"][own].numpy())
    return metrics if area is None else metrics | {"rewards/auc": area}


class MetricSums:
    """Running sums of `batch_sums` over the batches since the last report.

    Parameters
    ----------
    gather : callable
        Takes a tensor of one row and returns those of all processes, shape (processes, ...).

    Notes
    -----
    Nothing leaves the device before `totals`, which is one gathering of all metrics at once.
    """

    def __init__(self, gather: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._gather = gather
        self._sums: Sums = {}

    def add(self, sums: Sums) -> None:
        """Add the sums and counts of a batch."""
        for name, (total, count) in sums.items():
            before, counted = self._sums.get(name, (torch.zeros_like(total), torch.zeros_like(count)))
            joined = torch.maximum(before, total) if name == MAXIMUM else before + total
            self._sums[name] = (joined, counted + count)

    def totals(self) -> dict[str, tuple[float, float]]:
        """Return sum and count of each metric over all processes; every process must ask."""
        if not self._sums:
            return {}
        stacked = torch.stack([torch.stack(pair) for pair in self._sums.values()])
        gathered = self._gather(stacked[None]).cpu().numpy()  # [processes, metrics, 2]
        joined = gathered.sum(axis=0)
        for row, name in enumerate(self._sums):
            if name == MAXIMUM:
                joined[row, 0] = gathered[:, row, 0].max()
        return {name: (float(total), float(count)) for name, (total, count) in zip(self._sums, joined, strict=True)}

    def restore(self, totals: Mapping[str, tuple[float, float]], main: bool, device: torch.device) -> None:
        """Go on from the totals of a checkpoint, which one process counts and the others have as zeros."""
        self._sums = {
            name: tuple(_wide(torch.tensor(pair if main else (0.0, 0.0), dtype=torch.float64)).to(device).unbind())
            for name, pair in totals.items()
        }

    def clear(self) -> None:
        """Start anew."""
        self._sums = {}


def _wide(values: torch.Tensor) -> torch.Tensor:
    """Return values without graph in float64, or float32 on Apple's devices, which have no more."""
    return values.detach().to(torch.float32 if values.device.type == "mps" else torch.float64)


def _total(values: torch.Tensor, members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum over some entries, whatever the others hold, and their number."""
    return torch.where(members, values, 0.0).sum(), members.to(values.dtype).sum()
