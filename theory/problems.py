"""Alignment problems on finite sets of prompts and responses, where every law is known exactly."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from theory.checks import FloatArray, check_alpha, check_probabilities, check_same_shape
from theory.density_ratios import relative_ratio

__all__ = ["FiniteProblem"]

# Laws that agree to 1e-12 in every cell differ by roundings of a few sums only.
_SAME_LAW = 1e-12


@dataclass(frozen=True, init=False, eq=False)
class FiniteProblem:
    """Known preferred and non-preferred laws, reference policy and prompt law on finite sets.

    Labelled examples arise as x ~ prompt_probs, preferred with probability `alpha` (or another class fraction,
    which the functions on problems accept), then y from the law of its class given x.

    Parameters
    ----------
    p_preferred, p_nonpreferred : array_like
        p+(y|x) and p-(y|x), shape (prompts, responses), or (responses,) for a single prompt; rows sum to 1.
    reference : array_like, optional
        Reference policy, same shape, positive wherever a class has mass; default the mixture
        ``alpha p+ + (1 - alpha) p-``, which is assumption M.
    prompt_probs : array_like, optional
        Prompt law, shape (prompts,); default uniform.
    alpha : float or array_like
        Weight of the preferred law in the mixture, in (0, 1): one number, or one per prompt.
    pair_probs : array_like, optional
        Law of (chosen, rejected) pairs given x, shape (prompts, responses, responses) with margins p+ and p-;
        default independent draws from the two laws.

    Attributes
    ----------
    p_preferred, p_nonpreferred, reference, mixture : ndarray
        Laws, shape (prompts, responses).
    prompt_probs, alpha : ndarray
        Shape (prompts,).
    relative_ratio : ndarray
        p+ / mixture, in [0, 1/alpha], shape (prompts, responses).

    Raises
    ------
    ValueError
        If a law is negative, does not sum to 1 or contains NaN, shapes differ, alpha lies outside (0, 1), the
        reference is zero where a class has mass, or `pair_probs` has other margins than p+ and p-.

    References
    ----------
    .. [1] Takahashi et al., arXiv 2604.04410, problem setting and assumption on the reference.

    Examples
    --------
    >>> problem = FiniteProblem([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], alpha=0.5)
    >>> problem.reference
    array([[0.3, 0.3, 0.4]])
    >>> problem.assumption_m_holds
    True
    """

    p_preferred: FloatArray
    p_nonpreferred: FloatArray
    reference: FloatArray
    prompt_probs: FloatArray
    alpha: FloatArray
    explicit_pair_probs: FloatArray | None = field(repr=False)

    def __init__(
        self,
        p_preferred: ArrayLike,
        p_nonpreferred: ArrayLike,
        reference: ArrayLike | None = None,
        prompt_probs: ArrayLike | None = None,
        *,
        alpha: ArrayLike,
        pair_probs: ArrayLike | None = None,
    ) -> None:
        """Check the laws and freeze them."""
        preferred = _as_table("p_preferred", p_preferred)
        nonpreferred = _as_table("p_nonpreferred", p_nonpreferred)
        check_same_shape(p_preferred=preferred, p_nonpreferred=nonpreferred)
        prompts = preferred.shape[0]
        weight = check_alpha(alpha)
        if weight.ndim > 1 or weight.size not in (1, prompts):
            raise ValueError(f"alpha must be one number or one per prompt ({prompts}), got shape {weight.shape}")
        weight = np.array(np.broadcast_to(weight, prompts))
        mixture = weight[:, None] * preferred + (1.0 - weight[:, None]) * nonpreferred
        policy = mixture if reference is None else _as_table("reference", reference)
        check_same_shape(p_preferred=preferred, reference=policy)
        uncovered = (policy <= 0) & (mixture > 0)
        if uncovered.any():
            cell = tuple(int(i) for i in np.argwhere(uncovered)[0])
            raise ValueError(
                f"reference must be positive wherever a class has mass, got 0 at (prompt, response) {cell}"
            )
        law = (
            np.full(prompts, 1.0 / prompts)
            if prompt_probs is None
            else check_probabilities("prompt_probs", prompt_probs)
        )
        if law.shape != (prompts,):
            raise ValueError(f"prompt_probs must have shape ({prompts},), got {law.shape}")
        pairs = None if pair_probs is None else _check_pairs(pair_probs, preferred, nonpreferred)
        values = {
            "p_preferred": preferred,
            "p_nonpreferred": nonpreferred,
            "reference": policy,
            "prompt_probs": law,
            "alpha": weight,
            "explicit_pair_probs": pairs,
        }
        for name, value in values.items():
            if value is not None:
                value = np.array(value)
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    def mixture(self) -> FloatArray:
        """Return ``alpha p+ + (1 - alpha) p-``, shape (prompts, responses)."""
        weight = self.alpha[:, None]
        return np.asarray(weight * self.p_preferred + (1.0 - weight) * self.p_nonpreferred)

    @property
    def relative_ratio(self) -> FloatArray:
        """Return ``p+ / mixture``, shape (prompts, responses)."""
        weight = np.broadcast_to(self.alpha[:, None], self.p_preferred.shape)
        return relative_ratio(self.p_preferred, self.p_nonpreferred, weight)

    @property
    def pair_probs(self) -> FloatArray:
        """Return the law of (chosen, rejected) pairs, shape (prompts, responses, responses)."""
        if self.explicit_pair_probs is not None:
            return self.explicit_pair_probs
        return np.asarray(self.p_preferred[:, :, None] * self.p_nonpreferred[:, None, :])

    @property
    def assumption_m_holds(self) -> bool:
        """Return whether the reference equals the mixture at every prompt (assumption M)."""
        return bool(np.abs(self.reference - self.mixture).max() <= _SAME_LAW)

    @property
    def prompts(self) -> int:
        """Return the number of prompts."""
        return int(self.p_preferred.shape[0])

    @property
    def responses(self) -> int:
        """Return the number of responses."""
        return int(self.p_preferred.shape[1])


def _as_table(name: str, values: ArrayLike) -> FloatArray:
    """Return probabilities of shape (prompts, responses), normalised to rounding."""
    table = check_probabilities(name, values)
    if table.ndim > 2:
        raise ValueError(f"{name} must have shape (prompts, responses) or (responses,), got {table.shape}")
    table = np.atleast_2d(table)
    return np.asarray(table / table.sum(axis=-1, keepdims=True))


def _check_pairs(pair_probs: ArrayLike, preferred: FloatArray, nonpreferred: FloatArray) -> FloatArray:
    """Return a pair law whose margins are the two class laws."""
    pairs = check_probabilities("pair_probs", np.asarray(pair_probs).reshape(*np.shape(pair_probs)[:-2], -1))
    expected = (*preferred.shape, preferred.shape[1])
    if np.shape(pair_probs) not in (expected, expected[1:] if expected[0] == 1 else expected):
        raise ValueError(f"pair_probs must have shape {expected}, got {np.shape(pair_probs)}")
    pairs = pairs.reshape(expected)
    gaps = [np.abs(pairs.sum(axis=2) - preferred).max(), np.abs(pairs.sum(axis=1) - nonpreferred).max()]
    if max(gaps) > 1e-9:
        raise ValueError(
            f"pair_probs must have the margins p_preferred and p_nonpreferred, got gaps up to {max(gaps):.3g}"
        )
    return pairs
