"""The manifest of a folder of figures: what each product was made of, and whether it is up to date."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from figures.sources import file_hash

__all__ = ["KINDS", "MANIFEST", "is_current", "made_of", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
"""Name of the file."""

KINDS = ("figures", "tables", "pages")
"""Kinds of products, each with entries by name."""


def made_of(state: Mapping[str, Any], tables: Mapping[str, Path], venue: str | None = None) -> dict[str, Any]:
    """Return what a product would be made of now.

    Parameters
    ----------
    state : mapping
        From `figures.sources.code_state`.
    tables : mapping of str to Path
        Files read, by the name that the manifest gives them.
    venue : str, optional
        Venue, of figures.

    Returns
    -------
    dict
        `state`, ``tables`` with a SHA-256 of each file, None where it is missing, and ``venue``.
    """
    hashes = {name: file_hash(path) if path.is_file() else None for name, path in sorted(tables.items())}
    return {**state, "tables": hashes, "venue": venue}


def is_current(entry: Mapping[str, Any], made: Mapping[str, Any], folder: Path, ends: Collection[str] = ()) -> bool:
    """Return whether a product is what would be made now, with its files as they were written.

    Parameters
    ----------
    entry : mapping
        Entry of the manifest; empty if there is none.
    made : mapping
        From `made_of`.
    folder : Path
        Folder of the files.
    ends : collection of str
        Ends of file names that must be among the files.
    """
    files = entry.get("files", {})
    return (
        all(entry.get(key) == value for key, value in made.items())
        and bool(files)
        and set(ends) <= {name.rpartition(".")[2] for name in files}
        and all((folder / name).is_file() and file_hash(folder / name) == value for name, value in files.items())
    )


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest of a folder by kind and name; empty where there is none.

    Raises
    ------
    ValueError
        If the file is not a manifest.

    Examples
    --------
    >>> read_manifest(Path("nowhere"))
    {'figures': {}, 'tables': {}, 'pages': {}}
    """
    path = folder / MANIFEST
    if not path.exists():
        return {kind: {} for kind in KINDS}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kinds = {kind: content[kind] for kind in KINDS}
    except (OSError, ValueError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"{path} must be a manifest of figures, got {type(error).__name__}: {error}") from error
    for kind, entries in kinds.items():
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise ValueError(f"{path} must be a manifest of figures, got {type(entries).__name__} as its {kind}")
    return kinds


def write_manifest(folder: Path, kinds: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the manifest of a folder, sorted by name."""
    text = json.dumps(kinds, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
