"""Where the completion begins, and which special tokens a sequence has."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from lm.data import load_examples
from lm.settings import DataConfig

_LETTERS = "abc "
_MERGES = [("a", "b"), ("ab", "c"), (" ", "a"), ("c", "c"), (" ", "c")]


def _merging_tokenizer(*, bos: bool = False):
    """Tokenizer of four letters that joins some, as real ones do, so that a prompt's end may join what follows."""
    words = [*_LETTERS, *("".join(pair) for pair in _MERGES)]
    backend = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=_MERGES))
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<pad>", "<bos>", "<eos>")])
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", model_max_length=5
    )


_PLAIN, _WITH_BOS = _merging_tokenizer(), _merging_tokenizer(bos=True)
_ALL = DataConfig(max_mismatched=1.0)
_TEXT = st.text(_LETTERS, max_size=12)
_ANSWER = st.text(_LETTERS, min_size=1, max_size=12).filter(str.strip)


def _split(tokenizer, prompt, completion, data=_ALL):
    """Prompt and completion as tokens, and whether the boundary is within a token."""
    tokenised = load_examples([{"prompt": prompt, "completion": completion, "label": True}], tokenizer, data)
    examples, report = tokenised.examples, tokenised.report
    ids = examples.prompt_ids[0], examples.completion_ids[0]
    return (*(tokenizer.convert_ids_to_tokens(part.tolist()) for part in ids), report.mismatched)


@given(_TEXT, _ANSWER)
@example("a", "b")
@example("", "a")
def test_both_parts_together_are_the_whole_as_the_tokenizer_has_it(prompt, completion):
    first, second, _ = _split(_WITH_BOS, prompt, completion)
    whole = _WITH_BOS.convert_ids_to_tokens(_WITH_BOS(prompt + completion, verbose=False)["input_ids"])
    assert first + second == [*whole, "<eos>"]


@given(_TEXT, _ANSWER)
@example("a", "b")
def test_the_prompt_is_the_longest_common_prefix(prompt, completion):
    first, second, mismatched = _split(_WITH_BOS, prompt, completion)
    alone = _WITH_BOS.convert_ids_to_tokens(_WITH_BOS(prompt, verbose=False)["input_ids"])
    assert first == alone[: len(first)]
    assert mismatched == (first != alone)
    assert len(first) == len(alone) or second[0] != alone[len(first)]


@given(_TEXT, _ANSWER)
def test_separate_parts_are_what_each_is_alone(prompt, completion):
    first, second, mismatched = _split(_WITH_BOS, prompt, completion, DataConfig(boundary="separate"))
    assert first == _WITH_BOS.convert_ids_to_tokens(_WITH_BOS(prompt, verbose=False)["input_ids"])
    assert second == [*_WITH_BOS.tokenize(completion), "<eos>"]
    assert mismatched == 0


def test_a_token_across_the_boundary_belongs_to_the_completion_and_is_counted():
    assert _split(_PLAIN, "ba", "b") == (["b"], ["ab", "<eos>"], 1)
    assert _split(_PLAIN, "ba", " b") == (["b", "a"], [" ", "b", "<eos>"], 0)


def test_too_many_such_rows_are_an_error_and_those_within_the_threshold_are_not():
    rows = [{"prompt": "ba", "completion": " b", "label": True}] * 9 + [{"prompt": "ba", "completion": "b", "label": 0}]
    assert load_examples(rows, _PLAIN, DataConfig()).report.mismatched == 1
    with pytest.raises(ValueError, match=r"row 9: at most max_mismatched = 0.05 .* got 1 of 10"):
        load_examples(rows, _PLAIN, DataConfig(max_mismatched=0.05))


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "completion", "first", "last"),
    [
        (_PLAIN, "b", "a", "b", ["a", "<eos>"]),
        (_WITH_BOS, "b", "a", "<bos>", ["a", "<eos>"]),
        (_WITH_BOS, "<bos>b", "a<eos>", "<bos>", ["a", "<eos>"]),
        (_PLAIN, "<bos>b", "a<eos>", "<bos>", ["a", "<eos>"]),
        (_WITH_BOS, "", "a", "<bos>", ["a", "<eos>"]),
        (_WITH_BOS, "", "<bos>a", "<bos>", ["a", "<eos>"]),
        (_PLAIN, "b<eos>", "a<eos>b", "b", ["a", "<eos>", "b", "<eos>"]),
    ],
)
@pytest.mark.parametrize("boundary", ["prefix", "separate"])
def test_bos_once_if_at_all_and_eos_once(tokenizer, prompt, completion, first, last, boundary):
    start, end, _ = _split(tokenizer, prompt, completion, DataConfig(boundary=boundary))
    assert start[0] == first and start.count("<bos>") == (first == "<bos>")
    assert end == last


