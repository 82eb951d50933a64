"""Log-probabilities of sequences that never hold [batch, time, vocabulary].

The losses of `theory` need one number per sequence, the sum of its tokens' log-probabilities. Of the logits only the
log-normaliser and the target's entry matter, so that one [chunk, vocabulary] tile at a time is enough, in the forward
pass and again in the backward pass.
"""

from typing import Any

import torch

__all__ = ["sequence_log_probs", "token_log_probs"]

DEFAULT_CHUNK_BYTES = 256 * 2**20


def token_log_probs(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, chunk_bytes: int = DEFAULT_CHUNK_BYTES
) -> torch.Tensor:
    """Log-probabilities of target tokens under a linear output head.

    ``log softmax(hidden @ weight.T)[target]``, row by row, without storing the logits.

    Parameters
    ----------
    hidden : Tensor
        Last hidden states, shape (tokens, width), floating point.
    weight : Tensor
        Weights of the output head, shape (vocabulary, width), same dtype and device.
    targets : Tensor
        Token ids, shape (tokens,), int64, each in [0, vocabulary).
    chunk_bytes : int
        Largest size of one float32 tile of logits; at least one token is taken at a time.

    Returns
    -------
    Tensor
        Log-probabilities in nats, shape (tokens,), float32; differentiable in `hidden` and `weight`.

    Raises
    ------
    ValueError
        If shapes do not fit, dtypes differ, a target lies outside the vocabulary, or `chunk_bytes` is not positive.

    Notes
    -----
    Logits, normalisers and the gradient of the weights are accumulated in float32 for half-precision inputs. The
    backward pass rebuilds each tile from the hidden states, at the price of one more product with the head.

    Examples
    --------
    >>> token_log_probs(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([0, 3])).exp()
    tensor([0.2500, 0.2500])
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            "hidden must have shape (tokens, width) and weight (vocabulary, width), "
            f"got {tuple(hidden.shape)} and {tuple(weight.shape)}"
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets must have shape {tuple(hidden.shape[:1])}, got {tuple(targets.shape)}")
    if hidden.dtype != weight.dtype:
        raise ValueError(f"hidden and weight must have one dtype, got {hidden.dtype} and {weight.dtype}")
    if chunk_bytes < 1:
        raise ValueError(f"chunk_bytes must be at least 1, got {chunk_bytes}")
    if (
        targets.device.type == "cpu"
        and targets.numel()
        and not 0 <= int(targets.min()) <= int(targets.max()) < len(weight)
    ):
        raise ValueError(
            f"targets must lie in [0, {len(weight)}), got values from {int(targets.min())} to {int(targets.max())}"
        )
    return _TokenLogProbs.apply(hidden, weight, targets, max(1, chunk_bytes // (4 * len(weight))))


def sequence_log_probs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    *,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
) -> torch.Tensor:
    """Log-probabilities of whole completions: sums over the tokens that a mask selects.

    ``sum_t mask_t log p(target_t | prefix)``. Positions outside the mask cost no product with the head.

    Parameters
    ----------
    hidden : Tensor
        Hidden states that predict the targets, shape (batch, time, width), floating point.
    weight : Tensor
        Weights of the output head, shape (vocabulary, width).
    targets : Tensor
        Token ids, shape (batch, time), int64; ignored outside the mask.
    mask : Tensor
        True for the tokens of the completion, shape (batch, time), bool.
    chunk_bytes : int
        Largest size of one float32 tile of logits.

    Returns
    -------
    Tensor
        Log-probabilities in nats, shape (batch,), float32. A row without any token has 0 and keeps its gradient.

    Raises
    ------
    ValueError
        If shapes do not fit, or as `token_log_probs`.
    TypeError
        If the mask is not boolean.

    Examples
    --------
    >>> mask = torch.tensor([[True, True], [False, True]])
    >>> targets = torch.zeros(2, 2, dtype=torch.int64)
    >>> sequence_log_probs(torch.zeros(2, 2, 3), torch.ones(4, 3), targets, mask).exp()
    tensor([0.0625, 0.2500])
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, got {mask.dtype}")
    if hidden.ndim != 3 or targets.shape != hidden.shape[:2] or mask.shape != hidden.shape[:2]:
        raise ValueError(
            "hidden must have shape (batch, time, width), targets and mask (batch, time), "
            f"got {tuple(hidden.shape)}, {tuple(targets.shape)} and {tuple(mask.shape)}"
        )
    per_token = token_log_probs(hidden[mask], weight, targets[mask], chunk_bytes=chunk_bytes)
    rows = mask.nonzero()[:, 0]
    return per_token.new_zeros(len(hidden)).index_add(0, rows, per_token)


class _TokenLogProbs(torch.autograd.Function):
    """Chunked log-softmax of a linear head at the targets."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        """Return log-probabilities; keep the normalisers instead of the logits."""
        normaliser = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        picked = torch.empty_like(normaliser)
        for part in _chunks(len(hidden), chunk):
            logits = (hidden[part] @ weight.T).float()  # [chunk, vocabulary]
            normaliser[part] = torch.logsumexp(logits, dim=1)
            picked[part] = logits.gather(1, targets[part, None])[:, 0]
        ctx.save_for_backward(hidden, weight, targets, normaliser)
        ctx.chunk = chunk
        return picked - normaliser

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Rebuild each tile: the gradient in the logits is ``g (onehot(target) - softmax)``."""
        hidden, weight, targets, normaliser = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if need_weight else None
        for part in _chunks(len(hidden), ctx.chunk):
            outer = gradients[0][part, None].float()
            tile = torch.exp((hidden[part] @ weight.T).float() - normaliser[part, None]).mul_(-outer)
            tile.scatter_add_(1, targets[part, None], outer)
            tile = tile.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = tile @ weight
            if grad_weight is not None:
                grad_weight += tile.T @ hidden[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


def _chunks(tokens: int, chunk: int) -> list[slice]:
    """Return slices of at most `chunk` tokens."""
    return [slice(start, min(start + chunk, tokens)) for start in range(0, tokens, chunk)]
