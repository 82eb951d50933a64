"""Theory of relative (RDRO) and direct (DDRO) density ratio optimisation, exact on finite problems.

Density ratios, Bregman generators, every loss as a function of log-ratios, population targets, limiting covariances
and the constants of the guarantees. Needs NumPy and SciPy alone.
"""

from theory.asymptotics import asymptotic_covariance, asymptotic_kl, cramer_rao_bound, efficiency
from theory.bounds import (
    curvature_bound,
    ddro_error_bound,
    lipschitz_bound,
    ratio_error_bound,
    relative_estimate_error_bound,
    smoothness_bound,
    total_variation_bound,
)
from theory.bregman import GENERATORS, Generator, bregman_divergence, get_generator, power
from theory.density_ratios import (
    direct_from_relative,
    direct_ratio,
    log_direct_ratio,
    log_relative_ratio,
    relative_from_direct,
    relative_ratio,
    relative_ratio_bound,
)
from theory.divergences import (
    chi_square_divergence,
    hellinger_distance,
    kl_divergence,
    nash_gap,
    total_variation,
    win_rate,
)
from theory.loss_derivatives import LossDerivatives, loss_derivatives, pair_loss_derivatives
from theory.losses import (
    EXTENSION_MARGIN,
    ddro_log_direct_ratio,
    ddro_losses,
    dpo_losses,
    ipo_losses,
    kto_losses,
    mle_losses,
    rdro_losses,
    sft_losses,
)
from theory.problems import FiniteProblem
from theory.simplex import SimplexSolution, minimise_over_simplex
from theory.targets import METHODS, ClassMasses, NoTargetError, class_masses, population_risk, population_target
from theory.weighting import ClassWeights, class_weights, weighted_risk

__all__ = [
    "EXTENSION_MARGIN",
    "GENERATORS",
    "METHODS",
    "ClassMasses",
    "ClassWeights",
    "FiniteProblem",
    "Generator",
    "LossDerivatives",
    "NoTargetError",
    "SimplexSolution",
    "asymptotic_covariance",
    "asymptotic_kl",
    "bregman_divergence",
    "chi_square_divergence",
    "class_masses",
    "class_weights",
    "cramer_rao_bound",
    "curvature_bound",
    "ddro_error_bound",
    "ddro_log_direct_ratio",
    "ddro_losses",
    "direct_from_relative",
    "direct_ratio",
    "dpo_losses",
    "efficiency",
    "get_generator",
    "hellinger_distance",
    "ipo_losses",
    "kl_divergence",
    "kto_losses",
    "lipschitz_bound",
    "log_direct_ratio",
    "log_relative_ratio",
    "loss_derivatives",
    "minimise_over_simplex",
    "mle_losses",
    "nash_gap",
    "pair_loss_derivatives",
    "population_risk",
    "population_target",
    "power",
    "ratio_error_bound",
    "rdro_losses",
    "relative_estimate_error_bound",
    "relative_from_direct",
    "relative_ratio",
    "relative_ratio_bound",
    "sft_losses",
    "smoothness_bound",
    "total_variation",
    "total_variation_bound",
    "weighted_risk",
    "win_rate",
]