def test_eos_that_the_tokenizer_adds_by_itself_does_not_come_between_or_twice():
    tokenizer = _merging_tokenizer()
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<bos>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<bos> $A <eos>", special_tokens=special)
    assert _split(tokenizer, "b", "a") == (["<bos>", "b"], ["a", "<eos>"], 0)


def test_the_pad_token_may_be_eos_and_is_learned_at_the_end():
    tokenizer = _merging_tokenizer()
    tokenizer.pad_token = "<eos>"
    assert _split(tokenizer, "b<eos>", "<eos>a")[:2] == (["b", "<eos>"], ["<eos>", "a", "<eos>"])


_PROMPT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": " 2+2? "}]
_ANSWERED = [*_PROMPT, {"role": "assistant", "content": " four\n"}]


@pytest.mark.parametrize("name", ["toy", "toy_llama", "qwen"])
@pytest.mark.parametrize("boundary", ["prefix", "separate"])
def test_conversations_are_what_the_chat_template_makes_of_them(request, name, boundary):
    tokenizer = request.getfixturevalue(name)
    data = load_examples([{"messages": _ANSWERED, "label": True}], tokenizer, DataConfig(boundary=boundary))
    prompt, completion = data.examples.prompt_ids[0].tolist(), data.examples.completion_ids[0].tolist()
    assert prompt == tokenizer.apply_chat_template(_PROMPT, add_generation_prompt=True)["input_ids"]
    assert prompt + completion == tokenizer.apply_chat_template(_ANSWERED)["input_ids"]
    assert tokenizer.eos_token_id in completion[-2:] and tokenizer.bos_token_id not in prompt[1:] + completion


def test_a_row_of_chatml_in_the_tokens_of_qwen(qwen):
    row = {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]}
    examples = load_examples([{**row, "label": True}], qwen, DataConfig()).examples
    # <|im_start|> assistant \n | Hello <|im_end|> \n, the ids of Qwen2.5's published vocabulary
    assert examples.prompt_ids[0][-3:].tolist() == [151644, 77091, 198]
    assert examples.completion_ids[0].tolist() == [9707, 151645, 198]


def test_a_template_that_writes_prompts_otherwise_before_an_answer_is_noticed(toy_llama):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=toy_llama.backend_tokenizer,
        pad_token=toy_llama.pad_token,
        eos_token=toy_llama.eos_token,
        chat_template="{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>think{% endif %}",
    )
    for boundary in ("prefix", "separate"):
        rows, data = [{"messages": _ANSWERED, "label": True}], DataConfig(boundary=boundary, max_mismatched=1.0)
        tokenised = load_examples(rows, tokenizer, data)
        whole = [*tokenised.examples.prompt_ids[0], *tokenised.examples.completion_ids[0]]
        assert tokenised.report.mismatched == 1
        assert tokenizer.decode(whole) == "<system>Be short.<user> 2+2? <assistant> four\n"
        with pytest.raises(ValueError, match="max_mismatched"):
            load_examples(rows, tokenizer, DataConfig(boundary=boundary))


def test_many_rows_are_tokenised_as_one_is():
    texts = [("ab" * (i % 7) + "c", "b" * (1 + i % 3)) for i in range(2100)]  # more than two chunks
    rows = [{"prompt": prompt, "completion": completion, "label": True} for prompt, completion in texts]
    examples = load_examples(rows, _PLAIN, _ALL).examples
    assert examples.rows.tolist() == list(range(2100))
    for i in (0, 999, 1000, 2099):
        prompt, completion, _ = _split(_PLAIN, *texts[i])
        assert _PLAIN.convert_ids_to_tokens(examples.prompt_ids[i].tolist()) == prompt
        assert _PLAIN.convert_ids_to_tokens(examples.completion_ids[i].tolist()) == completion
