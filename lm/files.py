"""Files that are there as a whole or not at all, and folders that one process at a time writes to."""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["locked", "replacing", "write_json"]

_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, and put it in the place of a file once all is written.

    Parameters
    ----------
    path : path
        The file; its folder is made if need be.

    Yields
    ------
    Path
        A file in the same folder. If the block raises, it is removed and the old file stays; if the process is killed,
        the next one that writes to the folder removes it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as draft:
    ...         _ = draft.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        _remove_drafts(folder)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # or a crash may keep the new name and lose what it holds
        os.replace(draft, target)
        os.fsync(folder)  # the new name is in the folder, which has a cache of its own
    finally:
        os.close(folder)
        draft.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON in UTF-8, whole or not at all.

    Parameters
    ----------
    path : path
        The file.
    value : object
        What JSON holds; NaN and infinity are refused.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def locked(folder: Path, root: Path | None = None) -> Iterator[None]:
    """Keep a folder of results to one process at a time; the system releases it when the process ends.

    Parameters
    ----------
    folder : Path
        The folder, made if need be.
    root : Path, optional
        The folder that the user named, which no link may lead out of; default `folder`.

    Raises
    ------
    OSError
        If the folder cannot be written, a link leads out of it, or another process, which is named, holds it.
    """
    from theory.checks import check_links  # imports numpy, for which the help of a command must not wait

    check_links(folder, root or folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 -- closed below
    except OSError as error:
        raise OSError(f"results must go to a folder that can be written, got {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = (folder / ".lock").read_text().strip()
            raise OSError(
                f"results must be written by one process at a time, got {folder} in use by process {owner}"
            ) from error
        lock.truncate(0)
        with suppress(OSError):  # on a full disk the holder has no name
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        yield


def _remove_drafts(folder: int) -> None:
    """Remove what killed processes left in an open folder, unless someone writes to it now; hold it while it is open.

    Writers share the lock of the folder itself, so who has it alone knows that the drafts are nobody's.
    """
    with suppress(OSError):  # some network file systems lock no folders: drafts stay, which does no harm
        with suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in filter(_DRAFT.fullmatch, os.listdir(folder)):
                os.unlink(name, dir_fd=folder)
        fcntl.flock(folder, fcntl.LOCK_SH)
