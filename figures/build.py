"""Building figures, tables for papers, claims and the report: what is out of date is made anew, and moved in at once.

Nothing heavy is imported before something has to be made, so that a build with nothing to do ends at once.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.catalogue import FIGURES, check_name, load_figure
from figures.claims import claim_tables
from figures.manifest import MANIFEST, is_current, made_of, read_manifest, write_manifest
from figures.published_tables import PAPER_TABLES
from figures.sources import code_state, file_hash, result_path
from figures.venues import HOUSE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Order", "build", "check", "up_to_date"]

_CLAIMS, _REPORT = "claims", "report"
_SETTINGS = ("config.json", "settings.json")  # of a study of sim, of an experiment of lm
_PICTURES = {"png", "svg"}  # one of which the report shows

_Products = dict[str, list[str]]
_Manifest = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Order:
    """What is to be built, from what, and where.

    Attributes
    ----------
    results : Path
        Folder of result tables.
    output : Path
        Folder for the products.
    names : tuple of str
        Some of `figures.catalogue.FIGURES`; empty for all of them, and the tables, the claims and the report.
    formats : tuple of str
        Keys of `figures.catalogue.FORMATS`. A folder keeps the formats that it has: none of its files gets old.
    venue : str
        Key of `figures.venues.VENUES`.
    profile : str
        Profile that the command in a message names.
    """

    results: Path
    output: Path
    names: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("pdf", "png")
    venue: str = HOUSE
    profile: str = "quick"

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures ordered."""
        return self.names or FIGURES

    def ends(self, entry: Mapping[str, Any]) -> list[str]:
        """Return the formats to make of a figure with this entry of the manifest, if it has one."""
        there = [name.rpartition(".")[2] for name in entry.get("files", {})]
        ends = [*self.formats, *sorted({*there} - {*self.formats, "csv"})]
        return ends if self.names or _PICTURES & {*ends} else [*ends, "png"]


def build(order: Order) -> list[Path]:
    """Make what is out of date, and put it in place: where something fails, none of the old files is touched.

    Parameters
    ----------
    order : Order
        What to build. Its output folder is made if it is missing.

    Returns
    -------
    list of Path
        The files that were made, without the manifest; none if all was up to date.

    Raises
    ------
    ValueError
        If a figure is unknown, a table is missing or not what is needed, or another build works in the folder.
    OSError
        If a file cannot be written.
    """
    for name in order.names:
        check_name(name)
    if up_to_date(order):
        return []
    tables = _read(order, _stale(order, read_manifest(order.output)))  # before the folder is made
    with _alone(order.output):
        manifest = read_manifest(order.output)
        with tempfile.TemporaryDirectory(dir=order.output, prefix=".building-") as name:
            folder = Path(name)
            built = _make(order, _stale(order, manifest), tables, folder, manifest)
            manifest = {kind: {**entries, **built[kind]} for kind, entries in manifest.items()}
            write_manifest(folder, manifest)
            _put_in_place(folder, order.output)
        files = [order.output / file for kind in built.values() for entry in kind.values() for file in entry["files"]]
        if not order.names:
            manifest["pages"][_REPORT] = _report(order, manifest, order.output)
            files += [order.output / file for file in manifest["pages"][_REPORT]["files"]]
            write_manifest(order.output, manifest)
    return files


def check(order: Order) -> list[str]:
    """Make everything in a temporary folder and name the files in the output that are not the same, byte for byte.

    Parameters
    ----------
    order : Order
        As for `build`; nothing in its output is changed.

    Returns
    -------
    list of str
        Names of files that differ or are missing; the manifest is one of them where it does not describe the build.

    Raises
    ------
    ValueError
        As for `build`.
    """
    products = _all(order)
    tables = _read(order, products)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = _make(order, products, tables, folder, {kind: {} for kind in products})
        write_manifest(folder, built)
        if not order.names:
            built["pages"][_REPORT] = _report(order, built, folder)
        fresh = {
            file: value for kind in built.values() for entry in kind.values() for file, value in entry["files"].items()
        }
    there = {file: file_hash(order.output / file) for file in fresh if (order.output / file).is_file()}
    manifest = read_manifest(order.output)
    described = all(
        _describes(manifest[kind].get(name, {}), entry)
        for kind, group in built.items()
        for name, entry in group.items()
    )
    return sorted(file for file in fresh if there.get(file) != fresh[file]) + ([] if described else [MANIFEST])


def up_to_date(order: Order) -> bool:
    """Return whether a build would find nothing to do; neither tables nor libraries are loaded for this.

    Raises
    ------
    ValueError
        If the manifest is broken.
    """
    return not any(_stale(order, read_manifest(order.output)).values())


def _all(order: Order) -> _Products:
    """Return the products of an order, by kind."""
    rest: _Products = {"tables": [], "pages": []} if order.names else {"tables": [*PAPER_TABLES], "pages": [_CLAIMS]}
    return {"figures": [*order.figures], **rest}


def _stale(order: Order, manifest: _Manifest) -> _Products:
    """Return the products of an order that are out of date, by kind."""
    state, output = code_state(), order.output

    def current(kind: str, name: str) -> bool:
        entry = manifest[kind].get(name, {})
        if kind == "pages":
            read = _claims_read(order) if name == _CLAIMS else _report_read(order, manifest, output)
        else:  # with the code the tables that it reads are the same
            read = _paths(order, entry.get("tables", {}))
        venue, ends = (order.venue, order.ends(entry)) if kind == "figures" else (None, [])
        return is_current(entry, made_of(state, read, venue), output, ends)

    products = _all(order)
    products["pages"] = [*products["pages"], *([] if order.names else [_REPORT])]
    return {kind: [name for name in names if not current(kind, name)] for kind, names in products.items()}


