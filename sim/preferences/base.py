"""What a preference model is: a matrix of win probabilities, or thumb-up probabilities, that can be sampled."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sim.preferences.arguments import (
    IntArray,
    check_base_policy,
    check_name,
    check_unit_interval,
    draw_counts,
    read_only,
)
from theory.checks import FloatArray, as_floats, check_same_shape

# P_ij and P_ji are computed by separate roundings of numbers in [0, 1] (a few eps = 2.2e-16 apart); 1e-8 also
# admits matrices that were once stored as float32.
_COMPLEMENT_TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class PairwisePreference:
    """Win probabilities P(y_i beats y_j | x) on finite response sets.

    Two responses y, y' are drawn independently from a base policy mu(.|x), and one of them wins. The law of
    (winner, loser) = (i, j) is ``2 mu_i mu_j P_ij``, whose marginals are ``p+ = 2 mu q`` and ``p- = 2 mu (1 - q)``
    with the Borda score ``q_i = sum_j mu_j P_ij``.

    Parameters
    ----------
    name : str
        Name of the model, used in tables and messages.
    probabilities : array_like, shape (prompts, K, K) or (K, K)
        Entry (x, i, j) is the probability that response i beats response j at prompt x. Must be complementary,
        ``P_ij + P_ji = 1``, with 1/2 on the diagonal. A matrix is read as a single prompt. Stored read-only.

    Raises
    ------
    ValueError
        If the shape is wrong, fewer than two responses are given, or the entries are not complementary probabilities.

    Notes
    -----
    A response compared with itself wins by a coin flip, so the diagonal of the pair law is ``mu_i**2``; dropping such
    pairs instead would make ``(p+ + p-)/2`` differ from mu.

    References
    ----------
    .. [1] Pair law and its marginals: derived here from independent draws.

    Examples
    --------
    >>> model = PairwisePreference("coin", [[0.5, 0.8], [0.2, 0.5]])
    >>> model.pair_law([[0.5, 0.5]])
    array([[[0.25, 0.4 ],
            [0.1 , 0.25]]])
    """

    name: str
    probabilities: FloatArray

    def __post_init__(self) -> None:
        """Validate the matrix and freeze it."""
        check_name(self.name)
        values = as_floats("probabilities", self.probabilities)
        values = values[np.newaxis] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[1] != values.shape[2]:
            raise ValueError(f"probabilities must have shape (prompts, K, K), got {values.shape}")
        if values.shape[0] < 1 or values.shape[1] < 2:
            raise ValueError(
                f"probabilities must cover at least one prompt and two responses, got shape {values.shape}"
            )
        check_unit_interval("probabilities", values)
        gap = np.abs(values + values.swapaxes(1, 2) - 1.0)
        if gap.max() > _COMPLEMENT_TOLERANCE:
            x, i, j = np.unravel_index(int(np.argmax(gap)), gap.shape)
            raise ValueError(
                f"probabilities must satisfy P_ij + P_ji = 1 (1/2 on the diagonal), got {values[x, i, j]:g} and "
                f"{values[x, j, i]:g} for responses {i} and {j} at prompt {x}"
            )
        object.__setattr__(self, "probabilities", read_only(values))

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return int(self.probabilities.shape[0])

    @property
    def responses(self) -> int:
        """Number of responses at each prompt."""
        return int(self.probabilities.shape[1])

    def borda(self, base_policy: ArrayLike) -> FloatArray:
        """Return each response's chance to beat a draw from the base policy, ``q_i = sum_j mu_j P_ij``.

        Parameters
        ----------
        base_policy : array_like, shape (prompts, K)
            The policy mu(.|x) that the opponents come from.

        Returns
        -------
        ndarray, shape (prompts, K)
            Borda scores in [0, 1]; their mean under mu is 1/2.

        Examples
        --------
        >>> PairwisePreference("coin", [[0.5, 0.8], [0.2, 0.5]]).borda([0.5, 0.5])
        array([[0.65, 0.35]])
        """
        policy = check_base_policy(base_policy, self.prompts, self.responses)
        return np.einsum("xij,xj->xi", self.probabilities, policy)

    def pair_law(self, base_policy: ArrayLike) -> FloatArray:
        """Return the law of (winner, loser), ``2 mu_i mu_j P_ij``.

        Parameters
        ----------
        base_policy : array_like, shape (prompts, K)
            The policy mu(.|x) that both responses of a pair are drawn from, independently.

        Returns
        -------
        ndarray, shape (prompts, K, K)
            Probabilities of (winner, loser), summing to one for each prompt.

        Examples
        --------
        >>> PairwisePreference("coin", [[0.5, 0.8], [0.2, 0.5]]).pair_law([0.5, 0.5]).sum()
        np.float64(1.0)
        """
        policy = check_base_policy(base_policy, self.prompts, self.responses)
        return 2.0 * policy[:, :, np.newaxis] * policy[:, np.newaxis, :] * self.probabilities

    def sample(self, base_policy: ArrayLike, pairs: ArrayLike, rng: np.random.Generator) -> IntArray:
        """Draw how often each (winner, loser) pair occurs among independent comparisons.

        The counts are one multinomial draw from `pair_law`, so the cost does not depend on `pairs`.

        Parameters
        ----------
        base_policy : array_like, shape (prompts, K)
            The policy mu(.|x) that both responses of a pair are drawn from, independently.
        pairs : int or array_like of int, shape (..., prompts)
            Number of comparisons at each prompt; leading axes are replicates. One integer holds for all prompts.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of int64, shape (..., prompts, K, K)
            Counts of (winner, loser); the diagonal holds the pairs of equal responses.

        Examples
        --------
        >>> model = PairwisePreference("coin", [[0.5, 0.8], [0.2, 0.5]])
        >>> model.sample([[0.5, 0.5]], 1000, np.random.default_rng(0)).sum()
        np.int64(1000)
        """
        return draw_counts("pairs", pairs, self.pair_law(base_policy), rng)


@dataclass(frozen=True, eq=False)
class ClassLaws:
    """The laws that an unpaired data set is drawn from, one row per prompt.

    Parameters
    ----------
    p_preferred, p_nonpreferred : ndarray, shape (prompts, K)
        Law of a response given that a thumb up (down) was reported for it.
    alpha : ndarray, shape (prompts,)
        Share of thumbs up among the reported labels of a prompt.
    reported : ndarray, shape (prompts,)
        Probability that a shown response gets its label reported.
    """

    p_preferred: FloatArray
    p_nonpreferred: FloatArray
    alpha: FloatArray
    reported: FloatArray


@dataclass(frozen=True, eq=False)
class ThumbsPreference:
    """Thumb-up probabilities eta(x, y) on finite response sets, with optional under-reporting.

    A response y ~ mu(.|x) is shown, gets a thumb up with probability eta(x, y), else a thumb down, and the label
    reaches the data set with probability `report_up` or `report_down` (a and b below). Among reported labels

        p+(y|x)  = mu a eta / sum_y mu a eta,        p-(y|x) = mu b (1 - eta) / sum_y mu b (1 - eta),
        alpha(x) = sum_y mu a eta / sum_y mu [a eta + b (1 - eta)].

    Parameters
    ----------
    name : str
        Name of the model, used in tables and messages.
    label_probabilities : array_like, shape (prompts, K) or (K,)
        eta(x, y) in [0, 1]. A vector is read as a single prompt. Stored read-only.
    report_up, report_down : float or array_like, shape (prompts, K), default 1
        Probabilities in (0, 1] that a thumb up (down) is reported; a number holds for all responses.

    Raises
    ------
    ValueError
        If a shape is wrong or a value lies outside its range.

    Notes
    -----
    When a and b do not depend on the response they cancel in p+ and p-: reporting then changes only alpha(x), to
    ``a eta_bar / (a eta_bar + b (1 - eta_bar))`` with ``eta_bar(x) = sum_y mu eta``, and with it the law of the
    reported responses, ``alpha p+ + (1 - alpha) p-``, which equals mu only if a = b (or p+ = p-). So with one-sided
    reporting mu stops being the mixture that assumption M asks the reference to be, while the target p+ stays what it
    was.
    When a or b depend on the response, p+ and p- themselves are tilted. Without under-reporting
    ``p+ = mu eta / eta_bar``, ``p- = mu (1 - eta) / (1 - eta_bar)`` and alpha = eta_bar.
    The law of prompts among reported labels is tilted too, in proportion to `ClassLaws.reported`.

    References
    ----------
    .. [1] Unpaired thumbs up and down as in KTO: Ethayarajh et al., arXiv 2402.01306. Reporting: derived here.

    Examples
    --------
    >>> half_silent = ThumbsPreference("thumbs", [0.8, 0.4], report_up=0.5)
    >>> laws = half_silent.class_laws([[0.5, 0.5]])
    >>> laws.p_preferred, laws.alpha
    (array([[0.66666667, 0.33333333]]), array([0.42857143]))
    """

    name: str
    label_probabilities: FloatArray
    report_up: FloatArray = field(default_factory=lambda: np.ones(()))
    report_down: FloatArray = field(default_factory=lambda: np.ones(()))

    def __post_init__(self) -> None:
        """Validate the probabilities and freeze them."""
        check_name(self.name)
        eta = as_floats("label_probabilities", self.label_probabilities)
        eta = eta[np.newaxis] if eta.ndim == 1 else eta
        if eta.ndim != 2 or eta.shape[0] < 1 or eta.shape[1] < 2:
            raise ValueError(
                f"label_probabilities must have shape (prompts, K) with at least two responses, got {eta.shape}"
            )
        check_unit_interval("label_probabilities", eta)
        object.__setattr__(self, "label_probabilities", read_only(eta))
        for side in ("report_up", "report_down"):
            report = as_floats(side, getattr(self, side))
            if report.ndim:
                check_same_shape(**{side: report, "label_probabilities": eta})
            if not np.all((report > 0.0) & (report <= 1.0)):
                offending = report[~((report > 0.0) & (report <= 1.0))].flat[0]
                raise ValueError(f"{side} must lie in (0, 1], got {offending:g}")
            object.__setattr__(self, side, read_only(np.broadcast_to(report, eta.shape)))

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return int(self.label_probabilities.shape[0])

    @property
    def responses(self) -> int:
        """Number of responses at each prompt."""
        return int(self.label_probabilities.shape[1])

    def _shown_law(self, base_policy: ArrayLike) -> FloatArray:
        """Joint probability of (response, label) and of being reported; the rest is the unreported mass."""
        policy = check_base_policy(base_policy, self.prompts, self.responses)
        up = policy * self.label_probabilities * self.report_up
        down = policy * (1.0 - self.label_probabilities) * self.report_down
        return np.stack([down, up], axis=-1)

    def label_law(self, base_policy: ArrayLike) -> FloatArray:
        """Return the law of (response, label) among the reported labels of each prompt.

        Parameters
        ----------
        base_policy : array_like, shape (prompts, K)
            The policy mu(.|x) that the shown responses are drawn from.

        Returns
        -------
        ndarray, shape (prompts, K, 2)
            Probabilities, summing to one for each prompt; the last index is the label, 0 for nonpreferred (thumb down)
            and 1 for preferred (thumb up).

        Examples
        --------
        >>> ThumbsPreference("thumbs", [0.8, 0.4]).label_law([0.5, 0.5])
        array([[[0.1, 0.4],
                [0.3, 0.2]]])
        """
        joint = self._shown_law(base_policy)
        return joint / joint.sum(axis=(1, 2), keepdims=True)

    def class_laws(self, base_policy: ArrayLike) -> ClassLaws:
        """Return p+, p-, alpha(x) and the reported fraction under a base policy.

        Parameters
        ----------
        base_policy : array_like, shape (prompts, K)
            The policy mu(.|x) that the shown responses are drawn from.

        Returns
        -------
        ClassLaws
            See the class formulas; ``alpha p+ + (1 - alpha) p-`` is the law of the reported responses.

        Raises
        ------
        ValueError
            If a prompt has only thumbs up or only thumbs down, so that p- or p+ does not exist.

        Examples
        --------
        >>> ThumbsPreference("thumbs", [0.8, 0.4]).class_laws([0.5, 0.5]).alpha
        array([0.6])
        """
        joint = self._shown_law(base_policy)
        mass = joint.sum(axis=1)
        if np.any(mass == 0.0):
            x, label = (int(i) for i in np.argwhere(mass == 0.0)[0])
            raise ValueError(
                "each prompt must give thumbs up and thumbs down with positive probability, "
                f"got no thumb {'up' if label else 'down'} at prompt {x}"
            )
        laws = joint / mass[:, np.newaxis, :]
        reported = mass.sum(axis=1)
        return ClassLaws(laws[:, :, 1], laws[:, :, 0], mass[:, 1] / reported, reported)

    def sample(self, base_policy: ArrayLike, labels: ArrayLike, rng: np.random.Generator) -> IntArray:
        """Draw how often each (response, label) occurs among independent reported labels.

        The counts are one multinomial draw from `label_law`, so the cost does not depend on `labels`.

        Parameters
        ----------
        base_policy : array_like, shape (prompts, K)
            The policy mu(.|x) that the shown responses are drawn from.
        labels : int or array_like of int, shape (..., prompts)
            Number of reported labels at each prompt; leading axes are replicates. One integer holds for all prompts.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of int64, shape (..., prompts, K, 2)
            Counts; the last index is the label, 0 for nonpreferred and 1 for preferred.

        Examples
        --------
        >>> ThumbsPreference("thumbs", [0.8, 0.4]).sample([0.5, 0.5], 50, np.random.default_rng(0)).sum()
        np.int64(50)
        """
        return draw_counts("labels", labels, self.label_law(base_policy), rng)


@dataclass(frozen=True)
class PreferenceModel:
    """A registry entry: how to build a preference model, and what it is.

    Parameters
    ----------
    build : callable
        Returns a `PairwisePreference` (regime "paired") or a `ThumbsPreference` (regime "unpaired").
    summary : str
        One line saying what the model stands for.
    formula : str
        The model's formula.
    source : str
        Where the formula comes from.
    regime : str
        "paired" (comparisons of two responses) or "unpaired" (labels of single responses).
    """

    build: Callable[..., PairwisePreference | ThumbsPreference]
    summary: str
    formula: str
    source: str
    regime: str
