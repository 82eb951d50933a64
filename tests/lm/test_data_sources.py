"""Rows come out of every kind of file as they went in, and a path is never taken for a name on the hub."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from lm.data import load_rows

_TEXT = [
    {
        "prompt": "2 + 2 = ",
        "completion": 'four, "4"\u2028!',
        "label": True,
        "weight": 2.0,
        "alpha": 0.25,
        "ref_logps": -3.5,
    },
    {"prompt": "", "completion": "fünf\n", "label": False, "weight": 0.0, "alpha": 0.5, "ref_logps": -0.0},
]
_CONVERSATIONS = [
    {
        "prompt": [{"role": "user", "content": "2 + 2 = ?"}],
        "completion": [{"role": "assistant", "content": content}],
        "label": label,
    }
    for content, label in (("[4]", True), ("5", False))
]
_MESSAGES = [{"messages": [*row["prompt"], *row["completion"]], "label": row["label"]} for row in _CONVERSATIONS]
_PAIRS = [{"chosen": "[1, 2] yes", "rejected": "[1, 2] no", "chosen_ref_logps": -1.0, "rejected_ref_logps": -2.0}]
_TOKENS = [{"prompt_ids": [1, 2], "completion_ids": [3], "label": True}]
_ALL = {"text": _TEXT, "conversations": _CONVERSATIONS, "messages": _MESSAGES, "pairs": _PAIRS, "tokens": _TOKENS}


def _cell(value):
    if isinstance(value, list):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else value


def _write_csv(path: Path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _write_folder(path: Path, rows):
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(path))


_WRITERS = {
    "rows.jsonl": lambda path, rows: path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8"),
    "rows.json": lambda path, rows: path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8"),
    "rows.parquet": lambda path, rows: parquet.write_table(pa.Table.from_pylist(rows), path),
    "rows.csv": _write_csv,
    "folder": _write_folder,
}


@pytest.mark.parametrize("rows", _ALL.values(), ids=_ALL)
@pytest.mark.parametrize("name", _WRITERS)
def test_rows_come_back(tmp_path, name, rows):
    _WRITERS[name](tmp_path / name, rows)
    assert load_rows(tmp_path / name) == rows


def test_jsonl_may_have_blank_lines_a_byte_order_mark_and_line_separators_within_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": "x\u2028y\u0085z"}\r\n\r\n  \n{"a": 2}'.encode())
    assert load_rows(path) == [{"a": "x\u2028y\u0085z"}, {"a": 2}]


def test_a_cell_of_csv_is_a_conversation_only_if_it_holds_messages(tmp_path):
    path = tmp_path / "rows.csv"
    cells = ['[{"role": "user", "content": "hi"}]', "[1, 2]", "[see below", "[]", '[{"content": "hi"}]']
    _write_csv(path, [{"completion": cell, "label": False} for cell in cells])
    assert [row["completion"] for row in load_rows(path)] == [[{"role": "user", "content": "hi"}], *cells[1:]]


def test_a_long_cell_of_csv_is_read_and_the_limit_of_other_readers_is_left_alone(tmp_path):
    path = tmp_path / "rows.csv"
    before = csv.field_size_limit()
    _write_csv(path, [{"prompt": "x" * 200_000, "completion": "y", "label": True}])
    assert len(load_rows(path)[0]["prompt"]) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("text", ["0", "1", "true", "FALSE", "True"])
def test_labels_of_csv(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt,completion,label\na,b,{text}\n")
    assert load_rows(path)[0]["label"] is (text in ("1", "true", "True"))


def test_a_folder_of_splits(tmp_path):
    import datasets

    parts = {name: datasets.Dataset.from_list([{"prompt": name}]) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    assert load_rows(tmp_path / "both") == [{"prompt": "train"}]
    assert load_rows(f"{tmp_path / 'both'}:test") == [{"prompt": "test"}]
    with pytest.raises(ValueError, match="it has train, test"):
        load_rows(f"{tmp_path / 'both'}:dev")
    parts["train"].save_to_disk(str(tmp_path / "one"))
    with pytest.raises(ValueError, match="without splits, got split 'test'"):
        load_rows(f"{tmp_path / 'one'}:test")


def test_shuffled_folders_keep_their_order(tmp_path):
    import datasets

    data = datasets.Dataset.from_list([{"prompt": str(i)} for i in range(5)]).select([3, 1, 4])
    data.save_to_disk(str(tmp_path / "data"))
    assert [row["prompt"] for row in load_rows(tmp_path / "data")] == ["3", "1", "4"]


@pytest.mark.parametrize(("source", "split"), [("someone/data", "train"), ("someone/data:test[:10]", "test[:10]")])
def test_a_hub_name_is_asked_for_with_its_split(monkeypatch, source, split):
    import datasets

    asked = []

    def load(name, *, split):
        asked.append((name, split))
        return datasets.Dataset.from_list(_TEXT)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert load_rows(source) == _TEXT
    assert asked == [("someone/data", split)]


def test_the_hub_says_no(monkeypatch):
    import datasets

    def load(name, *, split):
        raise FileNotFoundError("not there")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        ValueError, match=r"no file someone/data, and the hub gave no data set .* split train: not there"
    ):
        load_rows("someone/data")


@pytest.mark.parametrize(
    "source",
    ["rows.jsonl", "data/rows.csv", "./nothing", "/no/such/folder", "~/data", "a/b/c", "squad", "data/nothing"],
)
def test_what_looks_like_a_path_is_never_looked_for_on_the_hub(monkeypatch, tmp_path, source):
    import datasets

    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load_rows(source)
