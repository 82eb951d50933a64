"""Numbers and tables as text in a terminal."""

import math
from collections.abc import Sequence

__all__ = ["aligned", "duration", "number"]


def aligned(rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Return rows of cells as lines of aligned columns.

    Parameters
    ----------
    rows : sequence of sequence of str
        As many cells in each row.
    text_columns : int
        How many of the first columns are text, flush left; the others are numbers, flush right.

    Returns
    -------
    str
        One line a row, without spaces at its end.

    Examples
    --------
    >>> print(aligned([["method", "n"], ["rdro", "1,000"]]))
    method      n
    rdro    1,000
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: object) -> str:
    """Return a number to four significant digits, "-" where there is none, anything else as it is.

    Examples
    --------
    >>> [number(value) for value in (0.123456, 1e-9, 3, float("nan"), None, "adam")]
    ['0.1235', '1e-09', '3', '-', '-', 'adam']
    """
    if not isinstance(value, float):
        return "-" if value is None or str(value) == "<NA>" else str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return a time span in a unit that suits it.

    Examples
    --------
    >>> [duration(value) for value in (0.04, 12.3, 200, 9000)]
    ['0.04 s', '12 s', '3.3 min', '2.5 h']
    """
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
