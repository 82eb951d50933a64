"""Soak: runs are killed (kill -9) at random and resumed, again and again, until the results must be whole and equal.

    python -m tests.endurance.soak sim --cycles 1000 --commands 50
    python -m tests.endurance.soak lm --cycles 50 --commands 5

A cycle is one run that is killed, or that ends before it is. Most runs are forks of this process, which start at once
and have one worker; the others are the public command line with two workers, of which the parent alone is killed. A
fork is killed at a random moment or just before a random one of its file operations, a command at a random moment
after its first words.

After each cycle: what was saved before is there unchanged, all that was reported is saved, no process is left, and
there is nothing on stderr. Whenever a run ends by itself: the digest is that of a run that nobody disturbed, and so is
the list of files; then all starts afresh.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.endurance.killing import Operations, Run, fork, start

ROOT = Path(__file__).parents[2]


class Subject(Protocol):
    """What is killed and resumed."""

    module: str
    """Its command line is ``python -m MODULE``."""

    def main(self, arguments: list[str]) -> int:
        """Run the command line in this process, and return the exit status."""

    def arguments(self, output: Path, workers: int) -> list[str]:
        """Return the arguments that begin a run in a folder, or resume the one that is there."""

    def saved(self, output: Path) -> dict[str, str]:
        """Return what must not be lost: complete results, with a checksum of each."""

    def reported(self, text: str) -> int:
        """Return how many results a run has told to be saved."""

    def digest(self, output: Path) -> str:
        """Return a checksum of the results of a run that is done."""

    def files(self, output: Path) -> list[str]:
        """Return the names of all files of a run that is done; parts that are drawn at random are masked."""

    def complaints(self, text: str) -> list[str]:
        """Return the lines on stderr that should not be there."""


@dataclass
class Report:
    """What happened.

    Attributes
    ----------
    cycles, completed : int
        Runs, and those that ended by themselves.
    ways : Counter
        Number of kills at a "moment", before a file "operation" and of a "command".
    waited : float
        Longest time, in seconds, until the workers of a killed command had ended.
    faults : list of str
        One line each.
    """

    cycles: int = 0
    completed: int = 0
    ways: Counter = field(default_factory=Counter)
    waited: float = 0.0
    faults: list[str] = field(default_factory=list)


class Soak:
    """Kills and resumes a subject.

    Parameters
    ----------
    subject : Subject
        What is run.
    scratch : Path
        Empty folder for everything.
    seed : int
        Of moments and operations.
    """

    def __init__(self, subject: Subject, scratch: Path, seed: int) -> None:
        self.report = Report()
        self._subject, self._random = subject, random.Random(seed)
        self._scratch, self._output = scratch, scratch / "output"
        self._temporary = scratch / "tmp"
        self._temporary.mkdir()
        self._environment = {"TMPDIR": str(self._temporary), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._seconds, self._operations, self._digest, self._files = self._undisturbed()

    def _undisturbed(self) -> tuple[float, int, str, list[str]]:
        """Return seconds, number of file operations, digest and files of a run that nobody disturbs."""
        counted = self._scratch / "operations"

        def work() -> int:
            operations = Operations(self._output)
            status = self._subject.main(self._subject.arguments(self._output, 1))
            counted.write_text(str(operations.count))
            return status

        begin = time.monotonic()
        run = fork(work, self._scratch)
        seconds = time.monotonic() - begin
        if run.status != 0:
            raise SystemExit(f"an undisturbed run must end well, got {run.status}: {run.errors}{run.output}")
        found = seconds, int(counted.read_text()), self._subject.digest(self._output), self._subject.files(self._output)
        shutil.rmtree(self._output)
        return found

    def cycle(self, *, command: bool = False, share: float = 0.6) -> None:
        """Run until a random moment or operation within the first `share` of a whole run, and look at what is left."""
        before = self._subject.saved(self._output)
        way = "command" if command else self._random.choice(["moment", "operation"])
        run = self._run(way, share * self._random.random())
        self.report.cycles += 1
        self.report.ways[way] += run.status is None
        after = self._subject.saved(self._output)
        lost = [name for name, checksum in before.items() if after.get(name) != checksum]
        reported = self._subject.reported(run.output)
        self.report.waited = max(self.report.waited, run.waited)
        faults = [f"left behind: {each}" for each in run.left]
        faults += [f"lost or changed: {lost}"] if lost else []
        faults += [f"{reported} results were reported and {len(after)} are saved"] if reported > len(after) else []
        faults += [f"on stderr: {line}" for line in self._subject.complaints(run.errors)]
        if run.status is not None:
            faults += self._whole(run)
        for fault in faults:
            self.report.faults.append(f"cycle {self.report.cycles} ({way}): {fault}")
            print(self.report.faults[-1], flush=True)
        if faults:
            self._output.rename(self._scratch / f"fault-{self.report.cycles}")
        elif run.status is not None:
            shutil.rmtree(self._output)

    def finish(self) -> None:
        """Resume what is there to its end."""
        self.cycle(share=float("inf"))

    def _run(self, way: str, share: float) -> Run:
        """Run until the given share of a whole run."""
        arguments = self._subject.arguments(self._output, 2 if way == "command" else 1)
        if way == "command":
            whole = [sys.executable, "-m", self._subject.module, *arguments]
            return start(
                whole, self._scratch, None if share == float("inf") else share * self._seconds, self._environment
            )
        if share == float("inf"):
            return fork(lambda: self._subject.main(arguments), self._scratch)
        if way == "moment":
            return fork(lambda: self._subject.main(arguments), self._scratch, share * self._seconds)

        def work() -> int:
            Operations(self._output, 1 + int(share * self._operations))
            return self._subject.main(arguments)

        return fork(work, self._scratch)

    def _whole(self, run: Run) -> list[str]:
        """Return the faults of a run that ended by itself."""
        self.report.completed += 1
        if run.status != 0:
            return [f"exit status {run.status}: {run.errors}"]
        faults = []
        if self._subject.digest(self._output) != self._digest:
            faults.append("another digest than that of an undisturbed run")
        files = self._subject.files(self._output)
        if files != self._files:
            odd = sorted((Counter(files) - Counter(self._files)).elements())
            faults.append(f"stray files {odd}, missing {sorted((Counter(self._files) - Counter(files)).elements())}")
        return faults + [f"stray {path}" for path in self._temporary.iterdir()]


def subject_of(name: str, scratch: Path) -> Subject:
    """Return a subject by name; what it needs is imported now."""
    if name == "sim":
        from tests.endurance.sim_subject import SimSubject

        return SimSubject(scratch)
    from tests.endurance.lm_subject import LmSubject

    return LmSubject(scratch)


def main() -> int:
    """Soak, and return 1 if a fault was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", choices=("sim", "lm"), help="studies, or training of a tiny language model")
    parser.add_argument("--cycles", type=int, default=100, metavar="N", help="number of runs (default: 100)")
    parser.add_argument(
        "--commands", type=int, default=0, metavar="N", help="how many by the real command (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of moments and operations (default: 1)")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="empty folder, kept (default: temporary, removed)")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    scratch = arguments.scratch or Path(tempfile.mkdtemp(prefix="soak-"))
    scratch.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    subject = subject_of(arguments.subject, scratch)
    soak = Soak(subject, scratch, arguments.seed)
    print(f"an undisturbed run: {soak._seconds:.2f} s, {soak._operations} file operations", flush=True)
    commands = set(random.Random(arguments.seed).sample(range(arguments.cycles), arguments.commands))
    for number in range(arguments.cycles):
        soak.cycle(command=number in commands)
        if number % 50 == 49:
            print(_line(soak.report, begin), flush=True)
    soak.finish()
    print(_line(soak.report, begin), flush=True)
    if arguments.scratch is None and not soak.report.faults:
        shutil.rmtree(scratch)
    elif soak.report.faults:
        print(f"what was left: {scratch}/fault-*")
    return 1 if soak.report.faults else 0


def _line(report: Report, begin: float) -> str:
    """Return what happened until now."""
    kills = ", ".join(f"{number} {way}" for way, number in sorted(report.ways.items()))
    return (
        f"{report.cycles} cycles, {report.ways.total()} kills ({kills}), {report.completed} runs completed, "
        f"workers gone within {report.waited:.1f} s, {len(report.faults)} faults, {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
