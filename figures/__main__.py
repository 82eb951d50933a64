"""Command line of the figures: ``python -m figures``, also installed as ``relratio-figures``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from figures.build import build_figures, check_figures
from figures.catalogue import FIGURES, FORMATS


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others here."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with status 2."""
        self.exit(2, f"figures: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw figures from result tables.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        0 if everything asked for was done, otherwise 2 after one line on standard error.
    """
    arguments = _parser().parse_args(argv)
    if arguments.list:
        print("\n".join(FIGURES))
        return 0
    names = list(dict.fromkeys(arguments.names)) or list(FIGURES)
    formats = list(dict.fromkeys(arguments.format))
    try:
        if arguments.check:
            differing = check_figures(names, arguments.results, arguments.output, formats)
            if differing:
                raise ValueError(
                    f"{arguments.output} must equal a fresh build, got other or missing files: {', '.join(differing)}"
                )
            print(f"{arguments.output} equals a fresh build of {', '.join(names)}")
        else:
            for path in build_figures(names, arguments.results, arguments.output, formats):
                print(path)
    except (ValueError, OSError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = _Parser(
        prog="python -m figures",
        description="Draw figures from result tables, with a CSV of the plotted data beside each and a manifest.json.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw (default: all)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of result tables")
    parser.add_argument(
        "--output", type=Path, default=Path("figures/output"), metavar="DIR", help="folder for the figures"
    )
    parser.add_argument(
        "--format", nargs="+", choices=tuple(FORMATS), default=["pdf", "png"], help="file formats (default: pdf png)"
    )
    parser.add_argument("--list", action="store_true", help="list the figures, one name a line, and stop")
    parser.add_argument("--check", action="store_true", help="compare the existing figures with a fresh build")
    return parser


if __name__ == "__main__":
    sys.exit(main())
