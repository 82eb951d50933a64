"""Building figures: they are drawn, put in place together, and compared with what is there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from figures.catalogue import load_figure
from figures.sources import file_hash

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build_figures", "check_figures"]


def build_figures(names: Sequence[str], results: Path, output: Path, formats: Sequence[str]) -> list[Path]:
    """Build figures and put them in place together: where one fails, none of the old files is touched.

    Parameters
    ----------
    names : sequence of str
        Some of `FIGURES`.
    results : Path
        Folder of result tables.
    output : Path
        Folder for the figures, made if it is missing.
    formats : sequence of str
        Keys of `FORMATS`.

    Returns
    -------
    list of Path
        The files in place, without the manifest.

    Raises
    ------
    ValueError
        If a figure is unknown, or a table is missing or not what the figure needs.
    """
    from figures.save import MANIFEST, read_manifest, write_manifest

    modules = [load_figure(name) for name in names]
    tables = _read(modules, results)
    manifest = read_manifest(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".building-") as folder:
        built = _build(modules, tables, results, Path(folder), formats)
        write_manifest(Path(folder), manifest | built)
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.name == MANIFEST):  # the manifest last
            path.replace(output / path.name)
    return [output / file for entry in built.values() for file in entry["files"]]


def check_figures(names: Sequence[str], results: Path, output: Path, formats: Sequence[str]) -> list[str]:
    """Build figures in a temporary folder and name the files in `output` that are not the same, byte for byte.

    Parameters
    ----------
    names, results, output, formats
        As in `build_figures`; nothing in `output` is changed.

    Returns
    -------
    list of str
        Names of files that differ or are missing; the manifest is one of them where it does not describe the build.

    Raises
    ------
    ValueError
        As in `build_figures`.
    """
    from figures.save import MANIFEST, read_manifest

    modules = [load_figure(name) for name in names]
    tables = _read(modules, results)
    with tempfile.TemporaryDirectory() as folder:
        built = _build(modules, tables, results, Path(folder), formats)
        fresh = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    there = {name: (output / name).read_bytes() for name in fresh if (output / name).is_file()}
    manifest = read_manifest(output)
    described = all(_describes(manifest.get(name, {}), entry) for name, entry in built.items())
    return sorted(name for name in fresh if there.get(name) != fresh[name]) + ([] if described else [MANIFEST])


def _describes(stored: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Say whether a stored entry of the manifest agrees with a build, which may have fewer formats."""
    files = stored.get("files", {})
    return stored.get("tables") == entry["tables"] and entry["files"].items() <= files.items()


def _read(modules: Sequence[ModuleType], results: Path) -> dict[str, "pd.DataFrame"]:
    """Read all tables of some figures before any is drawn."""
    from figures.tables import read_tables

    columns: dict[str, list[str]] = {}
    for module in modules:
        for table, needed in module.TABLES.items():
            columns[table] = list(dict.fromkeys([*columns.get(table, []), *needed]))
    return read_tables(results, columns)


def _build(
    modules: Sequence[ModuleType],
    tables: dict[str, "pd.DataFrame"],
    results: Path,
    folder: Path,
    formats: Sequence[str],
) -> dict[str, Any]:
    """Build figures in a folder, and return their entries of the manifest."""
    from figures.save import save_drawing
    from figures.style import figure_style
    from figures.tables import table_file, table_path

    entries = {}
    for module in modules:
        with figure_style():
            drawing = module.draw({table: tables[table] for table in module.TABLES})
        name = module.__name__.rpartition(".")[2]
        paths = save_drawing(drawing, folder, name, formats)
        entries[name] = {
            "claim": (module.__doc__ or "").splitlines()[0],
            "tables": {table_file(table): file_hash(table_path(results, table)) for table in sorted(module.TABLES)},
            "files": {path.name: file_hash(path) for path in paths},
        }
    return entries
