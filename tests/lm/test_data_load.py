"""Nothing is lost silently: what is kept, dropped, cut and repeated is counted, and columns stay with their rows."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import load_examples
from lm.data.overlong import OVERLONG_POLICIES
from lm.settings import DataConfig
from lm.tokenizers import toy_tokenizer
from theory import class_weights

_TOY = toy_tokenizer()
_LOSE_ALL = {"max_lost": 1.0}
_ids = st.binary(min_size=1, max_size=9).map(lambda drawn: [byte % 21 for byte in drawn])  # cheaper than a list of ints


@st.composite
def _token_rows(draw, size=12):
    """Rows of token ids, of which the first always fits into 4 tokens."""
    rows = [{"prompt_ids": draw(_ids), "completion_ids": draw(_ids), "label": draw(st.booleans())} for _ in range(size)]
    return [{"prompt_ids": [1], "completion_ids": [2], "label": True}, *rows]


@given(_token_rows(), st.sampled_from(OVERLONG_POLICIES), st.integers(2, 18))
def test_rows_are_kept_or_dropped_and_what_is_cut_is_counted(rows, policy, longest):
    data = load_examples(rows, _TOY, DataConfig(max_length=longest, overlong=policy, **_LOSE_ALL))
    examples, report = data.examples, data.report
    assert report.examples == len(rows) == report.kept + report.dropped_overlong
    assert report.kept == len(examples) == len(set(examples.rows.tolist()))
    assert report.preferred + report.nonpreferred == report.kept
    cut = 0
    for row, prompt, completion, preferred in zip(
        examples.rows, examples.prompt_ids, examples.completion_ids, examples.preferred, strict=True
    ):
        source = rows[row]
        before, after = source["prompt_ids"], source["completion_ids"]
        assert preferred == source["label"]
        assert len(prompt) >= 1 and len(completion) >= 1 and len(prompt) + len(completion) <= longest
        assert prompt.tolist() == before[len(before) - len(prompt) :]
        assert completion.tolist() == after[: len(completion)]
        is_cut = len(prompt) + len(completion) < len(before) + len(after)
        cut += is_cut
        if is_cut:  # no more than needed
            assert len(prompt) + len(completion) == longest
    assert report.cut == cut and (policy != "drop" or cut == 0)
    for row in set(range(len(rows))) - set(examples.rows.tolist()):
        before, after = rows[row]["prompt_ids"], rows[row]["completion_ids"]
        needed = {"drop": len(before) + len(after), "prompt_left": 1 + len(after), "completion_right": len(before) + 1}
        assert needed[policy] > longest


@given(_token_rows())
def test_lengths_repetitions_and_counts_are_those_of_the_rows(rows):
    report = load_examples(rows, _TOY, DataConfig()).report
    lengths = sorted(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows)
    assert report.lengths["total"]["min"] == lengths[0] and report.lengths["total"]["max"] == lengths[-1]
    assert report.lengths["total"]["median"] == lengths[len(rows) // 2]  # 13 rows
    assert report.tokens == sum(lengths)
    sequences = [(tuple(row["prompt_ids"]), tuple(row["completion_ids"]), row["label"]) for row in rows]
    responses, prompts = {s[:2] for s in sequences}, {s[0] for s in sequences}
    assert report.repetitions.duplicates == len(sequences) - len(set(sequences))
    assert report.repetitions.contradictory == len(set(sequences)) - len(responses)
    assert report.repetitions.prompts == len(prompts)
    assert report.repetitions.prompts_of_both == len({(p, label) for p, _, label in sequences}) - len(prompts)


def test_repetitions_by_hand():
    def row(prompt, completion, label):
        return {"prompt_ids": prompt, "completion_ids": completion, "label": label}

    rows = [row([1], [2], 1), row([1], [2], 1), row([1], [2], 0), row([1], [3], 0), row([1, 2], [3], 0)]
    again = load_examples(rows, _TOY, DataConfig()).report.repetitions
    assert (again.duplicates, again.contradictory, again.prompts, again.prompts_of_both) == (1, 1, 2, 1)


def test_a_boundary_makes_a_difference_between_sequences():
    rows = [
        {"prompt_ids": [1, 2], "completion_ids": [3], "label": 1},
        {"prompt_ids": [1], "completion_ids": [2, 3], "label": 0},
    ]
    assert load_examples(rows, _TOY, DataConfig()).report.repetitions.contradictory == 0


def test_bos_stays_when_a_prompt_is_cut_on_its_left():
    tokenizer = toy_tokenizer("llama-3")
    rows = [{"prompt": "abcdef", "completion": "g", "label": 1}]
    data = load_examples(rows, tokenizer, DataConfig(max_length=5, overlong="prompt_left", **_LOSE_ALL))
    assert tokenizer.decode(data.examples.prompt_ids[0]) == "<|begin_of_text|>ef"
    assert tokenizer.decode(data.examples.completion_ids[0]) == "g<|eot_id|>"


def test_a_cut_completion_does_not_end():
    rows = [{"prompt": "ab", "completion": "cdef", "label": 1}]
    data = load_examples(rows, _TOY, DataConfig(max_length=6, overlong="completion_right", **_LOSE_ALL))
    assert _TOY.decode(data.examples.completion_ids[0]) == "cdef"


def _pair(chosen, rejected, **extra):
    return {"prompt": "ab", "chosen": chosen, "rejected": rejected, **extra}


def test_a_pair_is_two_examples_or_one_that_is_dropped_as_a_whole():
    rows = [_pair("c", "d"), _pair("c", "d" * 9), _pair("c" * 9, "d")]
    single = load_examples(rows, _TOY, DataConfig(max_length=6, **_LOSE_ALL))
    both = load_examples(rows, _TOY, DataConfig(max_length=6, **_LOSE_ALL), pairs=True)
    assert single.examples.width == 1 and single.examples.rows.tolist() == [0, 0, 1, 2]
    assert (single.report.examples, single.report.kept, single.report.dropped_overlong) == (6, 4, 2)
    assert both.examples.width == 2 and both.examples.rows.tolist() == [0, 0]
    assert (both.report.examples, both.report.kept, both.report.dropped_overlong) == (3, 1, 2)
    assert both.examples.preferred.tolist() == [True, False]


def test_a_pair_that_is_cut_on_one_side_counts_once_and_not_if_it_is_dropped():
    rows = [_pair("c" * 9, "d"), _pair("c", "d"), {**_pair("c", "d" * 9), "prompt": "a" * 9}]
    report = load_examples(
        rows, _TOY, DataConfig(max_length=12, overlong="prompt_left", **_LOSE_ALL), pairs=True
    ).report
    assert (report.kept, report.dropped_overlong, report.cut) == (3, 0, 1)
    report = load_examples(
        rows, _TOY, DataConfig(max_length=8, overlong="completion_right", **_LOSE_ALL), pairs=True
    ).report
    assert (report.kept, report.dropped_overlong, report.cut) == (2, 1, 1)


def test_a_pair_of_which_one_side_could_be_cut_and_the_other_not_is_dropped():
    rows = [_pair("c", "d"), {**_pair("c" * 4, "d" * 9), "prompt": "a" * 6}]
    report = load_examples(rows, _TOY, DataConfig(max_length=8, overlong="prompt_left", **_LOSE_ALL), pairs=True).report
    assert (report.kept, report.dropped_overlong, report.cut) == (1, 1, 0)


def test_columns_stay_with_their_rows_when_rows_are_dropped():
    rows = [
        _pair("c", "d", alpha=0.1, weight=1, chosen_ref_logps=-1.0, rejected_ref_logps=-2.0),
        _pair("c" * 9, "d", alpha=0.2, weight=2, chosen_ref_logps=-3.0, rejected_ref_logps=-4.0),
    ]
    examples = load_examples(rows, _TOY, DataConfig(max_length=6, **_LOSE_ALL)).examples
    assert examples.rows.tolist() == [0, 0, 1] and examples.preferred.tolist() == [True, False, False]
    assert examples.alpha.tolist() == [0.1, 0.1, 0.2] and examples.weights.tolist() == [1.0, 1.0, 2.0]
    assert examples.reference_log_probs.tolist() == [-1.0, -2.0, -4.0]
    assert examples.reference_log_probs.dtype == np.float32
    plain = load_examples([_pair("c", "d")], _TOY, DataConfig()).examples
    assert plain.alpha is plain.weights is plain.reference_log_probs is None


def test_files_rows_and_datasets_give_equal_examples(tmp_path):
    import datasets

    rows = [_pair("c", "d"), _pair("ccc", "d")]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    sets = [
        load_examples(source, _TOY, DataConfig()).examples for source in (path, rows, datasets.Dataset.from_list(rows))
    ]
    tokens = [[part.tolist() for part in (*examples.prompt_ids, *examples.completion_ids)] for examples in sets]
    assert tokens[0] == tokens[1] == tokens[2]


def test_the_share_that_may_be_lost():
    rows = [{"prompt": "a", "completion": "b" * (9 if i == 3 else 1), "label": i % 2} for i in range(10)]
    assert load_examples(rows, _TOY, DataConfig(max_length=5)).report.dropped_overlong == 1
    with pytest.raises(ValueError, match=r"row 3: at most max_lost = 0.09 .* 1 dropped and 0 cut of 10 .*longest 11"):
        load_examples(rows, _TOY, DataConfig(max_length=5, max_lost=0.09))
    with pytest.raises(ValueError, match="0 dropped and 1 cut of 10"):
        load_examples(rows, _TOY, DataConfig(max_length=5, max_lost=0.09, overlong="completion_right"))


def test_the_report_tells_alpha_and_weights_of_what_is_kept():
    rows = [
        {"prompt": "a", "completion": "b" * n, "label": label} for n, label in ((1, 1), (2, 0), (3, 0), (4, 0), (30, 1))
    ]
    report = load_examples(rows, _TOY, DataConfig(max_length=9, max_lost=0.5)).report
    balanced = class_weights(0.25, "balanced")
    assert report.preferred_fraction == 0.25
    assert report.weights["balanced"] == {"preferred": balanced.preferred, "nonpreferred": balanced.nonpreferred}
    assert report.weights["pooled"] == {"preferred": 1.0, "nonpreferred": 1.0}
    text = report.text()
    for line in ("alpha = auto gives 0.2500", "balanced                   2.0000         0.6667"):
        assert line in text
    assert json.loads(json.dumps(report.as_dict()))["dropped_overlong"] == 1


def test_a_set_of_one_class_has_no_weights():
    report = load_examples([{"prompt": "a", "completion": "b", "label": 0}], _TOY, DataConfig()).report
    assert report.weights is None and report.as_dict()["alpha"] is None
    assert "one class only" in report.text()
