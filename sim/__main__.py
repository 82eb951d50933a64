"""Command line of the simulations: ``python -m sim COMMAND``, see ``python -m sim --help``."""

import argparse
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_REFUSED, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 141
_KEPT = "nothing that was saved is lost"
_PROFILES = ("smoke", "quick", "paper")
_EPILOG = """\
a study from beginning to end:
  relratio-sim estimate consistency --profile quick
  relratio-sim run consistency --profile quick --output results
  relratio-sim status --output results
  relratio-sim summary consistency --output results

exit status: 0 all was done (diff: equal), 1 a run failed (diff: different; replay: not reproduced),
2 the request was refused, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 0 when everything asked for was done, 1 when a run failed (or two results differ, or a run is not
        reproduced), 2 when the request was refused, 130 when the user interrupted, 141 when the output was closed.

    Examples
    --------
    >>> main(["run", "loss_shapes", "--output", "/dev/null"])
    2
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "run" and (arguments.scheduler is None) == (arguments.backend == "dask"):
        parser.error("--backend dask and --scheduler ADDRESS go together")
    try:
        from sim.commands import actions  # here, as --help must not wait for what it imports

        status = int(getattr(actions, arguments.function)(arguments))
        sys.stdout.flush()  # here, where a closed pipe is told apart from a fault
        return status
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return _PIPE_CLOSED
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"relratio-sim: {' '.join(str(error).split())}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt as stop:
        print(f"\nrelratio-sim: interrupted; {stop if str(stop) else _KEPT}", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="relratio-sim",
        description="Simulation studies of alignment: how to run them, and to read what they found.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    listing = commands.add_parser("list", help="list studies, preference models, methods and generators")
    listing.set_defaults(function="listing")
    _add_studies(commands)
    _add_results(commands)
    _add_distance(commands)
    return parser


def _add_studies(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that take studies: estimate, run and collect."""
    estimate = commands.add_parser(
        "estimate",
        help="tell how long studies will take",
        description="Count the tasks of studies and tell how long they will take, with a 95 % interval, from a few "
        "tasks of every world that are run now; nothing is written.",
    )
    run = commands.add_parser(
        "run",
        help="run studies and write their tables",
        description="Run studies and write their tables to OUTPUT/STUDY; what an earlier run saved is not run again, "
        "what failed is tried again.",
    )
    collect = commands.add_parser(
        "collect",
        help="make the tables of studies that ran in shards",
        description="Make the tables of studies whose tasks were run by `run --shard 1/N` to `run --shard N/N`.",
    )
    for command in (estimate, run, collect):
        command.set_defaults(function=command.prog.split()[-1])
        command.add_argument(
            "studies", nargs="*", metavar="STUDY", help="name, or path of a .toml file (default: all studies)"
        )
        command.add_argument("--profile", choices=_PROFILES, default="quick", help="size (default: quick)")
    for command in (run, collect):
        _add_output(command)
    for command in (estimate, run):
        command.add_argument("--jobs", type=_positive, metavar="N", help="processes (default: one a core)")
    run.add_argument(
        "--backend", choices=("processes", "dask"), default="processes", help="where tasks run (default: processes)"
    )
    run.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler, such as tcp://host:8786")
    run.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="time that a method may take for one task (default: no limit)",
    )
    run.add_argument(
        "--progress", action="store_true", help="print lines `progress STUDY DONE TOTAL`, for programs, and no bar"
    )
    run.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="run the I-th of N shares of the tasks, for `collect` (default: all)",
    )


def _add_results(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that read results: status, summary, diff and replay."""
    status = commands.add_parser(
        "status",
        help="tell how far studies are",
        description="For every study in a folder: tasks done, failed (ran, but a method raised or took too long) and "
        "not run, whether a process writes to it now, and whether its tables are complete.",
    )
    summary = commands.add_parser(
        "summary",
        help="show what a study found",
        description="Means with 95 % intervals beside exact targets, shares of failures, rates, verdicts of claims.",
    )
    summary.add_argument("study", metavar="STUDY|FOLDER", help="name of a study in OUTPUT, or its folder")
    summary.add_argument("--metric", help="which metric (default: tv_preferred, the distance to the preferred law)")
    summary.add_argument("--world", help="which world (default: all)")
    summary.add_argument("--method", nargs="+", default=(), help="which methods (default: all)")
    diff = commands.add_parser(
        "diff",
        help="compare two sets of results",
        description="Tell which settings, runs, metrics and values differ. Between different seeds means are compared, "
        "in standard errors. Exit status: 0 equal, 1 different.",
    )
    for name in ("first", "second"):
        diff.add_argument(name, metavar="FOLDER", help="folder of one study, or of several")
    replay = commands.add_parser(
        "replay",
        help="run one run again, with its traceback",
        description="Run one block of one method in one cell again, in this process and without a time limit, show the "
        "traceback if it raises, and tell whether the saved values are reproduced bit for bit.",
    )
    replay.add_argument("run", metavar="RUN", help="study/world/n=N/SETTING=VALUE/block=B:method, as errors show it")
    for command in (status, summary, diff, replay):
        command.set_defaults(function=command.prog.split()[-1])
        if command is not diff:
            _add_output(command)


def _add_distance(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command distance."""
    distance = commands.add_parser(
        "distance",
        help="tell how far observed comparisons are from Bradley-Terry",
        description="Size, shape and order of the distance from Bradley-Terry, against a parametric-bootstrap null: "
        "tables drawn from the fitted Bradley-Terry model with as many comparisons of each pair.",
    )
    distance.set_defaults(function="distance")
    distance.add_argument("source", metavar="SOURCE", help='"arena", or a CSV file of winner,loser[,count]')
    distance.add_argument(
        "--min-decisive", type=_positive, metavar="N", help="keep a core in which every pair has N decisive votes"
    )
    distance.add_argument(
        "--replicates", type=_positive, default=1000, metavar="N", help="tables of the null (default: 1000)"
    )
    distance.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the null (default: 0)")


def _add_output(command: argparse.ArgumentParser) -> None:
    """Add the folder of results."""
    command.add_argument("--output", default="results", metavar="DIR", help="folder of results (default: results)")


def _positive(text: str) -> int:
    """Return a positive integer, or raise what argparse reports."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    """Return a positive finite number, or raise what argparse reports."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text!r}")
    return value


def _shard(text: str) -> tuple[int, int]:
    """Return the number of a shard, counted from 0, and how many there are, or raise what argparse reports."""
    first, _, last = text.partition("/")
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"must be I/N with 1 <= I <= N, got {text!r}")
    return int(first) - 1, int(last)


if __name__ == "__main__":
    sys.exit(main())
