"""Stages of the main job: commands that run side by side, tell their progress, and end when the job ends."""

import ctypes
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Outcome", "Stage", "run_stages"]

_LOOK = 0.2  # seconds between two looks at what stages have said
_GRACE = 30.0  # seconds that a stage has to save its work once it is told to stop
_RUNS_FAILED = 1  # exit status of a command that did all it could
_CHUNK = 1 << 16
_SHOWN = 3  # last lines of a stage that messages show
_PROGRESS = re.compile(r"progress (\S+) (\d+) (\d+)")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Stage:
    """A command and where its output goes.

    Attributes
    ----------
    name : str
        What messages call it.
    command : tuple of str
        Program and arguments. Lines ``progress UNIT DONE TOTAL`` of its output are for the job; a stage tells all of
        its units before it begins to work.
    log : Path
        File for all other lines, output and errors alike.
    """

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Attributes
    ----------
    stage : Stage
        The stage.
    status : int
        Exit status of its command; negative if a signal ended it.
    message : str
        The last lines it said.
    stopped : bool
        Whether the job stopped it, and not the stage itself.
    """

    stage: Stage
    status: int
    message: str
    stopped: bool


def run_stages(
    stages: Sequence[Stage], tell: Callable[[str, str, int, int], None], update: Callable[[], None]
) -> tuple[list[Outcome], int]:
    """Run stages side by side until all have ended.

    A stage that is refused or breaks stops the others, which save their work; one whose runs failed here and there
    (exit status 1) does not. Ctrl-C, a hang-up and a request to end do so too; a second Ctrl-C does not wait for them.
    When this returns, none of their processes is left. On Linux they end also when this process is killed; elsewhere
    they do at their next line of output.

    Parameters
    ----------
    stages : sequence of Stage
        What to run.
    tell : callable
        Called with the name of a stage, unit, done and total.
    update : callable
        Called several times a second.

    Returns
    -------
    list of Outcome
        In the order of `stages`.
    int
        The signal that stopped the job, or 0.

    Raises
    ------
    OSError
        If a log cannot be written.
    """
    with _signals() as received, ExitStack() as ending:
        children: list[_Child] = []
        for stage in stages:
            children.append(_Child(stage))
            ending.callback(children[-1].close)
        deadline = float("inf")
        while any(child.status is None for child in children):
            _listen(children, tell)
            update()
            broken = [child for child in children if child.status not in (None, 0, _RUNS_FAILED)]
            if deadline == float("inf") and (received or broken):
                deadline = time.monotonic() + _GRACE
                for child in children:
                    child.stop()
            if len(received) > 1 or time.monotonic() > deadline:
                for child in children:
                    child.kill()
    return [child.outcome() for child in children], received[0] if received else 0


class _Child:
    """The process of a stage."""

    def __init__(self, stage: Stage) -> None:
        """Start it, in a process group of its own, so that Ctrl-C reaches it through the job alone."""
        self.stage, self.stopped, self.silent = stage, False, False
        self.status: int | None = None
        self._rest, self._lines = b"", list[str]()
        self._log = open(stage.log, "w", encoding="utf-8")  # noqa: SIM115 -- closed by `close`
        self.process = subprocess.Popen(
            stage.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_prepare,  # safe, as there are no threads here
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self) -> Iterator[tuple[str, int, int]]:
        """Keep what it has said, and yield what it has told of its progress."""
        assert self.process.stdout is not None
        with suppress(BlockingIOError):
            while chunk := os.read(self.process.stdout.fileno(), _CHUNK):
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    yield from self._take(line)
            self.silent = True  # its output is closed

    def _take(self, content: bytes) -> Iterator[tuple[str, int, int]]:
        """Keep a line, or yield the progress it tells."""
        line = content.decode(errors="replace")
        if told := _PROGRESS.fullmatch(line):
            yield told[1], int(told[2]), int(told[3])
            return
        self._log.write(line + "\n")
        if line.strip():
            self._lines = [*self._lines, line.strip()][-_SHOWN:]

    def look(self) -> None:
        """Note that it has ended, with all the processes that it started."""
        if self.status is None and self.process.poll() is not None:
            self.status = self.process.returncode
            self.kill()

    def stop(self) -> None:
        """Tell it to save its work and end."""
        if self.status is None:
            self.stopped = True
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all the processes that it started at once."""
        with suppress(ProcessLookupError, PermissionError):  # none is left
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave no process and no open file."""
        if self.status is None:
            self.kill()
            self.status = self.process.wait()
        assert self.process.stdout is not None
        with self.process.stdout, self._log:
            if self._rest:
                list(self._take(self._rest))

    def outcome(self) -> Outcome:
        """Return what became of it."""
        assert self.status is not None
        return Outcome(self.stage, self.status, " ".join(self._lines) or "it said nothing", self.stopped)


def _listen(children: Sequence[_Child], tell: Callable[[str, str, int, int], None]) -> None:
    """Wait a moment for words of stages, and pass on what they say."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            if child.status is None and not child.silent:
                selector.register(child.process.stdout, selectors.EVENT_READ, child)  # type: ignore[arg-type]
        selector.select(_LOOK)
    for child in children:
        if child.status is None:
            child.look()  # before reading, so that nothing of its last words is lost
            for unit, done, total in child.read():
                tell(child.stage.name, unit, done, total)


def _prepare() -> None:
    """Make a new process one that Ctrl-C can reach, even in a job in the background, and that ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGTERM)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, but for those that it was told to ignore."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before: dict[int, Any] = {
        number: signal.signal(number, note) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
