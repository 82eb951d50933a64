"""From prompts and completions to token ids: where the completion begins, and which special tokens it has."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lm.data.formats import CanonicalRows, Part, RawSequence
from lm.data.prefixes import common_text, common_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenSequence", "check_tokenizer", "tokenise"]

_CHUNK = 1000
"""Sequences tokenised in one call: enough to keep all cores busy, few enough for lists of Python integers."""


class TokenSequence(NamedTuple):
    """A prompt and a completion as token ids, int32; neither is empty."""

    prompt_ids: np.ndarray
    completion_ids: np.ndarray
    mismatched: bool
    """Whether the tokens of the prompt alone are not the first tokens of the whole."""


class _Rendered(NamedTuple):
    """Text as the tokenizer is to see it, special tokens included where a chat template writes them."""

    prompt: str
    whole: str


def tokenise(data: CanonicalRows, tokenizer: "PreTrainedTokenizerBase", boundary: str) -> Iterator[TokenSequence]:
    """Yield the tokens of each sequence.

    Parameters
    ----------
    data : CanonicalRows
        Sequences of text, messages or ids.
    tokenizer : PreTrainedTokenizerBase
        With a chat template for messages, and an EOS token for text.
    boundary : {"prefix", "separate"}
        prefix: prompt and completion are tokenised as one text; the prompt's tokens are the longest common prefix of
        that and of the prompt alone. separate: each is tokenised alone.

    Yields
    ------
    TokenSequence
        In the order of the sequences.

    Raises
    ------
    ValueError
        If a prompt or completion has no tokens, or the tokenizer lacks what it takes.

    Notes
    -----
    Text: BOS comes first if the tokenizer puts it there by itself and the text does not begin with it; EOS comes last
    unless the text ends with it. Messages: the chat template alone decides, with its header of the assistant's answer
    (``add_generation_prompt``) in the prompt. Ids stay as they are.
    """
    check_tokenizer(tokenizer, data.kind)
    if data.kind == "tokens":
        return (TokenSequence(*_ids(sequence), mismatched=False) for sequence in data.sequences)
    return itertools.chain.from_iterable(
        _tokenise_chunk(data.sequences[start : start + _CHUNK], tokenizer, data.kind, boundary)
        for start in range(0, len(data.sequences), _CHUNK)
    )


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", kind: str) -> None:
    """Raise unless a tokenizer has what sequences of some kind need.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Any tokenizer.
    kind : {"text", "conversation", "tokens"}
        What is to be tokenised.

    Raises
    ------
    ValueError
        If there is no pad token, no EOS token for text, or no chat template for conversations.
    """
    if tokenizer.pad_token_id is None:
        raise ValueError(
            "the tokenizer must have a pad token, got none; set tokenizer.pad_token, such as its EOS token"
        )
    if kind == "text" and tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer must have an EOS token to end plain text with, got none; set eos_token")
    if kind == "conversation" and tokenizer.chat_template is None:
        raise ValueError(
            "the tokenizer must have a chat template for messages, got none; take the tokenizer of an instruction "
            "model, set tokenizer.chat_template, or give prompts and completions as text"
        )


def _ids(sequence: RawSequence) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of a sequence that was tokenised by the user."""
    assert isinstance(sequence.prompt, np.ndarray) and isinstance(sequence.completion, np.ndarray)  # by its kind
    return sequence.prompt, sequence.completion


def _tokenise_chunk(
    sequences: Sequence[RawSequence], tokenizer: "PreTrainedTokenizerBase", kind: str, boundary: str
) -> Iterator[TokenSequence]:
    """Yield the tokens of some sequences, all tokenised in one call or two."""
    if kind == "text":
        texts = [_Rendered(sequence.prompt, sequence.prompt + sequence.completion) for sequence in sequences]
        before, after = _special_ids(tokenizer)
    else:
        texts = _render(sequences, tokenizer)
        before, after = _NONE, _NONE
    if boundary == "separate":
        # The prompt is how the whole begins, unless a chat template writes it differently before an answer.
        starts = [common_text(*text) for text in texts]
        prompts = _encode(tokenizer, starts)
        rest = _encode(tokenizer, [text.whole[len(start) :] for text, start in zip(texts, starts, strict=True)])
        mismatched = [start != text.prompt for text, start in zip(texts, starts, strict=True)]
    else:
        alone = _encode(tokenizer, [text.prompt for text in texts])
        wholes = _encode(tokenizer, [text.whole for text in texts])
        lengths = [common_tokens(prompt, whole) for prompt, whole in zip(alone, wholes, strict=True)]
        prompts = [whole[:length] for whole, length in zip(wholes, lengths, strict=True)]
        rest = [whole[length:] for whole, length in zip(wholes, lengths, strict=True)]
        mismatched = [length < len(prompt) for length, prompt in zip(lengths, alone, strict=True)]
    for sequence, prompt, completion, missed in zip(sequences, prompts, rest, mismatched, strict=True):
        yield _finish(sequence, prompt, completion, missed, before, after)


