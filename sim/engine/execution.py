"""Running tasks: in this process, in processes of this machine or on a Dask cluster; whatever fails, the rest runs."""

import os
import re
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from typing import Any

from joblib import Parallel, delayed

from sim.engine.tasks import Task, lost_task, run_task
from sim.preferences.arguments import check_integer
from theory.checks import check_choice, check_positive

__all__ = ["BACKENDS", "check_execution", "execute"]

BACKENDS = ("processes", "dask")
_LOOK_FOR_PARENT = 1.0  # seconds between two looks of a worker at whether its parent lives
_SHORTEST, _LONGEST = 1e-3, 1e9  # seconds: an alarm has a shortest time, and clocks have a last date
_AHEAD = 4  # tasks on their way to each thread of a cluster


def execute(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    backend: str = "processes",
    scheduler: str | None = None,
    timeout: float | None = None,
) -> Generator[tuple[int, bytes], None, None]:
    """Run tasks, and yield the result of each as soon as it is there.

    A step that raises or takes too long is recorded by the worker. A worker that dies (killed for lack of memory, or
    stuck where no exception reaches it) takes its task with it: that task is recorded, and all others run.

    Parameters
    ----------
    tasks : sequence of Task
        What to run.
    jobs : int
        Processes of this machine, at least 1. With 1 and no timeout all runs in this process.
    backend : {"processes", "dask"}
        Where to run.
    scheduler : str, optional
        Address of the Dask scheduler, such as "tcp://host:8786".
    timeout : float, optional
        Seconds, greater than 0, that one method may take for one task, see `sim.engine.limits.time_limit`.

    Yields
    ------
    int, bytes
        What `sim.engine.tasks.run_task` returns, in the order in which tasks end.

    Raises
    ------
    ValueError, TypeError
        If `check_execution` refuses an argument.
    ImportError
        If Dask is asked for and not installed; the command that installs it is named.
    OSError
        If the Dask scheduler is or becomes out of reach.

    Examples
    --------
    >>> from sim.engine.tasks import study_tasks
    >>> sorted(index for index, part in execute(study_tasks("class_weighting", "smoke")))
    [0, 1, 2, 3, 4]
    """
    check_execution(jobs, backend, scheduler, timeout)
    if scheduler is not None:
        return _on_dask(tasks, scheduler, timeout)
    if jobs == 1 and timeout is None:
        return (run_task(task) for task in tasks)
    return _in_processes(tasks, jobs, timeout)


def check_execution(jobs: int, backend: str, scheduler: str | None, timeout: float | None) -> None:
    """Raise unless the arguments of `execute` are valid.

    Parameters
    ----------
    jobs, backend, scheduler, timeout
        As of `execute`.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range, the backend is unknown or has no scheduler, or another backend has one.

    Examples
    --------
    >>> check_execution(2, "dask", None, None)
    Traceback (most recent call last):
    ValueError: a scheduler must be named for the backend dask and for no other, got None for dask
    """
    check_integer("jobs", jobs, 1)
    if timeout is not None and not _SHORTEST <= check_positive(timeout, "timeout") <= _LONGEST:
        raise ValueError(f"timeout must lie between {_SHORTEST:g} and {_LONGEST:g} seconds, got {timeout:g}")
    check_choice("backend", backend, BACKENDS)
    if (scheduler is None) == (backend == "dask"):
        raise ValueError(
            f"a scheduler must be named for the backend dask and for no other, got {scheduler!r} for {backend}"
        )


def _in_processes(tasks: Sequence[Task], jobs: int, timeout: float | None) -> Generator[tuple[int, bytes], None, None]:
    """Run tasks in worker processes; when one dies, find out whose fault it is."""
    waiting = {task.index: task for task in tasks}
    suspects: list[Task] = []  # under way when a worker died: run one at a time, until the one that kills is found
    while waiting:
        batch = suspects or list(waiting.values())
        started: list[Task] = []
        try:
            with closing(_parallel(batch, 1 if suspects else jobs, timeout, started)) as results:
                for index, content in results:
                    del waiting[index]
                    yield index, content
            suspects = []
        except BrokenProcessPool as death:
            under_way = [task for task in started if task.index in waiting]
            if suspects and len(under_way) == 1:
                yield _dead(waiting.pop(under_way[0].index), str(death), timeout)
                under_way = [task for task in batch if task.index in waiting]
            suspects = under_way


def _parallel(
    tasks: Sequence[Task], jobs: int, timeout: float | None, started: list[Task]
) -> Generator[tuple[int, bytes], None, None]:
    """Run tasks in worker processes, and note in `started` which have been handed to one."""

    def calls() -> Iterator[Any]:
        for task in tasks:
            started.append(task)
            yield delayed(run_task)(task, timeout)

    parallel = Parallel(
        # No more than tasks, as a process starts slowly; two at least, as joblib would run a single one right here.
        n_jobs=max(min(jobs, len(tasks)), 2),
        pre_dispatch=1 if jobs == 1 else 2 * min(jobs, len(tasks)),
        batch_size=1,
        return_as="generator_unordered",
        backend="loky",
        max_nbytes=None,  # nothing goes through files: a process that is killed would leave their folder behind
        temp_folder=tempfile.gettempdir(),  # which joblib makes at once only if it may choose a place itself
        initializer=_start_worker,
        initargs=(os.getpid(),),
    )
    with warnings.catch_warnings():
        # What joblib says when it is interrupted or a worker dies; the messages of the runner say it better.
        warnings.filterwarnings("ignore", message=r".*You could benefit from adjusting the input task iterator")
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
        with closing(parallel(calls())) as results:
            yield from results


def _start_worker(parent: int) -> None:
    """Prepare a worker process: Ctrl-C is its parent's to answer, and it does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_FOR_PARENT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _dead(task: Task, death: str, timeout: float | None) -> tuple[int, bytes]:
    """Return the part of a task that its worker did not survive, alone in its process."""
    # The watchdog of sim.engine.limits ends a process with status 1, which neither signals nor the system use.
    if timeout is not None and "EXIT(1)" in death:
        return lost_task(task, "timeout", f"took longer than {timeout:g} s, in code that could not be interrupted")
    codes = re.search(r"exit codes of the workers are \{(.*?)\}", death)
    return lost_task(
        task, "error", f"its worker process died{f' of {codes[1]}' if codes else ''}, perhaps for lack of memory"
    )


def _on_dask(tasks: Sequence[Task], scheduler: str, timeout: float | None) -> Generator[tuple[int, bytes], None, None]:
    """Run tasks on a Dask cluster, a few for each thread at a time."""
    try:
        from distributed import CancelledError, Client, KilledWorker, as_completed
    except ImportError as error:
        raise ImportError("Dask is not installed; install it with: pip install 'relratio[dask]'") from error
    with Client(scheduler, set_as_default=False) as client:
        queue = iter(tasks)
        room = max(_AHEAD * sum(client.nthreads().values()), 2 * _AHEAD)
        running = {client.submit(run_task, task, timeout, pure=False): task for task in islice(queue, room)}
        done = as_completed(running, loop=client.loop)  # there is no default client
        for future in done:
            task = running.pop(future)
            try:
                yield future.result()
            except KilledWorker as death:  # several workers, one after the other
                yield lost_task(task, "error", f"its worker processes died, perhaps for lack of memory: {death}")
            except CancelledError as error:
                raise OSError(f"the Dask scheduler must stay within reach, got none at {scheduler}") from error
            future.release()
            for task in islice(queue, 1):
                following = client.submit(run_task, task, timeout, pure=False)
                running[following] = task
                done.add(following)
