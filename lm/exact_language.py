"""Languages whose every probability is known: what a language model learns can then be told from what it should learn.

A completion is a row of `longest` tokens, each a symbol from 0 to ``symbols - 1`` or the end token, which is numbered
`symbols` and repeats once it has come. A completion of the longest length has no end token. Prompts are spelled in the
same tokens, so that a network over ``symbols + 1`` tokens is a law on exactly these completions.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lm.examples import ExampleSet
from theory import FiniteProblem
from theory.checks import check_alpha

__all__ = ["LabelledSample", "MarkovLanguage", "PreferenceLanguage", "random_language"]

_ENUMERABLE = 20_000


@dataclass(frozen=True, eq=False)
class MarkovLanguage:
    """A first-order Markov chain over symbols for every prompt, up to a longest length.

    Attributes
    ----------
    log_transitions : ndarray
        ``log p(next | prompt, state)`` in nats, shape (prompts, symbols + 2, symbols + 1). States are the last symbol,
        the end token (which repeats for sure) and, last, the start; outcomes are the symbols and the end token.
    longest : int
        Longest completion in tokens, at least 1.

    Raises
    ------
    ValueError
        If shapes do not fit, a row does not sum to 1, or the end token does not repeat.

    Examples
    --------
    >>> row = np.log([0.25, 0.25, 0.5])
    >>> chain = np.array([[row, row, [-np.inf, -np.inf, 0.0], row]])
    >>> language = MarkovLanguage(chain, longest=2)
    >>> np.exp(language.log_probs([0, 0], [[0, 1], [1, 2]]))
    array([0.0625, 0.125 ])
    """

    log_transitions: NDArray[np.float64]
    longest: int

    def __post_init__(self) -> None:
        """Check the chains."""
        shape = self.log_transitions.shape
        if len(shape) != 3 or shape[1] != shape[2] + 1 or shape[2] < 2:
            raise ValueError(f"log_transitions must have shape (prompts, symbols + 2, symbols + 1), got {shape}")
        if self.longest < 1:
            raise ValueError(f"longest must be at least 1, got {self.longest}")
        totals = np.exp(self.log_transitions).sum(axis=2)
        if not np.allclose(totals, 1.0, rtol=0.0, atol=1e-9):
            raise ValueError(f"transitions must sum to 1, got {totals.flat[np.abs(totals - 1.0).argmax()]:.6g}")
        if (self.log_transitions[:, self.end, self.end] != 0.0).any():
            raise ValueError("the end token must repeat for sure")

    @property
    def prompts(self) -> int:
        """Return the number of prompts."""
        return int(self.log_transitions.shape[0])

    @property
    def symbols(self) -> int:
        """Return the number of symbols."""
        return int(self.log_transitions.shape[2]) - 1

    @property
    def end(self) -> int:
        """Return the end token."""
        return self.symbols

    def log_conditionals(self, prompts: ArrayLike, completions: ArrayLike) -> NDArray[np.float64]:
        """Return ``log p(. | prompt, tokens before)`` at every position, shape (sequences, longest, symbols + 1)."""
        tokens = np.asarray(completions)
        start = np.full((len(tokens), 1), self.symbols + 1)
        states = np.concatenate([start, tokens[:, :-1]], axis=1)
        return np.asarray(self.log_transitions[np.asarray(prompts)[:, None], states])

    def log_probs(self, prompts: ArrayLike, completions: ArrayLike) -> NDArray[np.float64]:
        """Return the log-probability of completions in nats, shape (sequences,).

        Parameters
        ----------
        prompts : array_like of int
            Shape (sequences,).
        completions : array_like of int
            Shape (sequences, longest), in the form of the module.
        """
        steps = self.log_conditionals(prompts, completions)
        return np.asarray(np.take_along_axis(steps, np.asarray(completions)[:, :, None], axis=2)[:, :, 0].sum(axis=1))

    def sample(self, prompts: ArrayLike, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw one completion for each prompt, shape (sequences, longest)."""
        where = np.asarray(prompts)
        cumulative = np.exp(self.log_transitions[:, :, :-1]).cumsum(axis=2)  # the end token has what is left
        states = np.full(len(where), self.symbols + 1)
        tokens = np.empty((len(where), self.longest), dtype=np.int64)
        for t in range(self.longest):
            states = (rng.random((len(where), 1)) >= cumulative[where, states]).sum(axis=1)
            tokens[:, t] = states
        return tokens


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """Labelled completions.

    Attributes
    ----------
    prompts : ndarray of int
        Shape (examples,).
    completions : ndarray of int
        Shape (examples, longest).
    preferred : ndarray of bool
        Shape (examples,).
    """

    prompts: NDArray[np.int64]
    completions: NDArray[np.int64]
    preferred: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PreferenceLanguage:
    """A preferred and a non-preferred Markov language over the same completions, and how often labels are positive.

    Prompts are uniform. A reference under assumption M is ``m = alpha p+ + (1 - alpha) p-`` for each prompt.

    Attributes
    ----------
    preferred, nonpreferred : MarkovLanguage
        p+ and p-.
    alpha : ndarray
        Weight of p+ in the mixture m at each prompt, in (0, 1), shape (prompts,).
    preferred_fraction : ndarray
        Chance of a positive label at each prompt, in (0, 1), shape (prompts,).

    Examples
    --------
    >>> language = random_language(np.random.default_rng(0), prompts=2, symbols=3, longest=2, alpha=0.2)
    >>> everything = language.completions()
    >>> everything.shape, np.exp(language.log_mixture(np.zeros(13, dtype=int), everything)).sum().round(12)
    ((13, 2), np.float64(1.0))
    """

    preferred: MarkovLanguage
    nonpreferred: MarkovLanguage
    alpha: NDArray[np.float64]
    preferred_fraction: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check that the languages fit."""
        shapes = [(*chain.log_transitions.shape, chain.longest) for chain in (self.preferred, self.nonpreferred)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"p+ and p- must have the same prompts, symbols and longest length, got {shapes}")
        for name in ("alpha", "preferred_fraction"):
            if check_alpha(getattr(self, name), name).shape != (self.preferred.prompts,):
                raise ValueError(f"{name} must have one value for each of {self.preferred.prompts} prompts")

    @property
    def prompts(self) -> int:
        """Return the number of prompts."""
        return self.preferred.prompts

    @property
    def symbols(self) -> int:
        """Return the number of symbols."""
        return self.preferred.symbols

    @property
    def end(self) -> int:
        """Return the end token."""
        return self.preferred.end

    @property
    def longest(self) -> int:
        """Return the longest length."""
        return self.preferred.longest

    def log_mixture(self, prompts: ArrayLike, completions: ArrayLike) -> NDArray[np.float64]:
        """Return ``log m`` of completions in nats, shape (sequences,)."""
        weight = self.alpha[np.asarray(prompts)]
        first = np.log(weight) + self.preferred.log_probs(prompts, completions)
        return np.asarray(np.logaddexp(first, np.log1p(-weight) + self.nonpreferred.log_probs(prompts, completions)))

    def log_mixture_conditionals(self, prompts: ArrayLike, completions: ArrayLike) -> NDArray[np.float64]:
        """Return ``log m(. | prompt, tokens before)`` at every position, shape (sequences, longest, symbols + 1).

        The mixture of whole completions is no Markov chain: what came before tells which of the two languages speaks.
        """
        weight = self.alpha[np.asarray(prompts)][:, None]
        tokens = np.asarray(completions)[:, :, None]
        parts = []
        for log_weight, chain in ((np.log(weight), self.preferred), (np.log1p(-weight), self.nonpreferred)):
            steps = chain.log_conditionals(prompts, completions)
            so_far = np.take_along_axis(steps, tokens, axis=2)[:, :-1, 0].cumsum(axis=1)
            parts.append((np.concatenate([log_weight, log_weight + so_far], axis=1)[:, :, None], steps))
        (first, steps_of_first), (second, steps_of_second) = parts
        joint = np.logaddexp(first + steps_of_first, second + steps_of_second)
        return np.asarray(joint - np.logaddexp(first, second))

    def sample_mixture(self, n: int, rng: np.random.Generator) -> LabelledSample:
        """Draw n completions from the mixture m; their labels tell which language spoke."""
        return self._sample(n, self.alpha, rng)

    def sample(self, n: int, rng: np.random.Generator) -> LabelledSample:
        """Draw n labelled examples: a prompt, a label of its preferred fraction, a completion of that class."""
        return self._sample(n, self.preferred_fraction, rng)

    def sample_pairs(self, n: int, rng: np.random.Generator) -> LabelledSample:
        """Draw n pairs, each a preferred and then a non-preferred completion of one prompt."""
        prompts = np.repeat(rng.integers(self.prompts, size=n), 2)
        preferred = np.arange(2 * n) % 2 == 0
        return LabelledSample(prompts, self._speak(prompts, preferred, rng), preferred)

    def completions(self) -> NDArray[np.int64]:
        """Return all completions, shape (completions, longest): the shortest first, then in order.

        Raises
        ------
        ValueError
            If there are more than 20,000.
        """
        total = sum(self.symbols**length for length in range(self.longest + 1))
        if total > _ENUMERABLE:
            raise ValueError(f"completions must be at most {_ENUMERABLE:,} to be enumerated, got {total:,}")
        rows = [
            (*word, *[self.end] * (self.longest - length))
            for length in range(self.longest + 1)
            for word in product(range(self.symbols), repeat=length)
        ]
        return np.array(rows, dtype=np.int64)

    def tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return p+ and p- of all completions, each of shape (prompts, completions)."""
        everything = self.completions()
        first, second = (
            np.stack([np.exp(chain.log_probs(np.full(len(everything), x), everything)) for x in range(self.prompts)])
            for chain in (self.preferred, self.nonpreferred)
        )
        return first, second

    def problem(self, reference: ArrayLike | None = None) -> FiniteProblem:
        """Return prompts and all completions as a finite problem.

        Parameters
        ----------
        reference : array_like, optional
            Reference policy, shape (prompts, completions); default the mixture.
        """
        return FiniteProblem(*self.tables(), reference, alpha=self.alpha)

    def prompt_ids(self, prompt: int) -> NDArray[np.int32]:
        """Return the tokens that stand for a prompt: the end token, then its number spelled in symbols.

        Without a token that differs from all symbols in front, a network with rotary positions gives "0" and "0 0" the
        same continuation: attention to equal tokens is blind to their number.
        """
        digits = 1
        while self.symbols**digits < self.prompts:
            digits += 1
        word = [prompt // self.symbols**place % self.symbols for place in reversed(range(digits))]
        return np.array([self.end, *word], dtype=np.int32)

    def completion_ids(self, completions: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """Return the tokens of completions, each up to and with its first end token."""
        lengths = np.minimum((completions != self.end).sum(axis=1) + 1, self.longest)
        return [row[:length].astype(np.int32) for row, length in zip(completions, lengths, strict=True)]

    def examples(self, sample: LabelledSample, *, width: int = 1) -> ExampleSet:
        """Return a sample as tokens; of width 2 every two sequences are one example, as `sample_pairs` draws them."""
        spelled = [self.prompt_ids(x) for x in range(self.prompts)]
        return ExampleSet(
            [spelled[x] for x in sample.prompts],
            self.completion_ids(sample.completions),
            sample.preferred,
            np.arange(len(sample.prompts)) // width,
            width,
        )

    def _sample(self, n: int, rates: NDArray[np.float64], rng: np.random.Generator) -> LabelledSample:
        """Draw labelled completions, with chances of a positive label by prompt."""
        prompts = rng.integers(self.prompts, size=n)
        preferred = rng.random(n) < rates[prompts]
        return LabelledSample(prompts, self._speak(prompts, preferred, rng), preferred)

    def _speak(
        self, prompts: NDArray[np.int64], preferred: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw a completion of each prompt from the language of its class."""
        first, second = self.preferred.sample(prompts, rng), self.nonpreferred.sample(prompts, rng)
        return np.where(preferred[:, None], first, second)


def random_language(
    rng: np.random.Generator,
    *,
    prompts: int = 5,
    symbols: int = 5,
    longest: int = 3,
    separation: float = 1.0,
    spread: float = 1.0,
    prompt_share: float = 0.5,
    alpha: ArrayLike = 0.5,
    preferred_fraction: ArrayLike | None = None,
) -> PreferenceLanguage:
    """Draw a pair of languages whose logits differ by a random field of a given size.

    ``p± = softmax(base ± separation/2 · field)`` for every prompt and state, with standard normal fields.

    Parameters
    ----------
    rng : Generator
        Source of the languages.
    prompts, symbols, longest : int
        Sizes: at least 1, 2 and 1.
    separation : float
        Root mean square difference of the logits of p+ and p- in nats, at least 0; the larger, the less the languages
        overlap. Whole completions differ by about ``separation * sqrt(length)`` nats.
    spread : float
        Standard deviation of the base logits, at least 0.
    prompt_share : float
        Share of the variance of both fields that is the prompt's own, in [0, 1].
    alpha, preferred_fraction : float or array_like
        See `PreferenceLanguage`; the fraction is alpha by default.

    Returns
    -------
    PreferenceLanguage
        The languages.

    Raises
    ------
    ValueError
        If a size is out of its range.

    Examples
    --------
    >>> random_language(np.random.default_rng(0), symbols=6, longest=4).completions().shape
    (1555, 4)
    """
    for name, value, lowest in (("prompts", prompts, 1), ("symbols", symbols, 2), ("longest", longest, 1)):
        if value < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")
    for name, size in (("separation", separation), ("spread", spread)):
        if not 0.0 <= size < np.inf:
            raise ValueError(f"{name} must be finite and not negative, got {size}")
    if not 0.0 <= prompt_share <= 1.0:
        raise ValueError(f"prompt_share must lie in [0, 1], got {prompt_share}")

    def field() -> NDArray[np.float64]:
        shared = rng.standard_normal((1, symbols + 2, symbols + 1))
        own = rng.standard_normal((prompts, symbols + 2, symbols + 1))
        return np.asarray(np.sqrt(1.0 - prompt_share) * shared + np.sqrt(prompt_share) * own)

    base, difference = spread * field(), 0.5 * separation * field()
    chains = []
    for logits in (base + difference, base - difference):
        chain = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
        chain[:, symbols] = np.where(np.arange(symbols + 1) == symbols, 0.0, -np.inf)  # the end token repeats
        chains.append(MarkovLanguage(chain, longest))
    weight = np.array(np.broadcast_to(np.asarray(alpha, dtype=np.float64), prompts))
    labels = weight if preferred_fraction is None else preferred_fraction
    fraction = np.array(np.broadcast_to(np.asarray(labels, dtype=np.float64), prompts))
    return PreferenceLanguage(chains[0], chains[1], weight, fraction)
