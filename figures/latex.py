"""Tables as LaTeX that needs the package booktabs alone."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

__all__ = ["escape", "number", "tabular"]

_SPECIAL = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"${char}$" for char in "<>|"},
    # What is beyond ASCII, so that old engines can read it too.
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{MINUS SIGN}": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}": r"\'e",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{INFINITY}": r"$\infty$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\le$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
    "→": r"$\to$",
    "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    "\N{GREEK SMALL LETTER PI}": r"$\pi$",
    "β": r"$\beta$",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    '"': "''",
    "χ": r"$\chi$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
}
_DIGITS = 4
_ZERO = 1e-12  # what is smaller is rounding
_NOTHING = "--"


def escape(text: str) -> str:
    r"""Return text as LaTeX that shows it.

    Raises
    ------
    ValueError
        If it has a character that is not known here.

    Examples
    --------
    >>> print(escape("5 % of p_+ < 1"))
    5 \% of p\_+ $<$ 1
    """
    unknown = sorted({char for char in text if not char.isascii() and char not in _SPECIAL})
    if unknown:
        raise ValueError(f"text for LaTeX must have known characters, got {unknown[0]!r} in {text!r}")
    return "".join(_SPECIAL.get(char, char) for char in text)


def number(value: float, *, half: float | None = None) -> str:
    r"""Return a number in LaTeX, with half the width of its interval if there is one.

    Parameters
    ----------
    value : float
        Shown with four digits, or with as many as its interval has.
    half : float, optional
        Shown with two digits.

    Examples
    --------
    >>> number(-0.49871), number(0.000012), number(-0.49871, half=0.0042)
    ('$-0.4987$', '$1.2\\times10^{-5}$', '$-0.4987 \\pm 0.0042$')
    """
    if math.isnan(value):
        return _NOTHING
    if abs(value) < _ZERO and half is None:
        value = 0.0
    if half is not None and math.isfinite(half) and half > 0 and math.isfinite(value):
        places = max(1 - math.floor(math.log10(half)), 0)
        return rf"${value:z.{places}f} \pm {half:.{places}f}$"
    if math.isinf(value):
        return r"$\infty$" if value > 0 else r"$-\infty$"
    digits, _, power = f"{value:.{_DIGITS}g}".partition("e")
    return rf"${digits}\times10^{{{int(power)}}}$" if power else f"${digits}$"


def tabular(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], caption: str, *, wide: str = "") -> str:
    r"""Return a table as LaTeX.

    Parameters
    ----------
    columns : sequence of str
        Keys of the rows and heads of the columns. The columns ``X half`` and ``X low``, ``X high`` are shown within X.
    rows : sequence of mapping of str to value
        Texts and numbers; NaN and None are nothing.
    caption : str
        What the table shows, put before it as a comment.
    wide : str
        A column of long texts, which is broken into lines.

    Returns
    -------
    str
        A tabular environment.

    Examples
    --------
    >>> print(tabular(["world", "error", "error half"], [{"world": "a_b", "error": 0.5, "error half": 0.1}], "errors"))
    % errors (needs \usepackage{booktabs})
    \begin{tabular}{lr}
    \toprule
    world & error \\
    \midrule
    a\_b & $0.50 \pm 0.10$ \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    parts = {f"{name} {part}" for name in columns for part in ("half", "low", "high")}
    shown = [name for name in columns if name not in parts]
    kinds = "".join(_kind(name, rows, wide) for name in shown)
    lines = [
        rf"% {caption} (needs \usepackage{{booktabs}})",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _line(escape(name) for name in shown),
        r"\midrule",
        *(_line(_cell(row, name) for name in shown) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    """Return a row of a table."""
    return " & ".join(cells) + r" \\"


def _kind(name: str, rows: Sequence[Mapping[str, Any]], wide: str) -> str:
    """Return the kind of a column: long text, numbers, or text."""
    if name == wide:
        return r"p{0.5\linewidth}"
    return "r" if all(isinstance(row[name], Real) or row[name] is None for row in rows) else "l"


def _cell(row: Mapping[str, Any], name: str) -> str:
    """Return a cell with its interval."""
    value = row[name]
    if value is None:
        return _NOTHING
    if not isinstance(value, Real):
        return escape(str(value))
    if isinstance(value, Integral):
        return f"{value:,}"
    if f"{name} half" in row:
        return number(float(value), half=float(row[f"{name} half"]))
    if f"{name} low" in row and not math.isnan(value):
        low, high = (number(float(row[f"{name} {end}"])) for end in ("low", "high"))
        return f"{number(float(value))} [{low}, {high}]"
    return number(float(value))
