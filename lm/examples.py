"""Tokenised examples: what every part of `lm` shares between files of text and batches of tensors.

All sets are lists of sequences (a prompt and a completion). An example is one sequence, or two in a row: (chosen,
rejected) for dpo and ipo, (completion, mismatched completion) for kto.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

__all__ = ["ExampleSet"]


@dataclass(frozen=True, eq=False)
class ExampleSet:
    """Sequences of tokens with their labels; example e is the sequences from ``e width`` to ``(e + 1) width``.

    Attributes
    ----------
    prompt_ids, completion_ids : list of ndarray
        Token ids of each sequence, int32, never empty.
    preferred : ndarray of bool
        Class of each sequence, shape (sequences,). Chosen responses are preferred, rejected ones are not.
    rows : ndarray of int64
        Number of the source row of each sequence, from 0.
    width : int
        Sequences of an example, 1 or 2.
    alpha : ndarray, optional
        The data's own alpha of each sequence, float64, in (0, 1).
    weights : ndarray, optional
        The data's own weight of each sequence, float64, not negative.
    reference_log_probs : ndarray, optional
        Log-probability of each completion under the reference, float32, nats.

    Raises
    ------
    ValueError
        If an array has not one value per sequence, or the sequences do not divide into examples.

    Examples
    --------
    >>> ids = [np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)]
    >>> pair = ExampleSet(ids, ids, np.array([True, False]), np.array([0, 0]), width=2)
    >>> len(pair), pair[0]["prompt_ids"][1]
    (1, array([7], dtype=int32))
    """

    prompt_ids: list[np.ndarray]
    completion_ids: list[np.ndarray]
    preferred: np.ndarray
    rows: np.ndarray
    width: int = 1
    alpha: np.ndarray | None = None
    weights: np.ndarray | None = None
    reference_log_probs: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that the columns fit."""
        n = len(self.prompt_ids)
        for name in _COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise ValueError(f"{name} must have one value for each of {n} sequences, got {len(column)}")
        if self.width not in (1, 2) or n % self.width:
            raise ValueError(f"sequences must divide into examples of width 1 or 2, got {n} of width {self.width}")

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.prompt_ids) // self.width

    def __getitem__(self, example: int) -> dict[str, Any]:
        """Return the columns of one example, each a list or array of `width` values; absent columns are left out."""
        if not 0 <= example < len(self):
            raise IndexError(f"example must lie in [0, {len(self)}), got {example}")
        part = slice(example * self.width, (example + 1) * self.width)
        return {name: getattr(self, name)[part] for name in _COLUMNS if getattr(self, name) is not None}

    def select(self, examples: Sequence[int] | np.ndarray) -> Self:
        """Return the set of some examples, in the order given."""
        chosen = (np.asarray(examples, dtype=np.int64)[:, None] * self.width + np.arange(self.width)).ravel()
        columns: dict[str, Any] = {}
        for name in _COLUMNS:
            column = getattr(self, name)
            columns[name] = [column[i] for i in chosen] if isinstance(column, list) else column
            if isinstance(column, np.ndarray):
                columns[name] = column[chosen]
        return replace(self, **columns)


_COLUMNS = ("prompt_ids", "completion_ids", "preferred", "rows", "alpha", "weights", "reference_log_probs")
