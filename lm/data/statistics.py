"""What is in a data set: counts, lengths, duplicates, and the alpha and class weights that follow from them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lm.data.layout import aligned, share
from lm.examples import ExampleSet
from theory import class_weights

__all__ = ["DataReport", "Lengths", "Repetitions", "count_repetitions", "summarise_lengths"]

_QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "99 %": 0.99, "max": 1.0}

Lengths = dict[str, int]
"""Quantiles of a number of tokens by name, each a length that occurs."""


@dataclass(frozen=True)
class Repetitions:
    """Equal sequences and equal prompts.

    Attributes
    ----------
    duplicates : int
        Sequences whose prompt, completion and class occur earlier in the set.
    contradictory : int
        Different pairs of prompt and completion that occur in both classes.
    prompts, prompts_of_both : int
        Different prompts, and those that have sequences of both classes.
    """

    duplicates: int
    contradictory: int
    prompts: int
    prompts_of_both: int


@dataclass(frozen=True)
class DataReport:
    """Counts of a data set after tokenisation; examples = kept + dropped_overlong.

    Attributes
    ----------
    kind : str
        What rows held: text, conversation or tokens.
    rows : int
        Rows of the source.
    examples : int
        Examples in them: sequences, or pairs of two for dpo and ipo. Otherwise a row of a pair is two examples.
    width : int
        Sequences of an example.
    kept, dropped_overlong : int
        Examples that are used, and those left out as longer than max_length.
    cut : int
        Examples among the kept ones of which tokens were cut off.
    mismatched : int
        Sequences whose prompt's tokens are not the first tokens of the whole.
    preferred, nonpreferred : int
        Kept sequences of each class.
    repetitions : Repetitions
        Equal sequences and prompts among the kept ones.
    tokens : int
        Tokens of the kept sequences.
    lengths : dict of str to dict
        Quantiles of the tokens of prompt, completion and both ("total"), before anything is dropped or cut.
    columns : tuple of str
        Optional columns that were read.
    ignored : tuple of str
        Columns that were not read.
    """

    kind: str
    rows: int
    examples: int
    width: int
    kept: int
    dropped_overlong: int
    cut: int
    mismatched: int
    preferred: int
    nonpreferred: int
    repetitions: Repetitions
    tokens: int
    lengths: dict[str, Lengths]
    columns: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def preferred_fraction(self) -> float:
        """Share of preferred sequences, which alpha is by default."""
        return self.preferred / (self.preferred + self.nonpreferred)

    @property
    def weights(self) -> dict[str, dict[str, float]] | None:
        """Weight of one sequence of each class by weighting, or None where there is one class only."""
        if not (self.preferred and self.nonpreferred):
            return None
        found = {scheme: class_weights(self.preferred_fraction, scheme) for scheme in ("balanced", "pooled")}
        return {
            scheme: {"preferred": float(weights.preferred), "nonpreferred": float(weights.nonpreferred)}
            for scheme, weights in found.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON has."""
        return {
            **{name: value for name, value in vars(self).items() if name != "repetitions"},
            **vars(self.repetitions),
            "columns": list(self.columns),
            "ignored": list(self.ignored),
            "preferred_fraction": self.preferred_fraction,
            "alpha": self.preferred_fraction if self.weights else None,
            "weights": self.weights,
        }

    def text(self) -> str:
        """Return everything as lines for a reader."""
        sequences, again = self.preferred + self.nonpreferred, self.repetitions
        counts = [
            ["rows", f"{self.rows:,}", ""],
            ["examples (pairs)" if self.width == 2 else "examples", f"{self.examples:,}", ""],
            ["  kept", f"{self.kept:,}", share(self.kept, self.examples)],
            ["  dropped as too long", f"{self.dropped_overlong:,}", share(self.dropped_overlong, self.examples)],
            ["  kept, but cut", f"{self.cut:,}", share(self.cut, self.examples)],
            ["sequences whose prompt is no token prefix", f"{self.mismatched:,}", ""],
            ["preferred sequences", f"{self.preferred:,}", share(self.preferred, sequences)],
            ["non-preferred sequences", f"{self.nonpreferred:,}", share(self.nonpreferred, sequences)],
            ["exact duplicates", f"{again.duplicates:,}", share(again.duplicates, sequences)],
            ["responses labelled both ways", f"{again.contradictory:,}", ""],
            ["different prompts", f"{again.prompts:,}", ""],
            ["  with both classes", f"{again.prompts_of_both:,}", share(again.prompts_of_both, again.prompts)],
            ["tokens", f"{self.tokens:,}", ""],
        ]
        lengths = [["tokens before cutting", *_QUANTILES]] + [
            [name, *(f"{value:,}" for value in quantiles.values())] for name, quantiles in self.lengths.items()
        ]
        lines = [aligned(counts), "", aligned(lengths), "", self._settings_text()]
        lines += [f"columns read beside the format's own: {', '.join(self.columns)}"] if self.columns else []
        lines += [f"columns not read: {', '.join(self.ignored)}"] if self.ignored else []
        return "\n".join(lines)

    def _settings_text(self) -> str:
        """Return the alpha and the weights that follow from the counts."""
        if self.weights is None:
            return "one class only: no alpha, and no class weights"
        table = [["weight of one sequence", "preferred", "non-preferred"]] + [
            [scheme, f"{pair['preferred']:.4f}", f"{pair['nonpreferred']:.4f}"] for scheme, pair in self.weights.items()
        ]
        return f"alpha = auto gives {self.preferred_fraction:.4f}\n{aligned(table)}"


