"""Command line of the figures: ``python -m figures``, also installed as ``relratio-figures``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from figures.build import Order, build, check
from figures.catalogue import FIGURES, FORMATS, explain_figure
from figures.venues import HOUSE, VENUES

_PROFILES = ("quick", "paper")
_INTERRUPTED = 130  # as shells report Ctrl-C


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others here."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with status 2."""
        self.exit(2, f"figures: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw figures from result tables, write tables for papers, judge claims and write the report.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        0 if everything asked for was done, otherwise 2 after one line on standard error, 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        _act(arguments)
    except (ValueError, OSError) as error:
        print(f"figures: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("figures: stopped; run it again to go on", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _act(arguments: argparse.Namespace) -> None:
    """Do what was asked for."""
    if arguments.list:
        print("\n".join(FIGURES))
        return
    if arguments.why is not None:
        print(explain_figure(arguments.why))
        return
    results = arguments.results or Path("results", arguments.profile)
    if arguments.claims:
        from figures.verdicts import claims_table, judge_claims

        print(claims_table(judge_claims(results)), end="")
        return
    output = arguments.output or Path("figures", "output", arguments.profile)
    names, formats = (tuple(dict.fromkeys(values)) for values in (arguments.names, arguments.format))
    order = Order(results, output, names, formats, arguments.venue, arguments.profile)
    if arguments.check:
        differing = check(order)
        if differing:
            raise ValueError(f"{output} must equal a fresh build, got other or missing files: {', '.join(differing)}")
        print(f"{output} equals a fresh build of {', '.join(names) or 'everything'}")
        return
    print("\n".join(map(str, build(order))) or f"{output} is up to date")


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = _Parser(
        prog="python -m figures",
        description="Draw figures from result tables, with a CSV of the plotted data beside each; without a NAME, "
        "write also tables for papers (LaTeX, CSV), the verdicts on all claims and report.html. What is up to date is "
        "left as it is; manifest.json says what each file was made of.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw (default: everything)")
    parser.add_argument("--profile", choices=_PROFILES, default="quick", help="of the results (default: quick)")
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of tables (default: results/PROFILE)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for figures (default: figures/output/PROFILE)")
    parser.add_argument(
        "--format", nargs="+", choices=tuple(FORMATS), default=["pdf", "png"], help="file formats (default: pdf png)"
    )
    parser.add_argument(
        "--venue", choices=tuple(VENUES), default=HOUSE, help=f"page that figures are laid out for (default: {HOUSE})"
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--list", action="store_true", help="list the figures, one name a line, and stop")
    actions.add_argument("--why", metavar="NAME", help="print what a figure shows, how to read it, and stop")
    actions.add_argument("--claims", action="store_true", help="print the verdicts as a Markdown table, and stop")
    actions.add_argument("--check", action="store_true", help="compare the existing files with a fresh build")
    return parser


if __name__ == "__main__":
    sys.exit(main())
