"""Options of methods: what a user may set, and what it means for one data set and for the population."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sim.sampling import Counts
from theory import FiniteProblem, Generator, class_masses, class_weights
from theory.checks import FloatArray, check_alpha, check_choice
from theory.weighting import Weighting

__all__ = ["MethodOptions", "Setting", "empirical_setting", "population_setting"]

ALPHAS = ("plug_in", "plug_in_by_prompt")
WEIGHTINGS = ("balanced", "pooled", "balanced_by_prompt")
_RATIO_METHODS = ("rdro", "ddro", "mle")


@dataclass(frozen=True)
class MethodOptions:
    """Options of a method; those that another method uses are refused.

    Parameters
    ----------
    alpha : float, array_like or str, optional
        alpha of rdro, ddro and mle: one number or one per prompt in (0, 1), "plug_in" (the share of preferred examples
        in the data set) or "plug_in_by_prompt" (the share at each prompt, one half added to each class); default the
        world's own.
    generator : str or Generator
        Generator of rdro and ddro.
    weighting : {"balanced", "pooled", "balanced_by_prompt"} or pair
        Class weights of rdro, ddro and kto; "balanced_by_prompt" gives the classes equal weights at every prompt.
    beta : float, optional
        Parameter of kto, dpo and ipo, greater than 0; default 0.1.
    beyond_domain : {"infinite", "extend"}
        What ddro's loss is beyond its domain, see `theory.ddro_losses`.
    reference : {"world", "calibrated"}
        The world's reference, or the data set's own mixture ``alpha p_hat+ + (1 - alpha) p_hat-`` of class shares,
        which is the pooled data set's law when alpha is the class share. With it assumption M holds by construction.
    """

    alpha: ArrayLike | str | None = None
    generator: str | Generator = "logistic"
    weighting: Weighting = "balanced"
    beta: float | None = None
    beyond_domain: str = "infinite"
    reference: str = "world"

    def check(self, method: str) -> None:
        """Raise unless the options that `theory.population_target` does not know are valid for a method."""
        if isinstance(self.alpha, str):
            check_choice("alpha", self.alpha, ALPHAS)
            if method not in _RATIO_METHODS:
                raise ValueError(f"alpha is an option of {', '.join(_RATIO_METHODS)}, got it for {method}")
        if isinstance(self.weighting, str):
            check_choice("weighting", self.weighting, WEIGHTINGS)
        if check_choice("beyond_domain", self.beyond_domain, ("infinite", "extend")) == "extend" and method != "ddro":
            raise ValueError(f"beyond_domain is an option of ddro, got it for {method}")
        if check_choice("reference", self.reference, ("world", "calibrated")) == "calibrated" and method == "sft":
            raise ValueError("reference is an option of all methods but sft, got it for sft")


@dataclass(frozen=True, eq=False)
class Setting:
    """What a fit needs beside its loss, for many data sets or for the population (one).

    Attributes
    ----------
    preferred, nonpreferred : ndarray
        Class-weighted masses, shape (sets, prompts, responses): the risk is the sum of mass times loss.
    alpha : ndarray
        Shape (sets, prompts).
    reference : ndarray
        Shape (sets, prompts, responses).
    prompt_shares : ndarray
        Share of each prompt in the data, shape (sets, prompts).
    usable : ndarray of bool
        Whether both classes have examples, shape (sets,).
    """

    preferred: FloatArray
    nonpreferred: FloatArray
    alpha: FloatArray
    reference: FloatArray
    prompt_shares: FloatArray
    usable: FloatArray


def population_setting(
    problem: FiniteProblem, label_fraction: FloatArray, method: str, options: MethodOptions
) -> Setting:
    """Return the setting of the population.

    Parameters
    ----------
    problem : FiniteProblem
        The laws.
    label_fraction : ndarray
        Share of preferred examples at each prompt, shape (prompts,).
    method : str
        Name of the method; mle weighs every example alike.
    options : MethodOptions
        Its options.

    Returns
    -------
    Setting
        With one set.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.5], [0.1, 0.9], alpha=0.5)
    >>> population_setting(problem, problem.alpha, "rdro", MethodOptions(alpha="plug_in")).alpha
    array([[0.5]])
    """
    alpha = _alpha(options, problem, float(problem.prompt_probs @ label_fraction), label_fraction)
    masses = class_masses(problem, population_weighting(method, options, label_fraction), label_fraction)
    share = problem.prompt_probs[:, None]
    reference = problem.reference
    if options.reference == "calibrated":
        reference = alpha[:, None] * problem.p_preferred + (1.0 - alpha[:, None]) * problem.p_nonpreferred
    return Setting(
        (share * masses.preferred)[None],
        (share * masses.nonpreferred)[None],
        alpha[None],
        reference[None],
        problem.prompt_probs[None],
        np.ones(1, dtype=bool),
    )


def population_weighting(method: str, options: MethodOptions, label_fraction: FloatArray) -> Weighting:
    """Return the weighting as `theory.class_masses` knows it."""
    if method == "mle":
        return "pooled"
    if isinstance(options.weighting, str) and options.weighting == "balanced_by_prompt":
        weights = class_weights(label_fraction)
        return weights.preferred, weights.nonpreferred
    return options.weighting


def empirical_setting(problem: FiniteProblem, counts: Counts, method: str, options: MethodOptions) -> Setting:
    """Return the settings of data sets: weights, plug-in alpha and calibrated references from their own counts.

    Parameters
    ----------
    problem : FiniteProblem
        The world's problem, for its alpha and reference.
    counts : Counts
        The data sets.
    method : str
        Name of the method; mle weighs every example alike.
    options : MethodOptions
        Its options.

    Returns
    -------
    Setting
        One set for each data set. Prompts without examples keep the world's reference.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.5], [0.1, 0.9], alpha=0.5)
    >>> counts = Counts(np.array([[[2, 1]]]), np.array([[[0, 9]]]))
    >>> empirical_setting(problem, counts, "rdro", MethodOptions(alpha="plug_in")).alpha
    array([[0.25]])
    """
    by_prompt = counts.preferred.sum(axis=2), counts.nonpreferred.sum(axis=2)
    totals = by_prompt[0].sum(axis=1), by_prompt[1].sum(axis=1)
    usable = (totals[0] > 0) & (totals[1] > 0)
    n = np.maximum(totals[0] + totals[1], 1)
    fraction = np.where(usable, totals[0] / n, 0.5)
    prompt_fraction = (by_prompt[0] + 0.5) / (by_prompt[0] + by_prompt[1] + 1.0)
    alpha = _alpha(options, problem, fraction[:, None], prompt_fraction)
    up, down = _example_weights(method, options, fraction, by_prompt)
    reference = np.broadcast_to(problem.reference, counts.preferred.shape)
    if options.reference == "calibrated":
        reference = _calibrated(counts, by_prompt, alpha, reference)
    return Setting(
        up[:, :, None] * counts.preferred / n[:, None, None],
        down[:, :, None] * counts.nonpreferred / n[:, None, None],
        np.broadcast_to(alpha, by_prompt[0].shape),
        reference,
        (by_prompt[0] + by_prompt[1]) / n[:, None],
        usable,
    )


def _alpha(options: MethodOptions, problem: FiniteProblem, fraction: Any, prompt_fraction: FloatArray) -> FloatArray:
    """Return alpha at each prompt."""
    if isinstance(options.alpha, str):
        chosen = fraction if options.alpha == "plug_in" else prompt_fraction
        return np.broadcast_to(np.asarray(chosen, dtype=np.float64), np.shape(prompt_fraction))
    alpha = problem.alpha if options.alpha is None else check_alpha(options.alpha)
    return np.broadcast_to(alpha, np.shape(prompt_fraction))


def _example_weights(
    method: str, options: MethodOptions, fraction: FloatArray, by_prompt: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Return the weights of single examples of each class, shape (sets, prompts)."""
    shape = by_prompt[0].shape
    weighting = "pooled" if method == "mle" else options.weighting
    if isinstance(weighting, str) and weighting == "balanced_by_prompt":
        # Where a class has no examples its weight is huge and multiplies no count.
        share = by_prompt[0] / np.maximum(by_prompt[0] + by_prompt[1], 1)
        weights = class_weights(np.clip(share, 1e-12, 1.0 - 1e-12))
        return weights.preferred, weights.nonpreferred
    weights = class_weights(fraction[:, None], weighting)
    return np.broadcast_to(weights.preferred, shape), np.broadcast_to(weights.nonpreferred, shape)


def _calibrated(
    counts: Counts, by_prompt: tuple[FloatArray, FloatArray], alpha: FloatArray, fallback: FloatArray
) -> FloatArray:
    """Return the mixtures of class shares; where a class has no examples at a prompt, the other one's shares."""
    plus, minus = (
        c / np.maximum(total, 1)[:, :, None]
        for c, total in zip((counts.preferred, counts.nonpreferred), by_prompt, strict=True)
    )
    weight = np.where(by_prompt[1] == 0, 1.0, np.where(by_prompt[0] == 0, 0.0, alpha))[:, :, None]
    seen = (by_prompt[0] + by_prompt[1] > 0)[:, :, None]
    return np.where(seen, weight * plus + (1.0 - weight) * minus, fallback)
