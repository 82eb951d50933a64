"""A `transformers.Trainer` whose loss is a call into `theory.losses`."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from transformers.trainer_utils import TrainOutput

from lm.callbacks import CheckpointRotation, NonFiniteGuard
from lm.collate import Collator
from lm.config import RatioConfig
from lm.examples import ExampleSet
from lm.guards import StartCheck, check_setting, check_tokens
from lm.log_ratios import LogRatios, on_device
from lm.metrics import MetricSums, batch_sums, set_metrics, summarise, token_sums
from lm.objective import Objective, Resolved, prepare_examples
from lm.reference import with_reference
from lm.resume import check_same, describe_run, last_checkpoint, only_tensors, read_state, write_state
from lm.windows import mark_repeats, without_repeats

__all__ = ["RatioTrainer"]

logger = logging.getLogger(__name__)


class RatioTrainer(Trainer):
    """Train a causal language model by any loss of log-ratios.

    The loss of an optimiser step is ``sum_i w_i loss_i / n`` over the n examples of its whole window: all
    micro-batches of all processes.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The policy, which starts as the reference.
    args : RatioConfig
        The method and everything else.
    train_dataset : ExampleSet
        Tokenised examples; alpha and static weights are worked out here (`prepare_examples`).
    eval_dataset : ExampleSet or dict of ExampleSet, optional
        Held-out examples, weighted by their own class counts. A single alpha is the training set's; by prompt or as a
        column it is their own.
    processing_class : PreTrainedTokenizerBase, optional
        Saved beside the model; its padding token is used.
    reference_model : PreTrainedModel, optional
        The reference, where it is not the model as it starts.
    callbacks : list of TrainerCallback, optional
        Further callbacks.
    optimizers : tuple
        Optimiser and scheduler, each may be None.

    Attributes
    ----------
    objective : Objective
        The losses.
    resolved : Resolved
        What alpha and the class weights came to on the training set.

    Raises
    ------
    ValueError
        If data, model and options do not fit; see also `NonFiniteLossError`, raised in training.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from lm.tiny_models import tiny_qwen2
    >>> ids = [np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)]
    >>> data = ExampleSet(ids, ids, np.array([True, False]), np.array([0, 1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = RatioConfig(output_dir=folder, use_cpu=True, disable_tqdm=True)
    ...     trainer = RatioTrainer(tiny_qwen2(vocabulary=10, hidden_size=8, layers=1), args, data)
    >>> trainer.resolved.alpha
    0.5
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the examples of the whole window

    def __init__(
        self,
        model: nn.Module,
        args: RatioConfig,
        train_dataset: ExampleSet,
        eval_dataset: ExampleSet | dict[str, ExampleSet] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reference_model: PreTrainedModel | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(_pad_token_id(processing_class), args.padding_free),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=self._set_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        check_setting(self)
        self.method = args.resolved
        self.log_ratios = LogRatios(self.accelerator, args, model, reference_model)
        self.train_dataset, self.resolved = self._prepare_examples(train_dataset)
        for note in self.resolved.notes:
            logger.warning(note)
        self.objective = Objective(self.method, self.resolved.alpha)
        if isinstance(eval_dataset, ExampleSet):
            self.eval_dataset = self._held_out(eval_dataset)
        elif eval_dataset is not None:
            self.eval_dataset = {name: self._held_out(each) for name, each in eval_dataset.items()}
        self._run = describe_run(self)
        self._metrics = MetricSums(self.accelerator.gather)
        self._tokens_seen = 0.0
        self._clock = time.monotonic()
        self._guard = NonFiniteGuard(self.accelerator, skip=args.on_nonfinite == "skip")
        self.add_callback(self._guard)
        self.add_callback(CheckpointRotation)
        if args.check_start and self._has_reference:
            self.add_callback(StartCheck(self))

    # Data

    def _prepare_examples(self, examples: ExampleSet, alpha: float | None = None) -> tuple[ExampleSet, Resolved]:
        """Return examples with the columns that the loss needs, reference log-probabilities among them."""
        check_tokens(examples, self.model)
        prepared, resolved = prepare_examples(examples, self.args, self.args.seed, alpha)
        kind = self.method.reference
        if kind in ("frozen", "adapter_off") and prepared.reference_log_probs is not None:
            raise ValueError(f"reference must be precomputed for data with reference log-probabilities, got {kind!r}")
        if kind == "precomputed":
            given = self.log_ratios.reference_model
            if given is None and prepared.reference_log_probs is None:
                self._check_model_is_reference()
            with on_device(self.model if given is None else given, self.args.device):
                prepared = with_reference(prepared, self.args, self.model, given, self.data_collator)
        return prepared, resolved

    def _check_model_is_reference(self) -> None:
        """Raise if the weights that would stand for the reference have been trained."""
        if self.state.global_step:
            raise ValueError(
                f"the reference must be the model before training, got new examples after {self.state.global_step} "
                "steps: give them as eval_dataset when the trainer is made, or give a reference_model"
            )

    @property
    def _has_reference(self) -> bool:
        """Whether losses see log-ratios; for sft without a reference they see log-probabilities."""
        return self.method.reference != "none" or self.train_dataset.reference_log_probs is not None

    def _held_out(self, examples: ExampleSet) -> ExampleSet:
        """Return held-out examples prepared as the training set was, with its alpha."""
        return self._prepare_examples(examples, self.resolved.alpha)[0]

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int:
        """Count the window's examples, where Trainer counts tokens, and mark repeats, which are to count nowhere."""
        whole_batches = self.args.dataloader_drop_last  # then nothing needs filling up
        examples = 0 if whole_batches else len(self.train_dataset)
        count = mark_repeats(batch_samples, self.accelerator, self.method.width, examples)
        if self.accelerator.num_processes == 1:
            return count
        return self.accelerator.gather(torch.tensor([count], device=device)).sum()

    def _prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Move a batch to the device; Trainer would round reference log-probabilities to half under DeepSpeed."""
        return {name: value.to(self.args.device) for name, value in inputs.items()}

    # Loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return a batch's share of its window's loss, in place of the loss of a model's own forward.

        Gradients of processes are averaged by DDP, FSDP and DeepSpeed alike, so that the number of processes
        multiplies their sum.

        Parameters
        ----------
        model : Module
            The model, or what wraps it.
        inputs : dict
            Batch of `lm.collate.Collator` on the device.
        return_outputs : bool
            Whether to return the log-ratios as well.
        num_items_in_batch : Tensor or int, optional
            Examples in the window, all processes together; default those of this batch.

        Returns
        -------
        Tensor, or tuple of it and a dict
            The loss, 0-d.
        """
        log_ratios, log_probs = self.log_ratios(model, inputs)
        inputs = without_repeats(inputs)
        log_ratios, log_probs = (each[: len(inputs["preferred"])] for each in (log_ratios, log_probs))
        raw, losses, used = self._losses(log_ratios, inputs)
        width = self.method.width
        if self.is_in_train:
            self._guard.watch(inputs["rows"][::width], raw, log_ratios.view(-1, width))
            sums = batch_sums(self.objective, log_ratios, log_probs, raw, inputs, used, self._has_reference)
            self._metrics.add(sums | token_sums(inputs))
        count = len(losses) if num_items_in_batch is None else num_items_in_batch
        loss = (inputs["weights"][::width] * losses).sum() / count * self.accelerator.num_processes
        return (loss, {"log_ratios": log_ratios}) if return_outputs else loss

    def _losses(
        self, log_ratios: torch.Tensor, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return losses as they are, losses with 0 and no gradient where they are not finite, and where they are."""
        point = self._reference_point(log_ratios) if self.method.name == "kto" else None
        raw = self.objective.losses(log_ratios.detach(), batch, point)
        used = torch.isfinite(raw)
        # Masked before the loss: autograd would multiply an infinite slope by 0.
        harmless = torch.where(used.repeat_interleave(self.method.width), log_ratios, 0.0)
        losses = torch.where(used, self.objective.losses(harmless, batch, point), 0.0)
        return raw, losses, used

    def _reference_point(self, log_ratios: torch.Tensor) -> torch.Tensor:
        """Return kto's reference point from the mismatched completions of all processes' batches."""
        mismatched = log_ratios.detach()[1::2]
        total = torch.stack([mismatched.sum(), torch.ones_like(mismatched).sum()])
        total = self.accelerator.reduce(total, reduction="sum")
        return (total[0] / total[1]).clamp(min=0.0)

    # Training and what it reports

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train as Trainer does, but go on from a checkpoint only if the run is still the same.

        Parameters
        ----------
        resume_from_checkpoint : str or bool, optional
            Folder of a checkpoint; True for the newest complete one of the output folder.
        **kwargs
            As `transformers.Trainer.train`.

        Returns
        -------
        TrainOutput
            Steps, mean loss and metrics.

        Raises
        ------
        ValueError
            If there is no checkpoint, its files are not sound, or method, alpha, weights, data or reference differ.
        NonFiniteLossError
            If a loss is not finite and not to be skipped.
        """
        checkpoint = resume_from_checkpoint or None
        if checkpoint is True:
            checkpoint = last_checkpoint(self.args.output_dir)
            if checkpoint is None:
                raise ValueError(f"resuming needs a complete checkpoint, got none in {self.args.output_dir}")
        self._metrics.clear()
        self._tokens_seen = 0.0
        if checkpoint is not None:
            self._restore(checkpoint)
        self._clock = time.monotonic()
        with self.log_ratios.heads(self.model), only_tensors(checkpoint):
            return super().train(resume_from_checkpoint=checkpoint, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Put the means since the last report, over all processes, in place of Trainer's loss.

        Parameters
        ----------
        logs : dict of str to float
            Values by name; a report of training is known by its "loss", as those of evaluations have a prefix.
        start_time : float, optional
            Start of training.
        """
        if "loss" in logs:
            totals = self._metrics.totals()
            self._metrics.clear()
            tokens, _ = totals.pop("num_tokens", (0.0, 0.0))
            self._tokens_seen += tokens
            now = time.monotonic()
            logs.update(summarise(totals), num_tokens=self._tokens_seen)
            logs["tokens_per_second"] = tokens / (now - self._clock)
            self._clock = now
        super().log(logs, start_time)

    # Evaluation

    def evaluate(
        self, eval_dataset: ExampleSet | dict[str, ExampleSet] | str | None = None, **kwargs: Any
    ) -> dict[str, float]:
        """Evaluate as Trainer does, with the columns and heads that our batches need.

        Parameters
        ----------
        eval_dataset : ExampleSet or dict of ExampleSet, optional
            Held-out examples as they were loaded; default those the trainer has.
        **kwargs
            As `transformers.Trainer.evaluate`.

        Returns
        -------
        dict of str to float
            Exact over the whole set: eval_loss and the means that training reports, and eval_rewards/auc.
        """
        if isinstance(eval_dataset, ExampleSet):
            eval_dataset = self._held_out(eval_dataset)
        began = time.monotonic()
        with self.log_ratios.heads(self.model):
            metrics = super().evaluate(eval_dataset, **kwargs)
        self._clock += time.monotonic() - began  # tokens_per_second is of training alone
        return metrics

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Return log-ratios in place of losses and logits, so that the metrics are those of the set, not of batches.

        Parameters
        ----------
        model : Module
            The model, or what wraps it.
        inputs : dict
            Batch.
        prediction_loss_only : bool
            Not used.
        ignore_keys : list of str, optional
            Not used.

        Returns
        -------
        loss : None
            There is none by batch.
        values : Tensor
            Log-ratio, log-probability, weight and alpha (0 where there is none), shape (examples, width, 4).
        preferred : Tensor
            Classes, shape (examples, width), int64.
        """
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            log_ratios, log_probs = self.log_ratios(model, inputs)
        columns = [log_ratios, log_probs, inputs["weights"], inputs.get("alpha", torch.zeros_like(log_probs))]
        shape = (-1, self.method.width)
        return None, torch.stack(columns, dim=1).view(*shape, 4), inputs["preferred"].long().view(shape)

    def _set_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the metrics of what `prediction_step` returned for every example of a set."""
        return set_metrics(self.objective, prediction, self._has_reference)

    def _get_dataloader(self, *settings: Any, is_training: bool = False, **more: Any) -> DataLoader:
        """Leave no held-out example out: Trainer drops the last batch of any set if that of the training set goes."""
        dropped = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = dropped and is_training
        try:
            return super()._get_dataloader(*settings, is_training=is_training, **more)
        finally:
            self.args.dataloader_drop_last = dropped

    def get_test_dataloader(self, test_dataset: ExampleSet) -> DataLoader:
        """Prepare the examples of `predict` first.

        Parameters
        ----------
        test_dataset : ExampleSet
            Examples as they were loaded.

        Returns
        -------
        DataLoader
            Their batches.
        """
        return super().get_test_dataloader(self._held_out(test_dataset))

    # Checkpoints

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as Trainer does, and beside it what a resumed run must agree with.

        Parameters
        ----------
        output_dir : str, optional
            Folder; default the run's output folder.
        """
        super().save_model(output_dir, _internal_call)
        state = {"run": self._run, "tokens_seen": self._tokens_seen, "metrics": self._metrics.totals()}
        if self.args.should_save:
            write_state(output_dir or self.args.output_dir, state)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint as Trainer does; `CheckpointRotation` removes others, as Trainer trusts the clock."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Run an epoch as Trainer does, but no step beyond the last: it takes one before it looks."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:  # resumed from the checkpoint of the last step, as when a run was killed while its model was saved
            self.control.should_training_stop = True

    def _restore(self, checkpoint: str) -> None:
        """Check that a checkpoint is of this run, and go on with its unreported metrics."""
        state = read_state(checkpoint)
        check_same(state["run"], self._run, checkpoint)
        self._tokens_seen = state["tokens_seen"]
        self._metrics.restore(state["metrics"], self.accelerator.is_main_process, self.args.device)


def _pad_token_id(processing_class: PreTrainedTokenizerBase | None) -> int:
    """Return the tokenizer's padding token; any token does, as masks follow from lengths."""
    token = getattr(processing_class, "pad_token_id", None)
    return 0 if token is None else token
