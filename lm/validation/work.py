"""The work of an experiment, in this process or in others: references, and the runs that start from them."""

import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from lm.validation.experiments import Run
from lm.validation.networks import ensure_reference
from lm.validation.outcome import Outcome
from lm.validation.store import find_checked
from lm.validation.tables import part_bytes, run_row
from lm.validation.training import prepare_process, train

__all__ = ["computed"]

_LOOK_FOR_PARENT = 1.0  # seconds between two looks of a worker at whether its parent lives


def computed(
    title: str,
    runs: Sequence[Run],
    done: int,
    references: Path,
    versions: Mapping[str, str],
    jobs: int,
    progress: Callable[[str, int, int], None] | None,
) -> Generator[tuple[str, bytes], None, None]:
    """Train the references that runs need and that are not there yet, and yield the results of runs as they end.

    Parameters
    ----------
    title : str
        What progress is reported of.
    runs : sequence of Run
        The runs.
    done : int
        How many other runs have results already.
    references : Path
        Folder of references.
    versions : mapping of str to str
        Saved with each result.
    jobs : int
        Processes.
    progress : callable, optional
        See `lm.validation.runner.run_experiment`.

    Yields
    ------
    key : str
        That of the run.
    content : bytes
        The file that holds its result; what a run raises is recorded there.
    """
    absent = _absent_references(runs, references)
    work = _execute(ensure_reference, [(run, references) for run in absent.values()], jobs)
    with closing(_counted(work, f"{title}/references", 0, len(absent), progress)) as results:
        for _ in results:
            pass
    work = _execute(_run_part, [(run, references, versions) for run in runs], jobs)
    with closing(_counted(work, title, done, done + len(runs), progress)) as results:
        yield from results


def _absent_references(runs: Sequence[Run], folder: Path) -> dict[str, Run]:
    """Return a run for each reference that runs start from and that is not there yet."""
    needed = {run.reference_key: run for run in runs}
    return {key: run for key, run in needed.items() if find_checked(folder, key) is None}


def _run_part(run: Run, references: Path, versions: Mapping[str, str]) -> tuple[str, bytes]:
    """Run, and return key and result; what raises is recorded, not lost."""
    started, cpu = time.perf_counter(), time.process_time()
    try:
        outcome = train(run, references)
    except Exception as error:  # noqa: BLE001 -- recorded, with the run that repeats it
        outcome = Outcome(status="error", message=" ".join(f"{type(error).__name__}: {error}".split()))
    outcome.seconds |= {"total": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    row = run_row(run, outcome, versions)
    return run.key, part_bytes(run, outcome, row)


def _execute(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], jobs: int) -> Generator[Any, None, None]:
    """Yield the results of calls as they end, in this process or in others, always with one thread each."""
    if not calls:
        return
    if jobs == 1:
        threads = torch.get_num_threads()
        try:
            prepare_process()
            for arguments in calls:
                yield function(*arguments)
        finally:
            torch.set_num_threads(threads)
        return
    parallel = Parallel(
        n_jobs=jobs,
        pre_dispatch=2 * jobs,
        batch_size=1,
        return_as="generator_unordered",
        backend="loky",
        max_nbytes=None,  # nothing goes through files: a process that is killed would leave their folder behind
        temp_folder=tempfile.gettempdir(),  # which joblib makes at once only if it may choose a place itself
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )
    with warnings.catch_warnings():
        # What joblib says when it is interrupted; the message of the runner says it better.
        warnings.filterwarnings("ignore", message=r".*You could benefit from adjusting the input task iterator")
        with closing(parallel(delayed(function)(*arguments) for arguments in calls)) as results:
            yield from results


def _start_worker(parent: int) -> None:
    """Prepare a worker process: Ctrl-C is its parent's to answer, and it does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_process()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_FOR_PARENT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _counted(
    work: Generator[Any, None, None],
    title: str,
    done: int,
    total: int,
    progress: Callable[[str, int, int], None] | None,
) -> Generator[Any, None, None]:
    """Yield results as they come, and tell how many there are once each has been dealt with."""
    silent = True if progress or done == total else None  # None: silent where the output is no terminal
    with (
        tqdm(total=total, initial=done, desc=title, unit="run", disable=silent) as bar,
        closing(work) as results,
    ):
        for count, result in enumerate(results, done + 1):
            yield result
            bar.update()
            if progress:
                progress(title, count, total)
