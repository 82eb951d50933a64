"""From log-ratios of a batch to losses (all in `theory`), and from a data set to the columns that the losses need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lm.examples import ExampleSet
from lm.method import RATIO_METHODS, Method, resolve_method
from lm.settings import MethodConfig
from theory import class_weights, ddro_losses, dpo_losses, ipo_losses, kto_losses, mle_losses, rdro_losses, sft_losses
from theory.checks import FloatArray, check_alpha, check_nonnegative

__all__ = ["Objective", "Resolved", "mismatched_examples", "prepare_examples"]

_FAR_FROM_SHARE = 0.15
_EDGE = 1e-12  # stands for a class share of 0 at a prompt, where the other class's weight multiplies no example


@dataclass(frozen=True)
class Objective:
    """Losses of a batch of examples.

    Parameters
    ----------
    method : Method
        The method and its options.
    alpha : float, optional
        The one alpha of all examples; None where each has its own (batch["alpha"]) or the method has none.
    """

    method: Method
    alpha: float | None = None

    def losses(self, log_ratios: Any, batch: Mapping[str, Any], reference_point: Any = None) -> Any:
        """Losses without weights, one per example.

        Parameters
        ----------
        log_ratios : array
            Log-ratios of policy to reference in nats, shape (sequences,); NumPy or torch. For sft without a reference
            log-probabilities of the policy, which differ by a constant.
        batch : mapping of str to array
            "preferred", shape (sequences,), bool; "alpha", same shape, where `alpha` is None.
        reference_point : float or 0-d array, optional
            KL divergence of kto's loss in nats; default `reference_point` of this very batch.

        Returns
        -------
        array
            Shape (examples,): sequences, or pairs of them for dpo, ipo and kto.

        Examples
        --------
        >>> from lm.method import resolve_method
        >>> from lm.settings import MethodConfig
        >>> objective = Objective(resolve_method(MethodConfig("rdro")), alpha=0.25)
        >>> objective.losses(np.zeros(2), {"preferred": np.array([True, False])}) / np.log(2)
        array([1.25, 0.75])
        """
        name, preferred = self.method.name, batch["preferred"]
        if name in RATIO_METHODS:
            alpha = batch["alpha"] if self.alpha is None else self.alpha
            if name == "rdro":
                return rdro_losses(log_ratios, preferred, alpha, self.method.generator)
            if name == "mle":
                return mle_losses(log_ratios, preferred, alpha)
            return ddro_losses(log_ratios, preferred, alpha, self.method.generator, self.method.beyond_domain)
        if name == "sft":
            return sft_losses(log_ratios, preferred)
        first, second = log_ratios[::2], log_ratios[1::2]
        if name == "kto":
            point = self.reference_point(log_ratios) if reference_point is None else reference_point
            return kto_losses(first, preferred[::2], self.method.beta, point)
        return (dpo_losses if name == "dpo" else ipo_losses)(first, second, self.method.beta)

    @staticmethod
    def reference_point(log_ratios: Any) -> Any:
        """Return kto's estimate of KL(policy || reference): the mean log-ratio of mismatched completions, or 0.

        Parameters
        ----------
        log_ratios : array
            Shape (sequences,), every second one mismatched; NumPy or torch.

        Returns
        -------
        array
            0-d, not negative, without gradient.
        """
        mean = log_ratios[1::2].mean()
        return mean.detach().clamp(min=0.0) if hasattr(mean, "detach") else np.maximum(mean, 0.0)


@dataclass(frozen=True)
class Resolved:
    """What alpha and the class weights of a data set came to.

    Attributes
    ----------
    alpha : float, optional
        The one alpha of all examples; None where each has its own or the method has none.
    alpha_range : tuple of float, optional
        Least and greatest alpha of the examples.
    class_weights : tuple of float, optional
        Weights of one preferred and of one non-preferred example, before the data's own; None where they differ by
        prompt or the method has none.
    examples, preferred : int
        Number of examples, and of those whose (first) sequence is preferred.
    notes : tuple of str
        What a user should know: an alpha far from the share of preferred examples, prompts of one class.
    """

    alpha: float | None
    alpha_range: tuple[float, float] | None
    class_weights: tuple[float, float] | None
    examples: int
    preferred: int
    notes: tuple[str, ...] = ()


def prepare_examples(
    examples: ExampleSet, config: MethodConfig, seed: int = 0, alpha: float | None = None
) -> tuple[ExampleSet, Resolved]:
    """Give a data set the columns that a method's loss needs: alpha and static weights, one per sequence.

    Parameters
    ----------
    examples : ExampleSet
        Tokenised examples, with the data's own weights and alpha if it has them.
    config : MethodConfig
        The method and its options.
    seed : int
        Seed of kto's mismatched completions.
    alpha : float, optional
        In place of the data's share for alpha = "auto": a held-out set takes that of the training set.

    Returns
    -------
    examples : ExampleSet
        The same examples in the same order with new columns; for sft the preferred ones, for kto with mismatched
        completions.
    resolved : Resolved
        What alpha and the weights came to.

    Raises
    ------
    ValueError
        If no example is left, the method needs both classes or pairs and the data has not, or alpha lies outside
        (0, 1).

    Notes
    -----
    "balanced" weighs examples by ``1 / (2 pi)`` and ``1 / (2 (1 - pi))`` with the share pi of preferred examples in
    this set, "balanced_by_prompt" with the share at each prompt; the data's own weights multiply that. Where all
    examples of a prompt are of one class they weigh 1/2 each, and the prompt weighs half of what it would otherwise.

    Examples
    --------
    >>> ids = [np.array([1], dtype=np.int32)] * 4
    >>> data = ExampleSet(ids, ids, np.array([True, False, False, False]), np.arange(4))
    >>> prepared, resolved = prepare_examples(data, MethodConfig("rdro"))
    >>> resolved.alpha, resolved.class_weights
    (0.25, (2.0, 0.6666666666666666))
    """
    method = resolve_method(config)
    examples = _fit_width(examples, method, seed)
    preferred = examples.preferred[:: examples.width]
    if not len(preferred):
        raise ValueError(f"{method.name} must have at least one example{' that is preferred' * (method.name == 'sft')}")
    if method.name in (*RATIO_METHODS, "kto") and preferred.all() == preferred.any():
        raise ValueError(
            f"{method.name} needs examples of both classes, got {preferred.sum()} preferred ones and "
            f"{(~preferred).sum()} others; check the labels, or use method sft for preferred examples alone"
        )
    alphas = _alphas(examples, method, alpha)
    weights, by_class = _weights(examples, method)
    single = None if alphas is None or method.alpha in ("auto_by_prompt", "column") else float(alphas[0])
    prepared = replace(examples, alpha=alphas, weights=weights)
    return prepared, Resolved(
        alpha=single,
        alpha_range=None if alphas is None else (float(alphas.min()), float(alphas.max())),
        class_weights=by_class,
        examples=len(examples),
        preferred=int(preferred.sum()),
        notes=tuple(_notes(examples, method)),
    )


def mismatched_examples(examples: ExampleSet, seed: int = 0) -> ExampleSet:
    """Pair each sequence with its prompt and the completion of another one, for kto's reference point.

    Parameters
    ----------
    examples : ExampleSet
        Of width 1, without reference log-probabilities.
    seed : int
        Seed of the choice.

    Returns
    -------
    ExampleSet
        Of width 2: each sequence, then the mismatched one, which has its class and row. It is the completion of
        another prompt wherever no prompt has more than half of the sequences, cut at the longest sequence's length.

    Raises
    ------
    ValueError
        If there are fewer than two sequences, or they have reference log-probabilities, which the mismatched ones
        would lack.
    """
    n = len(examples.prompt_ids)
    if n < 2:
        raise ValueError(f"kto needs at least 2 examples for mismatched completions, got {n}")
    if examples.reference_log_probs is not None:
        raise ValueError(
            "kto needs reference log-probabilities of mismatched completions too, which rows do not hold: "
            "leave out ref_logps, and they will be computed"
        )
    prompts = _prompt_numbers(examples)
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(prompts[order], kind="stable")]
    # Prompt by prompt in a circle: as far on as the longest run is long, another prompt begins.
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, -min(int(np.bincount(prompts).max()), n // 2))
    longest = max(len(p) + len(c) for p, c in zip(examples.prompt_ids, examples.completion_ids, strict=True))
    completions = []
    for prompt, completion, j in zip(examples.prompt_ids, examples.completion_ids, other, strict=True):
        completions += [completion, examples.completion_ids[j][: longest - len(prompt)]]
    doubled = {
        name: None if column is None else np.repeat(column, 2)
        for name, column in vars(examples).items()
        if name in ("preferred", "rows", "alpha", "weights")
    }
    return replace(
        examples,
        prompt_ids=[prompt for prompt in examples.prompt_ids for _ in range(2)],
        completion_ids=completions,
        width=2,
        **doubled,
    )


def _fit_width(examples: ExampleSet, method: Method, seed: int) -> ExampleSet:
    """Return examples of the method's width, for sft the preferred sequences alone."""
    if method.pairs:
        ordered = examples.preferred[::2].all() and not examples.preferred[1::2].any()
        if examples.width != 2 or not ordered:
            what = (
                "pairs whose first is not preferred or whose second is" if examples.width == 2 else "single completions"
            )
            raise ValueError(f"{method.name} needs pairs (chosen, rejected), got {what}; load rows with both")
        return examples
    if method.name == "kto":
        return examples if examples.width == 2 else mismatched_examples(examples, seed)
    if examples.width != 1:
        raise ValueError(
            f"{method.name} needs examples of single completions, got pairs; load the data with pairs=False"
        )
    return examples.select(np.nonzero(examples.preferred)[0]) if method.name == "sft" else examples


