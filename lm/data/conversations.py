"""Conversations: lists of messages, what of them is the prompt and what the model is to learn."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lm.data.values import check_text, listed, shown

__all__ = [
    "Conversation",
    "after_prompt",
    "check_answer",
    "check_prompt",
    "common_turns",
    "read_conversation",
    "split_answer",
]

Conversation: TypeAlias = list[dict[str, Any]]
"""Messages in order, each with role and content."""

_TEXT_IS_NO_LIST = "in a JSONL file write the list itself, not a text of it"


def read_conversation(column: str, value: Any) -> Conversation:
    """Return messages as plain dictionaries without absent values.

    Parameters
    ----------
    column : str
        Name for errors.
    value : sequence of mapping
        Messages, each with role and content, both text; other keys are passed to the chat template.

    Returns
    -------
    list of dict
        The messages, at least one.

    Raises
    ------
    ValueError
        If it is no such list.

    Examples
    --------
    >>> read_conversation("prompt", [{"role": "user", "content": "2+2?", "name": None}])
    [{'role': 'user', 'content': '2+2?'}]
    """
    if not isinstance(value, (list, tuple)) or not all(isinstance(message, Mapping) for message in value):
        remedy = f"; {_TEXT_IS_NO_LIST}" if isinstance(value, str) else ""
        raise ValueError(f"{column} must be a list of messages, got {shown(value)}{remedy}")
    if not value:
        raise ValueError(f"{column} must have at least one message, got an empty list")
    messages = [{key: item for key, item in message.items() if item is not None} for message in value]
    for position, message in enumerate(messages):
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                got = shown(message[key]) if key in message else f"keys {listed(message) or 'none'}"
                raise ValueError(f"{column}: message {position} must have a {key} that is text, got {got}")
        check_text(f"{column}: message {position}", message["content"])
    return messages


def split_answer(column: str, messages: Conversation) -> tuple[Conversation, Conversation]:
    """Return what stands before the last message, and the last message, which must be the assistant's answer.

    Parameters
    ----------
    column : str
        Name for errors.
    messages : list of dict
        A conversation.

    Returns
    -------
    prompt, completion : list of dict
        The prompt ends with a message that is not the assistant's; the completion is one message.

    Raises
    ------
    ValueError
        If the last message is not the assistant's, or nothing that asks for it stands before.
    """
    check_answer(column, messages[-1:])
    check_prompt(column, messages[:-1])
    return messages[:-1], messages[-1:]


def check_answer(column: str, messages: Conversation) -> None:
    """Raise a ValueError unless the messages are one of the assistant that says something."""
    if len(messages) != 1:
        raise ValueError(
            f"{column} must add one message to the prompt, got {len(messages)}; "
            "earlier turns belong to the prompt, as no other than the last answer is learned"
        )
    if messages[0]["role"] != "assistant":
        raise ValueError(f"{column} must end with a message of role assistant, got {shown(messages[0]['role'])}")
    if not messages[0]["content"].strip():
        raise ValueError(f"{column} must not have an empty answer, got {shown(messages[0]['content'])}")


def check_prompt(column: str, messages: Conversation) -> None:
    """Raise a ValueError unless the messages ask for an answer."""
    if not messages:
        raise ValueError(f"{column} must have a message before the answer, got none; its prompt would be empty")
    if messages[-1]["role"] == "assistant":
        raise ValueError(f"{column} must not have two messages of the assistant in a row at the end")


def common_turns(chosen: Conversation, rejected: Conversation) -> int:
    """Return how many messages two conversations share at their beginning, the last message of each left out."""
    longest = min(len(chosen), len(rejected)) - 1
    return next((i for i in range(longest) if chosen[i] != rejected[i]), longest)


def after_prompt(prompt: Sequence[Mapping[str, Any]], messages: Conversation) -> Conversation:
    """Return the messages without the prompt, if they repeat it."""
    return messages[len(prompt) :] if messages[: len(prompt)] == list(prompt) else messages
