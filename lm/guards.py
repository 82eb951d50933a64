"""What is checked before the first step: tokens that the model can hold, and policy = reference."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lm.examples import ExampleSet

if TYPE_CHECKING:
    from lm.trainer import RatioTrainer

__all__ = ["StartCheck", "check_setting", "check_tokens", "start_tolerance"]

# Roundings of the logits, in units of half the spacing at 1: logits of about 10 carry 16 units in their last place, and
# as much again comes from the layers below. float32 adds up thousands of products at full width, each with an error.
_UNITS = 32.0
_ROUNDING = {torch.float64: 2.0**-47, torch.float32: 2.0**-18, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
_TF32_ROUNDING = 2.0**-11

_CAUSES = (
    "dropout that is on (the model must be deterministic), another dtype or autocast than the reference's, rows that "
    "were cut or templated differently, stale reference log-probabilities, another reference than the model that "
    "training starts from (such as an adapter that is trained already)"
)


def check_setting(trainer: "RatioTrainer") -> None:
    """Raise a ValueError where a trainer would train something else than what is asked for.

    Parameters
    ----------
    trainer : RatioTrainer
        The trainer, its model in place.
    """
    args = trainer.args
    if args.n_gpu > 1:
        raise ValueError(f"each device needs a process of its own, got one process for {args.n_gpu}; use torchrun")
    split = {"tensor": trainer.get_tp_size(), "context": trainer.get_cp_size(), "sequence": trainer.get_sp_size()}
    for kind, size in split.items():
        if size > 1:
            raise ValueError(f"{kind} parallelism must be off: log-probabilities need whole sequences, got {size}")
    if args.train_sampling_strategy not in ("random", "sequential"):
        raise ValueError(
            f"train_sampling_strategy must be random or sequential, got {args.train_sampling_strategy!r}; "
            "padding_free is what spares the padding"
        )
    half = [name for name, p in trainer.model.named_parameters() if p.requires_grad and p.dtype == torch.float16]
    if args.fp16 and half:
        raise ValueError(f"fp16 needs float32 weights, whose gradients it can scale, got float16 in {half[0]}")


def check_tokens(examples: ExampleSet, model: nn.Module) -> None:
    """Raise unless a model can hold every sequence.

    Parameters
    ----------
    examples : ExampleSet
        Tokenised examples.
    model : PreTrainedModel or PeftModel
        The model.

    Raises
    ------
    ValueError
        If a token id is not in the model's vocabulary, or a sequence is longer than the model's positions.
    """
    config = model.config.get_text_config()
    vocabulary, positions = config.vocab_size, getattr(config, "max_position_embeddings", None)
    for row, prompt, completion in zip(examples.rows, examples.prompt_ids, examples.completion_ids, strict=True):
        low = min(int(prompt.min()), int(completion.min()))
        high = max(int(prompt.max()), int(completion.max()))
        if low < 0 or high >= vocabulary:
            raise ValueError(
                f"token ids must lie in the model's vocabulary, [0, {vocabulary}), got {low if low < 0 else high} in "
                f"row {row}; is the tokenizer the model's own?"
            )
        if positions is not None and len(prompt) + len(completion) > positions:
            raise ValueError(
                f"sequences must have at most the model's {positions} positions, got {len(prompt) + len(completion)} "
                f"tokens in row {row}; set max_length"
            )


def start_tolerance(dtype: torch.dtype, tokens: Any, tf32: bool = False) -> Any:
    """Return how far the log-ratio of a model to itself may be from 0.

    Roundings of single tokens are independent, so that their sum grows like the root of their number.

    Parameters
    ----------
    dtype : torch.dtype
        Floating type of the model's products.
    tokens : int or ndarray
        Tokens of the completion.
    tf32 : bool
        Whether products in float32 are rounded to TF32.

    Returns
    -------
    float or ndarray
        In nats.

    Examples
    --------
    >>> round(start_tolerance(torch.bfloat16, tokens=400), 4), round(start_tolerance(torch.float32, tokens=400), 4)
    (2.5, 0.0024)
    """
    rounding = _TF32_ROUNDING if tf32 and dtype == torch.float32 else _ROUNDING[dtype]
    return _UNITS * rounding * tokens**0.5


class StartCheck(TrainerCallback):
    """Check before the first step that policy = reference: log-ratios of 0, and balanced rdro's loss of ln 2.

    Parameters
    ----------
    trainer : RatioTrainer
        The trainer whose training begins.
    """

    def __init__(self, trainer: "RatioTrainer") -> None:
        self._trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Check, unless the run goes on from a checkpoint."""
        if state.global_step == 0:
            self.check()

    def check(self) -> None:
        """Raise a ValueError unless policy and reference agree on some training examples of both classes."""
        trainer, device = self._trainer, self._trainer.args.device
        chosen = [trainer.train_dataset[i] for i in self._some_examples()]
        batch = {name: value.to(device) for name, value in trainer.data_collator(chosen).items()}
        model = trainer.model_wrapped.train()  # as in training: dropout must show
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            log_ratios = trainer.log_ratios(model, batch)[0]
            losses = trainer.objective.losses(log_ratios, batch)
        u = log_ratios.double().cpu().numpy()
        tokens = np.array([len(ids) for example in chosen for ids in example["completion_ids"]])
        tolerance = start_tolerance(_compute_dtype(trainer), tokens, _tf32())
        excess = np.nan_to_num(np.abs(u) / tolerance, nan=np.inf)
        worst = int(excess.argmax())
        if excess[worst] > 1.0:
            raise ValueError(
                f"training must start from the reference, where log-ratios are 0, got {u[worst]:.4g} nats in row "
                f"{int(batch['rows'][worst])} with a tolerance of {tolerance[worst]:.2g}; usual causes: {_CAUSES}; "
                "set check_start to false if it is meant"
            )
        if _starts_at_ln_2(trainer):
            _check_loss(losses.double().cpu().numpy(), batch["preferred"].cpu().numpy(), float(tolerance.max()))

    def _some_examples(self) -> np.ndarray:
        """Return as many examples of each class as half a batch has, spread over the data."""
        examples = self._trainer.train_dataset
        each = max(1, self._trainer.args.per_device_train_batch_size // 2)
        preferred = examples.preferred[:: examples.width]
        of_class = (np.nonzero(preferred)[0], np.nonzero(~preferred)[0])
        return np.concatenate([c[np.linspace(0, len(c) - 1, min(each, len(c))).astype(np.int64)] for c in of_class])


def _check_loss(losses: np.ndarray, preferred: np.ndarray, tolerance: float) -> None:
    """Raise unless the mean of the two class means is ln 2, which it is at log-ratios of 0 for every alpha."""
    loss = 0.5 * (losses[preferred].mean() + losses[~preferred].mean())
    if not abs(loss - math.log(2.0)) <= tolerance:  # the loss has slopes of at most 1
        raise ValueError(f"the balanced loss must start at ln 2 = 0.6931, got {loss:.6g}")


def _compute_dtype(trainer: "RatioTrainer") -> torch.dtype:
    """Return the floating type of the model's products: that of autocast, or of the weights."""
    autocast = {"fp16": torch.float16, "bf16": torch.bfloat16}
    return autocast.get(trainer.accelerator.mixed_precision) or next(trainer.model.parameters()).dtype


def _tf32() -> bool:
    """Return whether float32 products may be rounded to TF32; torch 2.9 refuses the old question after a new answer."""
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32


def _starts_at_ln_2(trainer: "RatioTrainer") -> bool:
    """Return whether the loss is the one whose value at the reference is known: one alpha, logistic, balanced."""
    method = trainer.method
    return (
        method.name == "rdro"
        and method.generator == "logistic"
        and method.weighting == "balanced"
        and trainer.objective.alpha is not None
    )
