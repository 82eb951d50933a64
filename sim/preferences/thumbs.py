"""Thumbs: every response is labelled on its own, the native form of unpaired data."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from sim.preferences.arguments import check_integer, check_rng
from sim.preferences.base import ThumbsPreference
from theory.checks import as_floats, check_nonnegative


def thumbs(
    responses: int | None = None,
    prompts: int = 1,
    *,
    label_probabilities: ArrayLike | None = None,
    signal: float | None = None,
    bias: float = 0.0,
    bias_spread: float = 0.0,
    report_up: ArrayLike = 1.0,
    report_down: ArrayLike = 1.0,
    rng: np.random.Generator | None = None,
) -> ThumbsPreference:
    """Build labels ``Bern(eta(x, y))`` with given or random thumb-up probabilities.

    Random ones are ``eta(x, y) = sigma(b_x + signal * z_xy)`` with ``b_x = bias + bias_spread * z_x`` and independent
    standard normal z. How eta and the reporting make p+, p- and alpha(x) is told in `ThumbsPreference`.

    Parameters
    ----------
    responses : int, optional
        Number of responses K >= 2; needed for random probabilities, read off `label_probabilities` otherwise.
    prompts : int, default 1
        Number of prompts of the random probabilities.
    label_probabilities : array_like, shape (prompts, K) or (K,), optional
        eta in [0, 1]. Exactly one of `label_probabilities` and `signal` must be given.
    signal : float, optional
        Standard deviation >= 0 of the logit of eta between the responses of a prompt, in nats.
    bias : float, default 0
        Mean logit of eta, in nats.
    bias_spread : float, default 0
        Standard deviation >= 0 of the logit between prompts: above 0 the label rate alpha(x) differs between prompts,
        and no single alpha fits them all.
    report_up, report_down : float or array_like, shape (prompts, K), default 1
        Probabilities in (0, 1] that a thumb up (down) is reported.
    rng : numpy.random.Generator, optional
        Source of the random probabilities.

    Returns
    -------
    ThumbsPreference
        With label probabilities of shape (prompts, K).

    Raises
    ------
    ValueError, TypeError
        If not exactly one of `label_probabilities` and `signal` is given, or an argument is out of range.

    References
    ----------
    .. [1] Unpaired thumbs up and down as in KTO: Ethayarajh et al., arXiv 2402.01306; the random logits: derived here.

    Examples
    --------
    >>> thumbs(4, 2, signal=1.0, bias=-1.0, rng=np.random.default_rng(0)).class_laws(np.full((2, 4), 0.25)).alpha
    array([0.30597332, 0.32754974])
    """
    reports = as_floats("report_up", report_up), as_floats("report_down", report_down)
    if signal is not None and label_probabilities is None:
        if responses is None:
            raise ValueError("responses must be given for random label probabilities, got None")
        shape = (check_integer("prompts", prompts, 1), check_integer("responses", responses, 2))
        scale, spread = check_nonnegative("signal", signal), check_nonnegative("bias_spread", bias_spread)
        generator = check_rng(rng)
        biases = as_floats("bias", bias) + spread * generator.standard_normal((shape[0], 1))
        return ThumbsPreference("thumbs", expit(biases + scale * generator.standard_normal(shape)), *reports)
    if label_probabilities is None or signal is not None:
        given = "none" if label_probabilities is None else "both"
        raise ValueError(f"exactly one of label_probabilities and signal must be given, got {given}")
    model = ThumbsPreference("thumbs", as_floats("label_probabilities", label_probabilities), *reports)
    if responses not in (None, model.responses) or prompts not in (1, model.prompts):
        received = model.label_probabilities.shape
        raise ValueError(f"label_probabilities must have shape ({prompts}, {responses}), got {received}")
    return model
