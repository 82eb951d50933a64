"""Rules that tables of a study file obey, whatever they are about."""

from collections.abc import Mapping, Sequence
from typing import Any

from theory.checks import check_choice

__all__ = ["check_distinct", "check_integers", "check_keys", "tables_of"]

_NOUNS = {str: "a string", int: "an integer", list: "an array", dict: "a table"}


def check_keys(place: str, table: Any, required: Mapping[str, type], optional: Mapping[str, type]) -> None:
    """Raise unless a table has the required keys, no unknown ones, and values of the right types.

    Parameters
    ----------
    place : str
        Where the table stands, for messages.
    table : mapping
        The table.
    required, optional : mapping of str to type
        Its keys, and str, int, list or dict for each.

    Raises
    ------
    ValueError, TypeError
        If a key is missing, or unknown (the nearest is named), or a value has another type or is blank.

    Examples
    --------
    >>> check_keys("profiles.quick", {"n": 3}, {"n": list}, {})
    Traceback (most recent call last):
    TypeError: n of profiles.quick must be an array, got 3
    """
    known = {**required, **optional}
    for key in table:
        check_choice(f"key of {place}", key, known)
    for key in required:
        if key not in table:
            raise ValueError(f"{place} must have the key {key}, got only {', '.join(table) or 'nothing'}")
    for key, value in table.items():
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise TypeError(f"{key} of {place} must be {_NOUNS[known[key]]}, got {value!r}")
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"{key} of {place} must not be blank, got {value!r}")


def tables_of(name: str, entries: Sequence[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the tables of an array, each with its place for messages.

    Parameters
    ----------
    name : str
        Name of the array.
    entries : sequence
        The array.

    Returns
    -------
    list of tuple
        Place and table of each.

    Raises
    ------
    ValueError, TypeError
        If the array is empty, or holds anything but tables.

    Examples
    --------
    >>> tables_of("worlds", [{"name": "a"}])
    [('worlds[0]', {'name': 'a'})]
    """
    if not entries:
        raise ValueError(f"{name} must hold at least one table [[{name}]], got none")
    for entry in entries:
        if not isinstance(entry, dict):
            raise TypeError(f"{name} must hold tables [[{name}]], got {entry!r}")
    return [(f"{name}[{i}]", entry) for i, entry in enumerate(entries)]


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raise if a value occurs twice.

    Parameters
    ----------
    name : str
        What the values are, for messages.
    values : sequence
        Values that can be compared.

    Raises
    ------
    ValueError
        If one is equal to an earlier one.

    Examples
    --------
    >>> check_distinct("labels", ["a", "b", "a"])
    Traceback (most recent call last):
    ValueError: labels must all be different, got 'a' twice
    """
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"{name} must all be different, got {twice[0]!r} twice")


def check_integers(value: Any) -> None:
    """Raise if an integer in tables and arrays does not fit in 64 bits, as all of TOML and of result tables do.

    Parameters
    ----------
    value : object
        Made of dicts, lists and single values.

    Raises
    ------
    ValueError
        If one does not fit.

    Examples
    --------
    >>> check_integers({"n": [10, 10**25]})
    Traceback (most recent call last):
    ValueError: integers must fit in 64 bits, got one of 84 bits
    """
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            check_integers(part)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"integers must fit in 64 bits, got one of {value.bit_length()} bits")
