"""What a policy does on held-out examples, every number with its standard error."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from transformers import EvalPrediction

from lm.data.layout import aligned
from lm.examples import ExampleSet
from lm.method import RATIO_METHODS
from lm.metrics import auc, average_ranks
from lm.objective import Objective
from theory.checks import FloatArray

if TYPE_CHECKING:
    from lm.trainer import RatioTrainer

__all__ = ["Estimate", "estimates", "table", "trainer_estimates"]


@dataclass(frozen=True)
class Estimate:
    """A mean over held-out examples.

    Attributes
    ----------
    value : float
        The estimate; +inf where a loss of the method is.
    standard_error : float, optional
        Of the estimate, given the number of examples of each class; None where the data cannot tell it: fewer than two
        prompts, nothing that varies (an AUC of 1, a share of 0), or a value that is not finite.
    count : int
        Sequences, or pairs, that it is a mean of.
    """

    value: float
    standard_error: float | None
    count: int

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Return the fields as values that JSON has; infinity as text."""
        value = self.value if math.isfinite(self.value) else str(self.value)
        return {"value": value, "standard_error": self.standard_error, "count": self.count}


def estimates(
    objective: Objective, examples: ExampleSet, log_probs: np.ndarray, log_ratios: np.ndarray | None = None
) -> dict[str, Estimate]:
    """Estimate risk, rewards and their separation.

    Parameters
    ----------
    objective : Objective
        The losses.
    examples : ExampleSet
        Examples as `lm.objective.prepare_examples` returns them.
    log_probs : ndarray
        Log-probabilities of the completions under the policy in nats, shape (sequences,).
    log_ratios : ndarray, optional
        Log-ratios u of policy to reference in nats, same shape; None where there is no reference.

    Returns
    -------
    dict of str to Estimate
        "loss", the weighted risk (for sft that of preferred sequences, whatever others there are); "loss/chosen" and
        "loss/rejected", without weights; "rewards/..." of u by class, their difference "rewards/margins" and
        "rewards/auc" = P(u+ > u-) + P(u+ = u-) / 2; for pairs "rewards/accuracies";
        "logratio/over_bound", the share above log(1/alpha), which no relative ratio exceeds; "logps/..." and
        "logps_per_token/..."; for kto "kl". What no example tells about is left out.

    Notes
    -----
    Each estimate is, to first order, a constant plus a sum of independent influences of prompts, from which its
    standard error follows: completions of one prompt are not independent, and count together. Means are taken around
    those of their class, as the class counts are given. For the AUC this is DeLong's formula [1]_, by prompt.

    References
    ----------
    .. [1] DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
       characteristic curves", Biometrics 44, 1988.

    Examples
    --------
    >>> from lm.method import resolve_method
    >>> from lm.settings import MethodConfig
    >>> ids = [np.array([i], dtype=np.int32) for i in range(4)]
    >>> data = ExampleSet(ids, ids, np.array([True, True, False, False]), np.arange(4))
    >>> objective = Objective(resolve_method(MethodConfig("rdro")), alpha=0.5)
    >>> found = estimates(objective, data, np.full(4, -3.0), np.array([0.5, 0.3, -0.1, 0.4]))
    >>> found["rewards/chosen"].value, found["rewards/auc"].value
    (0.4, 0.75)
    """
    sample = _Sample(objective, examples, log_probs.astype(np.float64), log_ratios)
    found = {"loss": sample.risk(), **sample.by_class("loss", sample.losses)}
    if objective.method.name == "sft":
        found.pop("loss/rejected")  # there is no such loss
    if log_ratios is not None:
        found |= sample.by_class("rewards", sample.log_ratios)
        found |= {"rewards/margins": sample.margin(), "rewards/auc": sample.area()}
        found |= sample.of_the_method()
    found |= sample.by_class("logps", sample.log_probs) | sample.by_token()
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def trainer_estimates(trainer: "RatioTrainer") -> tuple[dict[str, float], dict[str, Estimate]]:
    """Evaluate a trainer once, for its metrics and for estimates with standard errors.

    Parameters
    ----------
    trainer : RatioTrainer
        With one held-out set; all its processes must ask together.

    Returns
    -------
    metrics : dict of str to float
        What `RatioTrainer.evaluate` returns.
    found : dict of str to Estimate
        As `estimates`.
    """
    seen: list[EvalPrediction] = []
    summarise = trainer.compute_metrics

    def keeping(prediction: EvalPrediction) -> dict[str, float]:
        seen.append(prediction)
        return summarise(prediction)

    trainer.compute_metrics = keeping
    try:
        metrics = trainer.evaluate()
    finally:
        trainer.compute_metrics = summarise
    predictions = seen[0].predictions  # with eval_do_concat_batches off a list of batches
    values = np.concatenate(predictions if isinstance(predictions, list) else [predictions])
    values = values.astype(np.float64).reshape(-1, 4)
    has_reference = trainer.method.reference != "none" or trainer.eval_dataset.reference_log_probs is not None
    found = estimates(trainer.objective, trainer.eval_dataset, values[:, 1], values[:, 0] if has_reference else None)
    return metrics, found


