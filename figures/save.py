"""Writing figures so that the same tables give the same bytes, with the plotted data and a manifest beside them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from figures.catalogue import FORMATS
from figures.style import figure_style

__all__ = ["MANIFEST", "Drawing", "read_manifest", "save_drawing", "write_manifest"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and the numbers it shows.

    Attributes
    ----------
    figure : Figure
        What is seen.
    data : DataFrame
        Every plotted number, one row a point; column ``panel`` says where.
    """

    figure: Figure
    data: pd.DataFrame


def save_drawing(drawing: Drawing, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write a figure in some formats and its data as CSV.

    Parameters
    ----------
    drawing : Drawing
        Figure and data.
    folder : Path
        Existing folder.
    name : str
        File name without its end.
    formats : sequence of str
        Keys of `figures.catalogue.FORMATS`.

    Returns
    -------
    list of Path
        The files written; their bytes depend on the data and the versions of the libraries alone.
    """
    paths = []
    with figure_style():
        for end in formats:
            paths.append(folder / f"{name}.{end}")
            drawing.figure.savefig(paths[-1], format=end, metadata=FORMATS[end])
    paths.append(folder / f"{name}.csv")
    # Ten digits: more than can be seen, and fewer than differ between machines.
    drawing.data.to_csv(paths[-1], index=False, float_format="%.10g", lineterminator="\n", encoding="utf-8")
    return paths


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder of figures by figure; empty where there is none.

    Raises
    ------
    ValueError
        If the file is not a manifest.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be a manifest of figures, got {type(error).__name__}: {error}") from error
    if not isinstance(figures, dict):
        raise ValueError(f"{path} must be a manifest of figures, got {type(figures).__name__} as its figures")
    return figures


def write_manifest(folder: Path, figures: dict[str, Any]) -> None:
    """Write the manifest of a folder of figures, sorted by name."""
    text = json.dumps({"figures": figures}, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
