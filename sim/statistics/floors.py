"""Floors: what is left of a mean as the sample size grows, and the test that nothing is."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import chdtrc, ndtr, ndtri

from theory.checks import FloatArray, check_positive

__all__ = ["FloorFit", "fit_floor"]

_EXPONENTS = (0.1, 2.0)  # 2b lies between a fifth and four: beyond, a decade shows no decay, or nothing else


@dataclass(frozen=True)
class FloorFit:
    """A fitted decay to a floor, ``mean^2 = floor^2 + c n^(-2 exponent)``.

    Attributes
    ----------
    floor, low, high : float
        The floor and the ends of its 95 % interval, at least 0.
    square, square_error : float
        Estimate of floor^2, which may be negative, and its standard error.
    exponent : float
        b, as given or fitted.
    p_zero : float
        p-value of the boundary test of floor = 0; small where there is a floor.
    n_min, n_max, points : int
        Smallest and largest sample size, and the number of them.
    lack_of_fit_p : float
        p-value of the chi-square test of the law; small where it does not fit.
    """

    floor: float
    low: float
    high: float
    square: float
    square_error: float
    exponent: float
    p_zero: float
    n_min: int
    n_max: int
    points: int
    lack_of_fit_p: float


def fit_floor(table: pd.DataFrame, exponent: float | None = 0.5) -> FloorFit:
    """Fit the value to which a mean tends, and test whether it is zero.

    Weighted least squares of ``mean^2`` on 1 and ``n^(-2b)``, with the delta method's error ``2 mean standard_error``
    of a square. The square of the floor is a regression coefficient, normal even where the floor is zero; the
    interval of the floor is the root of its interval, cut at zero. As the floor cannot be negative, the null
    "floor = 0" lies on the boundary, and the likelihood ratio statistic D (the difference of the chi-squares without
    and with a floor, 0 where the fitted square is negative) is an even mixture of chi-square laws with 0 and 1 degrees
    of freedom: p = P(chi^2_1 >= D) / 2, and 1 at D = 0.

    Parameters
    ----------
    table : DataFrame
        The rows of one curve of `sim.statistics.summary.summarise` with different n > 0, mean > 0 and
        standard_error > 0; at least one more than the law has parameters: four for a free exponent, else three.
    exponent : float, optional
        b > 0; 1/2 by default, the rate of smooth estimators. None: fitted, between 0.1 and 2.

    Returns
    -------
    FloorFit
        The floor.

    Raises
    ------
    ValueError
        If there are too few sample sizes, one occurs twice, or a number is not finite and positive.

    Notes
    -----
    Where mean = floor + k/n + ..., as for distances that are smooth at a target different from p+, the law holds at
    b = 1/2 up to terms in 1/n^2. Where the floor is zero, b is the rate itself.

    References
    ----------
    .. [1] Boundary test: Self and Liang (1987), J. American Statistical Association 82, case 5; the law is derived
       here.

    Examples
    --------
    >>> n = np.array([100, 1_000, 10_000, 100_000])
    >>> fit = fit_floor(pd.DataFrame({"n": n, "mean": np.sqrt(0.09 + 4.0 / n), "standard_error": 0.001}))
    >>> round(fit.floor, 6), fit.p_zero < 1e-9
    (0.3, True)
    """
    columns = {name: table[name].to_numpy(dtype=np.float64) for name in ("n", "mean", "standard_error")}
    for name, values in columns.items():
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise ValueError(f"{name} of a floor fit must be finite and greater than 0, got {wrong[0]:g}")
    n, mean, error = columns.values()
    fewest = 4 if exponent is None else 3
    if len(np.unique(n)) < max(fewest, len(n)):
        raise ValueError(f"a floor fit must have at least {fewest} different sample sizes, got {n.tolist()}")
    squares, errors = np.square(mean), 2.0 * mean * error
    if exponent is None:
        b, b_zero = (_best_exponent(n, squares, errors, first) for first in (0, 1))
    else:
        b = b_zero = check_positive(exponent, "exponent")
    design = _design(n, b)
    (square, slope), chi_square = _least_squares(design, squares, errors)
    _, chi_square_zero = _least_squares(_design(n, b_zero)[:, 1:], squares, errors)
    if exponent is None:
        design = np.column_stack([design, -2.0 * slope * np.log(n / n.max()) * design[:, 1]])
    square_error = math.sqrt(float(np.linalg.pinv(design.T @ (design / errors[:, None] ** 2))[0, 0]))
    half = float(ndtri(0.975)) * square_error
    statistic = max(chi_square_zero - chi_square, 0.0) if square > 0.0 else 0.0
    return FloorFit(
        floor=math.sqrt(max(square, 0.0)),
        low=math.sqrt(max(square - half, 0.0)),
        high=math.sqrt(max(square + half, 0.0)),
        square=square,
        square_error=square_error,
        exponent=b,
        p_zero=float(ndtr(-math.sqrt(statistic))) if statistic > 0.0 else 1.0,
        n_min=int(n.min()),
        n_max=int(n.max()),
        points=len(n),
        lack_of_fit_p=float(chdtrc(len(n) - design.shape[1], chi_square)),
    )


def _design(n: FloatArray, exponent: float) -> FloatArray:
    """Return the columns 1 and n^(-2 exponent), the latter 1 at the largest n."""
    return np.column_stack([np.ones(len(n)), (n / n.max()) ** (-2.0 * exponent)])


def _least_squares(design: FloatArray, values: FloatArray, errors: FloatArray) -> tuple[list[float], float]:
    """Return weighted least-squares coefficients and their chi-square."""
    coefficients = np.linalg.lstsq(design / errors[:, None], values / errors, rcond=None)[0]
    return coefficients.tolist(), float(np.sum(np.square((values - design @ coefficients) / errors)))


def _best_exponent(n: FloatArray, values: FloatArray, errors: FloatArray, first: int) -> float:
    """Return the exponent of the smallest chi-square, with a floor (first column 0) or without (1)."""
    from scipy.optimize import minimize_scalar  # not above: most commands judge no floors, and its import takes long

    def chi_square(exponent: float) -> float:
        return _least_squares(_design(n, exponent)[:, first:], values, errors)[1]

    grid = np.linspace(*_EXPONENTS, 39)
    best = float(grid[int(np.argmin([chi_square(b) for b in grid]))])
    bounds = (max(best - 0.05, _EXPONENTS[0]), min(best + 0.05, _EXPONENTS[1]))
    return float(minimize_scalar(chi_square, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)
