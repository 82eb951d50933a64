"""Counts and tables as text in a terminal."""

from collections.abc import Sequence

__all__ = ["aligned", "share"]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines of aligned columns: the first flush left, the others flush right.

    Parameters
    ----------
    rows : sequence of sequence of str
        As many cells in each row.

    Returns
    -------
    str
        One line a row, without spaces at its end.

    Examples
    --------
    >>> print(aligned([["rows", "1,000"], ["kept", "990"]]))
    rows  1,000
    kept    990
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(widths[i]) if i else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def share(part: int, whole: int) -> str:
    """Return what part of a whole some count is, in per cent.

    Examples
    --------
    >>> share(1, 8), share(0, 0)
    ('12.5 %', '-')
    """
    return f"{100 * part / whole:.1f} %" if whole else "-"
