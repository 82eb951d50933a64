"""What goes wrong with a world: flipped labels, lost overlap, a reference that is not the mixture."""

from dataclasses import dataclass

import numpy as np

from theory.checks import FloatArray, as_floats

__all__ = ["NoisyLaws", "flip_labels", "perturb_policy", "thin_overlap"]


@dataclass(frozen=True, eq=False)
class NoisyLaws:
    """Class laws as recorded with flipped labels.

    Attributes
    ----------
    p_preferred, p_nonpreferred : ndarray
        Laws of the examples recorded as preferred and as nonpreferred, shape (prompts, responses).
    alpha : ndarray
        Weight that mixes them to the same mixture as before, so that assumption M stays what it was, shape (prompts,).
    label_fraction : ndarray
        Share of examples recorded as preferred, shape (prompts,).
    """

    p_preferred: FloatArray
    p_nonpreferred: FloatArray
    alpha: FloatArray
    label_fraction: FloatArray


def flip_labels(
    p_preferred: FloatArray, p_nonpreferred: FloatArray, alpha: FloatArray, label_fraction: FloatArray, noise: float
) -> NoisyLaws:
    """Record every label the wrong way round with a fixed probability.

    With ``e = noise`` and ``pi = label_fraction``: ``pi' = (1 - e) pi + e (1 - pi)`` and
    ``pi' p+' = (1 - e) pi p+ + e (1 - pi) p-``, and the like for p-'.

    Parameters
    ----------
    p_preferred, p_nonpreferred : ndarray
        Clean laws, shape (prompts, responses).
    alpha, label_fraction : ndarray
        Weight of the mixture, and share of preferred examples, shape (prompts,).
    noise : float
        e in [0, 1/2).

    Returns
    -------
    NoisyLaws
        What a data set shows.

    Raises
    ------
    ValueError
        If the noise lies outside [0, 1/2), or no weight in (0, 1) gives the old mixture.

    References
    ----------
    .. [1] Derived here.

    Examples
    --------
    >>> noisy = flip_labels(np.array([[0.8, 0.2]]), np.array([[0.2, 0.8]]), np.array([0.5]), np.array([0.5]), 0.1)
    >>> noisy.p_preferred.round(3), noisy.alpha
    (array([[0.74, 0.26]]), array([0.5]))
    """
    check_noise(noise)
    fraction = (1.0 - noise) * label_fraction + noise * (1.0 - label_fraction)
    # Share of truly preferred examples among those recorded as preferred, and among the others.
    kept, lost = (1.0 - noise) * label_fraction / fraction, noise * label_fraction / (1.0 - fraction)
    weight = (alpha - lost) / (kept - lost)
    if not np.all((weight > 0) & (weight < 1)):
        outside = float(weight[~((weight > 0) & (weight < 1))][0])
        raise ValueError(
            f"label_noise must leave a weight in (0, 1) that mixes the recorded laws as before, got {outside:g}"
        )
    return NoisyLaws(
        kept[:, None] * p_preferred + (1.0 - kept[:, None]) * p_nonpreferred,
        lost[:, None] * p_preferred + (1.0 - lost[:, None]) * p_nonpreferred,
        weight,
        fraction,
    )


def thin_overlap(p_preferred: FloatArray, p_nonpreferred: FloatArray, overlap: float) -> FloatArray:
    """Take p- away from the half of the responses that are the most preferred.

    These keep the share `overlap` of their nonpreferred mass; the other responses take what is freed, in proportion to
    their own. At 1 nothing changes, towards 0 the direct ratio p+/p- grows without bound on half of the support while
    the relative ratio stays below 1/alpha.

    Parameters
    ----------
    p_preferred, p_nonpreferred : ndarray
        Laws, shape (prompts, responses).
    overlap : float
        Share that is kept, in (0, 1].

    Returns
    -------
    ndarray
        The thinned p-, shape (prompts, responses).

    Raises
    ------
    ValueError
        If the overlap lies outside (0, 1].

    Examples
    --------
    >>> thin_overlap(np.array([[0.5, 0.5]]), np.array([[0.4, 0.6]]), 0.1)
    array([[0.04, 0.96]])
    """
    value = as_floats("overlap", overlap)
    if value.ndim or not 0.0 < value <= 1.0:
        raise ValueError(f"overlap must lie in (0, 1], got {overlap!r}")
    responses = p_preferred.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(p_nonpreferred > 0, p_preferred / p_nonpreferred, np.inf)
    order = np.argsort(-ratio, axis=1, kind="stable")
    thinned = np.zeros(p_preferred.shape, dtype=bool)
    np.put_along_axis(thinned, order[:, : responses // 2], True, axis=1)
    kept = np.where(thinned, float(value) * p_nonpreferred, 0.0)
    rest = np.where(thinned, 0.0, p_nonpreferred)  # not all zero: the last in order has nonpreferred mass
    return kept + rest * ((1.0 - kept.sum(axis=1)) / rest.sum(axis=1))[:, None]


def perturb_policy(policy: FloatArray, error: float, rng: np.random.Generator) -> FloatArray:
    """Return a policy whose logits carry Gaussian errors.

    ``p'(y|x) ~ p(y|x) exp(error z_xy)`` with standard normal z.

    Parameters
    ----------
    policy : ndarray
        Shape (prompts, responses).
    error : float
        Standard deviation of the errors in nats, not negative.
    rng : numpy.random.Generator
        Source of z; one state gives one z whatever the size, so a sweep of `error` turns a single dial.

    Returns
    -------
    ndarray
        The perturbed policy.

    Raises
    ------
    ValueError
        If the error is negative or not finite.

    Examples
    --------
    >>> perturb_policy(np.array([[0.5, 0.5]]), 0.0, np.random.default_rng(0))
    array([[0.5, 0.5]])
    """
    value = as_floats("reference_error", error)
    if value.ndim or not (np.isfinite(value) and value >= 0.0):
        raise ValueError(f"reference_error must be a finite number of at least 0, got {error!r}")
    tilted = policy * np.exp(float(value) * rng.standard_normal(policy.shape))
    return np.asarray(tilted / tilted.sum(axis=1, keepdims=True))


def check_noise(noise: float) -> None:
    """Raise unless the noise is a number in [0, 1/2)."""
    value = as_floats("label_noise", noise)
    if value.ndim or not 0.0 <= value < 0.5:
        raise ValueError(f"label_noise must lie in [0, 1/2), got {noise!r}")
