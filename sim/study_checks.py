"""What a study asks of worlds, methods and exact tables, tried before any work is done."""

import contextlib
import dataclasses
import inspect

from sim.estimators import METHODS, MethodOptions
from sim.exact_tables import EXACT_TABLES
from sim.study import MethodConfig, StudyConfig
from sim.worlds import World, build_world
from theory import NoTargetError, population_target
from theory.checks import check_choice

__all__ = ["check_study"]

_OPTIONS = tuple(field.name for field in dataclasses.fields(MethodOptions))


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
    >>> from sim.study import load_study
    >>> check_study(load_study("class_weighting"), "smoke")
    """
    if config.kind == "exact":
        _check_parameters(config)
        return
    sizes = config.profile(profile).n
    for cell in config.cells(profile):
        if cell.n != sizes[0]:
            continue
        try:
            world = build_world(cell.world)
            odd = [n for n in sizes if n % 2]
            if odd and world.regime == "paired":
                raise ValueError(f"n must be even in the paired regime, where examples come in pairs, got {odd[0]}")
            for method in config.methods:
                _try_method(world, method)
        except (TypeError, ValueError) as error:
            raise ValueError(f"study {config.name}, world {cell.world['name']}: {error}") from error


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


def _try_method(world: World, method: MethodConfig) -> None:
    """Raise if a method or its options are not valid in a world; a target that does not exist is a result."""
    check_choice("method", method.method, METHODS)
    for option in method.options:
        check_choice(f"option of method {method.label}", option, _OPTIONS)
    with contextlib.suppress(NoTargetError):
        population_target(world.problem, method.method, preferred_fraction=world.label_fraction, **method.options)
