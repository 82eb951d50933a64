"""Damaged files of training data: rows that follow the rules come of them, or one line that says what is wrong."""

import datetime
import decimal
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from lm.data.formats import canonical_rows
from lm.data.sources import load_rows
from tests.fuzz.damage import damaged, recipes, survives

_MESSAGES = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
_ROWS = {
    "labelled": {"prompt": "2+2=", "completion": "4", "label": 1, "weight": 0.5, "alpha": 0.4, "ref_logps": -1.5},
    "messages": {"messages": _MESSAGES, "label": True},
    "pairs": {"chosen": "Q? A", "rejected": "Q? B", "chosen_ref_logps": -1, "rejected_ref_logps": -2.5},
    "conversations": {"prompt": _MESSAGES[:1], "chosen": _MESSAGES, "rejected": _MESSAGES[1:]},
    "tokens": {"prompt_ids": [3, 1], "completion_ids": [4], "label": False},
}
_LINES = [json.dumps(row).encode() + b"\n" for row in _ROWS.values()]
_LISTS = [json.dumps([row, row]).encode() for row in _ROWS.values()]
_CSV = [
    b"prompt,completion,label,weight,alpha,ref_logps\n2+2=,4,true,1,.5,-1.5\n1+1=,3,0,2,.5,-1e-3\n",
    b'chosen,rejected,source\n"[{""role"": ""assistant"", ""content"": ""4""}]",5,me\n"a\nb",c,\n',
    b'messages,label\n"[{""role"": ""user"", ""content"": ""?""}, {""role"": ""assistant"", ""content"": ""4""}]",1\n',
    b'prompt_ids,completion_ids,label\n"[3, 1]",[4],FALSE\n',
]
_VOCABULARY = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose files are written again and again."""
    return tmp_path_factory.mktemp("data")


def read(path, content):
    """Return the sequences of a file of data, or None where it is refused."""
    path.write_bytes(content)
    rows = survives(load_rows, path)
    return None if rows is None else survives(canonical_rows, rows, _VOCABULARY, errors=(ValueError,))


@given(recipe=recipes())
def test_json_lines(folder, recipe):
    for content in damaged([line + _LINES[0] for line in _LINES], recipe, places=2):
        read(folder / "rows.jsonl", content)


@given(recipe=recipes())
def test_json_lists(folder, recipe):
    for content in damaged(_LISTS, recipe, places=2):
        read(folder / "rows.json", content)


@given(recipe=recipes())
def test_csv(folder, recipe):
    for content in damaged(_CSV, recipe, places=2):
        read(folder / "rows.csv", content)


def _parquet_bytes(rows):
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


_PARQUET = [_parquet_bytes([_ROWS[name]]) for name in ("labelled", "conversations", "tokens")]


@given(recipe=recipes())
def test_parquet_bytes(folder, recipe):
    for content in damaged(_PARQUET, recipe):
        read(folder / "rows.parquet", content)


_COLUMNS = ("prompt", "completion", "label", "chosen", "rejected", "messages", "prompt_ids", "completion_ids")
_VALUES = (
    *(None, True, False, 0, 1, 2, -1, 2**40, 2**63, 10**400, 0.5, -1.5, 1.0, float("nan"), float("inf"), 1e308),
    *("", "a", "4 ", " ", "\ud800", "\x00", "[", "[1]", b"a", b"\xff", [], [1], [1, 2], [True], [1.0], [None], ["a"]),
    *([-1], [49], [50], [2**63], [10**400], [[1]], {}, {"role": "user"}, [{}], (), _MESSAGES, _MESSAGES[:1]),
    *(_MESSAGES[1:], [{"role": 1, "content": "a"}], [{"role": "user", "content": "\ud800"}], [{1: 2}], 1j, {1}),
    *(decimal.Decimal("0.5"), decimal.Decimal("nan"), datetime.date(2026, 1, 1), datetime.timedelta(1), object),
)
_OPTIONAL = ("alpha", "weight", "ref_logps", "chosen_ref_logps", "rejected_ref_logps", "wieght", "source", 1, None)


def _tables(values):
    """Rows of any columns with values of any kind, most of them a valid row with some of its values replaced."""
    changes = st.dictionaries(st.sampled_from(_COLUMNS + _OPTIONAL), values, max_size=3)
    return st.lists(st.tuples(st.sampled_from([*_ROWS.values(), {}]), changes), min_size=1, max_size=3)


@given(rows=_tables(st.sampled_from(_VALUES)))
def test_rows_of_any_values(rows):
    """Rows of a caller, which no file has read."""
    for row in rows:
        survives(canonical_rows, [row[0] | row[1]], _VOCABULARY, errors=(ValueError,))
    survives(canonical_rows, [row | changes for row, changes in rows], _VOCABULARY, errors=(ValueError,))
