"""The command inspect: what training would see, told before any model is loaded."""

import argparse
import dataclasses
import json
import os
import sys
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from lm.data import Tokenised, load_examples
from lm.examples import ExampleSet
from lm.loading import load_config, load_tokenizer
from lm.method import resolve_method
from lm.objective import Resolved, prepare_examples
from lm.options import Settings, ratio_arguments
from lm.settings import MethodConfig

__all__ = ["inspect"]

_SHOWN_ROWS = 3
_SHOWN_CHARACTERS = 600
_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"


def inspect(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : Namespace
        ``settings`` and ``json`` (numbers as JSON in place of text).

    Returns
    -------
    int
        0; what would be refused by training is raised, once the data that cause it have been shown.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If settings or data are not valid, do not fit the model's configuration, or do not fit the method.
    """
    settings: Settings = arguments.settings
    if not settings.model.tokenizer:
        settings.require("model")
    method = _method(settings)
    tokenizer = load_tokenizer(settings.model)
    if settings.model.model:
        load_config(settings.model, tokenizer, settings.data.max_length)
    sources = {"train": settings.data.train_data, "eval": settings.data.eval_data}
    data = {
        part: load_examples(source, tokenizer, settings.data, pairs=resolve_method(method).pairs)
        for part, source in sources.items()
        if source is not None
    }
    if arguments.json:
        _, resolved = prepare_examples(data["train"].examples, method)
        print(json.dumps(_as_json(data, method, resolved, tokenizer), indent=2, ensure_ascii=False))
        return 0
    for part, tokenised in data.items():
        print(f"{part}: {sources[part]}\n\n{tokenised.report.text()}\n", flush=True)
    if "eval" in data:
        print(f"prompts of eval that train has too: {_shared_prompts(data)}\n")
    _, resolved = prepare_examples(data["train"].examples, method)
    print(f"{_resolved_text(method, resolved)}\n")
    print(_rows_text(data["train"].examples, tokenizer, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return 0


def _method(settings: Settings) -> MethodConfig:
    """Return the method's settings; names and types of all others are checked as well."""
    given = ratio_arguments(settings)
    names = {field.name for field in dataclasses.fields(MethodConfig)}
    return MethodConfig(**{name: value for name, value in given.items() if name in names})


def _resolved_text(method: MethodConfig, resolved: Resolved) -> str:
    """Return what the method's alpha and class weights come to, as text."""
    lines = [
        f"method {method.method} trains on {resolved.examples:,} examples, {resolved.preferred:,} of them preferred"
    ]
    if resolved.alpha is not None:
        lines.append(f"alpha: {resolved.alpha:.4f}")
    elif resolved.alpha_range is not None:
        lines.append("alpha: from {:.4f} to {:.4f}".format(*resolved.alpha_range))
    if resolved.class_weights is not None:
        lines.append("class weights: preferred {:.4f}, non-preferred {:.4f}".format(*resolved.class_weights))
    elif method.weighting == "balanced_by_prompt":
        lines.append("class weights: by prompt")
    lines += [f"note: {note}" for note in resolved.notes]
    return "\n".join(lines)


def _as_json(
    data: dict[str, Tokenised], method: MethodConfig, resolved: Resolved, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Return everything as values that JSON has."""
    examples = data["train"].examples
    rows = [
        {
            "row": int(examples.rows[i]),
            "preferred": bool(examples.preferred[i]),
            "prompt_tokens": len(examples.prompt_ids[i]),
            "completion_tokens": len(examples.completion_ids[i]),
            "prompt": tokenizer.decode(examples.prompt_ids[i]),
            "completion": tokenizer.decode(examples.completion_ids[i]),
        }
        for i in _shown_sequences(examples)
    ]
    return {
        **{part: tokenised.report.as_dict() for part, tokenised in data.items()},
        "method": {"method": method.method, **dataclasses.asdict(resolved)},
        "shared_prompts": _shared_prompts(data) if "eval" in data else None,
        "examples": rows,
    }


def _shared_prompts(data: dict[str, Tokenised]) -> int:
    """Return how many different prompts of the held-out set are in the training set, where they were learned."""
    train, held_out = ({ids.tobytes() for ids in data[part].examples.prompt_ids} for part in ("train", "eval"))
    return len(train & held_out)


def _rows_text(examples: ExampleSet, tokenizer: PreTrainedTokenizerBase, *, colour: bool) -> str:
    """Return some sequences as text, the part that is learned in brackets."""
    begin, end = (f"{_GREEN}[", f"]{_PLAIN}") if colour else ("[", "]")
    sequences = _shown_sequences(examples)
    blocks = [f"{len(sequences)} of the sequences; the model learns the tokens in brackets:"]
    for i in sequences:
        prompt, completion = examples.prompt_ids[i], examples.completion_ids[i]
        name = "preferred" if examples.preferred[i] else "non-preferred"
        text = f"{_shortened(tokenizer.decode(prompt))}{begin}{_shortened(tokenizer.decode(completion))}{end}"
        blocks.append(
            f"row {examples.rows[i]}, {name}: {len(prompt)} tokens of prompt, {len(completion)} of completion\n{text}"
        )
    return "\n\n".join(blocks)


def _shown_sequences(examples: ExampleSet) -> list[int]:
    """Return the first sequence of each class and the longest, or others where these are the same."""
    first = [int(np.argmax(examples.preferred)), int(np.argmin(examples.preferred))]
    lengths = [len(p) + len(c) for p, c in zip(examples.prompt_ids, examples.completion_ids, strict=True)]
    candidates = [*first, int(np.argmax(lengths)), *range(min(_SHOWN_ROWS, len(lengths)))]
    return sorted(list(dict.fromkeys(candidates))[:_SHOWN_ROWS])


def _shortened(text: str) -> str:
    """Return a text without its middle part if it is long."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {len(text) - 2 * half:,} characters ... {text[-half:]}"
