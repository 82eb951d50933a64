"""The main job: all studies, the validation of language models, then figures, claims and the report.

``python -m figures.reproduce --profile quick`` is what ``make figures`` runs. It starts the public commands of `sim`,
`lm` and `figures`, and imports none of them.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from figures.job.freshness import is_fresh, write_stamp
from figures.job.progress import Display, Progress
from figures.job.stages import Outcome, Stage, run_stages

__all__ = ["main"]

_DONE, _RUNS_FAILED, _REFUSED, _SIGNALLED = 0, 1, 2, 128
_PROFILES = ("quick", "paper")
_STUDIES, _EXPERIMENTS, _FIGURES = "studies", "experiments", "figures"
_VERDICTS = ("supported", "refuted", "inconclusive", "not run")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others here."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with status 2."""
        self.exit(_REFUSED, f"reproduce: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the main job, or what is missing of it.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        0 when everything is done, 1 when some runs failed and the rest is done, 2 when a stage was refused or broke,
        128 and the number of the signal when the job was stopped (130 for Ctrl-C).
    """
    arguments = _parser().parse_args(argv)
    results = arguments.results or Path("results", arguments.profile)
    output = arguments.output or Path("figures", "output", arguments.profile)
    started = time.monotonic()
    try:
        with _only_job(results):
            status = _run(arguments.profile, results, output, arguments.jobs)
    except OSError as error:
        reason = f"{error.filename or results}: {error.strerror}" if error.strerror else str(error)
        _say(f"results must go to a folder that can be written, got {reason}")
        return _REFUSED
    except KeyboardInterrupt:  # between two stages
        _say("interrupted; nothing that was saved is lost, and the same command goes on")
        return _SIGNALLED + signal.SIGINT
    if status in (_DONE, _RUNS_FAILED):
        _conclude(results, output, time.monotonic() - started)
    return status


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = _Parser(
        prog="python -m figures.reproduce",
        description="Run all studies and the validation of language models side by side, then draw the figures, judge "
        "the claims and write the report. What an earlier job saved is not computed again.",
    )
    parser.add_argument("--profile", choices=_PROFILES, default="quick", help="size (default: quick)")
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of results (default: results/PROFILE)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="of figures (default: figures/output/PROFILE)")
    parser.add_argument(
        "--jobs", type=_positive, metavar="N", help="processes of each of the two (default: one a core)"
    )
    return parser


def _positive(text: str) -> int:
    """Return a positive integer, or raise what argparse reports."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


@contextmanager
def _only_job(results: Path) -> Iterator[None]:
    """Keep a folder of results to one job at a time; the system releases it when the job ends."""
    from theory.checks import check_links  # imports numpy, for which --help must not wait

    for folder in (results, _logs(results)):
        check_links(folder, results)
    _logs(results).mkdir(parents=True, exist_ok=True)
    with open(results / ".job", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise OSError(f"{results}, where the job of process {lock.read().strip()} is running") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _run(profile: str, results: Path, output: Path, jobs: int | None) -> int:
    """Run what is not up to date, and return the exit status."""
    progress = Progress([_STUDIES, _EXPERIMENTS], profile, cores=os.cpu_count() or 1)
    display = Display(sys.stderr, progress)
    failed = _DONE
    if is_fresh(results, profile):
        display.say(f"the tables in {results} are up to date")
    else:
        outcomes, number = run_stages(_making(profile, results, jobs), progress.tell, _resuming(progress, display))
        display.clear()
        if number:
            return _interrupted(progress, results, number)
        if broken := [outcome for outcome in outcomes if outcome.status not in (_DONE, _RUNS_FAILED)]:
            return _broken(broken, results)
        failed = max(outcome.status for outcome in outcomes)
        for outcome in outcomes:
            progress.end(outcome.stage.name)
            if outcome.status:
                _say(f"some runs of the {outcome.stage.name} failed: {outcome.message}; log: {outcome.stage.log}")
        if not failed:
            write_stamp(results, profile)
    progress.draw()
    display.say("now the figures, the claims and the report")
    outcomes, number = run_stages([_drawing(profile, results, output)], progress.tell, display.update)
    display.clear()
    if number:
        return _interrupted(progress, results, number)
    return _broken(outcomes, results) if outcomes[0].status else failed


def _making(profile: str, results: Path, jobs: int | None) -> list[Stage]:
    """Return the stages that make the tables, which run side by side."""
    # Each leaves cores idle now and then, when it starts, waits for its longest task or writes tables: side by side
    # they took .78 and .83 of the time one after the other (smoke profile, two cores, other work beside).
    options = ("--profile", profile, "--output", str(results), "--progress", *(("--jobs", str(jobs)) if jobs else ()))
    commands = {_STUDIES: ("sim", "run"), _EXPERIMENTS: ("lm", "validate")}
    return [
        Stage(name, (sys.executable, "-m", *command, *options), _logs(results) / f"{name}.log")
        for name, command in commands.items()
    ]


def _drawing(profile: str, results: Path, output: Path) -> Stage:
    """Return the stage that draws the figures."""
    folders = ("--results", str(results), "--output", str(output))
    command = (sys.executable, "-m", "figures", "--profile", profile, *folders)
    return Stage(_FIGURES, command, _logs(results) / f"{_FIGURES}.log")


def _logs(results: Path) -> Path:
    """Return the folder of logs."""
    return results / "logs"


def _resuming(progress: Progress, display: Display) -> Callable[[], None]:
    """Return a function that updates the display, and tells once what an earlier job has saved."""
    told = False

    def update() -> None:
        nonlocal told
        if progress.known and not told:
            told = True
            if progress.share > 0.0:
                display.say(f"going on from {100.0 * progress.share:.0f} %, which an earlier job saved")
        display.update()

    return update


def _broken(outcomes: Sequence[Outcome], results: Path) -> int:
    """Tell which stages broke, and return the exit status."""
    for outcome in outcomes:
        if not outcome.stopped:
            end = f"signal {-outcome.status}" if outcome.status < 0 else f"exit status {outcome.status}"
            _say(f"the {outcome.stage.name} stopped ({end}): {outcome.message}; log: {outcome.stage.log}")
    return _REFUSED


def _interrupted(progress: Progress, results: Path, number: int) -> int:
    """Tell what is saved and how to go on, and return the exit status."""
    whole = " and ".join(f"{done} of {total} {stage}" for stage, (done, total) in progress.counts().items() if total)
    _say(
        f"interrupted at {100.0 * progress.share:.0f} %, which is saved in {results}"
        f"{f' ({whole} are whole)' if whole else ''}; the same command goes on from there"
    )
    return _SIGNALLED + number


def _say(text: str) -> None:
    """Print a line of what went wrong."""
    print(f"reproduce: {text}", file=sys.stderr)


def _conclude(results: Path, output: Path, seconds: float) -> None:
    """Tell what was found and where it is."""
    claims = output / "claims.json"
    if claims.is_file():
        verdicts = [claim["verdict"] for claim in json.loads(claims.read_bytes())["claims"]]
        print("claims: " + ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in _VERDICTS))
    print(f"done in {seconds:.0f} s: tables in {results}, figures in {output}, and {output / 'report.html'} to read")


if __name__ == "__main__":
    sys.exit(main())
