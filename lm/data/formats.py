"""Row formats, all turned into one: sequences of a prompt and a completion with a class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lm.data.columns import TableLayout, table_layout
from lm.data.conversations import (
    Conversation,
    after_prompt,
    check_answer,
    check_prompt,
    common_turns,
    read_conversation,
    split_answer,
)
from lm.data.prefixes import common_words
from lm.data.values import check_text, read_alpha, read_ids, read_label, read_log_prob, read_weight, shown

__all__ = ["CanonicalRows", "Part", "RawSequence", "canonical_rows"]

Part: TypeAlias = str | Conversation | np.ndarray
"""A prompt or a completion: text, messages or token ids."""


class RawSequence(NamedTuple):
    """A prompt and a completion before they become tokens."""

    row: int
    prompt: Part
    completion: Part
    preferred: bool
    alpha: float | None
    weight: float | None
    reference_log_prob: float | None


@dataclass(frozen=True)
class CanonicalRows:
    """What the rows of a data set say.

    Attributes
    ----------
    kind : {"text", "conversation", "tokens"}
        What prompts and completions are.
    pairs : bool
        Whether sequences come in twos, (chosen, rejected).
    sequences : list of RawSequence
        In the order of rows.
    columns : tuple of str
        Optional columns that were read.
    ignored : tuple of str
        Columns that were not read.
    """

    kind: str
    pairs: bool
    sequences: list[RawSequence]
    columns: tuple[str, ...]
    ignored: tuple[str, ...]


def canonical_rows(rows: Sequence[Mapping[str, Any]], vocabulary: int) -> CanonicalRows:
    """Return the sequences of rows of any format.

    Parameters
    ----------
    rows : sequence of mapping
        All of one format: prompt + completion + label (text, or lists of messages); messages + label, where the last
        message is the completion; chosen + rejected with or without prompt; prompt_ids + completion_ids + label. Each
        may have weight, alpha and ref_logps (pairs: chosen_ref_logps and rejected_ref_logps).
    vocabulary : int
        How many token ids there are.

    Returns
    -------
    CanonicalRows
        One sequence a row, or two a pair.

    Raises
    ------
    ValueError
        With the number of the row, counted from 0, the rule and what was received.

    Notes
    -----
    The prompt of a pair without one is what both responses begin with: whole messages, or whole words of text (a space
    before the first different word goes to the responses, as tokenizers have it).

    Examples
    --------
    >>> data = canonical_rows([{"chosen": "Q: 2+2? A: 4", "rejected": "Q: 2+2? A: 5"}], vocabulary=10)
    >>> [(sequence.prompt, sequence.completion, sequence.preferred) for sequence in data.sequences]
    [('Q: 2+2? A:', ' 4', True), ('Q: 2+2? A:', ' 5', False)]
    """
    layout = table_layout(rows)
    sequences: list[RawSequence] = []
    kind = ""
    for number, row in enumerate(rows):
        try:
            found, parts = _parts(row, layout, vocabulary)
            kind = kind or found
            if found != kind:
                raise ValueError(f"all rows must hold the same, got {found} where row 0 holds {kind}")
            sequences += _sequences(number, row, layout, parts)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
    return CanonicalRows(kind, layout.name == "pairs", sequences, tuple(sorted(layout.optional)), layout.ignored)


def _parts(row: Mapping[str, Any], layout: TableLayout, vocabulary: int) -> tuple[str, list[tuple[Part, Part]]]:
    """Return what a row holds (text, conversation or tokens) and its prompts and completions."""
    if layout.name == "tokens":
        prompt, completion = (read_ids(name, row[name], vocabulary) for name in ("prompt_ids", "completion_ids"))
        return "tokens", [(prompt, completion)]
    if layout.name == "messages":
        return "conversation", [split_answer("messages", read_conversation("messages", row["messages"]))]
    names = ("completion",) if layout.name == "labelled" else ("chosen", "rejected")
    for name in names:
        if not isinstance(row[name], (str, list, tuple)):
            raise ValueError(f"{name} must be text or a list of messages, got {shown(row[name])}")
    if all(isinstance(row[name], str) for name in names):
        return "text", _text_parts(row, names, layout.has_prompt)
    return "conversation", _conversation_parts(row, names, layout.has_prompt)


def _text_parts(row: Mapping[str, Any], names: tuple[str, ...], has_prompt: bool) -> list[tuple[Part, Part]]:
    """Return prompts and completions of a row of text."""
    texts = [row[name] for name in names]
    if has_prompt:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            raise ValueError(f"prompt must be text, as {names[0]} is, got {shown(prompt)}")
    else:
        prompt = common_words(*texts)
        texts = [text[len(prompt) :] for text in texts]
    for name, text in zip(names, texts, strict=True):
        if not text.strip():
            raise ValueError(f"{name} must not be empty, got {shown(text)}")
        check_text(name, prompt + text)
    return [(prompt, text) for text in texts]


def _conversation_parts(row: Mapping[str, Any], names: tuple[str, ...], has_prompt: bool) -> list[tuple[Part, Part]]:
    """Return prompts and completions of a row of messages."""
    answers = [read_conversation(name, row[name]) for name in names]
    if not has_prompt:
        turns = common_turns(*answers)
        prompt = answers[0][:turns]
        answers = [answer[turns:] for answer in answers]
    elif isinstance(row["prompt"], str):
        # UltraFeedback gives the text of the first message as prompt, and the conversation with it in the responses.
        prompt = [{"role": "user", "content": row["prompt"]}]
        if any(answer[:1] != prompt for answer in answers):
            raise ValueError(f"prompt must be a list of messages, as {names[0]} is, got {shown(row['prompt'])}")
        turns = max(1, common_turns(answers[0], answers[-1]))
        prompt, answers = answers[0][:turns], [answer[turns:] for answer in answers]
    else:
        prompt = read_conversation("prompt", row["prompt"])
        answers = [after_prompt(prompt, answer) for answer in answers]
    check_prompt("prompt" if has_prompt else "what chosen and rejected share", prompt)
    for name, answer in zip(names, answers, strict=True):
        check_answer(name, answer)
    return [(prompt, answer) for answer in answers]


def _sequences(
    number: int, row: Mapping[str, Any], layout: TableLayout, parts: list[tuple[Part, Part]]
) -> list[RawSequence]:
    """Return the sequences of a row with its class and its optional columns."""
    alpha = read_alpha(row["alpha"]) if "alpha" in layout.optional else None
    weight = read_weight(row["weight"]) if "weight" in layout.optional else None
    if layout.name == "pairs":
        columns, classes = ("chosen_ref_logps", "rejected_ref_logps"), (True, False)
    else:
        columns, classes = ("ref_logps",), (read_label(row["label"]),)
    return [
        RawSequence(
            number,
            prompt,
            completion,
            preferred,
            alpha,
            weight,
            read_log_prob(column, row[column]) if column in layout.optional else None,
        )
        for (prompt, completion), preferred, column in zip(parts, classes, columns, strict=True)
    ]
