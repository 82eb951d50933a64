"""Results of a study on disk, a file a task and tables of all: safe against kills, corruption and second writers."""

import fcntl
import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sim.engine.study import fingerprint
from theory.checks import check_links

__all__ = ["Store", "check_settings", "digest", "open_store", "saved_parts"]

_SHOWN_DIFFERENCES = 5
_DIGITS = 16
_CHUNK = 1 << 20
_GLANCE = 0.1  # seconds
_SETTINGS, _PARTS = "config.json", "parts"


class Store:
    """The folder of one study; get one from `open_store`, which locks it.

    Parts are named ``INDEX-CHECKSUM.arrow``, where the checksum covers settings, index and bytes: one rename makes a
    part complete, and a part that is truncated, altered or of another task or study is found out by its own name.
    Therefore parts are left to the system to flush: a kill loses none, and a power cut at most the last ones, which are
    computed again. Settings, tables and the list of tables are on the disk before they count.

    Parameters
    ----------
    folder : Path
        Folder of the study.
    settings : mapping
        What determines the results, see `sim.engine.study.StudyConfig.settings`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Remember folder and settings."""
        self.folder = folder
        self._key = fingerprint(settings).encode()
        self._parts: dict[int, Path] = {}
        self._tables: dict[str, str] = {}

    def parts(self, wanted: Collection[int] | None = None) -> dict[int, Path]:
        """Return the sound parts by index; others are named on stderr and removed, to be computed again.

        Parameters
        ----------
        wanted : collection of int, optional
            Look at these indices alone; default all, and then whatever else is in the folder of parts is removed too.

        Returns
        -------
        dict
            Files by index.
        """
        self._parts = {}
        for path in sorted(self._parts_folder.glob("*")):
            named = re.fullmatch(rf"(\d+)-([0-9a-f]{{{_DIGITS}}})\.arrow", path.name)
            if wanted is not None and (named is None or int(named[1]) not in wanted):
                continue
            if named and named[2] == self.checksum_of(path):
                self._parts[int(named[1])] = path
            else:
                print(f"{path} does not match its checksum and is computed again", file=sys.stderr)
                path.unlink()
        return dict(self._parts)

    def save_part(self, index: int, content: bytes) -> Path:
        """Save the bytes of a task in place of those that it had before."""
        with _told(self._parts_folder):
            self._parts_folder.mkdir(exist_ok=True)
        number = f"{index:06d}"
        checksum = hashlib.sha256(self._key + number.encode() + content).hexdigest()[:_DIGITS]
        path = self._parts_folder / f"{number}-{checksum}.arrow"
        before = self._parts.get(index, path)
        with _replacing(path, flushed=False) as temporary:
            temporary.write_bytes(content)
            if before != path:  # goes first: of two sound parts nobody could tell which one is the later
                before.unlink(missing_ok=True)
        self._parts[index] = path
        return path

    def saved_parts(self) -> int:
        """Return the number of tasks on disk."""
        return saved_parts(self.folder)

    def discard_tables(self) -> None:
        """Declare the collected tables incomplete, before parts change or tables are written."""
        self._tables = {}
        self._list.unlink(missing_ok=True)

    @contextmanager
    def write_table(self, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """Write a table row group by row group; it is there once the context ends without an error."""
        path = self.folder / f"{name}.parquet"
        with _replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield writer
        self._tables[name] = self.checksum_of(path)

    def save_table(self, name: str, table: pa.Table) -> None:
        """Save a table."""
        with self.write_table(name, table.schema) as writer:
            writer.write_table(table)

    def finish_tables(self, inputs: str = "") -> None:
        """Declare the tables saved since `discard_tables` complete.

        Parameters
        ----------
        inputs : str
            What they were made of beside the parts.
        """
        with _replacing(self._list) as temporary:
            temporary.write_text(json.dumps({"inputs": inputs, "tables": self._tables}, indent=2))

    def tables_are_complete(self, inputs: str | None = None) -> bool:
        """Return whether the collected tables are all there and unaltered, and made of `inputs` where that is given."""
        try:
            listed = json.loads(self._list.read_bytes())
            if inputs is not None and listed["inputs"] != inputs:
                return False
            checksums = listed["tables"].items()
            sound = [self.checksum_of(self.folder / f"{name}.parquet") == checksum for name, checksum in checksums]
            return bool(sound) and all(sound)
        except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):  # not there, or damaged
            return False

    @property
    def _parts_folder(self) -> Path:
        """Folder of the parts."""
        return self.folder / _PARTS

    @property
    def _list(self) -> Path:
        """File that lists the collected tables."""
        return self.folder / "checksums.json"

    def checksum_of(self, path: Path) -> str:
        """Return the checksum of a file of this study: a table, known by its name, or a part, known by its number."""
        total = hashlib.sha256(self._key + re.split("[-.]", path.name)[0].encode())
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                total.update(chunk)
        return total.hexdigest()[:_DIGITS]


