"""What a study asks of worlds, methods and exact tables, tried before any work is done."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from sim.engine.kinds import KINDS
from sim.engine.study import Cell, StudyConfig
from sim.engine.tasks import world_of
from sim.exact_tables import EXACT_TABLES
from theory.checks import check_choice

__all__ = ["check_study"]


def check_study(config: StudyConfig, profile: str) -> None:
    """Build every world of a study and try every method's options in it.

    Parameters
    ----------
    config : StudyConfig
        The study.
    profile : str
        Profile that is about to run; an exact study is the same at every one.

    Raises
    ------
    ValueError
        If a world, a method, one of its options, an exact table or the name of one of its parameters is not valid.
    ImportError
        If a world needs an optional package that is not installed; the command that installs it is named.

    Examples
    --------
    >>> from sim.engine.study import load_study
    >>> check_study(load_study("class_weighting"), "smoke")
    """
    if config.kind == "exact":
        _check_parameters(config)
        return
    kind, sizes = KINDS[config.kind], config.profile(profile).n
    for cell in config.cells(profile):
        if cell.n == sizes[0]:
            try:
                _check_cell(world_of(kind, cell), cell, sizes, kind.check)
            except (TypeError, ValueError) as error:
                raise ValueError(f"study {config.name}, world {cell.world['name']}: {error}") from error


def _check_cell(world: Any, cell: Cell, sizes: Sequence[int], check: Callable[[Any, int, str, Any], None]) -> None:
    """Raise unless every method is valid in a cell's world, and the first one at every sample size."""
    for method in cell.methods:
        check(world, sizes[0], method.method, method.options)
    for n in sizes[1:]:
        check(world, n, cell.methods[0].method, cell.methods[0].options)


def _check_parameters(config: StudyConfig) -> None:
    """Raise unless an exact study names a table and the parameters that it needs."""
    build = EXACT_TABLES[check_choice(f"table of study {config.name}", config.table, EXACT_TABLES)]
    parameters = inspect.signature(build).parameters
    for name in config.parameters:
        check_choice(f"parameter of table {config.table}", name, parameters)
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in config.parameters]
    if missing:
        given = ", ".join(config.parameters) or "nothing"
        raise ValueError(f"table {config.table} must be given {', '.join(missing)}, got only {given}")
