"""The constants of the guarantees, and where risks are convex in the policy, as tables of exact studies."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from theory import (
    GENERATORS,
    bregman_divergence,
    ddro_error_bound,
    get_generator,
    ratio_error_bound,
    relative_from_direct,
)
from theory.checks import check_choice, check_positive

__all__ = ["convexities", "guarantees"]

# Model ratios as shares of the largest one. Ratios closer to each other than a hundredth would tell of rounding.
_SHARES = np.concatenate([np.geomspace(1e-3, 0.9, 60), np.linspace(0.91, 0.99, 9)])


def guarantees(*, alphas: Sequence[float], largest_ratios: Sequence[float]) -> pd.DataFrame:
    """Tabulate the largest squared error that a nat of excess risk can hide, for RDRO and DDRO with logistic losses.

    At a response whose direct ratio is the largest one, G, the true ratio is held against model ratios over the whole
    range, ``(0, 1/alpha]`` for RDRO and ``(0, G]`` for DDRO; the table has the worst of ``(model - true)^2`` over the
    excess risk, beside the constant of the guarantee. The errors are those of different ratios, r under the mixture
    and g under p-.

    Parameters
    ----------
    alphas : sequence of float
        Weights of the preferred law, each in (0, 1).
    largest_ratios : sequence of float
        Largest direct ratios p+/p-, each above 1: the overlap.

    Returns
    -------
    DataFrame
        Columns alpha, largest_ratio, method ("rdro", "ddro"), worst (per nat), guarantee (the constant of the bound,
        per nat) and rdro_guarantee (that of RDRO in all rows, as it is the same for every overlap).

    Raises
    ------
    ValueError
        If `alphas` or `largest_ratios` is empty, an alpha lies outside (0, 1), or a ratio is not above 1.

    References
    ----------
    .. [1] Proposition P6, derived here.

    Examples
    --------
    >>> guarantees(alphas=[0.5], largest_ratios=[100.0]).round(1)
       alpha  largest_ratio method    worst  guarantee  rdro_guarantee
    0    0.5          100.0   rdro     11.7       12.0            12.0
    1    0.5          100.0   ddro  19932.6    20200.0            12.0
    """
    if len(alphas) == 0 or len(largest_ratios) == 0 or min(largest_ratios) <= 1.0:
        raise ValueError(
            f"alphas and largest_ratios must not be empty, ratios above 1; got {list(alphas)}, {list(largest_ratios)}"
        )
    rows = []
    for alpha in alphas:
        constant = ratio_error_bound(1.0, alpha)
        for largest in largest_ratios:
            true = float(relative_from_direct(largest, alpha))
            found = {
                "rdro": (_worst(true, 1.0 / alpha), constant),
                "ddro": (_worst(float(largest), float(largest)), ddro_error_bound(1.0, largest)),
            }
            rows += [(alpha, float(largest), method, *numbers, constant) for method, numbers in found.items()]
    return pd.DataFrame(rows, columns=["alpha", "largest_ratio", "method", "worst", "guarantee", "rdro_guarantee"])


def convexities(
    *,
    alphas: Sequence[float],
    direct_ratio: float = 1.0,
    generators: Sequence[str] = tuple(GENERATORS),
    log_ratios: tuple[float, float] = (-4.0, 4.0),
    points: int = 161,
) -> pd.DataFrame:
    """Tabulate the curvature of RDRO's population risk in the ratio of policy to reference at one response.

    The risk of the ratio r is ``m c(r) - p+ f'(r)``; the table has ``r^2`` times its second derivative for m = 1, of
    which the sign alone matters.

    Parameters
    ----------
    alphas : sequence of float
        Weights of the preferred law, each in (0, 1).
    direct_ratio : float
        p+/p- at the response, above 0.
    generators : sequence of str
        Keys of `theory.GENERATORS`.
    log_ratios : pair of float
        Smallest and largest log r, in nats.
    points : int
        Number of evenly spaced log-ratios.

    Returns
    -------
    DataFrame
        Columns alpha, generator, log_ratio (nats) and curvature (nats).

    Raises
    ------
    ValueError
        If there is no alpha, a generator is unknown, an alpha lies outside (0, 1), or the direct ratio is not positive.

    References
    ----------
    .. [1] Proposition P9, derived here.

    Examples
    --------
    >>> table = convexities(alphas=[0.5], log_ratios=(-1.0, 3.0), points=2)
    >>> table[table["generator"] == "logistic"]["curvature"].round(3).tolist()
    [0.855, -0.815]
    """
    if len(alphas) == 0:
        raise ValueError("alphas must hold at least one number, got none")
    ratio = check_positive(direct_ratio, "direct_ratio")
    u = np.linspace(*log_ratios, points)
    frames = []
    for alpha in alphas:
        preferred = float(relative_from_direct(ratio, alpha))
        for name in generators:
            chosen = get_generator(check_choice("generator", name, GENERATORS))
            first = chosen.conjugate_slope(u) - preferred * chosen.weight(u)
            second = chosen.conjugate_curvature(u) - preferred * chosen.weight_slope(u)
            frames.append(
                pd.DataFrame({"alpha": alpha, "generator": name, "log_ratio": u, "curvature": second - first})
            )
    return pd.concat(frames, ignore_index=True)


def _worst(true: float, largest: float) -> float:
    """Return the worst squared error for a nat of excess risk of a ratio, over model ratios up to the largest."""
    models = _SHARES * largest
    models = models[np.abs(models / true - 1.0) > 5e-3]
    excess = [bregman_divergence("logistic", [true], [model], [1.0]) for model in models]
    return float(np.max((models - true) ** 2 / np.asarray(excess, dtype="float64").reshape(-1)))
