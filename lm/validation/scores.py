"""How far a network is from the exact laws: without any Monte-Carlo error where all completions can be listed."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lm.exact_language import PreferenceLanguage
from lm.validation.experiments import Method
from lm.validation.networks import alive, log_conditionals, log_prob_table
from lm.validation.outcome import Score
from theory import FiniteProblem, NoTargetError, class_weights, population_target

__all__ = ["EnumeratedScorer", "SampledScorer", "exact_target", "scorer_of", "true_alpha"]

_ENUMERATED = 2_000  # completions per prompt up to which everything is exact
_SAMPLES = 400
_ROWS = 200  # sequences evaluated at once


class EnumeratedScorer:
    """Exact distances of networks over a language whose completions can be listed.

    Parameters
    ----------
    language : PreferenceLanguage
        The language.
    target : ndarray, optional
        The method's exact target, shape (prompts, completions); None where it has none.
    """

    def __init__(self, language: PreferenceLanguage, target: NDArray[np.float64] | None = None) -> None:
        """Compute the laws."""
        self._language = language
        self._target = target
        self._preferred, _ = language.tables()

    def preferred(self, model: PreTrainedModel) -> dict[str, Score]:
        """Return the distances from p+ and from the method's target, means over prompts."""
        log_policy = log_prob_table(model, self._language)
        target, laws = self._target, {"preferred": self._preferred}
        at_target = dict.fromkeys(("kl_preferred", "tv_preferred"), float("nan"))
        if target is not None:
            laws["target"] = target
            with np.errstate(divide="ignore"):
                at_target = {
                    "kl_preferred": _kl(self._preferred, np.log(target)),
                    "tv_preferred": _tv(self._preferred, target),
                    "kl_target": 0.0,
                    "tv_target": 0.0,
                }
        scores = {}
        for name, law in laws.items():
            scores[f"kl_{name}"] = Score(_kl(law, log_policy), 0.0, at_target[f"kl_{name}"])
            scores[f"tv_{name}"] = Score(_tv(law, np.exp(log_policy)), 0.0, at_target[f"tv_{name}"])
        return scores

    def mixture(self, model: PreTrainedModel) -> Score:
        """Return KL(m || policy), the reference's own error."""
        return Score(_kl(self._language.problem().mixture, log_prob_table(model, self._language)))


class SampledScorer:
    """Rao-Blackwellised distances of networks over a language too large to list.

    ``KL(p || policy) = E_{y ~ p} sum_t KL(p(. | y_<t) || policy(. | y_<t))``: the tokens before are drawn, the law of
    the next is exact. All networks are judged on the same draws.

    Parameters
    ----------
    language : PreferenceLanguage
        The language.
    rng : Generator
        Source of the draws.
    samples : int
        Number of draws, at least 2.
    """

    def __init__(self, language: PreferenceLanguage, rng: np.random.Generator, samples: int = _SAMPLES) -> None:
        """Draw."""
        self._language = language
        prompts = np.arange(samples) % language.prompts
        completions = language.preferred.sample(prompts, rng)
        self._of_preferred = (prompts, completions, language.preferred.log_conditionals(prompts, completions))
        mixed = language.sample_mixture(samples, rng)
        steps = language.log_mixture_conditionals(mixed.prompts, mixed.completions)
        self._of_mixture = (mixed.prompts, mixed.completions, steps)

    def preferred(self, model: PreTrainedModel) -> dict[str, Score]:
        """Return KL(p+ || policy)."""
        return {"kl_preferred": self._kl(model, *self._of_preferred)}

    def mixture(self, model: PreTrainedModel) -> Score:
        """Return KL(m || policy), the reference's own error."""
        return self._kl(model, *self._of_mixture)

    def _kl(
        self,
        model: PreTrainedModel,
        prompts: NDArray[np.int64],
        completions: NDArray[np.int64],
        law: NDArray[np.float64],
    ) -> Score:
        """Return the mean over sequences of the sum of conditional divergences, with its standard error."""
        totals = []
        for start in range(0, len(prompts), _ROWS):
            part = slice(start, start + _ROWS)
            log_policy = log_conditionals(model, self._language, prompts[part], completions[part]).numpy()
            with np.errstate(invalid="ignore"):
                gaps = np.exp(law[part]) * (law[part] - log_policy.astype(np.float64))
            gaps = np.where(np.isneginf(law[part]), 0.0, gaps)
            totals.append((gaps.sum(axis=2) * alive(completions[part], self._language.end)).sum(axis=1))
        sums = np.concatenate(totals)
        return Score(float(sums.mean()), float(sums.std(ddof=1) / np.sqrt(len(sums))))


