"""Languages whose every probability is known."""

import numpy as np
import pytest

from lm.exact_language import MarkovLanguage, PreferenceLanguage, random_language
from theory import kl_divergence, population_target, relative_ratio

# Sums of up to 1,555 products of four probabilities in float64.
_ROUNDING = 1e-12


def _language(seed: int = 0, **settings: object) -> PreferenceLanguage:
    return random_language(np.random.default_rng(seed), **settings)


def _all(language: PreferenceLanguage) -> tuple[np.ndarray, np.ndarray]:
    """Every completion after every prompt."""
    everything = language.completions()
    prompts = np.repeat(np.arange(language.prompts), len(everything))
    return prompts, np.tile(everything, (language.prompts, 1))


def test_probabilities_of_all_completions_sum_to_one():
    language = _language(symbols=6, longest=4, prompts=3, alpha=[0.2, 0.5, 0.9])
    prompts, everything = _all(language)
    assert len(everything) == 3 * 1555
    for log_probs in (
        language.preferred.log_probs(prompts, everything),
        language.nonpreferred.log_probs(prompts, everything),
        language.log_mixture(prompts, everything),
    ):
        np.testing.assert_allclose(np.exp(log_probs).reshape(3, -1).sum(axis=1), 1.0, rtol=0, atol=_ROUNDING)


def test_completions_are_all_different_and_of_the_documented_form():
    language = _language(symbols=3, longest=3)
    everything = language.completions()
    assert len(np.unique(everything, axis=0)) == len(everything) == 1 + 3 + 9 + 27
    ended = everything == language.end
    assert (ended[:, 1:] >= ended[:, :-1]).all()  # the end token repeats


def test_log_probability_is_the_product_of_transitions():
    language = _language(symbols=4, longest=5)
    chain = np.exp(language.preferred.log_transitions[2])
    start, end = 5, 4
    by_hand = chain[start, 1] * chain[1, 3] * chain[3, end]
    assert np.exp(language.preferred.log_probs([2], [[1, 3, end, end, end]]))[0] == pytest.approx(by_hand, rel=1e-12)
    whole = chain[start, 0] * chain[0, 0] * chain[0, 2] * chain[2, 1] * chain[1, 3]  # the longest has no end token
    assert np.exp(language.preferred.log_probs([2], [[0, 0, 2, 1, 3]]))[0] == pytest.approx(whole, rel=1e-12)