@contextmanager
def open_store(folder: Path, settings: Mapping[str, Any], shard: tuple[int, int] | None = None) -> Iterator[Store]:
    """Open the folder of a study for writing: alone, or beside the other shards of the study.

    Parameters
    ----------
    folder : Path
        Folder of the study, made if it does not exist.
    settings : mapping
        What determines the results; kept in ``config.json``.
    shard : pair of int, optional
        Number of this shard, and of all shards; each shard is written by one process, different ones at the same time.

    Yields
    ------
    Store
        The store, locked until the context ends, however it ends.

    Raises
    ------
    OSError
        If the folder cannot be written, a link leads out of it, or another process writes to it.
    ValueError
        If the folder holds results of other settings; the difference and the remedies are named.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_store(Path(folder, "toy"), {"seed": 1}) as store:
    ...     path = store.save_part(0, b"what a task found")
    ...     store.parts() == {0: path}
    True
    """
    check_links(folder, folder.parent)
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 -- closed below, after a check of its own
    with lock:
        if shard is None:
            _lock(folder, lock, fcntl.LOCK_EX)
            # The lock is ours, so files of writes that a kill cut short are nobody's.
            for leftover in (*folder.glob("*.tmp"), *folder.glob("parts/*.tmp")):
                leftover.unlink()
            _keep_settings(folder, settings)
            yield Store(folder, settings)
            return
        _lock(folder, lock, fcntl.LOCK_SH)
        own = f".lock-{shard[0]}-of-{shard[1]}"
        with open(folder / own, "a+", encoding="utf-8") as second, open(folder / ".lock-config", "a") as guard:
            _lock(folder, second, fcntl.LOCK_EX)
            fcntl.flock(guard, fcntl.LOCK_EX)  # one shard writes the settings, the others wait and compare
            _keep_settings(folder, settings)
            fcntl.flock(guard, fcntl.LOCK_UN)
            yield Store(folder, settings)


def check_settings(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether a folder was begun with these settings; raise if it was begun with others.

    Parameters
    ----------
    folder : Path
        Folder of the study, which need not exist.
    settings : mapping
        As of `open_store`.

    Returns
    -------
    bool
        False if the folder is new.

    Raises
    ------
    ValueError
        If the folder holds results of other settings; the difference and the remedies are named.
    OSError
        If the folder cannot be looked into.

    Examples
    --------
    >>> check_settings(Path("no/such/folder"), {"seed": 1})
    False
    """
    path = folder / _SETTINGS
    with _told(folder):
        if not path.exists():
            return False
    remedy = f"choose another --output, or delete {folder} to start again"
    try:
        old = json.loads(path.read_bytes())
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} must be the JSON that an earlier run wrote, got {error}; {remedy}") from error
    different = list(_differences(old, json.loads(json.dumps(settings)), ""))
    if different:
        more = len(different) - _SHOWN_DIFFERENCES
        shown = "; ".join(different[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(f"a study must resume with the settings it began with, got {shown}. Remedies: {remedy}")
    return True


def saved_parts(folder: Path) -> int:
    """Return the number of tasks of a study that are on disk, unchecked.

    Examples
    --------
    >>> saved_parts(Path("no/such/folder"))
    0
    """
    return len({path.name.partition("-")[0] for path in (folder / _PARTS).glob("*.arrow")})


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
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell under one rule what the system says when it does not let us write, such as that the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # told already
            raise
        raise OSError(f"results must go to a folder that can be written, got {path}: {error.strerror}") from error


@contextmanager
def _replacing(path: Path, *, flushed: bool = True) -> Iterator[Path]:
    """Give a file to write, and put it in place as a whole or not at all; flushed, even after a power cut."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # shards may write one name at the same time
    try:
        with _told(path):
            yield temporary
            if flushed:
                _flush(temporary)
            os.replace(temporary, path)
            if flushed:
                _flush(path.parent)  # the new name is in the folder, which has a cache of its own
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Write a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path, lock: IO[str], mode: int) -> None:
    """Take a lock, which the system releases when the process ends, or raise."""
    try:
        _take(lock, mode)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip()
        raise OSError(
            f"results must be written by one process at a time, got {folder} in use by "
            f"{f'process {owner}' if owner else 'shards of the study'}"
        ) from error
    with _told(folder):
        lock.truncate(0)
        if mode == fcntl.LOCK_EX:  # shards share the other lock, where no one's number stands
            # Past the buffer, as what a full disk refuses there is written again, and refused, when the file is closed.
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())


def _take(lock: IO[str], mode: int) -> None:
    """Take a lock, unless it is held for longer than it takes the command status to look at it."""
    deadline = time.monotonic() + _GLANCE
    while True:
        try:
            return fcntl.flock(lock, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_GLANCE / 10)


def _keep_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Save the settings in a new folder; raise if those of an old one differ."""
    if not check_settings(folder, settings):
        with _replacing(folder / _SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


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
