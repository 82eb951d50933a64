"""Batches hold every token once, in its place, and nothing of the padding."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lm.collate import Collator
from lm.examples import ExampleSet

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=5)  # the padding token 0 occurs inside sequences


def example_set(sequences, **columns):
    prompts = [np.array(prompt, dtype=np.int32) for prompt, _ in sequences]
    completions = [np.array(completion, dtype=np.int32) for _, completion in sequences]
    n = len(sequences)
    return ExampleSet(prompts, completions, np.arange(n) % 2 == 0, np.arange(n), **columns)


def collate(data, padding_free=False, pad_token_id=0):
    return Collator(pad_token_id, padding_free)([data[i] for i in range(len(data))])


def test_a_padded_batch_by_hand():
    batch = collate(example_set([([5, 6], [0]), ([7], [8, 9, 0])]))
    expected = {
        "input_ids": [[5, 6, 0, 0], [7, 8, 9, 0]],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 1, 1]],
        "completion_mask": [[False, False, True, False], [False, True, True, True]],
        "preferred": [True, False],
        "rows": [0, 1],
        "weights": [1.0, 1.0],
    }
    assert {name: column.tolist() for name, column in batch.items()} == expected


def test_a_padding_free_batch_by_hand():
    batch = collate(example_set([([5, 6], [0]), ([7], [8, 9])]), padding_free=True)
    expected = {
        "input_ids": [[5, 6, 0, 7, 8, 9]],
        "position_ids": [[0, 1, 2, 0, 1, 2]],
        "sequence_ids": [[0, 0, 0, 1, 1, 1]],
        "completion_mask": [[False, False, True, False, True, True]],
        "preferred": [True, False],
        "rows": [0, 1],
        "weights": [1.0, 1.0],
    }
    assert {name: column.tolist() for name, column in batch.items()} == expected


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=5), st.booleans())
@example([([0], [0])], False)
@example([([0], [0])], True)
def test_every_sequence_can_be_read_back_whatever_the_padding_token(sequences, padding_free):
    batch = collate(example_set(sequences), padding_free)
    for i, (prompt, completion) in enumerate(sequences):
        if padding_free:
            mine = batch["sequence_ids"][0] == i
            ids, mask = batch["input_ids"][0, mine], batch["completion_mask"][0, mine]
            assert batch["position_ids"][0, mine].tolist() == list(range(len(ids)))
        else:
            mine = batch["attention_mask"][i].bool()
            ids, mask = batch["input_ids"][i, mine], batch["completion_mask"][i, mine]
            assert not batch["completion_mask"][i, ~mine].any()
        assert ids.tolist() == prompt + completion
        assert ids[mask].tolist() == completion
        assert not mask[0]


def test_columns_keep_their_types_and_pairs_stay_together():
    columns = {
        "alpha": np.array([0.1, 0.2, 0.3, 0.4]),
        "weights": np.array([1.0, 2.0, 3.0, 4.0]),
        "reference_log_probs": np.array([-1.0, -2.0, -3.0, -4.0], dtype=np.float32),
    }
    data = example_set([([1], [i]) for i in range(4)], width=2, **columns)
    batch = Collator(0)([data[1], data[0]])
    assert batch["rows"].tolist() == [2, 3, 0, 1]
    assert batch["preferred"].tolist() == [True, False, True, False]
    assert batch["weights"].tolist() == [3.0, 4.0, 1.0, 2.0]
    torch.testing.assert_close(batch["alpha"], torch.tensor([0.3, 0.4, 0.1, 0.2]))
    assert batch["reference_log_probs"].tolist() == [-3.0, -4.0, -1.0, -2.0]
    assert {name: batch[name].dtype for name in columns} == dict.fromkeys(columns, torch.float32)
    assert batch["preferred"].dtype == torch.bool and batch["rows"].dtype == torch.int64
    assert "labels" not in batch  # Trainer would do things of its own with them


def test_columns_that_the_set_lacks_are_not_made_up():
    assert {"alpha", "reference_log_probs"}.isdisjoint(collate(example_set([([1], [2])])))


@pytest.mark.parametrize("padding_free", [False, True])
def test_bad_batches_are_refused(padding_free):
    with pytest.raises(ValueError, match="pad_token_id must not be negative, got -1"):
        Collator(-1, padding_free)
    with pytest.raises(ValueError, match="at least one example"):
        Collator(0, padding_free)([])
    with pytest.raises(ValueError, match="must not be empty, got 0 and 1 tokens in row 1"):
        collate(example_set([([1], [2]), ([], [3])]), padding_free)
    with pytest.raises(ValueError, match="must not be empty, got 1 and 0 tokens in row 0"):
        collate(example_set([([1], []), ([1], [3])]), padding_free)
