"""Results of a study on disk: one file a task, safe against kills, corruption, second writers and changed settings."""

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim.study import fingerprint

__all__ = ["Store", "digest", "open_store", "parquet_bytes"]

_SHOWN_DIFFERENCES = 5
_DIGITS = 16


class Store:
    """The folder of one study; get one from `open_store`, which locks it.

    Parts are named ``INDEX-CHECKSUM.parquet``, where the checksum covers the settings and the bytes: one rename makes
    a part complete, and a part that is truncated, altered or of another study is found out by its own name.

    Parameters
    ----------
    folder : Path
        Folder of the study.
    settings : mapping
        What determines the results, see `sim.study.StudyConfig.settings`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Remember folder and settings."""
        self.folder = folder
        self._key = fingerprint(settings)

    def parts(self) -> dict[int, pa.Table]:
        """Read the sound parts by index; others are named on stderr and removed, to be computed again."""
        found: dict[int, pa.Table] = {}
        for path in sorted(self._parts_folder.glob("*")):
            content = path.read_bytes()
            named = re.fullmatch(rf"(\d+)-([0-9a-f]{{{_DIGITS}}})\.parquet", path.name)
            if named and named[2] == self._checksum(content):
                found[int(named[1])] = pq.read_table(pa.BufferReader(content))
            else:
                print(f"{path} does not match its checksum and is computed again", file=sys.stderr)
                path.unlink()
        return found

    def save_part(self, index: int, content: bytes) -> None:
        """Save the Parquet bytes of a task."""
        self._parts_folder.mkdir(exist_ok=True)
        _replace(self._parts_folder / f"{index:06d}-{self._checksum(content)}.parquet", content)

    def saved_parts(self) -> int:
        """Return the number of parts on disk."""
        return len(list(self._parts_folder.glob("*.parquet")))

    def save_tables(self, tables: Mapping[str, pa.Table]) -> None:
        """Save the collected tables, and at last the list of their checksums, which says that they are complete."""
        checksums = {}
        for name, table in tables.items():
            content = parquet_bytes(table)
            checksums[name] = self._checksum(content)
            _replace(self.folder / f"{name}.parquet", content)
        _replace(self._list, json.dumps(checksums, indent=2).encode())

    def tables_are_complete(self) -> bool:
        """Return whether the collected tables are all there and unaltered."""
        try:
            checksums = json.loads(self._list.read_bytes())
            return all(
                self._checksum((self.folder / f"{name}.parquet").read_bytes()) == checksum
                for name, checksum in checksums.items()
            )
        except (FileNotFoundError, json.JSONDecodeError):
            return False

    def tables_are(self, tables: Mapping[str, pa.Table]) -> bool:
        """Return whether the collected tables are complete and equal to the given ones."""
        return self.tables_are_complete() and all(
            (self.folder / f"{name}.parquet").read_bytes() == parquet_bytes(table) for name, table in tables.items()
        )

    def discard_tables(self) -> None:
        """Declare the collected tables incomplete, before parts change."""
        self._list.unlink(missing_ok=True)

    @property
    def _parts_folder(self) -> Path:
        """Folder of the parts."""
        return self.folder / "parts"

    @property
    def _list(self) -> Path:
        """File that lists the collected tables."""
        return self.folder / "checksums.json"

    def _checksum(self, content: bytes) -> str:
        """Return the checksum of a file of this study."""
        return hashlib.sha256(self._key.encode() + content).hexdigest()[:_DIGITS]


@contextmanager
def open_store(folder: Path, settings: Mapping[str, Any]) -> Iterator[Store]:
    """Open the folder of a study for writing, alone.

    Parameters
    ----------
    folder : Path
        Folder of the study, made if it does not exist.
    settings : mapping
        What determines the results; kept in ``config.json``.

    Yields
    ------
    Store
        The store, locked until the context ends, however it ends.

    Raises
    ------
    OSError
        If the folder cannot be written, or another process writes to it.
    ValueError
        If the folder holds results of other settings; the difference and the remedies are named.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_store(Path(folder, "toy"), {"seed": 1}) as store:
    ...     store.save_part(0, parquet_bytes(pa.table({"x": [1.5]})))
    ...     store.parts()[0]["x"].to_pylist()
    [1.5]
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 -- closed below, after a check of its own
    except OSError as error:
        raise OSError(f"results must go to a folder that can be written, got {folder}: {error.strerror}") from error
    with lock:
        _lock(folder, lock)
        # The lock is ours, so files of writes that a kill cut short are nobody's.
        for leftover in (*folder.glob("*.tmp"), *folder.glob("parts/*.tmp")):
            leftover.unlink()
        _check_settings(folder, settings)
        yield Store(folder, settings)


def digest(output: str | os.PathLike[str]) -> str:
    """Return a checksum of all results in a folder that leaves out how long they took.

    Parameters
    ----------
    output : path-like
        Folder of one study, or of several.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits, over names and bytes of runs, metrics and exact tables; equal for equal
        studies, whatever the number of workers and however often the run was interrupted.

    Raises
    ------
    FileNotFoundError
        If there are no results.

    Examples
    --------
    >>> digest("no/such/folder")
    Traceback (most recent call last):
    FileNotFoundError: a digest must be taken of results, got none in no/such/folder
    """
    root = Path(output)
    files = sorted(path for name in ("runs", "metrics", "table") for path in root.rglob(f"{name}.parquet"))
    if not files:
        raise FileNotFoundError(f"a digest must be taken of results, got none in {output}")
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all, even after a kill or a power cut."""
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is in the folder, which has a cache of its own
    finally:
        os.close(folder)


def _lock(folder: Path, lock: IO[str]) -> None:
    """Take the lock, which the system releases when the process ends, or raise."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise OSError(
            f"results must be written by one process at a time, got {folder} in use by process {lock.read().strip()}"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Save the settings in a new folder; raise if those of an old one differ."""
    path = folder / "config.json"
    if not path.exists():
        _replace(path, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())
        return
    remedy = f"choose another --output, or delete {folder} to start again"
    try:
        old = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} must be the JSON that an earlier run wrote, got {error}; {remedy}") from error
    different = list(_differences(old, json.loads(json.dumps(settings)), ""))
    if different:
        more = len(different) - _SHOWN_DIFFERENCES
        shown = "; ".join(different[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(f"a study must resume with the settings it began with, got {shown}. Remedies: {remedy}")


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
