"""Simulations of alignment from preferences: worlds, samplers of counts, exact batched estimators and studies.

Names are imported when they are first used, so that ``python -m sim --help`` does not wait for pandas.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "METHODS": "sim.estimators",
    "PREFERENCE_MODELS": "sim.preferences",
    "Counts": "sim.sampling",
    "Simulation": "sim.simulation",
    "World": "sim.worlds",
    "build_world": "sim.worlds",
    "fit_rate": "sim.statistics.rates",
    "run_study": "sim.engine.runner",
    "simulate": "sim.simulation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
