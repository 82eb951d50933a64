"""Tables that need no simulation, computed from the theory's functions: the exact studies.

That of distances from Bradley-Terry is in `sim.bt_distance_table`, those of guarantees and of convexity are in
`sim.guarantee_tables`.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from sim.bt_distance_table import bt_distances
from sim.guarantee_tables import convexities, guarantees
from theory import (
    FiniteProblem,
    asymptotic_kl,
    ddro_losses,
    efficiency,
    loss_derivatives,
    rdro_losses,
    relative_from_direct,
    relative_ratio_bound,
)
from theory.checks import FloatArray

__all__ = ["EXACT_TABLES", "efficiencies", "loss_shapes", "ratio_shapes"]

# Points added just below the edge of DDRO's domain, where its derivative grows without bound: distances in nats.
_EDGE_DISTANCES = np.geomspace(1e-6, 0.5, 120)


def ratio_shapes(
    *, alphas: Sequence[float], decades: tuple[float, float] = (-3.0, 6.0), points: int = 181
) -> pd.DataFrame:
    """Tabulate the relative ratio against the direct one.

    ``r = g / (alpha g + 1 - alpha)`` for direct ratios g spaced evenly on a logarithmic scale.

    Parameters
    ----------
    alphas : sequence of float
        Weights of the preferred law, each in (0, 1).
    decades : pair of float
        Decimal logarithms of the smallest and the largest direct ratio.
    points : int
        Number of direct ratios, at least 2.

    Returns
    -------
    DataFrame
        Columns alpha, direct_ratio, relative_ratio and relative_ratio_bound (1/alpha); one row per alpha and ratio.

    Raises
    ------
    ValueError
        If `alphas` is empty or not in (0, 1), `decades` is not increasing, or `points` is below 2.

    References
    ----------
    .. [1] Proposition P1, derived here; relative ratios after Yamada et al., 2013.

    Examples
    --------
    >>> ratio_shapes(alphas=[0.5], decades=(0, 3), points=2).round(3)
       alpha  direct_ratio  relative_ratio  relative_ratio_bound
    0    0.5           1.0           1.000                   2.0
    1    0.5        1000.0           1.998                   2.0
    """
    direct = 10.0 ** _grid("decades", decades, points)
    frames = [
        pd.DataFrame(
            {
                "alpha": alpha,
                "direct_ratio": direct,
                "relative_ratio": relative_from_direct(direct, alpha),
                "relative_ratio_bound": float(relative_ratio_bound(alpha)),
            }
        )
        for alpha in _check_some(alphas)
    ]
    return pd.concat(frames, ignore_index=True)


def loss_shapes(
    *,
    alphas: Sequence[float],
    log_ratios: tuple[float, float] = (-4.0, 4.0),
    points: int = 401,
    generator: str = "logistic",
) -> pd.DataFrame:
    """Tabulate the losses of RDRO and DDRO and their derivatives against the log-ratio.

    Parameters
    ----------
    alphas : sequence of float
        Weights of the preferred law, each in (0, 1).
    log_ratios : pair of float
        Smallest and largest log-ratio u of policy to reference, in nats.
    points : int
        Number of evenly spaced log-ratios, at least 2; more are added just below the edge of DDRO's domain,
        ``u = -log alpha``, where its derivative has no bound.
    generator : str
        Key of `theory.GENERATORS`.

    Returns
    -------
    DataFrame
        Columns method ("rdro", "ddro"), beyond_domain ("infinite" or "extend" for ddro, "none" for rdro, whose domain
        is the whole line), alpha, preferred (bool), log_ratio (nats), loss (nats; +inf for an infinite ddro loss
        beyond its domain) and derivative (d loss / d log_ratio; 0 where the loss is a constant +inf).

    Raises
    ------
    ValueError
        If `alphas` is empty or not in (0, 1), `log_ratios` is not increasing, `points` is below 2, or the generator
        is unknown.

    References
    ----------
    .. [1] Proposition P4, derived here; losses of arXiv 2604.04410 and arXiv 2505.07558.

    Examples
    --------
    >>> table = loss_shapes(alphas=[0.5], log_ratios=(-1, 1), points=3)
    >>> float(table.query("method == 'rdro'")["derivative"].abs().max().round(3))  # at most 1
    0.597
    >>> float(table.query("method == 'ddro'")["derivative"].max().round(-4))
    1000000.0
    """
    grid = _grid("log_ratios", log_ratios, points)
    frames = []
    for alpha in _check_some(alphas):
        edge = math.log(relative_ratio_bound(alpha))
        near = edge - _EDGE_DISTANCES
        u = np.union1d(grid, near[(near > grid[0]) & (near < grid[-1])])
        for preferred in (True, False):
            flags = np.full(u.shape, preferred)
            losses = {
                ("rdro", "none"): rdro_losses(u, flags, alpha, generator),
                ("ddro", "infinite"): ddro_losses(u, flags, alpha, generator),
                ("ddro", "extend"): ddro_losses(u, flags, alpha, generator, "extend"),
            }
            slopes = {
                ("rdro", "none"): loss_derivatives("rdro", u, flags, alpha, generator).first,
                ("ddro", "infinite"): loss_derivatives("ddro", u, flags, alpha, generator).first,
                ("ddro", "extend"): loss_derivatives("ddro", u, flags, alpha, generator, beyond_domain="extend").first,
            }
            frames += [
                pd.DataFrame(
                    {
                        "method": method,
                        "beyond_domain": beyond,
                        "alpha": alpha,
                        "preferred": preferred,
                        "log_ratio": u,
                        "loss": losses[method, beyond],
                        "derivative": slopes[method, beyond],
                    }
                )
                for method, beyond in losses
            ]
    return pd.concat(frames, ignore_index=True)


def efficiencies(
    *,
    alphas: Sequence[float],
    p_preferred: Sequence[float],
    p_nonpreferred: Sequence[float],
    generators: Sequence[str] = ("logistic", "least_squares", "kl", "power"),
) -> pd.DataFrame:
    """Tabulate the limits of n E[KL(p+ || policy)] and the efficiencies against the Cramer-Rao bound.

    Parameters
    ----------
    alphas : sequence of float
        Weights of the preferred law, each in (0, 1); labels are preferred with this probability.
    p_preferred, p_nonpreferred : sequence of float
        The laws, positive, of one prompt.
    generators : sequence of str
        Keys of `theory.GENERATORS` for rdro and ddro.

    Returns
    -------
    DataFrame
        Columns alpha, method, generator ("none" for sft and mle), asymptotic_kl (nats) and efficiency (in (0, 1]).

    Raises
    ------
    ValueError
        If `alphas` is empty or not in (0, 1), a law is not valid, or a generator is unknown.

    References
    ----------
    .. [1] Section 6 of the theory, derived here; `theory.efficiency`.

    Examples
    --------
    >>> table = efficiencies(alphas=[0.5], p_preferred=[0.5, 0.3, 0.2], p_nonpreferred=[0.1, 0.3, 0.6])
    >>> table.query("generator in ('none', 'logistic')")[["method", "efficiency"]].round(3).to_dict("list")
    {'method': ['sft', 'mle', 'rdro', 'ddro'], 'efficiency': [0.446, 1.0, 0.937, 1.0]}
    """
    rows = []
    for alpha in _check_some(alphas):
        problem = FiniteProblem(p_preferred, p_nonpreferred, alpha=alpha)
        for method, generator in [("sft", "none"), ("mle", "none"), *itertools.product(("rdro", "ddro"), generators)]:
            chosen = {} if generator == "none" else {"generator": generator}
            rows.append(
                {
                    "alpha": alpha,
                    "method": method,
                    "generator": generator,
                    "asymptotic_kl": asymptotic_kl(problem, method, **chosen),
                    "efficiency": efficiency(problem, method, **chosen),
                }
            )
    return pd.DataFrame(rows)


def _grid(name: str, ends: Sequence[float], points: int) -> FloatArray:
    """Return evenly spaced numbers between two ends, or raise."""
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise ValueError(f"points must be an integer of at least 2, got {points!r}")
    if len(ends) != 2 or not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise ValueError(f"{name} must be two finite numbers, the smaller one first, got {list(ends)}")
    return np.linspace(ends[0], ends[1], points)


def _check_some(alphas: Sequence[float]) -> Sequence[float]:
    """Return `alphas`, or raise if there is none; each is checked where it is used."""
    if len(alphas) == 0:
        raise ValueError("alphas must hold at least one number, got none")
    return alphas


EXACT_TABLES: dict[str, Callable[..., pd.DataFrame]] = {
    "bt_distances": bt_distances,
    "convexities": convexities,
    "efficiencies": efficiencies,
    "guarantees": guarantees,
    "loss_shapes": loss_shapes,
    "ratio_shapes": ratio_shapes,
}
"""Exact tables by name; studies of the exact kind call them with their parameters."""