def scorer_of(
    language: PreferenceLanguage, rng: np.random.Generator, target: NDArray[np.float64] | None = None
) -> EnumeratedScorer | SampledScorer:
    """Return the exact scorer where all completions can be listed, and otherwise the sampled one."""
    return EnumeratedScorer(language, target) if is_enumerable(language) else SampledScorer(language, rng)


def is_enumerable(language: PreferenceLanguage) -> bool:
    """Return whether a language's completions are few enough to be listed."""
    return sum(language.symbols**length for length in range(language.longest + 1)) <= _ENUMERATED


def true_alpha(language: PreferenceLanguage) -> float | NDArray[np.float64]:
    """Return the language's alpha: one number where it is the same for all prompts, otherwise one a prompt."""
    return float(language.alpha[0]) if (language.alpha == language.alpha[0]).all() else language.alpha


def exact_target(
    language: PreferenceLanguage, method: Method, log_reference: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Policy that minimises a method's exact population risk with a given reference.

    Parameters
    ----------
    language : PreferenceLanguage
        A language whose completions can be listed.
    method : Method
        Method and options.
    log_reference : ndarray
        Log-probabilities of the reference, shape (prompts, completions).

    Returns
    -------
    ndarray or None
        Shape (prompts, completions); None where no unique target is known: ddro beyond its domain, and what
        `theory.population_target` cannot certify.
    """
    if method.options.get("beyond_domain", "infinite") != "infinite":
        return None
    reference = np.exp(log_reference)
    problem = FiniteProblem(*language.tables(), reference / reference.sum(axis=1, keepdims=True), alpha=language.alpha)
    options = {name: value for name, value in method.options.items() if name in ("generator", "beta")}
    if method.method in ("rdro", "ddro", "mle"):
        options["alpha"] = _alpha_of(language, method.options.get("alpha", "true"))
    if method.options.get("weighting", "balanced") == "balanced_by_prompt":
        weights = class_weights(language.preferred_fraction)
        options["weighting"] = (weights.preferred, weights.nonpreferred)
    elif "weighting" in method.options:
        options["weighting"] = method.options["weighting"]
    try:
        return population_target(problem, method.method, preferred_fraction=language.preferred_fraction, **options)
    except NoTargetError:
        return None


def _alpha_of(language: PreferenceLanguage, told: float | str) -> float | NDArray[np.float64]:
    """Return the alpha that a method ends up with in the limit of much data."""
    rules: Mapping[str, float | NDArray[np.float64]] = {
        "true": true_alpha(language),
        "auto": float(language.preferred_fraction.mean()),
        "auto_by_prompt": language.preferred_fraction,
    }
    return rules[told] if isinstance(told, str) else told


def _kl(law: NDArray[np.float64], log_policy: NDArray[np.float64]) -> float:
    """Return the mean over prompts of KL(law || policy), with 0 log 0 = 0."""
    used = law > 0
    gaps = np.where(used, np.log(np.where(used, law, 1.0)) - np.where(used, log_policy, 0.0), 0.0)
    return float((law * gaps).sum(axis=1).mean())


def _tv(law: NDArray[np.float64], policy: NDArray[np.float64]) -> float:
    """Return the mean over prompts of the total variation."""
    return float(0.5 * np.abs(law - policy).sum(axis=1).mean())
