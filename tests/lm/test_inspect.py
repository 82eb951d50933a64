"""The command inspect: what a careful user runs first. It loads no weights."""

import json

import pytest

from lm import loading
from lm.__main__ import main
from lm.commands import inspect as command

_USER = {"role": "user", "content": "2+2?"}


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    """Fail where weights would be read."""
    monkeypatch.setattr(loading, "_load_weights", lambda *_: pytest.fail("loaded a model"))


def _pairs(size):
    answers = [("four", "five"), ("4", "I do not know.")]
    return [
        {
            "prompt": [_USER],
            "chosen": [{"role": "assistant", "content": answers[i % 2][0]}],
            "rejected": [{"role": "assistant", "content": answers[i % 2][1]}],
        }
        for i in range(size)
    ]


def _single(size):
    return [
        {"prompt": [_USER], "completion": row[key], "label": key == "chosen", "source": "me"}
        for row in _pairs(size)
        for key in ("chosen", "rejected")
    ]


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that writes rows to a file, runs the command on it and returns status, output and errors."""

    def run(rows, *options, held_out=None):
        paths = []
        for name, part in (("train", rows), ("eval", held_out)):
            if part is not None:
                path = tmp_path / f"{name}.jsonl"
                path.write_text("".join(f"{json.dumps(row)}\n" for row in part))
                paths += [f"--{name}_data", str(path)]
        status = main(["inspect", "--model", "tiny-qwen2", *paths, *options])
        return status, *capsys.readouterr()

    return run


def test_the_text_tells_counts_settings_and_three_rows(run):
    rows = _single(4)[:7]  # four preferred, three not
    status, out, _ = run(rows)
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "rows 7",
        "kept 7 100.0 %",
        "preferred sequences 4 57.1 %",
        "exact duplicates 3 42.9 %",
        "different prompts 1",
        "alpha = auto gives 0.5714",
        "balanced 0.8750 1.1667",
        "columns not read: source",
        "method rdro trains on 7 examples, 4 of them preferred",
        "class weights: preferred 0.8750, non-preferred 1.1667",
    ):
        assert line in lines
    assert out.count("tokens of prompt") == 3
    assert "<|im_start|>assistant\n[four<|im_end|>\n]" in out and "\x1b" not in out


def test_json_holds_the_same_numbers(run):
    status, out, _ = run(_single(3), "--json", "--weighting", "pooled", "--alpha", "0.4", held_out=_single(1))
    found = json.loads(out)
    assert status == 0
    assert found["train"]["rows"] == 6 and found["eval"]["rows"] == 2 and found["shared_prompts"] == 1
    assert found["train"]["weights"]["balanced"] == {"preferred": 1.0, "nonpreferred": 1.0}
    assert found["method"]["alpha"] == 0.4 and found["method"]["class_weights"] == [1.0, 1.0]
    assert [row["completion"] for row in found["examples"]][:2] == ["four<|im_end|>\n", "five<|im_end|>\n"]


def test_held_out_prompts_that_were_trained_on_are_counted(run):
    new = {"prompt": [{"role": "user", "content": "3+3?"}], "completion": [{"role": "assistant", "content": "6"}]}
    status, out, _ = run(_single(2), held_out=[*_single(1), {**new, "label": True}])
    assert status == 0 and "prompts of eval that train has too: 1\n" in out


def test_pairs_stay_pairs_for_dpo(run):
    status, out, _ = run(_pairs(5), "--method", "dpo")
    assert status == 0
    assert "examples (pairs)" in out and "method dpo trains on 5 examples" in out and "class weights" not in out


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (_single(2), ["--method", "dpo"], "row 0: dpo and ipo need pairs"),
        (_single(2), ["--metod", "dpo"], "unknown field 'metod'; did you mean method"),
        (_single(2), ["--learnig_rate", "1"], "did you mean learning_rate"),
        (_single(2), ["--alpha", "1.2"], "alpha must lie strictly between 0 and 1, got 1.2"),
        (_single(2), ["--max_length", "9000"], "max_length must be at most 2048"),
        (_single(2), ["--max_length", "100", "--max_lost", "0"], "rows 0, 1, 2, 3: at most max_lost = 0"),
        ([{**_pairs(1)[0], "label": 1}], [], "columns must belong to one format"),
    ],
)
def test_what_is_refused(run, rows, options, message):
    status, out, errors = run(rows, *options)
    assert (status, out) == (2, "")
    assert message in errors and errors.count("\n") == 1


def test_data_of_one_class_are_shown_before_the_method_refuses_them(run):
    status, out, errors = run([row for row in _single(3) if row["label"]])
    assert status == 2
    assert "one class only" in out and "rdro needs examples of both classes" in errors


def test_no_data_and_no_tokenizer(capsys):
    assert main(["inspect", "--model", "tiny-qwen2"]) == 2
    assert "train_data must be set" in capsys.readouterr().err
    assert main(["inspect", "--train_data", "x.jsonl"]) == 2
    assert "model must be set" in capsys.readouterr().err


def test_a_tokenizer_alone_will_do(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion,label\na,b,1\na,c,0\n")
    assert main(["inspect", "--tokenizer", "toy", "--train_data", str(path)]) == 0
    assert "a[b<|im_end|>]" in capsys.readouterr().out


def test_long_texts_lose_their_middle_and_colour_is_for_terminals(toy):
    from lm.data import load_examples
    from lm.settings import DataConfig

    rows = [{"prompt": "a" * 700, "completion": "b", "label": True}]
    text = command._rows_text(load_examples(rows, toy, DataConfig()).examples, toy, colour=True)
    assert f"{'a' * 300} ... 100 characters ... {'a' * 300}\x1b[32m[b<|im_end|>]\x1b[0m" in text
    assert text.startswith("1 of the sequences;") and text.count("tokens of prompt") == 1