_NONE = np.empty(0, dtype=np.int32)


def _finish(
    sequence: RawSequence,
    prompt: np.ndarray,
    completion: np.ndarray,
    missed: bool,
    before: np.ndarray,
    after: np.ndarray,
) -> TokenSequence:
    """Return a sequence with BOS and EOS where they are wanted and not there."""
    if len(before) and not len(prompt) and np.array_equal(completion[:1], before):
        completion = completion[1:]  # BOS is written in the text of the completion
    if len(before) and not np.array_equal(prompt[:1], before):
        prompt = np.concatenate((before, prompt))
    if len(completion) == 0:
        raise ValueError(f"row {sequence.row}: the completion must have a token of its own, got none")
    if len(after) and completion[-1] != after[0]:
        completion = np.concatenate((completion, after))
    if len(prompt) == 0:
        cause = "is empty" if not sequence.prompt else "shares its first token with the completion"
        raise ValueError(
            f"row {sequence.row}: the prompt must have a token of its own, as the first token of a sequence cannot be "
            f"predicted, but it {cause} and the tokenizer adds no BOS; give a prompt or set boundary to separate"
        )
    return TokenSequence(prompt, completion, missed)


def _special_ids(tokenizer: "PreTrainedTokenizerBase") -> tuple[np.ndarray, np.ndarray]:
    """Return what comes before and after plain text: BOS if the tokenizer adds it to a text, and EOS."""
    bos = [tokenizer.bos_token_id]
    first = bos if tokenizer("a", verbose=False)["input_ids"][:1] == bos else []
    return np.array(first, dtype=np.int32), np.array([tokenizer.eos_token_id], dtype=np.int32)


def _encode(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[np.ndarray]:
    """Return the ids of texts; equal ones, such as the prompts of a pair, are tokenised once."""
    different = list(dict.fromkeys(texts))
    ids = tokenizer(
        different,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # what is too long is counted, cut or dropped later
    )["input_ids"]
    by_text = dict(zip(different, (np.array(row, dtype=np.int32) for row in ids), strict=True))
    return [by_text[text] for text in texts]


def _render(sequences: Sequence[RawSequence], tokenizer: "PreTrainedTokenizerBase") -> list[_Rendered]:
    """Return conversations as the chat template writes them; its text is what ``apply_chat_template`` tokenises."""
    from jinja2 import TemplateError

    prompts = [sequence.prompt for sequence in sequences]
    wholes = [[*sequence.prompt, *sequence.completion] for sequence in sequences]
    try:
        return list(itertools.starmap(_Rendered, zip(*_templated(tokenizer, prompts, wholes), strict=True)))
    except TemplateError:
        for sequence, prompt, whole in zip(sequences, prompts, wholes, strict=True):  # find the row that it was
            try:
                list(_templated(tokenizer, [prompt], [whole]))
            except TemplateError as error:
                raise ValueError(f"row {sequence.row}: the chat template refuses the messages: {error}") from error
        raise


def _templated(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[Part], wholes: Iterable[Part]
) -> tuple[list[str], list[str]]:
    """Return the texts of prompts, ready for an answer, and of whole conversations."""
    options: dict[str, Any] = {"tokenize": False}
    return (
        tokenizer.apply_chat_template(list(prompts), add_generation_prompt=True, **options),
        tokenizer.apply_chat_template(list(wholes), add_generation_prompt=False, **options),
    )
