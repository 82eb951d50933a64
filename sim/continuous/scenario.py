"""Responses in R^d with known densities: network policies trained by the losses beside classical ratio estimators.

A study of kind "continuous" asks how well each method recovers the relative ratio, and how often it leaves its range.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.continuous.laws import SHAPES, ContinuousLaw
from sim.continuous.networks import NetworkSettings, fit_networks
from sim.continuous.ratio_estimators import KernelRatio, fit_kliep, fit_rulsif, fit_ulsif
from sim.outcomes import Outcome
from sim.preferences.arguments import check_integer, check_name, check_rng
from theory import GENERATORS, log_relative_ratio, relative_from_direct
from theory.checks import FloatArray, check_alpha, check_choice, check_positive

__all__ = [
    "CONTINUOUS_METHODS",
    "ContinuousSamples",
    "ContinuousSettings",
    "ContinuousWorld",
    "build_continuous",
    "check_continuous",
    "estimate_ratio",
]

_NETWORKS = ("rdro", "ddro", "mle")
_KERNELS = ("rulsif", "ulsif", "kliep")
CONTINUOUS_METHODS = (*_NETWORKS, *_KERNELS)
"""Methods: networks trained by a loss, and kernel estimators."""

_OPTIONS = {"generator": ("rdro", "ddro"), "beyond_domain": ("ddro",)}
# Five folds of cross-validation, each with two examples of a class.
_SMALLEST_CLASS = 10
_ROUNDING = 1e-6  # float32 log-ratios


@dataclass(frozen=True)
class ContinuousSettings:
    """A pair of laws on R^d, and how networks are trained on samples of it.

    Parameters
    ----------
    name : str
        Name in tables and figures.
    shape : {"gaussian", "bimodal", "banana"}
        Pair of laws, see `sim.continuous.laws.ContinuousLaw`.
    dimension : int
        d, at least 1; at least 2 for the banana.
    separation : float
        Distance of the two laws in units of the noise, at least 0; overlap falls as it grows.
    alpha : float
        Weight of p+ in the reference ``alpha p+ + (1 - alpha) p-`` and its share of the examples, in (0, 1).
    reference_size : int
        Draws of the reference for the normalising constant of network policies, at least 10.
    test_size : int
        Draws of the reference at which errors are measured, the same for all replicates, at least 100.
    test_seed : int
        Seed of these.
    hidden, steps, patience, learning_rate, held_out
        See `sim.continuous.networks.NetworkSettings`.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> ContinuousSettings("two bells", separation=2.0).dimension
    2
    """

    name: str
    shape: str = "gaussian"
    dimension: int = 2
    separation: float = 1.5
    alpha: float = 0.5
    reference_size: int = 1000
    test_size: int = 10_000
    test_seed: int = 20260404
    hidden: int = 32
    steps: int = 300
    patience: int = 20
    learning_rate: float = 0.01
    held_out: float = 0.2

    def __post_init__(self) -> None:
        """Check every setting."""
        check_name(self.name)
        check_choice("shape", self.shape, SHAPES)
        check_integer("dimension", self.dimension, 2 if self.shape == "banana" else 1)
        if self.separation != 0:
            check_positive(self.separation, "separation")
        check_alpha(self.alpha)
        check_alpha(self.held_out, "held_out")
        minima = {"reference_size": 10, "test_size": 100, "test_seed": 0, "hidden": 1, "steps": 1, "patience": 1}
        for name, minimum in minima.items():
            check_integer(name, getattr(self, name), minimum)
        check_positive(self.learning_rate, "learning_rate")

    @property
    def networks(self) -> NetworkSettings:
        """Return the settings of the networks."""
        return NetworkSettings(self.hidden, self.steps, self.patience, self.learning_rate, self.held_out)


@dataclass(frozen=True, eq=False)
class ContinuousSamples:
    """Data sets of a continuous world.

    Attributes
    ----------
    preferred, nonpreferred : ndarray
        Examples, shapes (replicates, n+, d) and (replicates, n-, d).
    reference : ndarray
        Draws of the reference, shape (replicates, reference_size, d).
    """

    preferred: FloatArray
    nonpreferred: FloatArray
    reference: FloatArray


@dataclass(frozen=True, eq=False)
class ContinuousWorld:
    """Two known laws on R^d, their mixture as reference, and the exact relative ratio at test points.

    Parameters
    ----------
    settings : ContinuousSettings
        The laws and the training of networks.
    preferred, nonpreferred : ContinuousLaw
        The two laws.
    test : ndarray
        Draws of the reference, shape (test_size, d).
    test_ratio : ndarray
        Exact relative ratio there, in [0, 1/alpha].

    Examples
    --------
    >>> world = build_continuous({"name": "bananas", "shape": "banana"})
    >>> world.sample(100, 3, np.random.default_rng(0)).preferred.shape
    (3, 50, 2)
    """

    settings: ContinuousSettings
    preferred: ContinuousLaw
    nonpreferred: ContinuousLaw
    test: FloatArray
    test_ratio: FloatArray

    @property
    def name(self) -> str:
        """Return the world's name."""
        return self.settings.name

    def class_sizes(self, n: int) -> tuple[int, int]:
        """Return how many of n examples are preferred, ``alpha n`` rounded, and how many are not."""
        preferred = round(self.settings.alpha * n)
        return preferred, n - preferred

    def sample(self, n: int, replicates: int, rng: np.random.Generator) -> ContinuousSamples:
        """Draw independent data sets of n examples, with class sizes fixed at ``alpha n`` and ``(1 - alpha) n``."""
        check_integer("replicates", replicates, 1)
        check_rng(rng)
        sizes = self.class_sizes(check_integer("n", n, 1))
        return ContinuousSamples(
            self.preferred.sample((replicates, sizes[0]), rng),
            self.nonpreferred.sample((replicates, sizes[1]), rng),
            _mixture(self, (replicates, self.settings.reference_size), rng),
        )


