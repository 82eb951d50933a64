"""Single values of rows: labels, weights, alpha, reference log-probabilities and token ids, each with its rule."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["check_text", "listed", "read_alpha", "read_ids", "read_label", "read_log_prob", "read_weight", "shown"]


def check_text(column: str, text: str) -> None:
    """Raise a ValueError if a text cannot be written in UTF-8, as with half of a pair of surrogates from JSON."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{column} must be valid Unicode, got {text[error.start]!r}") from error


def read_label(value: Any) -> bool:
    """Return a label, true for preferred; only booleans and the integers 0 and 1 are labels.

    Parameters
    ----------
    value : Any
        What the row has.

    Returns
    -------
    bool
        The class.

    Raises
    ------
    ValueError
        If it is anything else, such as 1.0, "yes" or nan.

    Examples
    --------
    >>> read_label(True), read_label(0)
    (True, False)
    """
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, numbers.Integral) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"label must be true, false, 0 or 1, got {shown(value)}")


def read_weight(value: Any) -> float:
    """Return the weight of an example, or raise a ValueError unless it is finite and not negative."""
    number = _number("weight", value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"weight must be finite and not negative, got {number:g}")
    return number


def read_alpha(value: Any) -> float:
    """Return the alpha of an example, or raise a ValueError unless it lies in (0, 1)."""
    number = _number("alpha", value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {number:g}")
    return number


def read_log_prob(column: str, value: Any) -> float:
    """Return a log-probability of the named column, or raise a ValueError unless it is finite and at most 0."""
    number = _number(column, value)
    if not (math.isfinite(number) and number <= 0):
        raise ValueError(f"{column} must be a log-probability, finite and at most 0, got {number:g}")
    return number


def read_ids(column: str, value: Any, vocabulary: int) -> np.ndarray:
    """Return token ids as int32.

    Parameters
    ----------
    column : str
        Name for errors.
    value : sequence of int
        Ids.
    vocabulary : int
        How many ids there are.

    Returns
    -------
    ndarray
        Ids, int32, at least one.

    Raises
    ------
    ValueError
        If it is no flat list of integers in [0, vocabulary), or empty.

    Examples
    --------
    >>> read_ids("prompt_ids", [3, 1], vocabulary=4)
    array([3, 1], dtype=int32)
    """
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise ValueError(f"{column} must be a list of token ids, got {shown(value)}")
    if len(value) == 0:
        raise ValueError(f"{column} must hold at least one token, got an empty list")
    if not isinstance(value, np.ndarray) and {type(item) for item in value} != {int}:  # arrays would take true for 1
        wrong = next(item for item in value if type(item) is not int)
        raise ValueError(f"{column} must hold integers only, got {shown(wrong)}")
    ids = np.asarray(value)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"{column} must be a flat list of integers, got {ids.dtype} of shape {ids.shape}")
    outside = (ids < 0) | (ids >= vocabulary)
    if outside.any():
        raise ValueError(
            f"{column} must hold ids of the tokenizer, in [0, {vocabulary}), got {ids[outside][0]}; "
            "were they made by another tokenizer?"
        )
    return ids.astype(np.int32)


def listed(names: Iterable[Any]) -> str:
    r"""Return names of columns or keys as text on one line.

    Examples
    --------
    >>> print(listed(["prompt", f"two{chr(10)}lines", 1]))
    prompt, 'two\nlines', 1
    """
    return ", ".join(name if isinstance(name, str) and name.isprintable() else shown(name) for name in names)


def shown(value: Any, longest: int = 40) -> str:
    """Return a value for an error, cut after some characters.

    Examples
    --------
    >>> shown("yes"), shown([1] * 100, longest=9)
    ("'yes'", '[1, 1, 1,...')
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        text = f"a long {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}..."


def _number(column: str, value: Any) -> float:
    """Return a number as float; booleans and text are none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{column} must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{column} must be at most 1.8e308 in magnitude, got {shown(value)}") from error
