"""One page that holds every claim, its verdict, its evidence and its figures, and needs nothing but itself.

The page loads nothing: its policy forbids all but the styles and the script within it, told by their checksums, and
pictures and data that are written into it.
"""

import base64
import hashlib
import json
import os
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from figures.catalogue import FIGURES, explain_figure

__all__ = ["REPORT", "write_report"]

REPORT = "report.html"
"""Name of the page."""

_PARTS = Path(__file__).with_name("report_page")
_OPEN_ROWS = 8  # longer evidence is folded at first
_IMAGES = {"png": "image/png", "svg": "image/svg+xml"}  # the best first: letters of an SVG depend on the reader's fonts

_VERDICTS = {
    "supported": {"style": "supported", "symbol": "\N{CHECK MARK}", "meaning": "the data show it wherever tested"},
    "refuted": {"style": "refuted", "symbol": "\N{BALLOT X}", "meaning": "the data show the opposite somewhere"},
    "inconclusive": {"style": "inconclusive", "symbol": "?", "meaning": "the data do not decide"},
    "not run": {"style": "not-run", "symbol": "\N{EN DASH}", "meaning": "no data for its rule"},
}


def write_report(claims: Sequence[Mapping[str, Any]], output: Path, provenance: Mapping[str, Any]) -> Path:
    """Write the page of all claims into a folder of figures.

    Parameters
    ----------
    claims : sequence of mapping
        As `figures.verdicts.judge_claims` returns them, in the order of the page.
    output : Path
        Folder with manifest.json, the figures as PNG or SVG, and their CSV files. Figures that the manifest does not
        name are not shown; claims say so.
    provenance : mapping
        As `figures.provenance.read_provenance` returns it.

    Returns
    -------
    Path
        ``output / "report.html"``. Its bytes depend on the arguments and the files alone.

    Raises
    ------
    ValueError
        If two claims have one id, a verdict is unknown, or the manifest is missing, broken, or names a figure that is
        not there as PNG or SVG with its CSV.
    OSError
        If the page cannot be written.

    Examples
    --------
    >>> write_report([], Path("nowhere"), {"profiles": [], "studies": []})
    Traceback (most recent call last):
    ValueError: nowhere must hold manifest.json, got none; make it with: python -m figures --output nowhere
    """
    _check(claims)
    figures = _read_figures(output)
    style, script = ((_PARTS / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_PARTS, encoding="utf-8"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"number": _number, "interval": _interval}
    page = environment.get_template("template.html").render(
        claims=claims,
        drawn_with={key: value for figure in figures.values() for key, value in figure["versions"].items()},
        figures=figures,
        open_rows=_OPEN_ROWS,
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'",
        provenance=provenance,
        script=Markup(script),
        sources=list(dict.fromkeys(claim["source"] for claim in claims)),
        style=Markup(style),
        verdicts=_VERDICTS,
    )
    path = output / REPORT
    draft = output / f".{REPORT}-{os.getpid()}"
    try:
        draft.write_text(page + "\n", encoding="utf-8", newline="\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _check(claims: Sequence[Mapping[str, Any]]) -> None:
    """Raise if claims cannot be told apart or have a verdict that the page has no place for."""
    for name, count in Counter(claim["id"] for claim in claims).items():
        if count > 1:
            raise ValueError(f"each claim must have an id of its own, got {count} called {name!r}")
    for claim in claims:
        if claim["verdict"] not in _VERDICTS:
            raise ValueError(
                f"verdict must be one of {', '.join(_VERDICTS)}; got {claim['verdict']!r} for {claim['id']}"
            )


def _read_figures(output: Path) -> dict[str, dict[str, Any]]:
    """Return what the page shows of each figure in the manifest, in the order of the catalogue."""
    path = output / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{output} must hold {path.name}, got none; make it with: python -m figures --output {output}")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["figures"]
        return {name: _read_figure(output, name, entries[name]) for name in FIGURES if name in entries}
    except (OSError, ValueError, KeyError, RecursionError, TypeError, struct.error) as error:
        raise ValueError(f"{path} must describe the figures beside it, got {type(error).__name__}: {error}") from error


def _read_figure(output: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the picture of a figure, what is said about it, its data, and checksums."""
    end = next((end for end in _IMAGES if f"{name}.{end}" in entry["files"]), None)
    if end is None:
        raise ValueError(f"{name} is there as {', '.join(entry['files'])}, neither PNG nor SVG")
    paragraphs = explain_figure(name).replace("``", "").split("\n\n")
    title, *reading = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return {
        "title": title,
        "reading": reading,
        "alt": f"Plot: {title}",
        "image": _data_link(output / f"{name}.{end}", _IMAGES[end]),
        "size": _size(output / f"{name}.{end}"),
        "data": _data_link(output / f"{name}.csv", "text/csv"),
        "versions": entry["versions"],
        "hashes": {**entry["tables"], f"{name}.csv": entry["files"][f"{name}.csv"]},
    }


def _size(path: Path) -> dict[str, int]:
    """Return width and height of a PNG in pixels, so that its place is kept before it is decoded; of an SVG nothing."""
    if path.suffix != ".png":
        return {}
    width, height = struct.unpack(">II", path.read_bytes()[16:24])  # the header comes first (PNG, section 11.2.2)
    return {"width": width, "height": height}


def _data_link(path: Path, kind: str) -> str:
    """Return a file as a link that carries it."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _source(text: str) -> str:
    """Return the source expression that allows exactly this text (Content Security Policy 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _number(value: float | None) -> str:
    """Return a number with four digits that matter; nothing where there is none."""
    return "" if value is None else f"{value:.4g}"


def _interval(row: Mapping[str, Any]) -> str:
    """Return the interval of a row of evidence with its level, or that the estimate is exact."""
    if row["level"] is None:
        return "exact" if row["estimate"] is not None else ""
    return f"[{_number(row['low'])}, {_number(row['high'])}] ({row['level']:.0%})".replace("%", "\N{NO-BREAK SPACE}%")
