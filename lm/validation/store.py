"""Results on disk: files that are there as a whole or not at all, and whose names tell whether they are sound."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lm.files import replacing, write_json

__all__ = ["check_settings", "find_checked", "open_settings", "save_checked"]

_DIGITS = 16
_SHOWN = 5
_SETTINGS = "settings.json"


def save_checked(folder: Path, key: str, content: bytes, kind: str, before: Path | None = None) -> Path:
    """Save bytes as ``KEY-CHECKSUM.KIND``, in place of the key's file before, and return the file."""
    path = folder / f"{key}-{_checksum(content)}.{kind}"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        if before not in (None, path):  # goes first: of two sound files nobody could tell which one is the later
            before.unlink(missing_ok=True)
    return path


def find_checked(folder: Path, key: str) -> Path | None:
    """Return the sound file of a key; one that does not match its checksum is named on stderr and removed."""
    for path in sorted(folder.glob(f"{key}-*")):
        if path.stem == f"{key}-{_checksum(path.read_bytes())}":
            return path
        print(f"{path} does not match its checksum and is computed again", file=sys.stderr)
        path.unlink()
    return None


def open_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Save the settings of a new folder of results; refuse those that differ from an earlier run's.

    Raises
    ------
    ValueError
        If they differ; what differs is shown.
    """
    if not check_settings(folder, settings):
        write_json(folder / _SETTINGS, settings)


def check_settings(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether a folder was begun with these settings; raise if it was begun with others.

    Raises
    ------
    ValueError
        If they differ; what differs is shown.
    OSError
        If the folder cannot be looked into.
    """
    path = folder / _SETTINGS
    try:
        if not path.exists():
            return False
    except OSError as error:
        raise OSError(f"results must go to a folder that can be written, got {folder}: {error.strerror}") from error
    remedy = f"choose another --output, or delete {folder} to start again"
    try:
        old = json.loads(path.read_bytes())
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} must be the JSON that an earlier run wrote, got {error}; {remedy}") from error
    different = list(_differences(old, json.loads(json.dumps(settings)), ""))
    if different:
        more = f"; and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        shown = "; ".join(different[:_SHOWN]) + more
        raise ValueError(f"an experiment must resume with the settings it began with, got {shown}. Remedies: {remedy}")
    return True


def _checksum(content: bytes) -> str:
    """Return the checksum that names carry."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    """Yield what differs between two JSON values, as ``place: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{place}.{k}".lstrip("."), old.get(k, "nothing"), new.get(k, "nothing")) for k in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{place}[{i}]", *values) for i, values in enumerate(zip(old, new, strict=True))]
    else:
        if old != new:
            yield f"{place or 'settings'}: {json.dumps(old)} -> {json.dumps(new)}"
        return
    for where, before, after in pairs:
        yield from _differences(before, after, where)
