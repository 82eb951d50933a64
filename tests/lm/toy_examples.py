"""Small tokenised data sets whose classes a network can tell apart at once."""

from typing import Any

import numpy as np

from lm.examples import ExampleSet

VOCABULARY = 24
PREFERRED, OTHER = 2, 3  # first token of a preferred completion, and of another one


def toy_examples(n: int = 40, *, pairs: bool = False, prompts: int = 6, seed: int = 0, **columns: Any) -> ExampleSet:
    """Return n examples (or pairs) of short sequences; about 40 % are preferred."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(4, VOCABULARY, rng.integers(1, 5)).astype(np.int32) for _ in range(prompts)]
    which = rng.integers(prompts, size=n)
    preferred = rng.random(n) < 0.4
    preferred[:2] = True, False
    if pairs:
        which, preferred = np.repeat(which, 2), np.arange(2 * n) % 2 == 0
    completions = [
        np.concatenate([[PREFERRED if label else OTHER], rng.integers(4, VOCABULARY, rng.integers(1, 5))])
        for label in preferred
    ]
    return ExampleSet(
        prompt_ids=[texts[i] for i in which],
        completion_ids=[ids.astype(np.int32) for ids in completions],
        preferred=preferred,
        rows=np.arange(len(preferred)) // (2 if pairs else 1) + 100,  # rows are not positions
        width=2 if pairs else 1,
        **columns,
    )
