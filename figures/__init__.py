"""Figures, one module for each claim, drawn from result tables alone.

Plot functions are imported when they are first used, so that ``python -m figures --list`` does not wait for matplotlib.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "plot_balanced_and_pooled_error": "figures.balanced_against_pooled_weighting",
    "plot_constants": "figures.efficiency_against_cramer_rao",
    "plot_cost_against_size": "figures.cost_against_peers",
    "plot_direct_infinite_share": "figures.relative_ratio_is_bounded",
    "plot_distances": "figures.distance_from_bradley_terry",
    "plot_diverged_share": "figures.strict_losses_stop_language_models",
    "plot_divergence": "figures.training_divergence",
    "plot_efficiencies": "figures.efficiency_against_cramer_rao",
    "plot_error_against_noise": "figures.label_noise_moves_every_target",
    "plot_error_against_reference_error": "figures.wrong_reference_and_its_remedy",
    "plot_error_against_told_alpha": "figures.wrong_alpha_leaves_a_bias",
    "plot_error_in_world": "figures.consistency_without_bradley_terry",
    "plot_error_quantiles": "figures.tails_as_overlap_vanishes",
    "plot_error_under_noise": "figures.label_noise_moves_every_target",
    "plot_error_under_unequal_rates": "figures.prompt_rates_need_weights_by_prompt",
    "plot_error_under_wrong_alpha": "figures.wrong_alpha_leaves_a_bias",
    "plot_error_under_wrong_reference": "figures.wrong_reference_and_its_remedy",
    "plot_excess_over_sft": "figures.reference_error_in_language_models",
    "plot_failed_fits": "figures.tails_as_overlap_vanishes",
    "plot_generator_efficiencies": "figures.efficiency_against_cramer_rao",
    "plot_kl_against_n": "figures.language_models_against_sample_size",
    "plot_kl_against_steps": "figures.language_models_against_steps",
    "plot_kl_by_reference": "figures.reference_error_in_language_models",
    "plot_kl_by_repair": "figures.prompt_rates_in_language_models",
    "plot_largest_ratios": "figures.relative_ratio_is_bounded",
    "plot_loss_shapes": "figures.loss_and_gradient_shapes",
    "plot_rates": "figures.errors_fall_at_rate_one_half",
    "plot_ratio_curves": "figures.relative_ratio_is_bounded",
    "plot_run_values": "figures.strict_losses_stop_language_models",
    "plot_step_cost": "figures.cost_against_peers",
    "plot_told_alpha": "figures.wrong_alpha_in_language_models",
    "plot_true_alpha": "figures.wrong_alpha_in_language_models",
    "plot_weighting_against_steps": "figures.balanced_weights_in_language_models",
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
