"""Figures, one module for each claim, drawn from result tables alone.

Plot functions are imported when they are first used, so that ``python -m figures --list`` does not wait for matplotlib.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "plot_balanced_and_pooled_error": "figures.plots.balanced_against_pooled_weighting",
    "plot_constants": "figures.plots.efficiency_against_cramer_rao",
    "plot_cost_against_size": "figures.plots.cost_against_peers",
    "plot_direct_infinite_share": "figures.plots.relative_ratio_is_bounded",
    "plot_distances": "figures.plots.distance_from_bradley_terry",
    "plot_diverged_share": "figures.plots.strict_losses_stop_language_models",
    "plot_divergence": "figures.plots.training_divergence",
    "plot_efficiencies": "figures.plots.efficiency_against_cramer_rao",
    "plot_error_against_noise": "figures.plots.label_noise_moves_every_target",
    "plot_error_against_reference_error": "figures.plots.wrong_reference_and_its_remedy",
    "plot_error_against_told_alpha": "figures.plots.wrong_alpha_leaves_a_bias",
    "plot_error_in_world": "figures.plots.consistency_without_bradley_terry",
    "plot_error_quantiles": "figures.plots.tails_as_overlap_vanishes",
    "plot_error_under_noise": "figures.plots.label_noise_moves_every_target",
    "plot_error_under_unequal_rates": "figures.plots.prompt_rates_need_weights_by_prompt",
    "plot_error_under_wrong_alpha": "figures.plots.wrong_alpha_leaves_a_bias",
    "plot_error_under_wrong_reference": "figures.plots.wrong_reference_and_its_remedy",
    "plot_excess_over_sft": "figures.plots.reference_error_in_language_models",
    "plot_failed_fits": "figures.plots.tails_as_overlap_vanishes",
    "plot_generator_efficiencies": "figures.plots.efficiency_against_cramer_rao",
    "plot_kl_against_n": "figures.plots.language_models_against_sample_size",
    "plot_kl_against_steps": "figures.plots.language_models_against_steps",
    "plot_kl_by_reference": "figures.plots.reference_error_in_language_models",
    "plot_kl_by_repair": "figures.plots.prompt_rates_in_language_models",
    "plot_largest_ratios": "figures.plots.relative_ratio_is_bounded",
    "plot_loss_shapes": "figures.plots.loss_and_gradient_shapes",
    "plot_rates": "figures.plots.errors_fall_at_rate_one_half",
    "plot_ratio_curves": "figures.plots.relative_ratio_is_bounded",
    "plot_run_values": "figures.plots.strict_losses_stop_language_models",
    "plot_step_cost": "figures.plots.cost_against_peers",
    "plot_told_alpha": "figures.plots.wrong_alpha_in_language_models",
    "plot_true_alpha": "figures.plots.wrong_alpha_in_language_models",
    "plot_weighting_against_steps": "figures.plots.balanced_weights_in_language_models",
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
