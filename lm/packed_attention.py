"""Attention within each sequence of a padding-free row, at the price of the sequences' own lengths.

transformers keeps the sequences of a row apart by a mask over all pairs of its positions, and its "sdpa" computes the
attention of all pairs: the square of the sum of lengths, where the sum of their squares is enough.
"""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["PackedAttention", "attention_by_sequence"]

_NAME = "sdpa_by_sequence"


def attention_by_sequence(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None = None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as "sdpa" computes it, and for one row of several sequences a block at a time.

    Parameters
    ----------
    module : Module
        The attention layer.
    query, key, value : Tensor
        Shape (rows, heads, time, width of a head).
    attention_mask : Tensor, optional
        Of the whole row, shape (rows, 1, time, time); its blocks of single sequences are used, and what it allows
        between sequences (nothing) is left out.
    position_ids : Tensor, optional
        Positions, shape (rows, time); a sequence begins at each 0.
    **settings
        Whatever else "sdpa" takes.

    Returns
    -------
    Tensor and None
        Shape (rows, time, heads, width of a head); no weights.
    """
    lengths = _lengths(query, key, attention_mask, position_ids)
    if len(lengths) < 2:
        return sdpa_attention_forward(module, query, key, value, attention_mask, position_ids=position_ids, **settings)
    parts, start = [], 0
    columns = (each.split(lengths, dim=2) for each in (query, key, value))
    for length, *block in zip(lengths, *columns, strict=True):
        inside = slice(start, start + length)
        parts.append(sdpa_attention_forward(module, *block, attention_mask[..., inside, inside], **settings)[0])
        start += length
    return torch.cat(parts, dim=1), None


def _lengths(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, position_ids: torch.Tensor | None
) -> list[int]:
    """Return the lengths of the sequences of a padding-free row, or nothing if these are other rows."""
    time = query.shape[2]
    if mask is None or position_ids is None or len(query) > 1 or key.shape[2] != time or mask.shape[-2] != time:
        return []
    starts = (position_ids[0] == 0).nonzero()[:, 0].tolist()
    if starts[:1] != [0]:
        return []
    return [end - start for start, end in zip(starts, [*starts[1:], time], strict=True)]


class PackedAttention:
    """Have a model whose attention is "sdpa" attend by sequence, until `remove`.

    Parameters
    ----------
    model : Module
        A model of transformers, without adapters; others are left as they are.

    Examples
    --------
    >>> from lm.tiny_models import tiny_qwen2
    >>> model = tiny_qwen2(vocabulary=10, hidden_size=8, layers=1)
    >>> attention = PackedAttention(model)
    >>> model.config._attn_implementation
    'sdpa_by_sequence'
    >>> attention.remove()
    >>> model.config._attn_implementation
    'sdpa'
    """

    def __init__(self, model: nn.Module) -> None:
        known = isinstance(model, PreTrainedModel) and model.config._attn_implementation == "sdpa"
        self._model = model if known else None
        if self._model is not None:
            self._model.set_attn_implementation(_NAME)

    def remove(self) -> None:
        """Give the model its own attention back; nothing happens the second time."""
        if self._model is not None:
            self._model.set_attn_implementation("sdpa")
            self._model = None


AttentionInterface.register(_NAME, attention_by_sequence)
AttentionMaskInterface.register(_NAME, sdpa_mask)