def count_repetitions(examples: ExampleSet) -> Repetitions:
    """Count equal sequences and equal prompts.

    Parameters
    ----------
    examples : ExampleSet
        Any set.

    Returns
    -------
    Repetitions
        Counts over all sequences.

    Examples
    --------
    >>> ids = [np.array([5], dtype=np.int32)] * 3
    >>> count_repetitions(ExampleSet(ids, ids, np.array([True, True, False]), np.arange(3)))
    Repetitions(duplicates=1, contradictory=1, prompts=1, prompts_of_both=1)
    """
    labelled: Counter[tuple[bytes, bytes, bool]] = Counter()
    columns = (examples.prompt_ids, examples.completion_ids, examples.preferred.tolist())
    for prompt, completion, preferred in zip(*columns, strict=True):
        labelled[_digest(prompt), _digest(completion), preferred] += 1
    responses = Counter((prompt, completion) for prompt, completion, _ in labelled)
    classes = Counter(prompt for prompt, _ in {(prompt, preferred) for prompt, _, preferred in labelled})
    return Repetitions(
        duplicates=labelled.total() - len(labelled),
        contradictory=sum(count == 2 for count in responses.values()),
        prompts=len(classes),
        prompts_of_both=sum(count == 2 for count in classes.values()),
    )


def _digest(ids: np.ndarray) -> bytes:
    """Return 16 bytes that stand for token ids, so that long texts are not kept twice."""
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def summarise_lengths(prompts: Sequence[int], completions: Sequence[int]) -> dict[str, Lengths]:
    """Return quantiles of the lengths of prompts, completions and both together.

    Parameters
    ----------
    prompts, completions : sequence of int
        Tokens of each sequence, at least one sequence.

    Returns
    -------
    dict of str to dict
        By "prompt", "completion" and "total": lengths that occur, by the name of the quantile.

    Examples
    --------
    >>> summarise_lengths([1, 2, 3], [5, 5, 9])["total"]["median"]
    7
    """
    prompt, completion = np.asarray(prompts), np.asarray(completions)
    columns = {"prompt": prompt, "completion": completion, "total": prompt + completion}
    return {
        name: dict(
            zip(
                _QUANTILES,
                np.quantile(column, list(_QUANTILES.values()), method="inverted_cdf").tolist(),
                strict=True,
            )
        )
        for name, column in columns.items()
    }
