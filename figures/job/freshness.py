"""Whether result tables are those of the present code and packages: found out by checksums, importing neither."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from figures.sources import ROOT, file_hash

__all__ = ["STAMP", "is_fresh", "write_stamp"]

STAMP = "complete.json"
"""File beside the results of a job that did everything."""

_CODE = ("theory", "sim", "lm")
_PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "torch", "transformers", "accelerate", "leaderbot")
_SETTINGS = ("config.json", "settings.json")  # of a study of sim, of an experiment of lm


def write_stamp(results: Path, profile: str) -> None:
    """Note that all tables of a profile are there, and what they were made of.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    temporary = results / f"{STAMP}.tmp"
    temporary.write_text(json.dumps(_state(results, profile), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(results / STAMP)


def is_fresh(results: Path, profile: str) -> bool:
    """Return whether a job has finished all tables here, and neither they nor code nor packages have changed since.

    Examples
    --------
    >>> is_fresh(Path("no/such/folder"), "quick")
    False
    """
    try:
        stamp = json.loads((results / STAMP).read_bytes())
    except (OSError, RecursionError, ValueError):
        return False
    return bool(stamp == _state(results, profile))


def _state(results: Path, profile: str) -> dict[str, Any]:
    """Return what a stamp says: profile, versions, checksum of the code and checksums of settings and tables."""
    code = hashlib.sha256()
    for path in sorted(
        path for folder in _CODE for end in ("py", "toml") for path in (ROOT / folder).rglob(f"*.{end}")
    ):
        code.update(f"{path.relative_to(ROOT).as_posix()} {file_hash(path)}\n".encode())
    folders = sorted({path.parent for name in _SETTINGS for path in results.glob(f"*/{name}")})
    files = sorted(path for folder in folders for end in ("json", "parquet") for path in folder.glob(f"*.{end}"))
    return {
        "profile": profile,
        "code": code.hexdigest(),
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "files": {path.relative_to(results).as_posix(): file_hash(path) for path in files},
    }


def _version(package: str) -> str:
    """Return the version of an installed distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
