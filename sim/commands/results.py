"""What is on disk: the studies in a folder, how far each one is, and which of its runs failed. Nothing is changed."""

import contextlib
import fcntl
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sim.engine.run_ids import run_id
from sim.engine.store import Store
from sim.engine.study import study_of_settings
from sim.engine.tasks import Task, runs_of, study_tasks

__all__ = ["Failure", "Results", "Status", "find_results", "open_results"]


@dataclass(frozen=True)
class Failure:
    """A run that raised or took too long; one that has not run yet is none.

    Attributes
    ----------
    run : str
        Readable name, see `sim.engine.run_ids.run_id`.
    status : {"error", "timeout"}
        What happened.
    message : str
        The error in one line.
    seed_key : str
        Key of its random streams.
    """

    run: str
    status: str
    message: str
    seed_key: str

    def __str__(self) -> str:
        """Return the failure in one line."""
        return f"{self.status} in {self.run}, seed key {self.seed_key}: {self.message}"


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes
    ----------
    study, profile : str
        Name and size; the profile of an exact study is "-".
    tasks : int
        Number of tasks of the study.
    done : int
        Tasks that are saved and in which no method failed.
    failed : int
        Tasks that ran and are saved, in which a method raised or took too long.
    damaged : int
        Tasks whose file does not match its checksum; the next run computes them again.
    failures : tuple of Failure
        The runs that raised or took too long.
    writers : tuple of str
        Processes that write to the folder now; several where shards run.
    tables : bool
        Whether the collected tables are there, complete and unaltered.
    """

    study: str
    profile: str
    tasks: int
    done: int
    failed: int
    damaged: int
    failures: tuple[Failure, ...]
    writers: tuple[str, ...]
    tables: bool

    @property
    def missing(self) -> int:
        """Return the number of tasks that have not run."""
        return self.tasks - self.done - self.failed - self.damaged

    @property
    def state(self) -> str:
        """Return the state in words: running, unfinished, not collected, complete but for failures, or complete."""
        if self.writers:
            return f"running ({', '.join(self.writers)})"
        if self.missing or self.damaged:
            return "unfinished"
        if not self.tables:
            return "not collected"
        return "complete but for failures" if self.failed else "complete"


@dataclass(frozen=True)
class Results:
    """The folder of one study, for reading; get one from `open_results`.

    Attributes
    ----------
    folder : Path
        Where it is.
    settings : dict
        What ``config.json`` says.
    """

    folder: Path
    settings: dict[str, Any]

    @property
    def study(self) -> str:
        """Return the name of the study."""
        return str(self.settings["name"])

    @property
    def profile(self) -> str:
        """Return the name of the profile, "-" for an exact study."""
        return "-" if self.settings["kind"] == "exact" else str(self.settings["profile"]["name"])

    def tasks(self) -> list[Task]:
        """Return the tasks of the study, in the order of their indices; an exact study has none."""
        return study_tasks(study_of_settings(self.settings), self.profile)

    def parts(self) -> dict[int, Path | None]:
        """Return the files of saved tasks by index; None where a file does not match its checksum."""
        store = Store(self.folder, self.settings)
        found: dict[int, Path | None] = {}
        for path in sorted((self.folder / "parts").glob("*-*.arrow")):
            index, _, checksum = path.stem.partition("-")
            if not (index.isascii() and index.isdigit()):  # the file of someone else, which the next run removes
                continue
            with contextlib.suppress(FileNotFoundError):  # a run that goes on has just replaced it
                found[int(index)] = path if checksum == store.checksum_of(path) else found.get(int(index))
        return found

    def failures(self) -> dict[int, tuple[Failure, ...]]:
        """Return the runs that raised or took too long, for each task that is saved and sound."""
        return {index: _failures(path) for index, path in self.parts().items() if path is not None}

    def table(self, name: str) -> pd.DataFrame:
        """Read a result table.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.folder} must hold {path.name}, got none: see the state of the study by status"
            )
        return pd.read_parquet(path)

    def status(self) -> Status:
        """Return how far the study is, reading every part."""
        writers = _writers(self.folder)  # first: what is read after it is at least as far
        tables = Store(self.folder, self.settings).tables_are_complete()
        if self.settings["kind"] == "exact":
            return Status(self.study, self.profile, 1, int(tables), 0, 0, (), writers, tables)
        parts = list(self.parts().values())
        failures = [_failures(path) for path in parts if path is not None]
        failed = sum(map(bool, failures))
        return Status(
            self.study,
            self.profile,
            len(self.tasks()),
            len(failures) - failed,
            failed,
            parts.count(None),
            tuple(itertools.chain.from_iterable(failures)),
            writers,
            tables,
        )


def open_results(folder: str | Path) -> Results:
    """Open the folder of one study for reading.

    Parameters
    ----------
    folder : str or Path
        Folder that holds ``config.json``.

    Returns
    -------
    Results
        Its settings, tables and state.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no results, or their settings are not those that a run wrote.
    """
    path = Path(folder) / "config.json"
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        raise FileNotFoundError(f"results must be a folder that a run wrote, got {folder}: {error.strerror}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} must be the JSON that an earlier run wrote, got {error}") from error
    if not _are_settings(settings):
        raise ValueError(f"{path} must hold the settings of a study, got {str(settings)[:60]}")
    return Results(Path(folder), settings)


def _are_settings(value: Any) -> bool:
    """Return whether a value says which study it describes, at which profile; the rest is checked when it is used."""
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("name", "kind")):
        return False
    profile = value.get("profile")
    return value["kind"] == "exact" or (isinstance(profile, dict) and isinstance(profile.get("name"), str))


def find_results(output: str | Path) -> tuple[Results, ...]:
    """Open the folder of one study, or all studies in a folder, in alphabetical order.

    Parameters
    ----------
    output : str or Path
        Folder of one study or of several.

    Returns
    -------
    tuple of Results
        At least one.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are none, or `open_results` refuses one.

    Examples
    --------
    >>> find_results("no/such/folder")
    Traceback (most recent call last):
    FileNotFoundError: results must be a folder that a run wrote, got no/such/folder: No such file or directory
    """
    folder = Path(output)
    inside = sorted(path.parent for path in folder.glob("*/config.json"))
    return tuple(map(open_results, [] if (folder / "config.json").exists() else inside)) or (open_results(folder),)


def _failures(part: Path) -> tuple[Failure, ...]:
    """Return the runs in a part that raised or took too long."""
    return tuple(
        Failure(run_id(run), run["status"], run["message"], run["seed_key"])
        for run in runs_of(part)
        if run["status"] != "ok"
    )


def _writers(folder: Path) -> tuple[str, ...]:
    """Return the processes that hold a lock of a folder: one alone, or one for each shard."""
    found = []
    for path in sorted((*folder.glob(".lock"), *folder.glob(".lock-*-of-*"))):
        with open(path, encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once, when the file is closed
            except BlockingIOError:
                found.append(lock.read().strip() or "just starting")
    return tuple(found)
