"""The kinds of studies that draw replicates: how each builds its worlds, checks its methods and estimates."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

__all__ = ["KINDS", "READERS", "Kind", "sources_checksum"]

READERS = ("sim/claims", "sim/commands", "sim/statistics")
"""Packages that read or judge results and change none."""


@dataclass(frozen=True)
class Kind:
    """A kind of study, by the names of its functions, which are imported when they are first called.

    Names travel to worker processes and cost nothing until they are used: studies that train need torch, all others
    run without it.

    Parameters
    ----------
    builder : str
        ``"module:function"`` of ``build(settings) -> world``; the world has ``sample(n, replicates, rng) -> data``.
    checker : str
        Of ``check(world, n, method, options) -> None``, which raises ValueError or TypeError for what is not valid.
    estimator : str
        Of ``estimate(world, method, n, replicates, rng, *, label, data, **options)``; the result has ``rows()``,
        see `sim.outcomes.Outcome.rows`.
    block : int
        Replicates of a task, at least 1: enough for batched work to be quick, few enough that a kill costs a second.
        Part of the seeds' key, so a change is a change of all results.
    metric : str
        A metric that every method has; under its name a method that raises everywhere is counted.
    packages : tuple of str
        Distributions whose versions the results depend on, beside relratio, NumPy and SciPy.
    extra : str
        Optional dependencies of relratio that the functions need; blank for none.

    Examples
    --------
    >>> world = KINDS["monte_carlo"].build(
    ...     {"name": "toy", "p_preferred": [0.7, 0.3], "p_nonpreferred": [0.4, 0.6], "alpha": 0.5}
    ... )
    >>> world.problem.responses
    2
    """

    builder: str
    checker: str
    estimator: str
    block: int
    metric: str = "tv_preferred"
    packages: tuple[str, ...] = ()
    extra: str = ""

    def load(self) -> None:
        """Import what the kind needs, so that no limit on time counts it.

        Raises
        ------
        ImportError
            If the kind needs optional packages that are not installed; the command that installs them is named.
        """
        for name in (self.builder, self.checker, self.estimator):
            self._load(name)

    def build(self, settings: Mapping[str, Any]) -> Any:
        """Build a world from its settings.

        Raises
        ------
        ValueError, TypeError
            If a setting is not valid.
        ImportError
            If the kind needs optional packages that are not installed; the command that installs them is named.
        """
        return self._load(self.builder)(settings)

    def check(self, world: Any, n: int, method: str, options: Mapping[str, Any]) -> None:
        """Raise ValueError or TypeError unless a method and its options are valid in a world at sample size n."""
        self._load(self.checker)(world, n, method, options)

    def estimate(
        self,
        world: Any,
        method: str,
        n: int,
        replicates: int,
        rng: np.random.Generator,
        *,
        label: str,
        data: Any,
        options: Mapping[str, Any],
    ) -> Any:
        """Return what a method makes of data sets."""
        return self._load(self.estimator)(world, method, n, replicates, rng, label=label, data=data, **options)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that results depend on, and a checksum of the code that makes them."""
        found = {name: _version(name) for name in ("relratio", "numpy", "scipy", *self.packages)}
        return found | {"sources": sources_checksum("theory", "sim")}

    def _load(self, name: str) -> Any:
        """Return a function by its name, or raise naming the command that installs what it needs."""
        try:
            return resolve_name(name)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            raise ImportError(
                f"{name.partition(':')[0]} needs {error.name}, which is not installed; "
                f"install it with: pip install 'relratio[{self.extra}]'"
            ) from error


@lru_cache
def sources_checksum(*folders: str) -> str:
    """Return a checksum of the Python files of packages, but for those that only read or judge results.

    Parameters
    ----------
    *folders : str
        Packages, such as "theory" or "sim/claims".

    Returns
    -------
    str
        16 hexadecimal digits, the same wherever the packages are installed.

    Examples
    --------
    >>> sources_checksum("theory") == sources_checksum("sim")
    False
    """
    root, total = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(READERS) or any(folder in READERS for folder in folders):
            total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


@lru_cache
def _version(package: str) -> str:
    """Return the version of an installed distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a clone that is run in place, without being installed
        return "not installed"


KINDS: dict[str, Kind] = {
    "monte_carlo": Kind(
        "sim.worlds:build_world", "sim.simulation:check_simulation", "sim.simulation:simulate", block=1000
    ),
    "dynamics": Kind(
        "sim.dynamics.training:build_training",
        "sim.dynamics.training:check_training",
        "sim.dynamics.training:train",
        block=100,
        packages=("torch",),
        extra="networks",
    ),
    "continuous": Kind(
        "sim.continuous.scenario:build_continuous",
        "sim.continuous.scenario:check_continuous",
        "sim.continuous.scenario:estimate_ratio",
        block=4,
        packages=("torch",),
        extra="networks",
    ),
}
"""Kinds by name; the exact studies, which draw nothing, are in `sim.exact_tables`."""