def build_continuous(settings: Mapping[str, Any]) -> ContinuousWorld:
    """Build a continuous world from a table of settings, as studies of kind "continuous" hold them.

    Parameters
    ----------
    settings : mapping
        Fields of `ContinuousSettings`.

    Returns
    -------
    ContinuousWorld
        The laws, with test points drawn from the reference.

    Raises
    ------
    ValueError
        If a key is unknown (the nearest is named), the name is missing or a setting is out of range.

    Examples
    --------
    >>> world = build_continuous({"name": "equal", "separation": 0.0})
    >>> float(world.test_ratio.min()), float(world.test_ratio.max())
    (1.0, 1.0)
    """
    if not isinstance(settings, Mapping):
        raise TypeError(f"a world must be a table of settings, got {type(settings).__name__}")
    for key in settings:
        check_choice("key of a continuous world", key, [field.name for field in dataclasses.fields(ContinuousSettings)])
    if "name" not in settings:
        raise ValueError("a world must have a name, got none")
    checked = ContinuousSettings(**settings)
    laws = [ContinuousLaw(checked.shape, checked.dimension, checked.separation, flag) for flag in (True, False)]
    bare = ContinuousWorld(checked, *laws, np.empty((0, checked.dimension)), np.empty(0))
    test = _mixture(bare, (checked.test_size,), np.random.default_rng(checked.test_seed))
    ratio = np.exp(log_relative_ratio(laws[0].log_density(test), laws[1].log_density(test), checked.alpha))
    return dataclasses.replace(bare, test=test, test_ratio=ratio)


def check_continuous(w: ContinuousWorld, n: int, method: str, options: Mapping[str, Any]) -> None:
    """Raise unless a method with these options can be fitted to n examples.

    Parameters
    ----------
    w : ContinuousWorld
        The world.
    n : int
        Labelled examples in each data set; at least 10 must fall to each class.
    method : str
        One of `CONTINUOUS_METHODS`.
    options : mapping
        ``generator`` (name) of rdro and ddro; ``beyond_domain`` ("infinite" or "extend") of ddro.

    Raises
    ------
    ValueError
        If the method or an option is unknown or not valid, an option belongs to another method, or n is too small.

    Examples
    --------
    >>> check_continuous(build_continuous({"name": "bells"}), 100, "rdro", {"generator": "kl"})
    """
    check_choice("method", method, CONTINUOUS_METHODS)
    for option in options:
        check_choice(f"option of {method}", option, _OPTIONS)
        if method not in _OPTIONS[option]:
            raise ValueError(f"{option} is an option of {', '.join(_OPTIONS[option])}, got it for {method}")
    check_choice("generator", options.get("generator", "logistic"), GENERATORS)
    check_choice("beyond_domain", options.get("beyond_domain", "infinite"), ("infinite", "extend"))
    sizes = w.class_sizes(check_integer("n", n, 1))
    if min(sizes) < _SMALLEST_CLASS:
        raise ValueError(f"each class must have at least {_SMALLEST_CLASS} examples, got {sizes[0]} and {sizes[1]}")


