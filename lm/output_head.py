"""Log-probabilities from inside a model's own forward pass, where the logits would have been.

The output head of a causal language model is asked for log-probabilities of given tokens instead of logits. It runs
inside the forward of whatever wraps the model (DDP, FSDP, autocast), so that their hooks on parameters and outputs see
an ordinary forward pass; calling the inner modules from outside would lose DDP's gradient synchronisation silently.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lm.log_probs import token_log_probs
from lm.packed_attention import PackedAttention
from theory.checks import check_choice

__all__ = ["MODES", "LogProbHead", "Mode"]

Mode = Literal["fused", "checkpoint", "full"]
MODES: tuple[Mode, ...] = ("fused", "checkpoint", "full")

MODEL_KEYS = ("input_ids", "attention_mask", "position_ids")

# A power of two, which every floating type holds: at the first position, which no token is predicted at, it tells
# whether the model changes what its head returns.
SENTINEL = 1024.0

_CHECKPOINT_BYTES = 256 * 2**20


@dataclass
class _Request:
    """What one forward pass asks of the head, and the head's answer."""

    head: "LogProbHead"
    targets: torch.Tensor  # [rows, time]
    mask: torch.Tensor  # [rows, time], True where the target is predicted from the hidden state before it
    log_probs: torch.Tensor | None = None  # [rows, time], float32, detached


_REQUEST: ContextVar[_Request | None] = ContextVar("log-probabilities asked of the output head", default=None)