def _paths(order: Order, files: Iterable[str]) -> dict[str, Path]:
    """Return where files of results are."""
    return {file: result_path(order.results, file) for file in files}


def _claims_read(order: Order) -> dict[str, Path]:
    """Return the tables that decide about claims, missing ones too."""
    return _paths(order, [f"{table}.parquet" for table in claim_tables()])


def _report_read(order: Order, manifest: _Manifest, folder: Path) -> dict[str, Path]:
    """Return what the report is made of: tables that decide about claims, settings, and figures with their data."""
    settings = sorted(path.relative_to(order.results) for name in _SETTINGS for path in order.results.glob(f"*/{name}"))
    figures = [file for entry in manifest["figures"].values() for file in entry["files"]]
    return {
        **_claims_read(order),
        **_paths(order, [path.as_posix() for path in settings]),
        **{f"output/{file}": folder / file for file in figures},
    }


def _read(order: Order, products: _Products) -> dict[str, "pd.DataFrame"]:
    """Read all tables of figures and tables for papers before anything is made."""
    from figures.tables import read_tables

    needs = [load_figure(name).TABLES for name in products["figures"]]
    needs += [PAPER_TABLES[name].tables for name in products["tables"]]
    columns: dict[str, list[str]] = {}
    for table, needed in (item for need in needs for item in need.items()):
        columns[table] = list(dict.fromkeys([*columns.get(table, []), *needed]))
    return read_tables(order.results, columns, profile=order.profile)


def _make(
    order: Order, products: _Products, tables: Mapping[str, "pd.DataFrame"], folder: Path, before: _Manifest
) -> _Manifest:
    """Make products other than the report in a folder, and return their entries of the manifest."""
    from figures.tables import table_file

    def made(files: Iterable[str], venue: str | None = None) -> dict[str, Any]:
        return made_of(state, _paths(order, files), venue)  # before the work: what changes meanwhile is out of date

    state = code_state()
    built: _Manifest = {"figures": {}, "tables": {}, "pages": {}}
    for name in _shown(products["figures"]):
        module, ends = load_figure(name), order.ends(before["figures"].get(name, {}))
        entry = made(map(table_file, module.TABLES), order.venue)
        built["figures"][name] = entry | _figure(order, name, tables, folder, ends)
    for name in products["tables"]:
        entry = made(map(table_file, PAPER_TABLES[name].tables))
        built["tables"][name] = entry | _table(name, tables, folder)
    if _CLAIMS in products["pages"]:
        built["pages"][_CLAIMS] = made(_claims_read(order)) | _claims(order, folder)
    return built


def _shown(names: Sequence[str]) -> Iterable[str]:
    """Show the progress of figures on a terminal."""
    from tqdm import tqdm

    return tqdm(names, desc="figures", disable=None, leave=False) if names else names


def _figure(
    order: Order, name: str, tables: Mapping[str, "pd.DataFrame"], folder: Path, formats: Sequence[str]
) -> dict[str, Any]:
    """Make a figure."""
    from figures.save import draw_figure, save_drawing

    module = load_figure(name)
    paths = save_drawing(draw_figure(module, tables, order.venue), folder, name, formats)
    return {"claim": (module.__doc__ or "").splitlines()[0], "files": _hashes(paths, folder)}


def _table(name: str, tables: Mapping[str, "pd.DataFrame"], folder: Path) -> dict[str, Any]:
    """Make a table for papers."""
    from figures.published_tables import write_table

    table = PAPER_TABLES[name]
    paths = write_table(name, table.rows(tables), table.caption, folder)
    return {"caption": table.caption, "files": _hashes(paths, folder)}


def _claims(order: Order, folder: Path) -> dict[str, Any]:
    """Judge the claims."""
    from figures.published_tables import write_claims_table
    from figures.verdicts import judge_claims, write_claims

    claims = judge_claims(order.results)
    return {"files": _hashes([*write_claims(claims, folder), *write_claims_table(claims, folder)], folder)}


def _report(order: Order, manifest: _Manifest, folder: Path) -> dict[str, Any]:
    """Write the report beside its figures, and return its entry of the manifest."""
    from figures.provenance import read_provenance
    from figures.report import write_report
    from figures.verdicts import judge_claims

    made = made_of(code_state(), _report_read(order, manifest, folder))
    path = write_report(judge_claims(order.results), folder, read_provenance(order.results))
    return made | {"files": _hashes([path], folder)}


def _hashes(paths: Iterable[Path], folder: Path) -> dict[str, str]:
    """Return the SHA-256 of files by their names within a folder."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in paths}


def _describes(stored: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Say whether a stored entry of the manifest agrees with a build, which may have fewer formats."""
    same = all(stored.get(key) == value for key, value in entry.items() if key not in ("files", "tables"))
    return same and all(entry[key].items() <= stored.get(key, {}).items() for key in ("files", "tables"))


def _put_in_place(folder: Path, output: Path) -> None:
    """Move files from a folder to the output, the manifest last."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == MANIFEST):
        place = output / path.relative_to(folder)
        place.parent.mkdir(exist_ok=True)
        path.replace(place)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Make a folder and keep other builds out of it; remove what a build that was killed has left."""
    from theory.checks import check_links  # imports numpy

    check_links(output, output)
    output.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{output} must be built by one process at a time, got a second one") from error
        for left in output.glob(".building-*"):
            shutil.rmtree(left)
        yield
    finally:
        os.close(descriptor)
