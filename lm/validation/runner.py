"""Running experiments: only what is missing is computed, and results are equal however the work was done."""

import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm.files import locked
from lm.validation.experiments import Experiment, Run
from lm.validation.store import check_settings, find_checked, open_settings, save_checked
from lm.validation.tables import runs_of, write_tables
from theory.checks import check_links

__all__ = ["ExperimentResult", "check_settings_of", "planned", "run_experiment"]

_PACKAGES = ("relratio", "numpy", "scipy", "torch", "transformers", "accelerate")
_SOURCES = ("theory/*.py", "lm/*.py", "lm/validation/*.py")
_READERS = ("lm/__main__.py", *(f"lm/validation/{name}.py" for name in ("answers", "runner", "tables", "work")))


@dataclass(frozen=True)
class ExperimentResult:
    """What became of an experiment.

    Attributes
    ----------
    experiment : str
        Name.
    folder : Path
        Where its tables are.
    runs, computed : int
        Number of runs, and how many of them this call computed.
    errors : tuple of str
        One line for each run that raised; such runs are tried again by the next call.
    """

    experiment: str
    folder: Path
    runs: int
    computed: int
    errors: tuple[str, ...]


def run_experiment(
    experiment: Experiment,
    output: str | Path,
    *,
    profile: str = "quick",
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExperimentResult:
    """Run an experiment, or what is missing of it, and write its tables.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    output : str or Path
        Folder of results; the experiment gets a folder of its name in it, references one that all share.
    profile : {"smoke", "quick", "paper"}
        Size.
    jobs : int
        Processes, at least 1.
    progress : callable, optional
        Called with what is done (the experiment's name, or that and "/references"), and the numbers of runs that are
        done and of all; default a bar on the terminal.

    Returns
    -------
    ExperimentResult
        Where the tables are, and which runs failed.

    Raises
    ------
    ValueError
        If the folder holds results of other settings, versions or sources.
    OSError
        If the folder cannot be written, or another process writes to it, or a worker process died.
    KeyboardInterrupt
        If the user interrupts; what is saved, and how to go on, is the message.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    runs = experiment.runs(profile)
    folder, references = Path(output) / experiment.name, Path(output) / "references"
    settings = _settings(experiment, profile, runs)
    if not check_settings(folder, settings):  # those that a folder was begun with were in order
        from lm.validation.training import check_run  # here: results that are there need not wait for torch

        for run in {(run.world.name, run.method.label): run for run in runs}.values():
            check_run(run)
    check_links(references, Path(output))
    with locked(folder, Path(output)):
        open_settings(folder, settings)
        parts = {run.key: find_checked(folder / "parts", run.key) for run in runs}
        missing = [run for run in runs if _is_missing(parts[run.key])]
        with _told(folder, f"{experiment.name} ({profile})", len(runs)):
            if missing:
                from lm.validation.work import computed

                title, done = experiment.name, len(runs) - len(missing)
                work = computed(title, missing, done, references, _versions(), jobs, progress)
                with closing(work) as results:
                    for key, content in results:
                        parts[key] = save_checked(folder / "parts", key, content, "parquet", parts[key])
            rows = [runs_of(parts[run.key]) for run in runs]
            write_tables(folder, [parts[run.key] for run in runs])
    errors = tuple(f"{run}: {row['message']}" for run, row in zip(runs, rows, strict=True) if row["status"] == "error")
    return ExperimentResult(experiment.name, folder, len(runs), len(missing), errors)


def planned(experiments: Sequence[Experiment], output: str | Path, profile: str) -> dict[str, tuple[int, int]]:
    """Return how many runs, and references, of each experiment are on disk, unchecked, and how many it has."""
    found: dict[str, tuple[int, int]] = {}
    shared: set[str] = set()  # the first experiment that needs a reference trains it
    for experiment in experiments:
        runs = experiment.runs(profile)
        there = len(list((Path(output) / experiment.name / "parts").glob("*.parquet")))
        keys = {run.reference_key for run in runs}
        absent = {key for key in keys if not list((Path(output) / "references").glob(f"{key}-*"))}
        if there < len(runs) and absent - shared:
            found[f"{experiment.name}/references"] = (0, len(absent - shared))
            shared |= absent
        found[experiment.name] = (there, len(runs))
    return found


def check_settings_of(experiments: Sequence[Experiment], output: str | Path, profile: str) -> None:
    """Raise if folders hold results of other settings: all of them are named, so that one remedy does.

    Raises
    ------
    ValueError
        If there are any.
    """
    refused = []
    for experiment in experiments:
        try:
            folder = Path(output) / experiment.name
            check_settings(folder, _settings(experiment, profile, experiment.runs(profile)))
        except ValueError as error:
            refused.append((str(error), folder))
    if refused:
        others = ", ".join(str(folder) for _, folder in refused[1:])
        raise ValueError(refused[0][0] + (f"; the same holds for {others}" if others else ""))


def _settings(experiment: Experiment, profile: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Return everything that determines the results."""
    described = asdict(experiment)
    return {
        **{name: described[name] for name in ("name", "seed", "worlds", "methods", "training")},
        "profile": {"name": profile} | asdict(experiment.profile(profile)),
        "runs": len(runs),
        "versions": _versions(),
    }


@lru_cache
def _versions() -> dict[str, str]:
    """Return versions of packages, and a checksum of the code that makes results."""
    root, total = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        if name not in _READERS:
            total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a clone that is run in place
            found[package] = "not installed"
    return found | {"python": sys.version.split()[0], "sources": total.hexdigest()[:16]}


def _is_missing(part: Path | None) -> bool:
    """Return whether a run has no result yet; one that raised is tried again."""
    return part is None or runs_of(part)["status"] == "error"


@contextmanager
def _told(folder: Path, title: str, total: int) -> Iterator[None]:
    """Tell a user whose run is cut short what is saved and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as stop:
        saved = len(list((folder / "parts").glob("*.parquet")))
        told = f"{saved} of {total} runs of {title} are saved in {folder}; the same command goes on from there"
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(told) from stop
        raise OSError(f"{stop}; {told}") from stop
