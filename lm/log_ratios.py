"""Log-ratios of a policy to its reference on batches, wherever the reference comes from."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from lm.config import RatioConfig
from lm.output_head import LogProbHead

__all__ = ["LogRatios", "on_device"]


class LogRatios:
    """``u = log p_theta - log p_ref`` of whole completions.

    Parameters
    ----------
    accelerator : Accelerator
        Knows what is wrapped around the models, and prepares a frozen reference.
    config : RatioConfig
        Where the reference comes from, and how log-probabilities are computed.
    policy : PreTrainedModel or PeftModel
        The policy before training.
    reference_model : PreTrainedModel, optional
        The reference; with reference "frozen" the default is a copy of the policy.

    Attributes
    ----------
    reference_model : Module, optional
        The reference model, if there is one.

    Raises
    ------
    ValueError
        If the model is not what the reference needs.
    """

    def __init__(
        self, accelerator: Accelerator, config: RatioConfig, policy: nn.Module, reference_model: nn.Module | None
    ) -> None:
        self._accelerator = accelerator
        self._kind = config.resolved.reference
        self._settings = (config.log_probs, config.chunk_mebibytes)
        self._heads: tuple[LogProbHead, LogProbHead | None] | None = None
        if self._kind == "adapter_off" and not hasattr(policy, "disable_adapter"):
            raise ValueError(f"reference 'adapter_off' needs a model with LoRA adapters, got {type(policy).__name__}")
        if self._kind in ("adapter_off", "none") and reference_model is not None:
            raise ValueError(f"reference_model must be left out with reference {self._kind!r}, got one")
        if self._kind == "frozen":
            reference_model = self._frozen(policy if reference_model is None else reference_model, policy)
        self.reference_model = reference_model

    def _frozen(self, model: nn.Module, policy: nn.Module) -> nn.Module:
        """Return the reference prepared for forward passes; where it is the policy itself, a copy."""
        if model is policy:
            if self._accelerator.distributed_type == DistributedType.DEEPSPEED:
                raise ValueError("reference 'frozen' needs a reference_model with DeepSpeed, whose models have no copy")
            model = copy.deepcopy(model)
        model = model.eval().requires_grad_(False)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self._accelerator.mixed_precision)
        if half is not None and self._accelerator.distributed_type == DistributedType.FSDP:
            for parameter in model.parameters():  # as FSDP2 rounds the policy's, or log-ratios would not start at 0
                parameter.data = parameter.data.to(half)
        return self._accelerator.prepare_model(model, evaluation_mode=True)

    @contextmanager
    def heads(self, model: nn.Module) -> Iterator[LogProbHead]:
        """Put heads for log-probabilities in place, unless they are, and give the models their own back at the end.

        Parameters
        ----------
        model : Module
            The policy, or what wraps it.

        Yields
        ------
        LogProbHead
            The policy's head.
        """
        if self._heads is not None:
            yield self._heads[0]
            return
        frozen = self._accelerator.unwrap_model(self.reference_model) if self._kind == "frozen" else None
        with (
            LogProbHead(self._accelerator.unwrap_model(model), *self._settings) as head,
            nullcontext() if frozen is None else LogProbHead(frozen, *self._settings) as reference_head,
        ):
            self._heads = (head, reference_head)
            try:
                yield head
            finally:
                self._heads = None

    def __call__(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-ratios and log-probabilities of a batch.

        Parameters
        ----------
        model : Module
            The policy, or what wraps it.
        batch : mapping of str to Tensor
            Batch of `lm.collate.Collator` on the model's device.

        Returns
        -------
        log_ratios : Tensor
            In nats, shape (sequences,), float32; without any reference the same as `log_probs`.
        log_probs : Tensor
            Of the completions under the policy, same shape.
        """
        with self.heads(model) as head:
            reference = batch.get("reference_log_probs")
            with torch.no_grad():
                if self._kind == "frozen":
                    reference = self._heads[1].sequence_log_probs(self.reference_model, batch)
                elif self._kind == "adapter_off":
                    with self._accelerator.unwrap_model(model).disable_adapter():
                        reference = head.sequence_log_probs(model, batch)
            log_probs = head.sequence_log_probs(model, batch)
        return log_probs if reference is None else log_probs - reference, log_probs


@contextmanager
def on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a model on a device for a while; before FSDP has wrapped it, it may lie elsewhere.

    Parameters
    ----------
    model : Module
        The model; one without storage (meta) is left alone.
    device : torch.device
        Where it is to be.

    Yields
    ------
    None
        Nothing.
    """
    home = next(model.parameters()).device
    if home.type in ("meta", device.type):
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to(home)
