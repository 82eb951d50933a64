"""One text and one checksum for equal settings."""

import hashlib
import json
from typing import Any

__all__ = ["canonical_json", "fingerprint"]


def canonical_json(value: Any) -> str:
    """Write a value as JSON in the one form that equal values share: sorted keys, no spaces, ASCII.

    Parameters
    ----------
    value : object
        Made of dicts with string keys, lists, strings, finite numbers, booleans and None.

    Returns
    -------
    str
        JSON text.

    Raises
    ------
    ValueError
        If a part has no such form, such as a date or NaN.

    Examples
    --------
    >>> canonical_json({"n": 100, "alpha": 0.5})
    '{"alpha":0.5,"n":100}'
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"settings must be made of tables, arrays, strings and finite numbers, got {error}") from error


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, 64 hexadecimal digits.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