def test_conditionals_of_the_mixture_multiply_to_the_mixture():
    language = _language(1, symbols=4, longest=4, alpha=0.3, separation=2.0)
    prompts, everything = _all(language)
    conditionals = language.log_mixture_conditionals(prompts, everything)
    steps = np.take_along_axis(conditionals, everything[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(steps.sum(axis=1), language.log_mixture(prompts, everything), rtol=0, atol=_ROUNDING)
    np.testing.assert_allclose(np.exp(conditionals).sum(axis=2), 1.0, rtol=0, atol=_ROUNDING)


@pytest.mark.parametrize("which", ["preferred", "nonpreferred", "mixture"])
def test_frequencies_of_samples_are_the_probabilities(which):
    language = _language(2, prompts=2, symbols=3, longest=2, alpha=[0.2, 0.7])
    draws, rng = 200_000, np.random.default_rng(3)
    if which == "mixture":
        sample = language.sample_mixture(draws, rng)
        prompts, completions = sample.prompts, sample.completions
    else:
        prompts = rng.integers(2, size=draws)
        completions = getattr(language, which).sample(prompts, rng)
    everything = language.completions()
    for prompt in range(2):
        rows = completions[prompts == prompt]
        counts = (rows[:, None, :] == everything).all(axis=2).sum(axis=0)
        where = np.full(len(everything), prompt)
        exact = np.exp(
            language.log_mixture(where, everything)
            if which == "mixture"
            else getattr(language, which).log_probs(where, everything)
        )
        error = np.sqrt(exact * (1.0 - exact) / len(rows))
        assert counts.sum() == len(rows)
        # 13 completions, 2 prompts, 3 laws: 4 standard errors are exceeded by chance once in 200 seeds.
        assert (np.abs(counts / len(rows) - exact) <= 4.0 * error).all()


def test_labels_have_their_rates_at_each_prompt_and_choose_the_language():
    language = _language(prompts=3, alpha=0.5, preferred_fraction=[0.1, 0.5, 0.8], separation=8.0)
    sample = language.sample(60_000, np.random.default_rng(0))
    for prompt, rate in enumerate((0.1, 0.5, 0.8)):
        labels = sample.preferred[sample.prompts == prompt]
        assert abs(labels.mean() - rate) <= 4.0 * np.sqrt(rate * (1.0 - rate) / len(labels))
    evidence = language.preferred.log_probs(sample.prompts, sample.completions) - language.nonpreferred.log_probs(
        sample.prompts, sample.completions
    )
    assert evidence[sample.preferred].mean() > 2.0 > -2.0 > evidence[~sample.preferred].mean()


def test_the_finite_problem_has_the_exact_targets():
    language = _language(prompts=2, symbols=3, longest=2, alpha=[0.2, 0.6])
    problem = language.problem()
    preferred, nonpreferred = language.tables()
    assert problem.assumption_m_holds
    np.testing.assert_allclose(problem.p_preferred, preferred, rtol=0, atol=_ROUNDING)
    ratio = relative_ratio(preferred, nonpreferred, np.broadcast_to(language.alpha[:, None], preferred.shape))
    np.testing.assert_allclose(problem.relative_ratio, ratio, rtol=1e-12)
    flat = _language(prompts=2, symbols=3, longest=2, alpha=0.2).problem()
    np.testing.assert_allclose(population_target(flat, "rdro"), flat.p_preferred, rtol=0, atol=1e-9)
    pooled = population_target(flat, "rdro", weighting="pooled")
    assert kl_divergence(flat.p_preferred, pooled).min() > 0.01


def test_separation_sets_the_overlap():
    same = _language(separation=0.0)
    assert (same.preferred.log_transitions == same.nonpreferred.log_transitions).all()
    distances = [kl_divergence(*_language(separation=size).tables()).mean() for size in (0.5, 1.0, 2.0)]
    assert distances[0] < distances[1] < distances[2]


def test_tokens_spell_prompts_apart_and_end_once():
    language = _language(prompts=10, symbols=3, longest=4)
    spelled = {tuple(language.prompt_ids(x)) for x in range(10)}
    assert len(spelled) == 10 and {(len(word), word[0]) for word in spelled} == {(4, language.end)}
    sample = language.sample(200, np.random.default_rng(0))
    examples = language.examples(sample)
    assert len(examples) == 200 and (examples.preferred == sample.preferred).all()
    for tokens, row in zip(examples.completion_ids, sample.completions, strict=True):
        assert 1 <= len(tokens) <= 4 and (tokens == row[: len(tokens)]).all()
        assert (tokens == language.end).sum() == (len(tokens) < 4 or tokens[-1] == language.end)


def test_sampling_depends_on_the_generator_alone():
    language = _language(symbols=24, longest=32)
    first, second = (language.sample(50, np.random.default_rng(5)) for _ in range(2))
    assert (first.completions == second.completions).all() and (first.preferred == second.preferred).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"symbols": 1}, "symbols must be at least 2, got 1"),
        ({"longest": 0}, "longest must be at least 1, got 0"),
        ({"separation": -1.0}, "separation must be finite and not negative"),
        ({"prompt_share": 1.5}, r"prompt_share must lie in \[0, 1\], got 1.5"),
        ({"alpha": 1.0}, "alpha must lie strictly between 0 and 1"),
        ({"preferred_fraction": 0.0}, "preferred_fraction must lie strictly between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        _language(**settings)


def test_languages_too_large_are_not_enumerated():
    with pytest.raises(ValueError, match="at most 20,000 to be enumerated"):
        _language(symbols=24, longest=32).completions()


def test_chains_that_are_no_laws_are_refused():
    good = _language().preferred.log_transitions
    with pytest.raises(ValueError, match="must sum to 1"):
        MarkovLanguage(good + 0.1 * (np.arange(7) != 5)[None, :, None], 3)
    with pytest.raises(ValueError, match="the end token must repeat"):
        MarkovLanguage(np.full((1, 4, 3), -np.log(3.0)), 3)
    with pytest.raises(ValueError, match="log_transitions must have shape"):
        MarkovLanguage(np.zeros((2, 3, 3)), 3)
    one, other = _language().preferred, _language(longest=2).nonpreferred
    with pytest.raises(ValueError, match="same prompts, symbols and longest"):
        PreferenceLanguage(one, other, np.full(5, 0.5), np.full(5, 0.5))
