"""Which row format a table of rows has, from the names of its columns."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lm.data.values import listed

__all__ = ["FORMATS", "KNOWN_COLUMNS", "OPTIONAL_COLUMNS", "TableLayout", "table_layout"]

FORMATS: dict[str, tuple[str, ...]] = {
    "labelled": ("prompt", "completion", "label"),
    "messages": ("messages", "label"),
    "pairs": ("chosen", "rejected"),
    "tokens": ("prompt_ids", "completion_ids", "label"),
}
"""Columns that each row format needs; pairs may have a prompt as well."""

_PAIR_REFERENCE = ("chosen_ref_logps", "rejected_ref_logps")
OPTIONAL_COLUMNS = ("alpha", "weight", "ref_logps", *_PAIR_REFERENCE)
"""Columns that any format may have; the last two belong to pairs, and ref_logps to all others."""

_NEEDED = tuple(dict.fromkeys(name for names in FORMATS.values() for name in names))
KNOWN_COLUMNS = frozenset((*_NEEDED, *OPTIONAL_COLUMNS))
"""Every column with a meaning."""

_RULE = "a row must have the columns " + ", or ".join(" + ".join(names) for names in FORMATS.values())


class _RowLayout(NamedTuple):
    """What all rows of a table must share."""

    name: str
    has_prompt: bool
    optional: frozenset[str]


@dataclass(frozen=True)
class TableLayout:
    """Format of a table of rows.

    Attributes
    ----------
    name : str
        A key of `FORMATS`.
    has_prompt : bool
        Whether there is a column prompt.
    optional : frozenset of str
        Which of `OPTIONAL_COLUMNS` there are.
    ignored : tuple of str
        Columns that are not read, sorted.
    """

    name: str
    has_prompt: bool
    optional: frozenset[str]
    ignored: tuple[str, ...]


def table_layout(rows: Sequence[Mapping[str, Any]]) -> TableLayout:
    """Return the one format that all rows have; a value of None counts as absent.

    Parameters
    ----------
    rows : sequence of mapping
        At least one row.

    Returns
    -------
    TableLayout
        The format, and which columns are read.

    Raises
    ------
    ValueError
        If a row is no mapping, lacks a column, has columns of two formats, or has another format than row 0.

    Examples
    --------
    >>> layout = table_layout([{"prompt": "2+2=", "completion": "4", "label": 1, "source": "me"}])
    >>> layout.name, layout.ignored
    ('labelled', ('source',))
    """
    if not rows:
        raise ValueError("data must have at least one row, got none")
    layouts: dict[frozenset[str], _RowLayout] = {}
    first: _RowLayout | None = None
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"row {number}: a row must map columns to values, got {type(row).__name__}")
        columns = frozenset([name for name, value in row.items() if value is not None])
        if columns in layouts:
            continue
        layout = layouts[columns] = _row_layout(number, columns)
        if first is None:
            first = layout
        elif layout != first:
            raise ValueError(
                f"row {number}: all rows must have one format, got {_shown(layout)}, row 0 {_shown(first)}"
            )
    assert first is not None  # there is a row
    read = {*FORMATS[first.name], *first.optional} | ({"prompt"} if first.has_prompt else set())
    ignored = {name for columns in layouts for name in columns} - read
    return TableLayout(first.name, first.has_prompt, first.optional, tuple(sorted(ignored)))


def _row_layout(number: int, columns: frozenset[str]) -> _RowLayout:
    """Return the format of one row by its columns."""
    if not all(isinstance(column, str) for column in columns):
        raise ValueError(f"row {number}: names of columns must be text, got {_listed(columns)}")
    names = [name for name, needed in FORMATS.items() if columns.issuperset(needed)]
    if not names:
        raise ValueError(f"row {number}: {_missing(columns)}")
    name = names[0]
    used = {*FORMATS[name], *(("prompt",) if name == "pairs" else ())}
    # UltraFeedback repeats the chosen conversation in a column messages, which is no format without a label.
    unused = columns.intersection(_NEEDED) - used - ({"messages"} if name == "pairs" else set())
    if unused:
        raise ValueError(
            f"row {number}: columns must belong to one format, got {_listed(used & columns)} beside {_listed(unused)}; "
            "remove those that are not meant"
        )
    wrong = columns.intersection(("ref_logps",) if name == "pairs" else _PAIR_REFERENCE)
    if wrong or len(columns.intersection(_PAIR_REFERENCE)) == 1:
        rule = "chosen_ref_logps and rejected_ref_logps, both" if name == "pairs" else "ref_logps"
        got = columns.intersection(("ref_logps", *_PAIR_REFERENCE))
        raise ValueError(f"row {number}: reference log-probabilities must be in {rule}, got {_listed(got)}")
    for column in sorted(columns - KNOWN_COLUMNS):
        close = difflib.get_close_matches(column, OPTIONAL_COLUMNS, n=1, cutoff=0.8)
        if close and close[0] not in columns:
            raise ValueError(f"row {number}: unknown column {column!r}, did you mean {close[0]!r}? rename or remove it")
    return _RowLayout(name, "prompt" in columns, columns.intersection(OPTIONAL_COLUMNS))


def _missing(columns: frozenset[str]) -> str:
    """Return what to tell of a row without any complete format: the rule, what was found, the nearest remedy."""
    found = f"{_RULE}; got {_listed(columns)}" if columns else f"{_RULE}; got none with a value"
    others = sorted(columns - KNOWN_COLUMNS)
    near = {name: difflib.get_close_matches(name, others, n=1) for name in _NEEDED if name not in columns}
    there = {name for name in _NEEDED if name in columns or near[name]}
    # The format meant is the one of which the largest part is there; a label alone tells nothing.
    shares = {
        layout: sum(name in there for name in needed) / len(needed)
        for layout, needed in FORMATS.items()
        if there.intersection(needed) - {"label"}
    }
    if not shares:
        return found
    missing = [name for name in FORMATS[max(shares, key=lambda name: shares[name])] if name not in columns]
    remedies = [f"rename {near[name][0]!r} to {name!r}" if near[name] else f"add {name!r}" for name in missing]
    return f"{found}: {' and '.join(remedies)}"


def _listed(columns: Iterable[str]) -> str:
    """Return names of columns as text, in alphabetical order."""
    return listed(sorted(columns, key=str))


def _shown(layout: _RowLayout) -> str:
    """Return the columns of a layout as text."""
    prompt = ("prompt",) if layout.has_prompt and layout.name == "pairs" else ()
    return " + ".join((*prompt, *FORMATS[layout.name], *sorted(layout.optional)))
