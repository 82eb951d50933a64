"""Where the files of this repository are, and checksums of files and of the code that draws."""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

__all__ = ["MEASUREMENTS", "ROOT", "code_state", "file_hash", "result_path"]

ROOT = Path(__file__).parents[1]
"""Root of the repository."""

MEASUREMENTS = "benchmarks/published.csv"
"""The one table that comes with the repository."""

_ENDS = {".py", ".css", ".html", ".js"}
_PACKAGES = ("jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "scipy", "seaborn")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_path(results: Path, file: str) -> Path:
    """Return where a file of results is: in that folder, or else, if it is `MEASUREMENTS`, in the repository.

    Examples
    --------
    >>> result_path(Path("results"), "consistency/summary.parquet").as_posix()
    'results/consistency/summary.parquet'
    """
    path = results / file
    return ROOT / file if file == MEASUREMENTS and not path.exists() else path


def code_state(folder: Path = ROOT / "figures") -> dict[str, Any]:
    """Return what bytes of figures depend on beside tables.

    Parameters
    ----------
    folder : Path
        Folder of the sources; what is in its folder ``output`` has been made by them.

    Returns
    -------
    dict
        ``code``, one SHA-256 of the names and contents of all sources, and ``versions`` of packages.
    """
    code = hashlib.sha256()
    for path in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in _ENDS):
        if path.parts[0] != "output":
            code.update(f"{path.as_posix()} {file_hash(folder / path)}\n".encode())
    return {"code": code.hexdigest(), "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}}
