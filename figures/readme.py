"""The two places of README.md that are made from results, its gallery and its verdicts: ``python -m figures.readme``.

A place lies between two comments, ``<!-- gallery -->`` and ``<!-- end of gallery -->`` for instance.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from figures.catalogue import explain_figure
from figures.verdicts import claims_table, judge_claims

__all__ = ["GALLERY", "fill", "gallery", "main", "verdict_tables"]

GALLERY = (
    "relative_ratio_is_bounded",
    "consistency_without_bradley_terry",
    "training_divergence",
    "efficiency_against_cramer_rao",
)
"""The figures that README.md shows."""

_PROFILE = "quick"
_PICTURES = Path("figures", "gallery")
_PIXELS = 1000  # width of a picture: sharp at half of a page


def fill(text: str, place: str, content: str) -> str:
    """Return a text with other content between the two comments of a place.

    Raises
    ------
    ValueError
        If the text does not have the two comments, once each.

    Examples
    --------
    >>> fill("<!-- sum -->old<!-- end of sum -->", "sum", "new")
    '<!-- sum -->new<!-- end of sum -->'
    """
    start, end = f"<!-- {place} -->", f"<!-- end of {place} -->"
    pattern = re.compile(f"(?<={re.escape(start)}).*?(?={re.escape(end)})", flags=re.S)
    if len(pattern.findall(text)) != 1:
        raise ValueError(
            f"the text must have one {start} before one {end}, got {len(pattern.findall(text))} such pairs"
        )
    return pattern.sub(lambda _: content, text)


def gallery() -> str:
    """Return the gallery as a Markdown table: the pictures two by two, each under the first line of its module.

    Examples
    --------
    >>> gallery().count("![")
    4
    """
    claims = {name: explain_figure(name).splitlines()[0] for name in GALLERY}
    pictures = {name: f"![{name}]({(_PICTURES / name).as_posix()}.png)" for name in GALLERY}
    rows = [[cells[name] for name in pair] for pair in (GALLERY[:2], GALLERY[2:]) for cells in (claims, pictures)]
    head, *others = [f"| {left} | {right} |" for left, right in rows]
    return "\n".join(["", head, "|---|---|", *others, ""])


def verdict_tables(results: Path) -> str:
    """Return the verdicts on the claims of the papers and on ours, as two Markdown tables.

    Parameters
    ----------
    results : Path
        Folder of results.
    """
    claims = judge_claims(results)
    ours = [claim for claim in claims if claim["source"] == "ours"]
    papers = [claim for claim in claims if claim["source"] != "ours"]
    return f"\n{claims_table(papers)}\nOf our own statements:\n\n{claims_table(ours)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the places of README.md and write the pictures of the gallery.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        0, or 2 after one line on standard error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m figures.readme",
        description="Fill the gallery and the verdicts of README.md from the results and figures of the quick "
        "profile; to be run where README.md is.",
    )
    parser.parse_args(argv)
    try:
        readme = Path("README.md")
        text = fill(readme.read_text(encoding="utf-8"), "gallery", gallery())
        text = fill(text, "verdicts", verdict_tables(Path("results", _PROFILE)))
        _write_pictures(Path("figures", "output", _PROFILE))
        readme.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"figures.readme: {error}", file=sys.stderr)
        return 2
    return 0


def _write_pictures(output: Path) -> None:
    """Write the pictures of the gallery, smaller than those that were built."""
    from PIL import Image

    _PICTURES.mkdir(parents=True, exist_ok=True)
    for name in GALLERY:
        with Image.open(output / f"{name}.png") as picture:
            height = round(picture.height * _PIXELS / picture.width)
            small = picture.convert("RGB").resize((_PIXELS, height), Image.Resampling.LANCZOS)
            small = small.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            small.save(_PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
