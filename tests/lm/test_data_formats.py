"""Every row format means the same sequences."""

import numpy as np
import pytest

from lm.data.formats import canonical_rows
from lm.data.prefixes import common_text, common_tokens, common_words

_USER = {"role": "user", "content": "2+2?"}
_SYSTEM = {"role": "system", "content": "Be short."}


def _said(content):
    return {"role": "assistant", "content": content}


def _triples(rows):
    return [(s.prompt, s.completion, s.preferred) for s in canonical_rows(rows, vocabulary=100).sequences]


def test_labelled_text():
    rows = [{"prompt": "a", "completion": "b", "label": 1}, {"prompt": "", "completion": "c", "label": False}]
    assert _triples(rows) == [("a", "b", True), ("", "c", False)]


_TURNS = [_USER, _said("4"), _USER]
_CONVERSATION = [
    {"prompt": [_SYSTEM, *_TURNS], "completion": [_said("4")], "label": True},
    {"messages": [_SYSTEM, *_TURNS, _said("4")], "label": np.int64(1)},
    {"prompt": [_SYSTEM, *_TURNS], "completion": [_SYSTEM, *_TURNS, _said("4")], "label": np.True_},
    {"messages": [{**m, "tool_calls": None} for m in (_SYSTEM, *_TURNS, _said("4"))], "label": True, "prompt": None},
]


@pytest.mark.parametrize("row", _CONVERSATION)
def test_conversations_with_a_label(row):
    assert _triples([row]) == [([_SYSTEM, *_TURNS], [_said("4")], True)]


_CONVERSATION_PAIRS = [
    {"prompt": [_USER], "chosen": [_said("4")], "rejected": [_said("5")]},
    {"chosen": [_USER, _said("4")], "rejected": [_USER, _said("5")]},
    {"prompt": [_USER], "chosen": [_USER, _said("4")], "rejected": [_USER, _said("5")]},
    # As UltraFeedback has it.
    {"prompt": "2+2?", "chosen": [_USER, _said("4")], "rejected": [_USER, _said("5")], "messages": [_USER, _said("4")]},
]


@pytest.mark.parametrize("row", _CONVERSATION_PAIRS)
def test_conversations_in_pairs(row):
    assert _triples([row]) == [([_USER], [_said("4")], True), ([_USER], [_said("5")], False)]


def test_the_prompt_of_a_pair_is_all_that_both_share():
    row = {"chosen": [*_TURNS, _said("4")], "rejected": [*_TURNS, _said("5")]}
    assert [prompt for prompt, _, _ in _triples([row])] == [_TURNS, _TURNS]
    assert [prompt for prompt, _, _ in _triples([{**row, "prompt": "2+2?"}])] == [_TURNS, _TURNS]


def test_equal_answers_of_a_pair_are_answers_still():
    assert [c for _, c, _ in _triples([{"chosen": [_USER, _said("4")], "rejected": [_USER, _said("4")]}])] == [
        [_said("4")],
        [_said("4")],
    ]


@pytest.mark.parametrize(
    ("row", "prompt", "completions"),
    [
        ({"prompt": "Q", "chosen": "a b", "rejected": "a c"}, "Q", ["a b", "a c"]),
        ({"chosen": "Q: who? A: Ann", "rejected": "Q: who? A: Anton"}, "Q: who? A:", [" Ann", " Anton"]),
        ({"chosen": "Q:\nAnn", "rejected": "Q:\nBob"}, "Q:\n", ["Ann", "Bob"]),
        ({"chosen": "Q: yes", "rejected": "Q: yes or no"}, "Q:", [" yes", " yes or no"]),
        ({"chosen": "same text", "rejected": "same text"}, "same", [" text", " text"]),
        ({"chosen": "cat", "rejected": "car"}, "", ["cat", "car"]),
    ],
)
def test_text_in_pairs(row, prompt, completions):
    assert _triples([row]) == [(prompt, completions[0], True), (prompt, completions[1], False)]


def test_tokens_stay_as_they_are():
    (sequence,) = canonical_rows([{"prompt_ids": [0, 99], "completion_ids": (7,), "label": 0}], 100).sequences
    assert sequence.prompt.tolist() == [0, 99] and sequence.completion.tolist() == [7]
    assert sequence.prompt.dtype == sequence.completion.dtype == np.int32


def test_optional_columns_of_single_responses_and_of_pairs():
    extra = {"weight": 0, "alpha": 0.5}
    single = {"prompt": "a", "completion": "b", "label": 1, "ref_logps": -2, **extra}
    pair = {"prompt": "a", "chosen": "b", "rejected": "c", "chosen_ref_logps": -1.5, "rejected_ref_logps": 0, **extra}
    assert canonical_rows([single], 9).sequences[0][-3:] == (0.5, 0.0, -2.0)
    assert [sequence[-3:] for sequence in canonical_rows([pair], 9).sequences] == [(0.5, 0.0, -1.5), (0.5, 0.0, 0.0)]
    assert canonical_rows([pair], 9).columns == ("alpha", "chosen_ref_logps", "rejected_ref_logps", "weight")


def test_columns_that_are_not_read_are_told():
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "prompt_id": "x", "score_chosen": 3, "messages": []}
    assert canonical_rows([row, {**row, "source": "me"}], 9).ignored == (
        "messages",
        "prompt_id",
        "score_chosen",
        "source",
    )


def test_common_prefixes():
    assert common_text("", "a") == "" and common_text("abc", "abd") == "ab" and common_text("ab", "abc") == "ab"
    assert common_tokens(np.array([1, 2]), np.array([1, 2])) == 2 and common_tokens(np.array([1]), np.array([2])) == 0
    assert common_words("x" * 10**6, "x" * 10**6) == ""  # fast without any space