def _alphas(examples: ExampleSet, method: Method, known: float | None) -> FloatArray | None:
    """Return alpha of each sequence, or None for a method without it."""
    if method.alpha is None:
        return None
    if method.alpha == "column":
        if examples.alpha is None:
            raise ValueError("alpha 'column' needs a column alpha in the data, got none")
        return check_alpha(examples.alpha, "column alpha")
    if method.alpha == "auto_by_prompt":
        prompts = _prompt_numbers(examples)
        preferred = np.bincount(prompts, weights=examples.preferred)
        return ((preferred + 0.5) / (np.bincount(prompts) + 1.0))[prompts]
    share = examples.preferred.mean() if known is None else known
    return np.full(len(examples.preferred), float(share if method.alpha == "auto" else method.alpha))


def _weights(examples: ExampleSet, method: Method) -> tuple[FloatArray, tuple[float, float] | None]:
    """Return the weight of each sequence, and those of the classes where they are two numbers."""
    own = np.ones(len(examples.preferred))
    if examples.weights is not None:
        own = check_nonnegative("weights", examples.weights)
        if not own.any():
            raise ValueError("weights must not all be 0")
    if method.weighting is None:
        return own, None
    preferred = examples.preferred
    if method.weighting == "balanced_by_prompt":
        prompts = _prompt_numbers(examples)
        share = np.bincount(prompts, weights=preferred) / np.bincount(prompts)
        weights = class_weights(np.clip(share, _EDGE, 1.0 - _EDGE)[prompts])
        return own * np.where(preferred, weights.preferred, weights.nonpreferred), None
    weights = class_weights(preferred.mean(), method.weighting)
    up, down = float(weights.preferred), float(weights.nonpreferred)
    return own * np.where(preferred, up, down), (up, down)


def _notes(examples: ExampleSet, method: Method) -> Iterator[str]:
    """Yield what a user should know of a training set."""
    share = examples.preferred.mean()
    if not isinstance(method.alpha, str | None) and abs(method.alpha - share) > _FAR_FROM_SHARE:
        yield f"alpha is {method.alpha:.3g}, but the share of preferred examples is {share:.3g}"
    if method.weighting == "balanced_by_prompt":
        prompts = _prompt_numbers(examples)
        shares = np.bincount(prompts, weights=examples.preferred) / np.bincount(prompts)
        lone = int(((shares == 0) | (shares == 1)).sum())
        if lone:
            yield f"{lone} of {len(shares)} prompts have examples of one class only and weigh half"


def _prompt_numbers(examples: ExampleSet) -> np.ndarray:
    """Return the number of each sequence's prompt, the same for equal tokens, in order of appearance."""
    numbers: dict[bytes, int] = {}
    return np.array(
        [numbers.setdefault(np.asarray(ids, np.int32).tobytes(), len(numbers)) for ids in examples.prompt_ids]
    )
