"""The additive-difference model: responses are compared attribute by attribute, and the differences are added up."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import (
    check_absent,
    check_exactly_one,
    check_given,
    check_integer,
    check_random_size,
    check_rng,
)
from sim.preferences.base import PairwisePreference
from sim.preferences.bradley_terry import unit_rms
from theory.bradley_terry_fit import score_differences
from theory.checks import FloatArray, check_choice, check_nonnegative, check_positive

# Odd functions of a difference d in an attribute: how much it counts.
DIFFERENCE_FUNCTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "linear": lambda d: d,
    "sign": np.sign,  # any difference counts the same
    "saturating": np.tanh,  # large differences hardly count more
    "convex": lambda d: d * np.abs(d),  # large differences count more than in proportion
    "threshold": lambda d: np.where(np.abs(d) > 1.0, d, 0.0),  # differences up to 1 go unnoticed
}


def additive_difference(
    responses: int | None = None,
    prompts: int = 1,
    *,
    functions: str | Sequence[str],
    values: ArrayLike | None = None,
    signal: float | None = None,
    attributes: int | None = None,
    weights: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> PairwisePreference:
    """Build the preferences ``P_ij = sigma(sum_f w_f g_f(x_f(i) - x_f(j)))`` of attributes x with odd functions g.

    The functions g(d) are: linear, d; sign, sgn(d); saturating, tanh(d); convex, d abs(d); threshold, d if abs(d) > 1
    and else 0 (a smaller difference goes unnoticed).

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random attributes, read off `values` otherwise.
    prompts : int, default 1
        Number of prompts of the random attributes, each with attributes of its own.
    functions : str or sequence of str
        The g_f, by their names above: one for all attributes, or one an attribute.
    values : array_like, shape (prompts, K, F) or (K, F), optional
        The attributes x_f of each response. Exactly one of `values` and `signal` must be given.
    signal : float, optional
        Root mean square logit > 0 over the pairs i != j, in nats; the attributes are standard normal, and all weights
        are rescaled.
    attributes : int, optional
        Number F >= 1 of random attributes; read off `values` otherwise.
    weights : array_like, shape (F,), optional
        Weights w_f >= 0 of the attributes in nats; 1 by default.
    rng : numpy.random.Generator, optional
        Source of the random attributes.

    Returns
    -------
    PairwisePreference
        With probabilities of shape (prompts, K, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `values` and `signal` is given, a function is unknown (the nearest is named), the numbers
        of functions, weights and attributes disagree, or an argument is out of range or of the wrong type.

    Notes
    -----
    With linear functions this is Bradley-Terry, with scores ``sum_f w_f x_f``. A threshold makes preferences
    intransitive: small differences in one attribute go unnoticed and leave the choice to another one, while they add
    up to a large one along a chain. With two attributes of equal weight and the same increasing function,
    preferences are weakly transitive whatever the function, since ``g(a) + g(b) > 0`` just if ``a + b > 0``: cycles
    take different functions, different weights or a third attribute.

    References
    ----------
    .. [1] After A. Tversky, "Intransitivity of preferences", Psychological Review 76, 1969 (additive differences; there
       the sum decides without chance). The choice of functions and the remark on two attributes: derived here.

    Examples
    --------
    Each response is a little better than the next in the second attribute, but the last is clearly better in the first.

    >>> values = [[0.0, 2.0], [0.6, 1.0], [1.2, 0.0]]
    >>> additive_difference(functions=["threshold", "linear"], weights=[2.0, 1.0], values=values).probabilities.round(2)
    array([[[0.5 , 0.73, 0.4 ],
            [0.27, 0.5 , 0.73],
            [0.6 , 0.27, 0.5 ]]])
    """
    check_exactly_one(values=values, signal=signal)
    if values is not None:
        check_absent("must only be given together with signal", attributes=attributes)
        return PairwisePreference(
            "additive_difference",
            expit(_logits(check_given("values", values, "K, F", responses, prompts), functions, weights)),
        )
    if attributes is None:
        raise ValueError("attributes must be given for random values, got None")
    shape = check_random_size("values", responses, prompts)
    drawn = check_rng(rng).standard_normal((*shape, check_integer("attributes", attributes, 1)))
    logits = check_positive(signal, "signal") * unit_rms(_logits(drawn, functions, weights))
    return PairwisePreference("additive_difference", expit(logits))


def _logits(values: FloatArray, functions: str | Sequence[str], weights: ArrayLike | None) -> FloatArray:
    """Return the sums over attributes, (prompts, K, K), of values (prompts, K, F)."""
    if not isinstance(functions, Sequence):
        raise TypeError(f"functions must be a name or a sequence of names, got {functions!r}")
    number = values.shape[-1]
    names = [functions] * number if isinstance(functions, str) else list(functions)
    scales = np.ones(number) if weights is None else check_nonnegative("weights", weights)
    for option, count in (("functions", (len(names),)), ("weights", scales.shape)):
        if count != (number,):
            raise ValueError(f"{option} must have one entry for each of the {number} attributes, got shape {count}")
    chosen = [DIFFERENCE_FUNCTIONS[check_choice("functions", name, DIFFERENCE_FUNCTIONS)] for name in names]
    differences = score_differences(np.moveaxis(values, -1, 0))
    return np.sum([w * g(d) for w, g, d in zip(scales, chosen, differences, strict=True)], axis=0)
