"""Command line of the simulations: ``python -m sim list | run [STUDY ...] | distance SOURCE``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what is imported here would make --help wait
    from sim.study import StudyConfig

__all__ = ["main"]

_DONE, _FAILED, _REFUSED, _INTERRUPTED = 0, 1, 2, 130
_GOES_ON = "what is saved is kept, and the same command goes on from there"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 0 when everything asked for was done, 1 when a task raised, 2 when the request was refused, 130
        when the user interrupted.

    Examples
    --------
    >>> main(["run", "loss_shapes", "--output", "/dev/null"])
    2
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "list":
            print(_listing())
            return _DONE
        if arguments.command == "distance":
            print(_distance(arguments.source, arguments.min_decisive, arguments.replicates, arguments.seed))
            return _DONE
        return _run(arguments.studies, arguments.profile, arguments.output, arguments.jobs)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"relratio-sim: {' '.join(str(error).split())}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt as stop:
        print(f"\nrelratio-sim: interrupted; {stop if str(stop) else _GOES_ON}", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="relratio-sim", description="Simulation studies of alignment.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,run,distance}")
    commands.add_parser("list", help="list studies, preference models, methods and generators")
    run = commands.add_parser(
        "run",
        help="run studies and write their tables",
        description="Run studies and write their tables to OUTPUT/STUDY; what an earlier run saved is not run again.",
    )
    run.add_argument("studies", nargs="*", metavar="STUDY", help="name, or path of a .toml file (default: all studies)")
    run.add_argument("--profile", choices=("smoke", "quick", "paper"), default="quick", help="size (default: quick)")
    run.add_argument("--output", default="results", metavar="DIR", help="folder of results (default: results)")
    run.add_argument("--jobs", type=_positive, metavar="N", help="processes (default: one a core)")
    distance = commands.add_parser(
        "distance",
        help="tell how far observed comparisons are from Bradley-Terry",
        description="Size, shape and order of the distance from Bradley-Terry, against a parametric-bootstrap null: "
        "tables drawn from the fitted Bradley-Terry model with as many comparisons of each pair.",
    )
    distance.add_argument("source", metavar="SOURCE", help='"arena", or a CSV file of winner,loser[,count]')
    distance.add_argument(
        "--min-decisive", type=_positive, metavar="N", help="keep a core in which every pair has N decisive votes"
    )
    distance.add_argument(
        "--replicates", type=_positive, default=1000, metavar="N", help="tables of the null (default: 1000)"
    )
    distance.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the null (default: 0)")
    return parser


def _positive(text: str) -> int:
    """Return a positive integer, or raise what argparse reports."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _run(names: Sequence[str], profile: str, output: str, jobs: int | None) -> int:
    """Check all studies asked for, then run them one after the other."""
    from joblib import cpu_count

    from sim.runner import run_study
    from sim.study_checks import check_study

    studies = _load(names)
    for study in studies:
        check_study(study, profile)
    raised = 0
    for study in studies:
        result = run_study(study, output, profile=profile, jobs=jobs or cpu_count())
        state = "up to date" if result.computed == 0 else f"{result.computed} of {result.tasks} tasks computed"
        print(f"{study.name}: {state}, tables in {result.folder}")
        for line in result.errors:
            print(f"relratio-sim: error in {study.name}: {line}", file=sys.stderr)
        raised += len(result.errors)
    return _FAILED if raised else _DONE


def _distance(source: str, min_decisive: int | None, replicates: int, seed: int) -> str:
    """Return the distance of observed comparisons from Bradley-Terry, as a text."""
    import numpy as np

    from sim.bt_distance import bt_test
    from sim.worlds import observed_counts

    observed = observed_counts(source, min_decisive)
    test = bt_test(observed.wins, replicates, np.random.default_rng(seed), observed.names)
    lines = [
        f"{len(observed.names)} items, {observed.total:,} decisive comparisons "
        f"({observed.ties_left_out:,} ties and {observed.both_bad_left_out:,} both-bad votes left out)",
        f"likelihood ratio against Bradley-Terry: {test.statistic:.1f}, p = {test.p_value:.2g}; "
        f"null: mean {test.null_statistic.mean():.1f}, largest {test.null_statistic.max():.1f} of {replicates}",
        f"size less its mean under Bradley-Terry: {test.excess_size:.2e} nats a comparison",
        f"{'':28}{'observed':>10}  null: mean [central 95 %]",
    ]
    rows = {"size (nats)": "size", "shape (cyclic share)": "shape"}
    rows |= {f"{strength} transitivity lost": strength for strength in ("weak", "moderate", "strong")}
    for label, name in rows.items():
        null = getattr(test.null, name)
        low, high = np.quantile(null, [0.025, 0.975])
        value = getattr(test.observed, name)
        lines.append(f"{label:<28}{value:>10.3g}  {null.mean():.3g} [{low:.3g}, {high:.3g}]")
    return "\n".join(lines)


def _load(names: Sequence[str]) -> "list[StudyConfig]":
    """Return the studies asked for; each name stands for a folder, so it must be there once."""
    from sim.study import load_study, shipped_studies

    studies = [load_study(name) for name in names or shipped_studies()]
    for i, study in enumerate(studies):
        if study.name in [other.name for other in studies[:i]]:
            raise ValueError(f"studies of one run must have different names, got {study.name} twice")
    return studies


def _listing() -> str:
    """Return what there is: studies, preference models, methods and generators."""
    from sim.estimators import METHODS
    from sim.preferences import PREFERENCE_MODELS
    from sim.study import load_study, shipped_studies
    from theory import GENERATORS

    sections: dict[str, Mapping[str, str]] = {
        "studies": {name: load_study(name).question for name in shipped_studies()},
        "preference models": {name: model.summary for name, model in PREFERENCE_MODELS.items()},
        "methods": {name: method.summary for name, method in METHODS.items()},
        "generators": {name: _first_line(generator) for name, generator in GENERATORS.items()},
    }
    width = max(len(name) for entries in sections.values() for name in entries)
    blocks = [
        "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in entries.items())])
        for title, entries in sections.items()
    ]
    return "\n\n".join(blocks)


def _first_line(thing: object) -> str:
    """Return the first line of an object's documentation."""
    return (type(thing).__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
