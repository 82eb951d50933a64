"""Log-probabilities of the completions of a whole data set under a model that is not trained meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from lm.collate import Collator
from lm.config import RatioConfig
from lm.examples import ExampleSet
from lm.output_head import LogProbHead, Mode

__all__ = ["Scoring", "completion_log_probs", "evaluating", "score_batches"]


@dataclass(frozen=True)
class Scoring:
    """How log-probabilities are computed.

    Attributes
    ----------
    batch_size : int
        Sequences of a batch, at least 1.
    mode, chunk_mebibytes
        As `lm.output_head.LogProbHead`.
    autocast : dtype, optional
        Half precision that float32 weights compute in; that of training, or log-ratios do not start at 0.
    half_weights : bool
        Whether to round the weights to that precision, as FSDP2 and DeepSpeed do, in place of autocast.
    progress : bool
        Whether to show a bar on the error stream.
    """

    batch_size: int = 8
    mode: Mode = "fused"
    chunk_mebibytes: int | None = None
    autocast: torch.dtype | None = None
    half_weights: bool = False
    progress: bool = False

    @classmethod
    def of(cls, config: RatioConfig) -> Self:
        """Return what the settings of a run say."""
        half = torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else None
        half_weights = half is not None and bool(config.fsdp or config.deepspeed)
        shown = config.process_index == 0 and not config.disable_tqdm
        batch_size, mode, mebibytes = config.per_device_eval_batch_size, config.log_probs, config.chunk_mebibytes
        return cls(batch_size, mode, mebibytes, half, half_weights, shown)


def completion_log_probs(
    model: nn.Module, examples: ExampleSet, collator: Collator, scoring: Scoring | None = None
) -> np.ndarray:
    """Log-probabilities of all completions under a model as it is.

    ``sum_t log p(token_t | tokens before t)``, without dropout and without gradients. No random number is drawn, and
    the model is left in the mode it was in.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        Any causal language model, on the device where it is to run.
    examples : ExampleSet
        Tokenised examples.
    collator : Collator
        Makes batches, padded or padding-free.
    scoring : Scoring, optional
        How.

    Returns
    -------
    ndarray
        In nats, shape (sequences,), float32, in the order of the examples.

    Examples
    --------
    >>> from lm.tiny_models import tiny_qwen2
    >>> ids = [np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)]
    >>> data = ExampleSet(ids, ids, np.array([True, False]), np.array([0, 1]))
    >>> model = tiny_qwen2(vocabulary=10, hidden_size=8, layers=1)
    >>> values = completion_log_probs(model, data, Collator(0))
    >>> (values / np.float32(np.log(10))).round()  # random weights: nearly uniform
    array([-2., -1.], dtype=float32)
    """
    values = np.empty(len(examples.prompt_ids), dtype=np.float32)
    for members, log_probs in score_batches(model, examples, collator, scoring or Scoring()):
        values[members] = log_probs
    return values


def score_batches(
    model: nn.Module, examples: ExampleSet, collator: Collator, scoring: Scoring
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Log-probabilities batch by batch; see `completion_log_probs`.

    Yields
    ------
    members : ndarray of int64
        Places of the batch's sequences; they have like lengths, the longest come first.
    log_probs : ndarray
        Their log-probabilities in nats, float32.
    """
    single = replace(examples, width=1, reference_log_probs=None)
    lengths = [len(p) + len(c) for p, c in zip(single.prompt_ids, single.completion_ids, strict=True)]
    order = np.argsort(-np.array(lengths, dtype=np.int64), kind="stable")  # what memory lacks shows at once
    device = next(model.parameters()).device
    with (
        tqdm(total=len(order), desc="log-probabilities", unit="seq", disable=not scoring.progress) as bar,
        LogProbHead(model, scoring.mode, scoring.chunk_mebibytes) as head,
        evaluating(model),
        half_weights(model, scoring.autocast) if scoring.half_weights else nullcontext(),
    ):
        autocast = None if scoring.half_weights else scoring.autocast
        for start in range(0, len(order), scoring.batch_size):
            members = order[start : start + scoring.batch_size]
            batch = {name: value.to(device) for name, value in collator([single[i] for i in members]).items()}
            with (
                torch.no_grad(),
                torch.autocast(device.type, autocast, enabled=autocast is not None),
            ):
                log_probs = head.sequence_log_probs(model, batch)
            yield members, log_probs.float().cpu().numpy()
            bar.update(len(members))


@contextmanager
def half_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Round all parameters, and give them their own values back at the end; buffers stay as they are."""
    own = {parameter: parameter.data for parameter in model.parameters()}
    try:
        for parameter, data in own.items():
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in own.items():
            parameter.data = data


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout off, and put every module back into its own mode at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
