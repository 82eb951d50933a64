"""Log-probabilities of sequences that never hold [batch, time, vocabulary].

The losses of `theory` need one number per sequence, the sum of its tokens' log-probabilities. Of the logits only the
log-normaliser and the target's entry matter, so that one tile at a time, of all tokens and a part of the vocabulary, is
enough, in the forward pass and again in the backward pass.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["sequence_log_probs", "token_log_probs"]

# A tile that stays in a CPU's cache between the passes over it takes two thirds of the time; accelerators are best at
# few large ones.
_CPU_CHUNK_BYTES, _CHUNK_BYTES = 16 * 2**20, 256 * 2**20


def token_log_probs(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, chunk_bytes: int | None = None
) -> torch.Tensor:
    """Log-probabilities of target tokens under a linear output head.

    ``log softmax(hidden @ weight.T)[target]``, row by row, without storing the logits.

    Parameters
    ----------
    hidden : Tensor
        Last hidden states, shape (tokens, width), floating point.
    weight : Tensor
        Weights of the output head, shape (vocabulary, width), same device, and same dtype unless under autocast.
    targets : Tensor
        Token ids, shape (tokens,), int64, each in [0, vocabulary).
    chunk_bytes : int, optional
        Largest size of one float32 tile of logits; at least one token id is taken at a time. Default 16 MiB on a CPU,
        256 MiB elsewhere.

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
    Under autocast products are taken in its precision, in the backward pass as well, from tiles of the weights, so that
    no half-precision copy of all weights is made. Logits, normalisers and the gradient of the hidden states are
    accumulated in float32 for half-precision inputs. The backward pass rebuilds each tile from the hidden states, at
    the price of one more product with the head, and can be taken once. A target outside the vocabulary on an
    accelerator, where a check would stop the device, gives NaN.

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
    autocast = torch.is_autocast_enabled(hidden.device.type)
    if hidden.dtype != weight.dtype and not autocast:
        raise ValueError(f"hidden and weight must have one dtype, got {hidden.dtype} and {weight.dtype}")
    if chunk_bytes is None:
        chunk_bytes = _CPU_CHUNK_BYTES if hidden.device.type == "cpu" else _CHUNK_BYTES
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
    dtype = torch.get_autocast_dtype(hidden.device.type) if autocast else hidden.dtype
    columns = max(1, chunk_bytes // (4 * max(1, len(hidden))))
    return _TokenLogProbs.apply(hidden, weight, targets, columns, dtype)


def sequence_log_probs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    *,
    chunk_bytes: int | None = None,
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
    chunk_bytes : int, optional
        As `token_log_probs`.

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
    """Log-softmax of a linear head at the targets, one tile [tokens, part of the vocabulary] at a time.

    Tiles cut the vocabulary and not the tokens, so that each row of the weights and of their gradient is read and
    written once, by one product that sums over all tokens.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, columns: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """Return log-probabilities; keep the normalisers instead of the logits."""
        top = torch.full((len(hidden),), -torch.inf, dtype=torch.float32, device=hidden.device)
        mass = torch.zeros_like(top)  # sum of exp(logit - top) so far: one rounding of log(mass), none per tile
        known = (targets >= 0) & (targets < len(weight))  # not checked before on accelerators: NaN is loud there
        picked = torch.where(known, 0.0, torch.nan)
        inputs, space = hidden.to(dtype), _space(hidden, weight, columns)
        for part in _parts(len(weight), columns):
            tile = _logits(inputs, weight[part].to(dtype), space)
            position, inside = _position(targets, part)
            picked += tile.gather(1, position)[:, 0] * inside
            new_top = torch.maximum(top, tile.amax(dim=1))
            mass = mass * torch.exp(top - new_top) + tile.sub_(new_top[:, None]).exp_().sum(dim=1)
            top = new_top
        log_mass = mass.log_()
        ctx.save_for_backward(hidden, weight, targets, top + log_mass)
        ctx.columns, ctx.dtype = columns, dtype
        return (picked - top) - log_mass

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Rebuild each tile: the gradient in the logits is ``g (onehot(target) - softmax)``.

        -g multiplies the narrow sides, not the tile: with a loss scale, half precision would overflow there.
        """
        hidden, weight, targets, normaliser = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        outer = -gradients[0][:, None].float()
        inputs, space = hidden.to(ctx.dtype), _space(hidden, weight, ctx.columns)
        scaled = (outer * hidden).to(ctx.dtype) if need_weight else None
        grad_hidden = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device) if need_hidden else None
        grad_weight = torch.empty_like(weight) if need_weight else None
        for part in _parts(len(weight), ctx.columns):
            rows = weight[part].to(ctx.dtype)
            position, inside = _position(targets, part)
            tile = _logits(inputs, rows, space).sub_(normaliser[:, None]).exp_()
            tile = tile.scatter_add_(1, position, -inside[:, None]).to(ctx.dtype)
            if grad_hidden is not None:
                _multiply(tile, rows, out=grad_hidden, keep=1)
            if grad_weight is not None:
                _multiply(tile.T, scaled, out=grad_weight[part])
        if grad_hidden is not None:
            grad_hidden = grad_hidden.mul_(outer).to(hidden.dtype)
        return grad_hidden, grad_weight, None, None, None


def _parts(vocabulary: int, columns: int) -> list[slice]:
    """Return slices of at most `columns` token ids."""
    return [slice(start, min(start + columns, vocabulary)) for start in range(0, vocabulary, columns)]


def _position(targets: torch.Tensor, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each target's column in a tile, shape (tokens, 1), and 1.0 where it lies in the tile (else 0.0)."""
    position = targets - part.start
    inside = (position >= 0) & (position < part.stop - part.start)
    return torch.where(inside, position, 0)[:, None], inside.float()


def _space(hidden: torch.Tensor, weight: torch.Tensor, columns: int) -> torch.Tensor:
    """Return room for one tile; new room for each costs a CPU a seventh of the time, in page faults."""
    return torch.empty(len(hidden) * min(columns, len(weight)), dtype=torch.float32, device=hidden.device)


def _logits(inputs: torch.Tensor, rows: torch.Tensor, space: torch.Tensor) -> torch.Tensor:
    """Return ``inputs @ rows.T`` in float32, written into `space`."""
    tile = space[: len(inputs) * len(rows)].view(len(inputs), len(rows))
    return _multiply(inputs, rows.T, out=tile)


def _multiply(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor, keep: int = 0) -> torch.Tensor:
    """Set ``out = keep * out + left @ right``; autocast has been taken into account already."""
    with torch.autocast(left.device.type, enabled=False):
        if left.dtype == out.dtype:
            return out.addmm_(left, right, beta=keep)
        product = left @ right
        return out.add_(product) if keep else out.copy_(product)