def table(found: Mapping[str, Estimate]) -> str:
    """Return estimates as lines of a table.

    Examples
    --------
    >>> print(table({"rewards/auc": Estimate(0.75, 0.02, 40), "loss": Estimate(0.69, None, 1)}))
                   value  standard error   n
    rewards/auc  +0.7500          0.0200  40
    loss         +0.6900               -   1
    """
    rows = [
        [name, f"{e.value:+.4f}", "-" if e.standard_error is None else f"{e.standard_error:.4f}", f"{e.count:,}"]
        for name, e in found.items()
    ]
    return aligned([["", "value", "standard error", "n"], *rows])


class _Sample:
    """Held-out examples with their losses, and estimates from them."""

    def __init__(
        self, objective: Objective, examples: ExampleSet, log_probs: FloatArray, log_ratios: np.ndarray | None
    ) -> None:
        self.method, width = objective.method, examples.width
        u = log_probs if log_ratios is None else log_ratios.astype(np.float64)
        batch = {"preferred": examples.preferred}
        if self.method.name in RATIO_METHODS:
            batch["alpha"] = np.full(len(u), objective.alpha) if objective.alpha is not None else examples.alpha
        losses = objective.losses(u, batch)
        # Mismatched completions of kto are no examples; both sequences of a pair are.
        own = np.arange(0, len(u), 2 if self.method.name == "kto" else 1)
        self.log_ratios, self.log_probs, self.preferred = u[own], log_probs[own], examples.preferred[own]
        self.tokens = np.array([len(examples.completion_ids[i]) for i in own], dtype=np.float64)
        self.bound = -np.log(batch["alpha"][own]) if "alpha" in batch else None
        self.prompts = _numbers([examples.prompt_ids[i] for i in own])
        self.mismatched = u[1::2] if self.method.name == "kto" else None
        self.example_losses = losses
        self.weights = np.ones(len(losses)) if examples.weights is None else examples.weights[::width]
        self.losses = None if self.method.pairs else losses
        self.at_risk = self.preferred if self.method.name == "sft" else np.ones(len(losses), dtype=bool)
        self.in_pairs = self.method.pairs

    def risk(self) -> Estimate:
        """Return the weighted mean loss."""
        every = 2 if self.in_pairs else 1
        part = self.at_risk
        classes, prompts = self.preferred[::every][part], self.prompts[::every][part]
        weights = self.weights[part]
        weighted = np.multiply(weights, self.example_losses[part], out=np.zeros(len(weights)), where=weights > 0)
        influence = np.zeros_like(weighted)
        if np.isfinite(weighted).all():
            for members in (classes, ~classes):
                if members.any():
                    influence[members] = (weighted[members] - weighted[members].mean()) / len(weighted)
        return _estimate(float(weighted.mean()), influence, prompts, len(weighted))

    def by_class(self, name: str, values: FloatArray | None) -> dict[str, Estimate | None]:
        """Return the mean of each class."""
        if values is None:
            return {}
        return {
            f"{name}/{label}": self._mean(values, members)
            for label, members in (("chosen", self.preferred), ("rejected", ~self.preferred))
        }

    def margin(self) -> Estimate | None:
        """Return the difference of the classes' mean log-ratios."""
        up, down = self.preferred, ~self.preferred
        if not (up.any() and down.any()):
            return None
        means = self.log_ratios[up].mean(), self.log_ratios[down].mean()
        influence = np.where(
            up, (self.log_ratios - means[0]) / up.sum(), -(self.log_ratios - means[1]) / max(1, down.sum())
        )
        return _estimate(float(means[0] - means[1]), influence, self.prompts, len(up))

    def area(self) -> Estimate | None:
        """Return the AUC of the log-ratios."""
        value = auc(self.log_ratios, self.preferred)
        if value is None:
            return None
        influence = np.empty_like(self.log_ratios)
        overall = average_ranks(self.log_ratios)
        for members, sign in ((self.preferred, 1.0), (~self.preferred, -1.0)):
            others = len(members) - members.sum()
            # Share of the other class below each of this class, ties half: its placement.
            below = (overall[members] - average_ranks(self.log_ratios[members])) / others
            placement = below if sign > 0 else 1.0 - below
            influence[members] = (placement - value) / members.sum()
        return _estimate(value, influence, self.prompts, len(influence))

    def of_the_method(self) -> dict[str, Estimate | None]:
        """Return what only some methods have."""
        found: dict[str, Estimate | None] = {}
        if self.bound is not None:
            found["logratio/over_bound"] = self._mean((self.log_ratios > self.bound).astype(np.float64))
        if self.in_pairs:
            right = np.heaviside(self.log_ratios[::2] - self.log_ratios[1::2], 0.5)
            found["rewards/accuracies"] = _estimate(
                float(right.mean()), (right - right.mean()) / len(right), self.prompts[::2], len(right)
            )
        if self.mismatched is not None:
            mean = self.mismatched.mean()
            influence = (self.mismatched - mean) / len(self.mismatched)
            found["kl"] = _estimate(max(0.0, float(mean)), influence, self.prompts, len(influence))
        return found

    def by_token(self) -> dict[str, Estimate | None]:
        """Return the mean log-probability of a token, by class."""
        found: dict[str, Estimate | None] = {}
        for label, members in (("chosen", self.preferred), ("rejected", ~self.preferred)):
            total = self.tokens[members].sum()
            if total:
                mean = self.log_probs[members].sum() / total
                influence = np.where(members, (self.log_probs - mean * self.tokens) / total, 0.0)
                found[f"logps_per_token/{label}"] = _estimate(
                    float(mean), influence, self.prompts, int(members.sum()), members
                )
        return found

    def _mean(self, values: FloatArray, members: np.ndarray | None = None) -> Estimate | None:
        """Return the mean over some sequences."""
        members = np.ones(len(values), dtype=bool) if members is None else members
        if not members.any():
            return None
        mean = values[members].mean()
        influence = (
            np.where(members, values - mean, 0.0) / members.sum() if np.isfinite(mean) else np.zeros(len(values))
        )
        return _estimate(float(mean), influence, self.prompts, int(members.sum()), members)


def _estimate(
    value: float, influence: FloatArray, prompts: np.ndarray, count: int, members: np.ndarray | None = None
) -> Estimate:
    """Return an estimate whose influences are summed by prompt."""
    groups = len(np.unique(prompts if members is None else prompts[members]))
    if groups < 2 or not math.isfinite(value):
        return Estimate(value, None, count)
    error = float(np.sqrt(groups / (groups - 1) * (np.bincount(prompts, weights=influence) ** 2).sum()))
    return Estimate(value, error or None, count)


def _numbers(prompts: list[np.ndarray]) -> np.ndarray:
    """Return the number of each prompt, the same for equal tokens."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(np.asarray(ids, np.int32).tobytes(), len(numbers)) for ids in prompts])
