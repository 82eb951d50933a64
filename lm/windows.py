"""Each example counts once in an epoch, however many processes share it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator

__all__ = ["mark_repeats", "without_repeats"]

_COUNTED = "counted"


def mark_repeats(batches: Sequence[dict[str, Any]], accelerator: Accelerator, width: int, examples: int) -> int:
    """Mark the last batch of an epoch if it has been filled up with examples of the epoch's beginning.

    accelerate fills up the last batches so that every process has as many, of one size. In the order of processes, the
    examples of the data come first and repeats last.

    Parameters
    ----------
    batches : sequence of dict
        This process's batches of an optimiser step, as `lm.collate.Collator` makes them.
    accelerator : Accelerator
        Knows whether the epoch is at its end, and how many processes there are.
    width : int
        Sequences of an example.
    examples : int
        Examples of an epoch, all processes together.

    Returns
    -------
    int
        Examples of these batches that are no repeats.
    """
    sizes = [len(batch["preferred"]) // width for batch in batches]
    if batches and accelerator.num_processes > 1 and accelerator.gradient_state.end_of_dataloader:
        # accelerate knows this remainder too, but not in an epoch that a resumed run begins in its middle.
        remainder = examples % (accelerator.num_processes * sizes[-1])
        left = max(0, remainder - accelerator.process_index * sizes[-1])
        if remainder and left < sizes[-1]:
            batches[-1][_COUNTED] = torch.tensor(left * width)
            sizes[-1] = left
    return sum(sizes)


def without_repeats(batch: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return a batch without the sequences that `mark_repeats` told to be repeats; there may be none left.

    Parameters
    ----------
    batch : mapping of str to Tensor
        Batch, which the model must see whole: all processes must run as many forward and backward passes.

    Returns
    -------
    mapping of str to Tensor
        The batch itself, or parts of its columns.

    Examples
    --------
    >>> batch = {"preferred": torch.tensor([True, False]), "sequence_ids": torch.tensor([[0, 0, 1]])}
    >>> without_repeats(batch | {"counted": torch.tensor(1)})
    {'preferred': tensor([True]), 'sequence_ids': tensor([[0, 0]])}
    """
    if _COUNTED not in batch:
        return batch
    columns = {name: column for name, column in batch.items() if name != _COUNTED}
    counted = int(batch[_COUNTED])
    if "sequence_ids" not in batch:
        return {name: column[:counted] for name, column in columns.items()}
    tokens = int((batch["sequence_ids"] < counted).sum())
    return {name: column[:counted] if column.ndim == 1 else column[:, :tokens] for name, column in columns.items()}
