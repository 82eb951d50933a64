"""Figures, one module for each claim, drawn from result tables alone.

Plot functions are imported when they are first used, so that ``python -m figures --list`` does not wait for matplotlib.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "plot_balanced_and_pooled_error": "figures.balanced_against_pooled_weighting",
    "plot_direct_infinite_share": "figures.relative_ratio_is_bounded",
    "plot_divergence": "figures.training_divergence",
    "plot_efficiencies": "figures.efficiency_against_cramer_rao",
    "plot_error_against_n": "figures.error_against_sample_size",
    "plot_error_quantiles": "figures.tails_as_overlap_vanishes",
    "plot_error_under_assumption": "figures.errors_under_wrong_assumptions",
    "plot_failed_fits": "figures.tails_as_overlap_vanishes",
    "plot_generator_efficiencies": "figures.efficiency_against_cramer_rao",
    "plot_largest_ratios": "figures.relative_ratio_is_bounded",
    "plot_loss_shapes": "figures.loss_and_gradient_shapes",
    "plot_ratio_curves": "figures.relative_ratio_is_bounded",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a plot function from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'figures' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
