"""Malformed data: each is refused before any model is loaded, with the place, the rule and what was received."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import PreTrainedTokenizerFast

from lm.data import load_examples, load_rows
from lm.settings import DataConfig
from lm.tokenizers import toy_tokenizer

_TOY = toy_tokenizer()
_USER = {"role": "user", "content": "2+2?"}
_FOUR = {"role": "assistant", "content": "4"}
_GOOD = {"prompt": "2+2=", "completion": "4", "label": True}
_PAIR = {"prompt": "2+2=", "chosen": "4", "rejected": "5"}
_IDS = {"prompt_ids": [1, 2], "completion_ids": [3], "label": False}


def _without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


# Rows, and what the error must say.
ROWS = {
    "no rows": ([], "data must have at least one row, got none"),
    "row is text": ([_GOOD, "text"], "row 1: a row must map columns to values, got str"),
    "column 3": ([{**_GOOD, 3: 4}], "row 0: names of columns must be text, got 3, completion, label, prompt"),
    "half a character": (
        [{**_GOOD, "completion": "4\ud83d"}],
        r"row 0: completion must be valid Unicode, got '\\ud83d'",
    ),
    "half a character in a message": (
        [{"messages": [{**_USER, "content": "\ud83d"}, _FOUR], "label": 1}],
        "row 0: messages: message 0 must be valid Unicode, got",
    ),
    "label nan": ([_GOOD, {**_GOOD, "label": float("nan")}], "row 1: label must be true, false, 0 or 1, got nan"),
    "label 2": ([_GOOD, {**_GOOD, "label": 2}], "row 1: label must be true, false, 0 or 1, got 2"),
    "label 1.0": ([{**_GOOD, "label": 1.0}], "row 0: label must be true, false, 0 or 1, got 1.0"),
    "label -1": ([{**_GOOD, "label": np.int64(-1)}], "row 0: label must be true, false, 0 or 1, got"),
    "label yes": ([{**_GOOD, "label": "yes"}], "row 0: label must be true, false, 0 or 1, got 'yes'"),
    "label null": ([_GOOD, {**_GOOD, "label": None}], "row 1: a row must have the columns .* add 'label'"),
    "no label": ([_without(_GOOD, "label")], r"prompt \+ completion \+ label.*; got completion, prompt: add 'label'"),
    "misspelled label": (
        [{**_without(_GOOD, "label"), "lable": True}],
        "row 0: .* got completion, lable, prompt: rename 'lable' to 'label'",
    ),
    "misspelled columns": (
        [{"promt": "a", "complet": "b", "label": 1}],
        "rename 'promt' to 'prompt' and rename 'compl",
    ),
    "only rejected": ([_without(_PAIR, "chosen")], "got prompt, rejected: add 'chosen'"),
    "label only": ([{"question": "a", "label": 1}], r"completion_ids \+ label; got label, question$"),
    "nothing known": ([{"question": "a", "answer": "b"}], "a row must have the columns .* got answer, question"),
    "misspelled weight": ([{**_GOOD, "weigth": 1}], "row 0: unknown column 'weigth', did you mean 'weight'"),
    "label and chosen": (
        [{**_PAIR, "label": True}],
        "row 0: columns must belong to one format, got chosen, prompt, rejected beside label",
    ),
    "two formats in a row": ([{**_GOOD, **_IDS}], "row 0: columns must belong to one format, .* beside completion_ids"),
    "two formats in a file": (
        [_GOOD, _GOOD, _PAIR],
        r"row 2: all rows must have one format, got prompt \+ chosen \+ rejected, row 0 prompt \+ completion \+ label",
    ),
    "weight in some rows": (
        [{**_GOOD, "weight": 1}, _GOOD],
        r"row 1: all rows must have one format, .* label \+ weight",
    ),
    "text and messages": (
        [_GOOD, {"prompt": [_USER], "completion": [_FOUR], "label": 0}],
        "row 1: all rows must hold the same, got conversation where row 0 holds text",
    ),
    "messages beside text": ([{**_GOOD, "prompt": [_USER]}], "row 0: prompt must be text, as completion is, got"),
    "text beside messages": (
        [{**_GOOD, "completion": [_FOUR]}],
        "row 0: prompt must be a list of messages, as completion is, got '2",
    ),
    "prompt is a number": ([{**_GOOD, "prompt": 4}], "row 0: prompt must be text, as completion is, got 4"),
    "completion is a number": ([{**_GOOD, "completion": 4}], "completion must be text or a list of messages, got 4"),
    "completion is a list of text": ([{**_GOOD, "completion": ["4"]}], "completion must be a list of messages, got"),
    "messages as text": (
        [{"messages": json.dumps([_USER, _FOUR]), "label": 1}],
        "row 0: messages must be a list of messages, got .*; in a JSONL file write the list itself",
    ),
    "no messages": (
        [{"messages": [], "label": 1}],
        "row 0: messages must have at least one message, got an empty list",
    ),
    "messages end with the user": (
        [{"messages": [_USER, _FOUR, _USER], "label": 1}],
        "row 0: messages must end with a message of role assistant, got 'user'",
    ),
    "no prompt in messages": ([{"messages": [_FOUR], "label": 1}], "messages must have a message before the answer"),
    "two answers in a row": (
        [{"messages": [_USER, _FOUR, _FOUR], "label": 1}],
        "two messages of the assistant in a row",
    ),
    "role missing": (
        [{"messages": [_USER, {"content": "4"}], "label": 1}],
        "messages: message 1 must have a role .* got",
    ),
    "content missing": (
        [{"messages": [_USER, {"role": "assistant", "content": None}], "label": 1}],
        "messages: message 1 must have a content that is text, got keys role",
    ),
    "content in parts": (
        [{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, _FOUR], "label": 1}],
        r"messages: message 0 must have a content that is text, got \[\{'type'",
    ),
    "role of another template": (
        [{"messages": [_USER, _FOUR], "label": 1}, {"messages": [{**_USER, "role": "human"}, _FOUR], "label": 1}],
        "row 1: the chat template refuses the messages: role must be .* got human",
    ),
    "completion of two turns": (
        [{"prompt": [_USER], "completion": [_FOUR, _USER], "label": 1}],
        "completion must add one message to the prompt, got 2",
    ),
    "pairs differ before the end": (
        [{"chosen": [_USER, _FOUR], "rejected": [{**_USER, "content": "3+3?"}, _FOUR]}],
        "what chosen and rejected share must have a message before the answer",
    ),
    "empty completion": ([_GOOD, {**_GOOD, "completion": ""}], "row 1: completion must not be empty, got ''"),
    "blank completion": ([{**_PAIR, "rejected": " \n"}], r"row 0: rejected must not be empty, got ' \\n'"),
    "empty answer": (
        [{"messages": [_USER, {**_FOUR, "content": ""}], "label": 1}],
        "row 0: messages must not have an empty answer, got ''",
    ),
    "empty prompt without BOS": (
        [{**_GOOD, "prompt": ""}],
        "row 0: the prompt must have a token of its own, .* but it is empty and the tokenizer adds no BOS",
    ),
    "pairs that share nothing": (
        [{"chosen": "cat", "rejected": "car"}],
        "row 0: the prompt must have a token of its own",
    ),
    "negative weight": ([{**_GOOD, "weight": -1}], "row 0: weight must be finite and not negative, got -1"),
    "infinite weight": ([{**_GOOD, "weight": float("inf")}], "row 0: weight must be finite and not negative, got inf"),
    "weight in words": ([{**_GOOD, "weight": "2"}], "row 0: weight must be a number, got '2'"),
    "weights all 0": ([{**_GOOD, "weight": 0}] * 2, "weight must be above 0 in at least one row, got 0 in all 2"),
    "alpha 1": ([{**_GOOD, "alpha": 1}], "row 0: alpha must lie strictly between 0 and 1, got 1"),
    "alpha nan": ([{**_GOOD, "alpha": float("nan")}], "row 0: alpha must lie strictly between 0 and 1, got nan"),
    "positive log-probability": (
        [{**_GOOD, "ref_logps": 0.5}],
        "row 0: ref_logps must be a log-probability, finite and at most 0, got 0.5",
    ),
    "infinite log-probability": (
        [{**_PAIR, "chosen_ref_logps": -1.0, "rejected_ref_logps": float("-inf")}],
        "row 0: rejected_ref_logps must be a log-probability, finite and at most 0, got -inf",
    ),
    "one log-probability of a pair": (
        [{**_PAIR, "chosen_ref_logps": -1.0}],
        "must be in chosen_ref_logps and rejected_ref_logps, both, got chosen_ref_logps",
    ),
    "log-probability of a single response in a pair": (
        [{**_PAIR, "ref_logps": -1.0}],
        "must be in chosen_ref_logps and rejected_ref_logps, both, got ref_logps",
    ),
    "id out of vocabulary": (
        [_IDS, {**_IDS, "completion_ids": [3, 260]}],
        r"row 1: completion_ids must hold ids of the tokenizer, in \[0, 260\), got 260; .* another tokenizer",
    ),
    "negative id": ([{**_IDS, "prompt_ids": [-1]}], r"row 0: prompt_ids must hold ids of the tokenizer, .* got -1"),
    "huge id": ([{**_IDS, "prompt_ids": [2**70]}], "row 0: prompt_ids must be a flat list of integers, got object"),
    "ids as numbers": ([{**_IDS, "prompt_ids": [1.0]}], "row 0: prompt_ids must hold integers only, got 1.0"),
    "ids as booleans": ([{**_IDS, "prompt_ids": [1, True]}], "row 0: prompt_ids must hold integers only, got True"),
    "ids as text": ([{**_IDS, "prompt_ids": "1 2"}], "row 0: prompt_ids must be a list of token ids, got '1 2'"),
    "ids of batches": ([{**_IDS, "prompt_ids": np.array([[1]])}], r"must be a flat list of integers, got .* \(1, 1\)"),
    "no ids": (
        [{**_IDS, "completion_ids": []}],
        "row 0: completion_ids must hold at least one token, got an empty list",
    ),
    "half too long": (
        [{**_GOOD, "completion": "4" * (1 if i % 2 else 2000)} for i in range(10)],
        "rows 0, 2, 4, 6, 8: at most max_lost = 0.1 of .* max_length = 1024 tokens, .* got 5 dropped and 0 cut",
    ),
}


@pytest.mark.parametrize(("rows", "message"), ROWS.values(), ids=ROWS)
def test_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        load_examples(rows, _TOY, DataConfig())


# Name of a file, its bytes, and what the error must say after the path.
FILES = {
    "empty": ("a.jsonl", b"", "at least one row, got an empty"),
    "blank": ("a.jsonl", b"\n\n", "at least one row, got an empty"),
    "empty list": ("a.json", b"[]", "at least one row, got an empty"),
    "empty json": ("a.json", b"", "at least one row, got an empty"),
    "broken line": (
        "a.jsonl",
        b'{"a": 1}\n\n{"a": \n',
        "a.jsonl, line 3, column 6 must be valid JSON, got: Expecting value",
    ),
    "line cut off": (
        "a.jsonl",
        b'{"a": 1}\n{"a": "b',
        "a.jsonl, line 2, column 7 must be valid JSON, got: Unterminated string",
    ),
    "line is a list": ("a.jsonl", b"[1, 2]", r"a.jsonl, line 1 must be one JSON object, got \[1, 2\]"),
    "key twice": ("a.jsonl", b'{"a": 1, "a": 2}', "line 1 must be valid JSON, got: the key 'a' twice in one object"),
    "not UTF-8": ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}', "a.jsonl, line 2 must be UTF-8, got byte 0xe9"),
    "lines in json": (
        "a.json",
        b'{"a": 1}\n{"a": 2}',
        "line 2, column 1 must be valid JSON, got: Extra data; one object a line belongs in a file .* .jsonl",
    ),
    "json object": ("a.json", b'{"a": 1}', "a.json must be a JSON list of objects, got {'a': 1}"),
    "json of text": ("a.json", b'[{"a": 1}, "b"]', "a.json, row 1 must be a JSON object, got 'b'"),
    "json too deep": ("a.json", b"[" * 100_000, "a.json must be valid JSON, got"),
    "not UTF-8 in csv": ("a.csv", b"prompt,completion,label\n\xe9,b,1\n", "a.csv must be UTF-8, got byte 0xe9"),
    "empty csv": ("a.csv", b"", "at least one row, got an empty"),
    "csv without rows": ("a.csv", b"prompt,completion,label\n", "at least one row, got an empty"),
    "csv without header": (
        "a.csv",
        b"2+2=,4,1\n",
        "a.csv, line 1 must name the columns, such as .* got '2\\+2=', '4', '1'",
    ),
    "csv with semicolons": (
        "a.csv",
        b"prompt;completion;label\na;b;1\n",
        "line 1 must name the columns, .* got 'prompt;com",
    ),
    "csv column twice": (
        "a.csv",
        b"prompt,label,prompt\na,1,b\n",
        "line 1 must name each column once, got 'prompt' twice",
    ),
    "csv row too short": ("a.csv", b"prompt,completion,label\na,b\n", "a.csv, line 2 must have 3 cells, .* got 2"),
    "csv quote": (
        "a.csv",
        b'prompt,completion,label\na,"b,1\n',
        "a.csv, line 2 must be valid CSV, got: unexpected end",
    ),
    "csv label": (
        "a.csv",
        b"prompt,completion,label\na,b,yes\n",
        "line 2: label must be 0, 1, true or false, got 'yes'",
    ),
    "csv label 1.0": ("a.csv", b"prompt,completion,label\na,b,1.0\n", "label must be 0, 1, true or false, got '1.0'"),
    "csv weight": ("a.csv", b"prompt,completion,label,weight\na,b,1,x\n", "line 2: weight must be a number, got 'x'"),
    "csv messages": (
        "a.csv",
        b'messages,label\n"[{""role"": ",1\n',
        "a.csv, line 2, cell of messages, line 1, column 10 must be valid JSON",
    ),
    "no parquet": ("a.parquet", b"text", "a.parquet must be a Parquet file, got"),
    "unknown kind": ("a.txt", b"text", "data must be a JSONL, .* got a file that ends in '.txt'"),
}


@pytest.mark.parametrize(("name", "content", "message"), FILES.values(), ids=FILES)
def test_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        load_rows(path)
    assert str(path) in str(refusal.value)


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"data must be a JSONL.* got a folder that `datasets` did not save"):
        load_rows(tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_half_precision_log_probabilities(tmp_path, kind):
    rows = {"prompt": ["a"], "completion": ["b"], "label": [True], "ref_logps": np.array([-1.5], dtype=np.float16)}
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table(rows), path)
    else:
        import datasets

        datasets.Dataset(pa.table(rows)).save_to_disk(str(path))
    with pytest.raises(ValueError, match="ref_logps must be float32 or float64, got half precision"):
        load_rows(path)


def test_an_error_in_a_file_names_file_and_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{json.dumps(_GOOD)}\n{{"prompt": "a", "completion": "b", "label": NaN}}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, row 1: label must be true, false, 0 or 1, got nan"):
        load_examples(path, _TOY, DataConfig())


# Fields of the settings, and what the error must say.
SETTINGS = {
    "overlong": ({"overlong": "prompt_lef"}, "overlong must be one of .* .did you mean 'prompt_left'"),
    "boundary": ({"boundary": "seperate"}, "boundary must be one of .* .did you mean 'separate'"),
    "max_length": ({"max_length": 1}, "max_length must be at least 2, .* got 1"),
    "max_lost": ({"max_lost": 1.5}, r"max_lost must be a share in \[0, 1\], got 1.5"),
    "max_mismatched": ({"max_mismatched": float("nan")}, r"max_mismatched must be a share in \[0, 1\], got nan"),
    "all too long": ({"max_length": 2, "max_lost": 1.0}, "row 0: .* one must be left; got 1 dropped and 0 cut of 1"),
}


@pytest.mark.parametrize(("fields", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        load_examples([_GOOD], _TOY, DataConfig(**fields))


def test_single_responses_for_a_method_of_pairs():
    with pytest.raises(ValueError, match=r"row 0: dpo and ipo need pairs, .* chosen \+ rejected; got single responses"):
        load_examples([_GOOD], _TOY, DataConfig(), pairs=True)


def test_a_completion_of_bos_alone(toy_llama):
    row = {"prompt": "", "completion": "<|begin_of_text|>", "label": True}
    with pytest.raises(ValueError, match="row 0: the completion must have a token of its own, got none"):
        load_examples([row], toy_llama, DataConfig())


@pytest.mark.parametrize("policy", ["prompt_left", "completion_right"])
def test_log_probabilities_of_a_row_that_is_cut(policy):
    rows = [{**_GOOD, "ref_logps": -1.0}] * 10 + [
        {"prompt": "2" * 9, "completion": "4" * 9, "label": 1, "ref_logps": -3.0}
    ]
    with pytest.raises(
        ValueError, match="row 10: reference log-probabilities of the data are those of whole sequences"
    ):
        load_examples(rows, _TOY, DataConfig(max_length=15, overlong=policy))
    assert load_examples(rows, _TOY, DataConfig(max_length=15)).report.dropped_overlong == 1


@pytest.mark.parametrize(
    ("special", "row", "message"),
    [
        (
            {"eos_token": _TOY.eos_token},
            _GOOD,
            "the tokenizer must have a pad token, got none; set tokenizer.pad_token",
        ),
        ({"pad_token": _TOY.pad_token}, _GOOD, "the tokenizer must have an EOS token to end plain text with, got none"),
        (
            {"pad_token": _TOY.pad_token, "eos_token": _TOY.eos_token},
            {"messages": [_USER, _FOUR], "label": True},
            "the tokenizer must have a chat template for messages, got none; .* give prompts and completions as text",
        ),
    ],
)
def test_tokenizers(special, row, message):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_TOY.backend_tokenizer, **special)
    with pytest.raises(ValueError, match=message):
        load_examples([row], tokenizer, DataConfig())