def estimate_ratio(
    w: ContinuousWorld,
    method: str,
    n: int,
    replicates: int,
    rng: np.random.Generator,
    *,
    label: str | None = None,
    data: ContinuousSamples | None = None,
    **options: Any,
) -> Outcome:
    """Estimate the relative ratio by one method on independent data sets of a world.

    Parameters
    ----------
    w : ContinuousWorld
        Where the data come from, see `build_continuous`.
    method : {"rdro", "ddro", "mle", "rulsif", "ulsif", "kliep"}
        Network policies trained by a loss, or a kernel estimator. uLSIF and KLIEP estimate the direct ratio, which
        is converted (`theory.relative_from_direct`).
    n : int
        Labelled examples in each data set.
    replicates : int
        Number of data sets.
    rng : numpy.random.Generator
        Source of randomness: data, first layers, centres and folds.
    label : str, optional
        Name in tables; default the method's.
    data : ContinuousSamples, optional
        Data sets drawn before from the same world, so that several methods see the same data.
    **options
        As in `check_continuous`.

    Returns
    -------
    Outcome
        Metrics, all over the test points: ``ratio_error`` = ``sqrt(E_m (r_hat - r_alpha)^2)``; ``tv_preferred`` = TV
        of the policy ``p_ref r_hat / Z`` to p+ (negative estimates as 0); ``share_above_bound``, where
        ``r_hat > 1/alpha``; ``max_ratio``. Status "diverged" if a network's loss, gradient or parameter was not finite
        before it stopped (for ddro and mle: a training example beyond the domain), "nonconverged" if KLIEP's solver
        stopped short, "error" if a kernel estimate is zero everywhere.

    Raises
    ------
    ValueError
        As `check_continuous`, and if `data` does not hold that many replicates.

    Notes
    -----
    Networks know more than the kernel estimators: draws of the reference, which normalise their policies. Kernel
    estimators tune two parameters by cross-validation on all examples; networks one, the step, on held-out ones.
    Methods are compared over the replicates that have an estimate: where ddro and mle diverge often, those left are
    the easy data sets.

    Examples
    --------
    >>> world = build_continuous({"name": "bells", "dimension": 1})
    >>> outcome = estimate_ratio(world, "rulsif", 1000, 3, np.random.default_rng(0))
    >>> bool(outcome.metrics["ratio_error"].max() < 0.15)
    True
    """
    check_continuous(w, n, method, options)
    samples = w.sample(n, replicates, rng) if data is None else data
    if len(samples.preferred) != replicates:
        raise ValueError(f"data must hold {replicates} replicates, got {len(samples.preferred)}")
    if method in _NETWORKS:
        ratios, status = _by_network(w, method, samples, rng, options)
    else:
        ratios, status = _by_kernels(w, method, samples, rng)
    exact = {name: float(values[0]) for name, values in _metrics(w, w.test_ratio[None]).items()}
    return Outcome(method, label or method, status, _metrics(w, ratios), exact)


def _by_network(
    w: ContinuousWorld, method: str, samples: ContinuousSamples, rng: np.random.Generator, options: Mapping[str, Any]
) -> tuple[FloatArray, NDArray[np.str_]]:
    """Return the ratios of network policies at the test points, and statuses."""
    groups = (samples.preferred, samples.nonpreferred, samples.reference)
    fit = fit_networks(method, *groups, w.test, w.settings.alpha, w.settings.networks, rng, **options)
    return np.exp(fit.log_ratio), np.where(fit.diverged, "diverged", "ok")


def _by_kernels(
    w: ContinuousWorld, method: str, samples: ContinuousSamples, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.str_]]:
    """Return the ratios of kernel estimates at the test points, and statuses."""
    alpha, ratios, status = w.settings.alpha, [], []
    for preferred, nonpreferred in zip(samples.preferred, samples.nonpreferred, strict=True):
        fit: KernelRatio
        if method == "rulsif":
            fit = fit_rulsif(preferred, nonpreferred, alpha, rng)
        else:
            fit = (fit_ulsif if method == "ulsif" else fit_kliep)(preferred, nonpreferred, rng)
        values = fit(w.test)
        ratio = values if method == "rulsif" else relative_from_direct(values, alpha)
        useless = not (ratio > 0).any()
        ratios.append(np.full_like(ratio, np.nan) if useless else ratio)
        status.append("error" if useless else "ok" if fit.converged else "nonconverged")
    return np.stack(ratios), np.array(status)


def _metrics(w: ContinuousWorld, ratios: FloatArray) -> dict[str, FloatArray]:
    """Return the metrics of ratios (replicates, test points); NaN stays NaN."""
    law = np.maximum(ratios, 0.0)
    law = law / law.mean(axis=1, keepdims=True)
    true = w.test_ratio / w.test_ratio.mean()
    above = ratios > (1.0 + _ROUNDING) / w.settings.alpha
    missing = np.isnan(ratios).any(axis=1)
    return {
        "ratio_error": np.sqrt(np.mean((ratios - w.test_ratio) ** 2, axis=1)),
        "tv_preferred": 0.5 * np.mean(np.abs(law - true), axis=1),
        "share_above_bound": np.where(missing, np.nan, above.mean(axis=1)),
        "max_ratio": ratios.max(axis=1),
    }


def _mixture(w: ContinuousWorld, size: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Draw from ``alpha p+ + (1 - alpha) p-``."""
    preferred = rng.random(size) < w.settings.alpha
    draws = [law.sample(size, rng) for law in (w.preferred, w.nonpreferred)]
    return np.where(preferred[..., None], *draws)
