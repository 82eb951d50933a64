"""Batches of tensors from tokenised examples: padded rows, or one row without padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["Collator"]

# Columns of `lm.examples.ExampleSet` that go into a batch, one value per sequence, under the same name.
_COLUMNS = {
    "preferred": torch.bool,
    "rows": torch.int64,
    "weights": torch.float32,
    "alpha": torch.float32,
    "reference_log_probs": torch.float32,
}


class Collator:
    """Collate examples into a batch for `lm.output_head.LogProbHead`.

    Masks follow from lengths: a token equal to the padding token inside a sequence is a token like any other.

    Parameters
    ----------
    pad_token_id : int
        Token that fills rows up, not negative; it is never attended to and never predicted.
    padding_free : bool
        One row of all sequences, one after the other, instead of one row per sequence. For models whose attention is
        "sdpa", "eager" or "flex_attention" (flash attention: unchecked, for want of a GPU): they tell sequences apart
        by positions that restart at 0.

    Raises
    ------
    ValueError
        If `pad_token_id` is negative.

    Notes
    -----
    A padding-free batch has no attention mask, and the model must be called with ``use_cache=False``: with a mask of
    ones, or with a cache, transformers lets sequences see each other without any warning.

    Examples
    --------
    >>> from lm.examples import ExampleSet
    >>> prompts = [np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)]
    >>> completions = [np.array([8], dtype=np.int32), np.array([9], dtype=np.int32)]
    >>> data = ExampleSet(prompts, completions, np.array([True, False]), np.array([0, 1]))
    >>> batch = Collator(pad_token_id=0)([data[0], data[1]])
    >>> batch["input_ids"]
    tensor([[5, 6, 8],
            [7, 9, 0]])
    >>> batch["completion_mask"].int()
    tensor([[0, 0, 1],
            [0, 1, 0]], dtype=torch.int32)
    >>> Collator(pad_token_id=0, padding_free=True)([data[0], data[1]])["position_ids"]
    tensor([[0, 1, 2, 0, 1]])
    """

    def __init__(self, pad_token_id: int, padding_free: bool = False) -> None:
        if pad_token_id < 0:
            raise ValueError(f"pad_token_id must not be negative, got {pad_token_id}")
        self.pad_token_id = pad_token_id
        self.padding_free = padding_free

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of some examples.

        Parameters
        ----------
        examples : sequence of dict
            Items of an `lm.examples.ExampleSet`, S sequences in all.

        Returns
        -------
        dict of Tensor
            Padded: input_ids and attention_mask (int64) and completion_mask (bool), shape (S, T). Padding-free:
            input_ids, position_ids, sequence_ids (int64) and completion_mask, shape (1, tokens). Both, shape (S,):
            preferred (bool), rows (int64), weights (float32; 1 where the set has none), and alpha and
            reference_log_probs (float32) where the set has them. completion_mask is True for the tokens that are
            predicted.

        Raises
        ------
        ValueError
            If there is no example, or a prompt or completion is empty.
        """
        if not examples:
            raise ValueError("a batch must have at least one example, got none")
        prompts = [ids for example in examples for ids in example["prompt_ids"]]
        completions = [ids for example in examples for ids in example["completion_ids"]]
        rows = _column(examples, "rows", torch.int64)
        for row, prompt, completion in zip(rows.tolist(), prompts, completions, strict=True):
            if not len(prompt) or not len(completion):
                raise ValueError(
                    f"prompt and completion must not be empty, got {len(prompt)} and {len(completion)} tokens "
                    f"in row {row}"
                )
        batch = _packed(prompts, completions) if self.padding_free else _padded(prompts, completions, self.pad_token_id)
        batch["weights"] = torch.ones(len(prompts))
        return batch | {name: _column(examples, name, dtype) for name, dtype in _COLUMNS.items() if name in examples[0]}


def _column(examples: Sequence[dict[str, Any]], name: str, dtype: torch.dtype) -> torch.Tensor:
    """Return one value per sequence."""
    return torch.as_tensor(np.concatenate([example[name] for example in examples])).to(dtype)


def _padded(prompts: list[np.ndarray], completions: list[np.ndarray], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return one row per sequence, filled up on the right."""
    starts = np.array([len(ids) for ids in prompts])[:, None]
    ends = starts + np.array([len(ids) for ids in completions])[:, None]
    position = np.arange(ends.max())
    ids = np.full((len(prompts), len(position)), pad_token_id, dtype=np.int64)
    attended = position < ends
    ids[attended] = np.concatenate([part for pair in zip(prompts, completions, strict=True) for part in pair])
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(attended.astype(np.int64)),
        "completion_mask": torch.from_numpy((position >= starts) & attended),
    }


def _packed(prompts: list[np.ndarray], completions: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Return all sequences in one row, with positions that restart at each."""
    starts = np.array([len(ids) for ids in prompts])
    lengths = starts + np.array([len(ids) for ids in completions])
    sequence = np.repeat(np.arange(len(prompts)), lengths)
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ids = np.concatenate([part for pair in zip(prompts, completions, strict=True) for part in pair])
    columns = {
        "input_ids": ids.astype(np.int64),
        "position_ids": position,
        "completion_mask": position >= starts[sequence],
        "sequence_ids": sequence,
    }
    return {name: torch.from_numpy(column)[None] for name, column in columns.items()}
