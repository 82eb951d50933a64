"""Readable names of runs: what error messages show, and what `sim.commands.replay` takes."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["run_id", "swept_of_run"]


def run_id(run: Mapping[str, Any]) -> str:
    """Return the readable name of a run: one block of one method in one cell.

    It is ``study/world/n=N/SETTING=VALUE/.../block=B:method``, with one part for each swept setting.

    Parameters
    ----------
    run : mapping
        A row of the table ``runs``, whose swept settings stand between n and method.

    Returns
    -------
    str
        The name, as `sim.commands.replay.replay` takes it.

    Examples
    --------
    >>> run_id({"study": "s", "world": "w", "n": 100, "alpha": 0.2, "method": "rdro", "block": 0, "status": "ok"})
    's/w/n=100/alpha=0.2/block=0:rdro'
    """
    settings = "".join(f"/{name}={run[name]}" for name in ("n", *swept_of_run(run), "block"))
    return f"{run['study']}/{run['world']}{settings}:{run['method']}"


def swept_of_run(run: Iterable[str]) -> list[str]:
    """Return the names of the swept settings of a row, or of a list of columns, that has them after n.

    Examples
    --------
    >>> swept_of_run({"study": "s", "world": "w", "n": 100, "alpha": 0.2, "method": "rdro"})
    ['alpha']
    """
    names = list(run)
    return names[names.index("n") + 1 : names.index("method")]
