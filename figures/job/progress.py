"""How much of the main job is done, what is running, and how long it will take: one line."""

import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from tqdm import tqdm

__all__ = ["Display", "Progress"]

# CPU seconds of one task at the quick profile, tables included, on the two cores they were measured on; what is not
# here, such as a new study, counts as the median. Only the share done and the time left depend on these numbers, and
# the speed of the machine is learnt as the job runs.
_CPU_SECONDS = {
    "alpha": 1.3,
    "annotators": 0.13,
    "arena": 0.85,
    "boundedness": 0.02,
    "bt_distance": 2.0,
    "class_weighting": 0.04,
    "consistency": 0.18,
    "constants": 1.0,
    "continuous": 1.5,
    "dynamics": 0.9,
    "efficiencies": 2.5,
    "label_noise": 0.17,
    "log_linear": 0.6,
    "loss_shapes": 0.1,
    "methods": 1.5,
    "overlap": 1.0,
    "prompt_rates": 0.7,
    "rates_by_prompt": 1.3,
    "ratio_shapes": 0.1,
    "reference_error": 1.3,
    "references": 3.0,
    "sample_size": 1.3,
    "stability": 0.7,
    "weighting": 1.4,
    "wrong_alpha": 0.4,
    "wrong_reference": 0.12,
}
_UNKNOWN = sorted(_CPU_SECONDS.values())[len(_CPU_SECONDS) // 2]
_SIZE = {"quick": 1.0, "paper": 2.5}  # of a task, in those of the quick profile
_DRAWING = 45.0  # seconds of the figures, which are drawn by one process
_BUSY = 0.85  # share of the cores that tasks keep busy
_TRUST = 60.0  # CPU seconds of work after which the measured speed counts as much as the expected one
_WIDTH = 10  # characters of the bar
_HEARTBEAT = 60.0  # seconds after which a log that nothing was added to tells that the job lives


class Progress:
    """What stages have told of their work: units, such as the tasks of a study, by stage.

    Parameters
    ----------
    stages : sequence of str
        Names of the stages that tell how many units they have.
    profile : str
        Size of the tasks.
    cores : int
        Cores that share the work.
    drawing : float
        Expected seconds of the figures, which come last.
    clock : callable
        Returns seconds.

    Examples
    --------
    >>> seconds = iter([0.0, 60.0])  # on a machine that is slower than expected
    >>> progress = Progress(["sim"], "quick", cores=2, drawing=0.0, clock=lambda: next(seconds))
    >>> for done in (0, 50):
    ...     progress.tell("sim", "constants", done, 100)
    >>> print(f"{progress.share:.2f} done, {progress.left():.0f} s left; {progress.running()}")
    0.50 done, 43 s left; constants 50/100
    """

    def __init__(
        self,
        stages: Sequence[str],
        profile: str,
        *,
        cores: int,
        drawing: float = _DRAWING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin at nothing."""
        self._units: dict[str, dict[str, tuple[int, int]]] = {stage: {} for stage in stages}
        self._latest: dict[str, str] = {}
        self._size, self._expected, self._drawing, self._clock = _SIZE[profile], 1.0 / (_BUSY * cores), drawing, clock
        self._begin: float | None = None
        self._found = 0.0
        self._drawing_since: float | None = None

    def tell(self, stage: str, unit: str, done: int, total: int) -> None:
        """Note how much of a unit is done; a stage tells all of its units before it begins to work."""
        first = unit not in self._units[stage]
        self._units[stage][unit] = (done, total)
        if first:  # found on disk, or done before another stage had told its units
            self._begin, self._found = self._clock(), self._done()
        else:
            self._latest[stage] = unit

    def end(self, stage: str) -> None:
        """Note that a stage has ended well: what it did not tell was not needed."""
        self._units[stage] = {unit: (total, total) for unit, (_, total) in self._units[stage].items()}

    def draw(self) -> None:
        """Note that the figures are being drawn."""
        self._drawing_since = self._clock()

    @property
    def known(self) -> bool:
        """Return whether all stages have told their units."""
        return all(self._units.values())

    @property
    def share(self) -> float:
        """Return the share of all work that is done, between 0 and 1, what an earlier job saved included."""
        total = self._work(lambda _, total: total)
        return self._done() / (total + self._drawing) if total + self._drawing else 0.0

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many studies or experiments of each stage are done, and how many it has."""
        ends = {
            stage: [done == total for unit, (done, total) in units.items() if "/" not in unit]
            for stage, units in self._units.items()
        }
        return {stage: (sum(own), len(own)) for stage, own in ends.items()}

    def left(self) -> float:
        """Return the expected seconds until all is done."""
        if self._drawing_since is not None:
            return max(self._drawing - (self._clock() - self._drawing_since), 0.0)
        gained = self._done() - self._found
        elapsed = 0.0 if self._begin is None else self._clock() - self._begin
        pace = (elapsed + _TRUST * self._expected) / (gained + _TRUST)
        return (self._work(lambda _, total: total) - self._done()) * pace + self._drawing

    def running(self) -> str:
        """Return what is running, with its counts."""
        if self._drawing_since is not None:
            return "figures, claims and report"
        shown = []
        for stage, units in self._units.items():
            names = list(units)  # in the order in which they run
            begin = names.index(self._latest[stage]) if stage in self._latest else 0
            shown += [
                f"{name} {units[name][0]}/{units[name][1]}" for name in names[begin:] if len(set(units[name])) > 1
            ][:1]
        return ", ".join(shown) or "tables"

    def _done(self) -> float:
        """Return the work that is done."""
        return self._work(lambda done, _: done)

    def _work(self, count: Callable[[int, int], int]) -> float:
        """Return CPU seconds at the speed of the machine that was measured."""
        return self._size * sum(
            _CPU_SECONDS.get(unit.rpartition("/")[2], _UNKNOWN) * count(done, total)
            for units in self._units.values()
            for unit, (done, total) in units.items()
        )


class Display:
    """One line that is written over on a terminal; elsewhere a line when a unit ends, and one a minute at least.

    Parameters
    ----------
    stream : text stream
        Where to.
    progress : Progress
        What is shown.
    clock : callable
        Returns seconds.
    """

    def __init__(self, stream: TextIO, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with an empty line."""
        self._stream, self._progress, self._clock = stream, progress, clock
        self._live = stream.isatty()
        self._start = self._last = clock()
        self._ended = 0

    def update(self) -> None:
        """Show how far the job is, where there is something new."""
        if self._live:
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r{self._line()[: columns - 1]}\x1b[K")
            self._stream.flush()
            return
        ended = sum(done for done, _ in self._progress.counts().values())
        if self._progress.known and (ended != self._ended or self._clock() - self._last > _HEARTBEAT):
            self._ended = ended
            self.say(self._line())

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._stream.write(f"\r{text}\x1b[K\n" if self._live else f"{text}\n")
        self._stream.flush()
        self._last = self._clock()

    def clear(self) -> None:
        """Take the line away."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _line(self) -> str:
        """Return share done, what is running, and times."""
        elapsed = self._clock() - self._start
        if not self._progress.known:
            return f"starting, {tqdm.format_interval(elapsed)} so far"
        head = f"{100.0 * self._progress.share:3.0f} %"
        if self._live:
            head = tqdm.format_meter(self._progress.share, 1.0, 0.0, bar_format=f"{head} {{bar:{_WIDTH}}}")
        left = tqdm.format_interval(self._progress.left())
        return f"{head} about {left} left: {self._progress.running()} ({tqdm.format_interval(elapsed)} so far)"