class LogProbHead:
    """Log-probabilities of whole completions under a causal language model.

    ``sum_t log p(token_t | tokens before t)`` over the completion's tokens. Only inside `sequence_log_probs` does the
    model's output head answer with log-probabilities; at all other times (``generate``, evaluation by others,
    ``save_pretrained``) it is the original. Rows without padding are attended to by sequence, see
    `lm.packed_attention`.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        Causal language model with an output head, before anything wraps it. The forward of its head is replaced on
        the instance until `remove`; a deep copy or a pickle of the model has the original forward.
    mode : {"fused", "checkpoint", "full"}
        "fused": `lm.log_probs.token_log_probs`, tiles of logits at completion positions. "checkpoint": logits of a
        chunk of completion positions at a time, rebuilt in the backward pass. "full": all logits, as the model
        returns them. The numbers agree; the last two are oracles, and work where "fused" refuses.
    chunk_mebibytes : int, optional
        Size of one float32 tile of logits in the modes "fused" and "checkpoint", at least 1. Default 256, but 16 for
        "fused" on a CPU, whose cache holds that.

    Raises
    ------
    ValueError
        If an option is unknown, the model has no output head or a patched one, or its head is not a plain linear
        layer without bias, in mode "fused".

    Notes
    -----
    "fused" refuses heads with a bias, an adapter (LoRA) or quantised weights. "fused" and "checkpoint" refuse, at the
    first batch, models that scale or cap their logits after the head.

    The head's weight is read inside the head's own forward, after the hooks by which ZeRO-3 and FSDP2 gather it, and
    the parameter itself is saved for the backward pass, as `torch.nn.functional.linear` does. FSDP2 gathers again
    into the same storage before the backward pass of the module whose outputs need it: two CPU processes give the
    gradients of one, tied or untied, with the head sharded by itself or with the rest. ZeRO-3, and either of them on
    GPUs: unchecked.

    If a wrapper casts the model's outputs to half precision (FSDP2 with mixed precision does), values keep their
    float32 digits; the gradient of each token's log-probability is rounded once to that precision.

    Examples
    --------
    >>> import numpy as np
    >>> from lm.collate import Collator
    >>> from lm.examples import ExampleSet
    >>> from lm.tiny_models import tiny_qwen2
    >>> ids = [np.array([1, 2], dtype=np.int32), np.array([3], dtype=np.int32)]
    >>> data = ExampleSet(ids, ids, np.array([True, False]), np.array([0, 1]))
    >>> model = tiny_qwen2(vocabulary=10, hidden_size=8, layers=1)
    >>> with LogProbHead(model) as head:
    ...     sums = head.sequence_log_probs(model, Collator(pad_token_id=0)([data[0], data[1]]))
    >>> (sums.detach() / torch.log(torch.tensor(10.0))).round()  # random weights: nearly uniform
    tensor([-2., -1.])
    """

    def __init__(self, model: nn.Module, mode: Mode = "fused", chunk_mebibytes: int | None = None) -> None:
        check_choice("mode", mode, MODES)
        if chunk_mebibytes is not None and chunk_mebibytes < 1:
            raise ValueError(f"chunk_mebibytes must be at least 1, got {chunk_mebibytes}")
        self.mode = mode
        self.chunk_bytes = None if chunk_mebibytes is None else chunk_mebibytes * 2**20
        self._outputs_checked = False
        base = model.get_base_model() if hasattr(model, "get_base_model") else model  # under its adapters
        self._module = _output_head(base)
        self._original: Callable[[torch.Tensor], torch.Tensor] = self._module.forward
        if mode == "fused":
            _check_plain_linear(self._module)
        if mode != "full":
            self._module.forward = _HeadForward(self)
        self._attention = PackedAttention(base)

    def remove(self) -> None:
        """Give the model its original head and attention back; nothing happens the second time."""
        vars(self._module).pop("forward", None)
        self._attention.remove()

    def __enter__(self) -> Self:
        """Return the head, which is in place already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the head."""
        self.remove()

    def sequence_log_probs(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Log-probabilities of the completions of a batch.

        Parameters
        ----------
        model : Module
            The model, or what wraps it (DDP, FSDP, autocast): its forward is called once, without cache.
        batch : mapping of str to Tensor
            Batch of `lm.collate.Collator`, padded or padding-free, on the model's device.

        Returns
        -------
        Tensor
            Sums in nats, shape (sequences,), float32; differentiable unless gradients are off. A completion without
            any token has 0 and keeps its gradient.

        Raises
        ------
        ValueError
            If the model scales or caps its logits after the head, drops positions, or is a `DataParallel`.
        RuntimeError
            If the forward of `model` never calls the head, as when it is another model's or has been removed.
        """
        if isinstance(model, nn.DataParallel):
            raise ValueError(
                "the model must not be wrapped in torch.nn.DataParallel, whose replicas share one head; "
                "start one process per device with torchrun"
            )
        inputs = {name: batch[name] for name in MODEL_KEYS if name in batch}
        mask = batch["completion_mask"]
        if self.mode == "full":
            logits = model(**inputs, use_cache=False).logits
            per_token = _full_log_probs(logits, batch["input_ids"], mask)
        else:
            per_token = self._from_head(model, inputs, mask)
        return _sums(per_token, mask, batch)

    def _from_head(self, model: nn.Module, inputs: dict[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """Return per-token log-probabilities [rows, time] that the head computed inside the model's forward."""
        with _asking(_Request(self, inputs["input_ids"], mask)) as request:
            returned = model(**inputs, use_cache=False).logits
        if request.log_probs is None:
            raise RuntimeError(
                "the model's forward did not call this output head: it was removed, or belongs to another model"
            )
        if not self._outputs_checked:
            _check_unchanged(returned, request.log_probs)
            self._outputs_checked = True
        # Wrappers hang their backward hooks on what the model returns, so that the gradient must take this way; the
        # values may have been cast to half precision on it. The difference is exact, and adds the lost digits back.
        returned = returned.float()
        return returned + (request.log_probs - returned).detach()

    def _answer(self, hidden: torch.Tensor, request: _Request) -> torch.Tensor:
        """Return log-probabilities [rows, time] in place of logits, and leave a float32 copy of them."""
        if hidden.shape[:-1] != request.mask.shape:
            raise ValueError(
                f"the output head must see hidden states of all positions, shape {tuple(request.mask.shape)}, "
                f"got {tuple(hidden.shape[:-1])}"
            )
        mask = request.mask
        before = hidden[:, :-1][mask[:, 1:]]  # [tokens, width]
        targets = request.targets[mask]
        if self.mode == "fused":
            values = token_log_probs(before, self._module.weight, targets, chunk_bytes=self.chunk_bytes)
        else:
            values = self._checkpointed(before, targets)
        full = values.new_zeros(mask.shape)
        full[:, 0] = SENTINEL
        full = full.masked_scatter(mask, values)
        request.log_probs = full.detach()
        return full

    def _checkpointed(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities [tokens]; the logits of a chunk are freed, and rebuilt in the backward pass."""

        def part(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return _gather_log_probs(self._original(hidden), targets)

        chunk_bytes = self.chunk_bytes or _CHECKPOINT_BYTES
        tokens = max(1, chunk_bytes // (4 * len(self._module.weight)))
        parts = zip(hidden.split(tokens), targets.split(tokens), strict=True)
        return torch.cat([checkpoint(part, *each, use_reentrant=False) for each in parts])


class _HeadForward:
    """The forward of a patched output head; copies and pickles of its module get the original one."""

    def __init__(self, head: LogProbHead) -> None:
        self.head = head

    @torch.compiler.disable
    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits, or the log-probabilities that were asked for."""
        request = _REQUEST.get()
        if request is None or request.head is not self.head:
            return self.head._original(hidden)
        return self.head._answer(hidden, request)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the original forward of the copied module, which `memo` holds already."""
        return _class_forward(copy.deepcopy(self.head._module, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the original forward of the module."""
        return _class_forward, (self.head._module,)


@contextmanager
def _asking(request: _Request) -> Iterator[_Request]:
    """Make a request known to the head in this thread, and forget it whatever happens."""
    token = _REQUEST.set(request)
    try:
        yield request
    finally:
        _REQUEST.reset(token)


def _class_forward(module: nn.Module) -> Callable[..., Any]:
    """Return the forward of a module's class, bound to the module."""
    return type(module).forward.__get__(module)


def _output_head(model: nn.Module) -> nn.Module:
    """Return the output head of a model."""
    module = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if module is None:
        raise ValueError(f"the model must have an output head (get_output_embeddings), got {type(model).__name__}")
    if getattr(module.forward, "__func__", None) is not type(module).forward:
        raise ValueError(
            "the output head must have its class's forward, got one that was replaced already: "
            "remove the other LogProbHead, or the hooks of device_map"
        )
    return module


def _check_plain_linear(module: nn.Module) -> None:
    """Refuse heads whose logits are not ``hidden @ weight.T``."""
    problem = None
    if not isinstance(module, nn.Linear) or type(module).forward is not nn.Linear.forward:
        problem = f"a {type(module).__name__}"
    elif module.bias is not None:
        problem = "one with a bias"
    if problem is not None:
        raise ValueError(
            "mode 'fused' needs a plain linear output head without bias, adapter or quantisation, "
            f"got {problem}; use mode 'checkpoint' or 'full'"
        )


def _check_unchanged(returned: Any, log_probs: torch.Tensor) -> None:
    """Refuse models that do something to the values after the head."""
    if returned.shape != log_probs.shape or not bool((returned[:, 0] == SENTINEL).all()):
        raise ValueError(
            "the model must return what its output head computes, but it scales, caps or slices logits after the head; "
            "use mode 'full'"
        )


def _full_log_probs(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return per-token log-probabilities [rows, time] of the completion from all logits [rows, time, vocabulary]."""
    values = _gather_log_probs(logits[:, :-1], targets[:, 1:])
    return nn.functional.pad(values, (1, 0)).masked_fill(~mask, 0.0)


def _gather_log_probs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return log-softmax in float32 at the targets."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, targets[..., None])[..., 0]


def _sums(per_token: torch.Tensor, mask: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return sums over the completion of each sequence, in float32."""
    if "sequence_ids" not in batch:
        return per_token.masked_fill(~mask, 0.0).sum(dim=1)
    sums = per_token.new_zeros(len(batch["preferred"]))
    return sums.index_add(0, batch["sequence_ids"][mask], per_token[mask])
