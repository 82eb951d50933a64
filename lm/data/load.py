"""The whole way from a file, or from rows, to tokenised examples and a report of what became of them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lm.data.formats import CanonicalRows, RawSequence, canonical_rows
from lm.data.overlong import OVERLONG_POLICIES, fit_length
from lm.data.sources import load_rows
from lm.data.statistics import DataReport, count_repetitions, summarise_lengths
from lm.data.tokenise import TokenSequence, tokenise
from lm.examples import ExampleSet
from lm.settings import DataConfig
from theory.checks import check_choice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Tokenised", "load_examples", "tokenise_rows"]

_NAMED_ROWS = 5


@dataclass(frozen=True)
class Tokenised:
    """Examples that a model can be trained on, and what became of the rows.

    Attributes
    ----------
    examples : ExampleSet
        The examples that are kept, in the order of the rows.
    report : DataReport
        Counts, lengths, duplicates, alpha and weights.
    """

    examples: ExampleSet
    report: DataReport


def load_examples(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    tokenizer: "PreTrainedTokenizerBase",
    data: DataConfig,
    *,
    pairs: bool = False,
) -> Tokenised:
    """Read rows and tokenise them.

    Parameters
    ----------
    source : str, path or iterable of mapping
        What `lm.data.load_rows` reads, or rows (such as a `datasets.Dataset`).
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer.
    data : DataConfig
        Lengths, boundary and thresholds; its file names are not read here.
    pairs : bool
        Whether examples are pairs (dpo, ipo); otherwise a pair becomes two examples.

    Returns
    -------
    Tokenised
        Examples and report.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a setting, a row or a share of lost rows breaks its rule; with file, row, rule and what was received.

    Examples
    --------
    >>> from lm.tokenizers import toy_tokenizer
    >>> rows = [{"prompt": "2+2=", "completion": "4", "label": 1}, {"prompt": "2+2=", "completion": "5", "label": 0}]
    >>> data = load_examples(rows, toy_tokenizer(), DataConfig())
    >>> len(data.examples), data.examples.preferred, data.report.repetitions.prompts
    (2, array([ True, False]), 1)
    """
    if not isinstance(source, (str, os.PathLike)):
        return tokenise_rows(list(source), tokenizer, data, pairs=pairs)
    rows = load_rows(source)
    try:
        return tokenise_rows(rows, tokenizer, data, pairs=pairs)
    except ValueError as error:
        place = f"{source}," if str(error).startswith("row") else f"{source}:"
        raise ValueError(f"{place} {error}") from error


def tokenise_rows(
    rows: Sequence[Mapping[str, Any]], tokenizer: "PreTrainedTokenizerBase", data: DataConfig, *, pairs: bool
) -> Tokenised:
    """Tokenise rows; see `load_examples`."""
    _check_settings(data)
    # Not len(tokenizer): tokens may be added behind a gap of ids.
    canonical = canonical_rows(rows, 1 + max(tokenizer.get_vocab().values()))
    if pairs and not canonical.pairs:
        raise ValueError("row 0: dpo and ipo need pairs, rows with the columns chosen + rejected; got single responses")
    width = 2 if pairs else 1
    sequences = _tokenise(canonical, tokenizer, data.boundary)
    _check_mismatched(canonical.sequences, sequences, data)
    fitted = [
        fit_length(sequence.prompt_ids, sequence.completion_ids, data.max_length, data.overlong, tokenizer.bos_token_id)
        for sequence in sequences
    ]
    fits = np.array([sequence is not None for sequence in fitted]).reshape(-1, width).all(axis=1)
    was_cut = np.array([_is_cut(*pair) for pair in zip(sequences, fitted, strict=True)]).reshape(-1, width).any(axis=1)
    was_cut &= fits  # a pair that is dropped is not cut as well
    lengths = summarise_lengths(
        [len(sequence.prompt_ids) for sequence in sequences], [len(sequence.completion_ids) for sequence in sequences]
    )
    _check_lost(canonical, fits, was_cut, lengths["total"], data)
    kept = np.repeat(fits, width)
    examples = _assemble(
        [raw for raw, keep in zip(canonical.sequences, kept, strict=True) if keep],
        [tokens for tokens, keep in zip(fitted, kept, strict=True) if keep and tokens is not None],
        width,
    )
    report = DataReport(
        kind=canonical.kind,
        rows=len(rows),
        examples=len(fits),
        width=width,
        kept=len(examples),
        dropped_overlong=int((~fits).sum()),
        cut=int(was_cut.sum()),
        mismatched=sum(sequence.mismatched for sequence in sequences),
        preferred=int(examples.preferred.sum()),
        nonpreferred=int((~examples.preferred).sum()),
        repetitions=count_repetitions(examples),
        tokens=sum(map(len, examples.prompt_ids)) + sum(map(len, examples.completion_ids)),
        lengths=lengths,
        columns=canonical.columns,
        ignored=canonical.ignored,
    )
    return Tokenised(examples, report)


def _tokenise(canonical: CanonicalRows, tokenizer: "PreTrainedTokenizerBase", boundary: str) -> list[TokenSequence]:
    """Return the tokens of all sequences; in a terminal, show how far it is."""
    tokens = tokenise(canonical, tokenizer, boundary)
    bar = {"desc": "tokenising", "unit": " sequences", "delay": 2.0, "leave": False, "disable": None}
    return list(tqdm(tokens, total=len(canonical.sequences), **bar))


def _check_settings(data: DataConfig) -> None:
    """Raise unless the settings of the data make sense."""
    check_choice("overlong", data.overlong, OVERLONG_POLICIES)
    check_choice("boundary", data.boundary, ("prefix", "separate"))
    if data.max_length < 2:
        raise ValueError(
            f"max_length must be at least 2, a token of prompt and one of completion, got {data.max_length}"
        )
    for name in ("max_lost", "max_mismatched"):
        if not 0.0 <= getattr(data, name) <= 1.0:
            raise ValueError(f"{name} must be a share in [0, 1], got {getattr(data, name):g}")


def _check_mismatched(raw: Sequence[RawSequence], sequences: Sequence[TokenSequence], data: DataConfig) -> None:
    """Raise if too many prompts are no token prefix of the whole."""
    rows = [source.row for source, sequence in zip(raw, sequences, strict=True) if sequence.mismatched]
    if len(rows) > data.max_mismatched * len(sequences):
        raise ValueError(
            f"{_named(rows)}: at most max_mismatched = {data.max_mismatched:g} of the sequences may have a prompt "
            f"whose tokens are not the first tokens of the whole, got {len(rows)} of {len(sequences)}; end prompts "
            "before a space or a line break, check the chat template, or set boundary to separate"
        )


def _is_cut(before: TokenSequence, after: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Return whether tokens of a sequence were cut off."""
    return after is not None and sum(map(len, after)) < len(before.prompt_ids) + len(before.completion_ids)


