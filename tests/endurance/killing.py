"""Running something in a process of its own and killing it: at a moment, or just before one of its file operations."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GONE_WITHIN = 60.0
"""Seconds after which no worker of a killed process may live.

They look for their parent once a second; but first they import, which takes a busy machine long."""

_OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}  # audit events: before each


@dataclass(frozen=True)
class Run:
    """What became of a run.

    Attributes
    ----------
    status : int or None
        Exit status; None if it was killed.
    output, errors : str
        What it wrote.
    left : tuple of str
        Processes of its session that lived on for `GONE_WITHIN`, and what it left in shared memory.
    waited : float
        Seconds until all processes of its session had ended.
    """

    status: int | None
    output: str
    errors: str
    left: tuple[str, ...]
    waited: float


def fork(work: Callable[[], int], scratch: Path, seconds: float | None = None) -> Run:
    """Do work in a fork of this process, and kill it after some seconds; default never.

    The fork shares what is imported here, so it starts at once. It must be made by a process of one thread.
    """
    with open(scratch / "stdout", "wb") as output, open(scratch / "stderr", "wb") as errors:
        sys.stdout.flush()
        sys.stderr.flush()
        if not (pid := os.fork()):
            status = 70
            try:
                os.setsid()
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                status = work()
                sys.stdout.flush()
            finally:
                if status == 70:
                    sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                os._exit(status)
    return _ended(pid, scratch, seconds)


def start(command: Sequence[str], scratch: Path, seconds: float | None = None, environment: dict | None = None) -> Run:
    """Run a command as the leader of a session, and kill it alone some seconds after its first words; default never."""
    with open(scratch / "stdout", "wb") as output, open(scratch / "stderr", "wb") as errors:
        redirected = [(os.POSIX_SPAWN_DUP2, file.fileno(), number) for number, file in ((1, output), (2, errors))]
        pid = os.posix_spawn(
            command[0], command, os.environ | (environment or {}), file_actions=redirected, setsid=True
        )
    handle = os.pidfd_open(pid)
    while not (scratch / "stdout").stat().st_size and not select.select([handle], [], [], 0.01)[0]:
        pass
    os.close(handle)
    return _ended(pid, scratch, seconds)


def _ended(pid: int, scratch: Path, seconds: float | None) -> Run:
    """Wait for a process, kill it when its time is over, and look for what it left."""
    handle = os.pidfd_open(pid)
    try:
        if not select.select([handle], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(handle)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    end = time.monotonic()
    while (living := processes_of(pid)) and time.monotonic() < end + GONE_WITHIN:
        time.sleep(0.02)
    waited = time.monotonic() - end
    left = (*(f"process {each}" for each in living), *shared_memory_of(pid))
    for each in living:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    texts = [(scratch / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return Run(None if status == -signal.SIGKILL else status, *texts, left, waited)


def processes_of(session: int) -> list[int]:
    """Return the living processes of a session; the dead that nobody has asked for are none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def shared_memory_of(process: int) -> list[str]:
    """Return what a process has left in shared memory: semaphores and arrays of worker pools, named after it."""
    return [str(path) for path in Path("/dev/shm").glob(f"*[-_]{process}[-_]*")]


class Operations:
    """Counts the file operations of this process in a folder, and kills it just before one of them.

    Parameters
    ----------
    folder : Path
        The folder.
    last : int, optional
        Number, from 1, of the operation that is not done; default none is kept from being done.
    """

    def __init__(self, folder: Path, last: int | None = None) -> None:
        self.count = 0
        self._folder, self._last = str(folder), last
        sys.addaudithook(self._hear)  # there is no way to take it away, so only a fork should

    def _hear(self, event: str, arguments: tuple) -> None:
        if event not in _OPERATIONS or not isinstance(arguments[0], str | os.PathLike):
            return
        if os.fsdecode(arguments[0]).startswith(self._folder):
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
