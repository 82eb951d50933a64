"""What happens around steps: losses that are not finite stop the run, and checkpoints that are too many are removed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lm.resume import remove_checkpoints

__all__ = ["CheckpointRotation", "NonFiniteGuard", "NonFiniteLossError"]

_SHOWN = 10


class NonFiniteLossError(FloatingPointError):
    """Losses of some rows are not finite.

    Attributes
    ----------
    rows : ndarray of int64
        Source rows, shape (examples,).
    step : int
        Optimiser step, from 1, that was not taken.
    losses, log_ratios : ndarray
        Loss and (first) log-ratio of policy to reference of these examples, same shape.
    """

    def __init__(self, rows: Sequence[int], step: int, losses: Sequence[float], log_ratios: Sequence[float]) -> None:
        self.rows = np.asarray(rows, dtype=np.int64)
        self.step = step
        self.losses = np.asarray(losses, dtype=np.float64)
        self.log_ratios = np.asarray(log_ratios, dtype=np.float64)
        shown = ", ".join(
            f"row {row}: loss {loss:g} at log-ratio {u:g}"
            for row, loss, u in list(zip(self.rows, self.losses, self.log_ratios, strict=True))[:_SHOWN]
        )
        more = f" and {len(self.rows) - _SHOWN} more" if len(self.rows) > _SHOWN else ""
        super().__init__(
            f"losses must be finite, got {shown}{more} in step {step}, which was not taken; "
            "an infinite loss at a finite log-ratio is the method's own (ddro or mle beyond its domain) and may be "
            "left out with on_nonfinite 'skip', anything else is a broken model"
        )


class NonFiniteGuard(TrainerCallback):
    """Raise before the optimiser step if a loss of its window is not finite.

    Parameters
    ----------
    accelerator : Accelerator
        Tells the processes of each other, so that they stop together.
    skip : bool
        Let infinite losses pass that come from finite log-ratios; whoever computes the loss has left them out.

    Notes
    -----
    The window is looked at once, when its work is queued already: one wait for the device per optimiser step. A
    log-ratio that is not finite stops the run in any case, as the activations behind it poison every gradient.
    """

    def __init__(self, accelerator: Accelerator, skip: bool) -> None:
        self._accelerator = accelerator
        self._skip = skip
        self._window: list[tuple[torch.Tensor, ...]] = []

    def watch(self, rows: torch.Tensor, losses: torch.Tensor, log_ratios: torch.Tensor) -> None:
        """Remember the examples of a batch: rows and losses (examples,), log-ratios (examples, width)."""
        self._window.append((rows, losses.detach(), log_ratios.detach()))

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Forget what an interrupted run left."""
        self._window = []

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the window."""
        rows, losses, log_ratios = (torch.cat(each) for each in zip(*self._window, strict=True))
        self._window = []
        bad = ~torch.isfinite(log_ratios).all(dim=1)
        if not self._skip:
            bad = bad | ~torch.isfinite(losses)
        if not self._accelerator.reduce(bad.sum(), reduction="sum").item():
            return
        found = [column[bad].tolist() for column in (rows, losses, log_ratios[:, 0])]
        everywhere = gather_object(list(zip(*found, strict=True)))
        raise NonFiniteLossError(
            rows=[each[0] for each in everywhere],
            step=state.global_step + 1,
            losses=[each[1] for each in everywhere],
            log_ratios=[each[2] for each in everywhere],
        )


class CheckpointRotation(TrainerCallback):
    """Keep the newest checkpoints, as many as ``save_total_limit``, the one of this step and the best one among them.

    A resumed run begins with it, as the run before may have been killed while it saved or removed one.
    """

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remove what a resumed run finds."""
        if state.global_step:
            self.on_save(args, state, control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remove what is too much now."""
        if args.should_save:
            kept = [Path(args.output_dir, f"checkpoint-{state.global_step}")]
            if state.best_model_checkpoint is not None:
                kept.append(Path(state.best_model_checkpoint))
            remove_checkpoints(args.output_dir, args.save_total_limit, kept)