def _check_lost(
    canonical: CanonicalRows, fits: np.ndarray, was_cut: np.ndarray, lengths: Mapping[str, int], data: DataConfig
) -> None:
    """Raise if too much is dropped or cut, or if what is cut makes other columns wrong."""
    width = len(canonical.sequences) // len(fits)
    lost = np.flatnonzero(~fits | was_cut)
    rows = [canonical.sequences[example * width].row for example in lost]
    if len(lost) > data.max_lost * len(fits) or not fits.any():
        got = f"{int((~fits).sum())} dropped and {int(was_cut.sum())} cut of {len(fits)}"
        raise ValueError(
            f"{_named(rows)}: at most max_lost = {data.max_lost:g} of the examples may be dropped or cut as longer "
            f"than max_length = {data.max_length} tokens, and one must be left; got {got} (95 % have at most "
            f"{lengths['95 %']} tokens, the longest {lengths['max']}); raise max_length, or max_lost if it is meant"
        )
    if was_cut.any() and canonical.sequences[0].reference_log_prob is not None:
        rows = [canonical.sequences[example * width].row for example in np.flatnonzero(was_cut)]
        raise ValueError(
            f"{_named(rows)}: reference log-probabilities of the data are those of whole sequences, got cut ones; "
            "set overlong to drop, or raise max_length"
        )


def _named(rows: Sequence[int]) -> str:
    """Return the numbers of the first few rows as text."""
    shown = ", ".join(map(str, dict.fromkeys(rows[:_NAMED_ROWS])))
    return f"row{'s' * (len(rows) > 1)} {shown}{', ...' * (len(rows) > _NAMED_ROWS)}"


def _assemble(raw: Sequence[RawSequence], tokens: Sequence[tuple[np.ndarray, np.ndarray]], width: int) -> ExampleSet:
    """Return the set of the kept sequences."""
    column: dict[str, np.ndarray | None] = {}
    for name, kind in {"alpha": np.float64, "weight": np.float64, "reference_log_prob": np.float32}.items():
        values = [getattr(sequence, name) for sequence in raw]
        column[name] = None if values[0] is None else np.array(values, dtype=kind)
    if column["weight"] is not None and not column["weight"].any():
        raise ValueError(f"weight must be above 0 in at least one row, got 0 in all {len(raw)} that are kept")
    return ExampleSet(
        [prompt for prompt, _ in tokens],
        [completion for _, completion in tokens],
        np.array([sequence.preferred for sequence in raw]),
        np.array([sequence.row for sequence in raw]),
        width,
        alpha=column["alpha"],
        weights=column["weight"],
        reference_log_probs=column["reference_log_prob"],
    )
