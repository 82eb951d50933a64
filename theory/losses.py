"""Every alignment loss as a function of log-ratios alone: the one home of these formulas in the repository.

``u = log(p_theta / p_ref)`` in nats; for a language model it is a difference of two sequence log-probabilities.
All functions take NumPy arrays and torch tensors alike, are differentiable by autograd once, return one loss per
example and never average: class weights (`theory.weighting`) and means are the caller's. Half-precision inputs are
computed and returned in float32, because float16 overflows at 65,504 and bfloat16 keeps 8 bits of a sum.
"""

import math
from typing import Any, Literal

from theory.arrays import like, log, log1mexp, prepare, prepare_alpha, prepare_margins, sigmoid, signs, softplus
from theory.bregman import Generator, get_generator
from theory.checks import check_choice, check_positive

__all__ = [
    "EXTENSION_MARGIN",
    "BeyondDomain",
    "ddro_log_direct_ratio",
    "ddro_losses",
    "dpo_losses",
    "ipo_losses",
    "kto_losses",
    "mle_losses",
    "rdro_losses",
    "sft_losses",
]

BeyondDomain = Literal["infinite", "extend"]

EXTENSION_MARGIN = 0.05
"""delta of the "extend" option: log g is continued linearly from ``u = log((1 - delta)/t)``."""


def rdro_losses(log_ratio: Any, preferred: Any, alpha: Any, generator: str | Generator = "logistic") -> Any:
    """Relative density ratio losses (RDRO), one per example.

    Preferred: ``alpha c(u) - f'(e^u)``; non-preferred: ``(1 - alpha) c(u)``, with ``u = log_ratio`` and ``c`` the
    generator's conjugate. Logistic: ``alpha softplus(u) + softplus(-u)`` and ``(1 - alpha) softplus(u)``.

    Parameters
    ----------
    log_ratio : array
        Log-ratios u of policy to reference in nats, any shape; NumPy or torch.
    preferred : array of bool
        True for preferred examples; same kind of array and same shape.
    alpha : float or array
        Weight of the preferred law in the mixture, in (0, 1): one number, or one per example (same shape).
    generator : str or Generator
        Key of `theory.bregman.GENERATORS` or a generator.

    Returns
    -------
    array
        Losses, same shape and kind as `log_ratio`; float32 for half-precision input.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1), shapes differ, or the generator is unknown.
    TypeError
        If `preferred` is not boolean or `log_ratio` not floating.

    Notes
    -----
    With the logistic generator the derivative lies in [-1, 1] and the second derivative in [0, (1 + alpha)/4]
    (proposition P4), and values are finite for every finite u. The KL, least-squares and power generators grow
    like powers of ``e^u``: their losses overflow to +inf (never to NaN), and autograd has no gradient to give there.
    A NaN log-ratio gives a NaN loss (NumPy warns).
    Values of alpha given as a tensor on an accelerator are not checked, because that would stop the device.

    References
    ----------
    .. [1] Takahashi et al., "Relative Density Ratio Optimization", arXiv 2604.04410.
    .. [2] Sugiyama, Suzuki and Kanamori, "Density-ratio matching under the Bregman divergence", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> rdro_losses(np.zeros(2), np.array([True, False]), alpha=0.25) / np.log(2)
    array([1.25, 0.75])
    """
    u, is_preferred, xp = prepare(log_ratio, preferred)
    return get_generator(generator).relative_losses(u, is_preferred, prepare_alpha(alpha, u, xp))


def ddro_log_direct_ratio(log_ratio: Any, alpha: Any, beyond_domain: BeyondDomain = "infinite") -> Any:
    """Logarithm of the direct ratio that a policy implies.

    ``g(u) = (1 - t) e^u / (1 - t e^u)``, so ``log g = log(1 - t) + u - log(1 - t e^u)`` with ``t = alpha`` and
    ``u = log_ratio``, defined for ``u < -log t``.

    Parameters
    ----------
    log_ratio : array
        Log-ratios u in nats, any shape; NumPy or torch.
    alpha : float or array
        t, in (0, 1): one number, or one per example (same shape).
    beyond_domain : {"infinite", "extend"}
        From ``u = -log t`` on: +inf; or the C1 linear continuation of log g that starts at
        ``u = log((1 - EXTENSION_MARGIN)/t)``, where its slope is ``1/EXTENSION_MARGIN``.

    Returns
    -------
    array
        log g, same shape and kind as `log_ratio`.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1), shapes differ, or the option is unknown.

    Notes
    -----
    "extend" is ours: the authors of DDRO use a stabiliser of their own.

    References
    ----------
    .. [1] Higuchi and Suzuki, arXiv 2505.07558; log form and continuation derived here.

    Examples
    --------
    >>> import numpy as np
    >>> ddro_log_direct_ratio(np.array([0.0, 1.0]), alpha=0.5).round(4)
    array([ 0., inf])
    >>> ddro_log_direct_ratio(np.array([0.0, 1.0]), alpha=0.5, beyond_domain="extend").round(4)
    array([ 0.    , 10.1074])
    """
    u, _, xp = prepare(log_ratio, None)
    check_choice("beyond_domain", beyond_domain, ("infinite", "extend"))
    weight = prepare_alpha(alpha, u, xp)
    log_alpha, log_rest = log(weight, xp), log(1.0 - weight, xp)
    if beyond_domain == "infinite":
        inside = u + log_alpha < 0
        return xp.where(inside, _log_g(xp.where(inside, u, xp.zeros_like(u)), log_alpha, log_rest, xp), math.inf)
    knot = math.log1p(-EXTENSION_MARGIN) - log_alpha
    inside = u < knot
    continued = math.log1p(-EXTENSION_MARGIN) - math.log(EXTENSION_MARGIN) + log_rest - log_alpha
    continued = continued + (u - knot) / EXTENSION_MARGIN
    return xp.where(inside, _log_g(xp.where(inside, u, xp.zeros_like(u)), log_alpha, log_rest, xp), continued)


def ddro_losses(
    log_ratio: Any,
    preferred: Any,
    alpha: Any,
    generator: str | Generator = "logistic",
    beyond_domain: BeyondDomain = "infinite",
) -> Any:
    """Direct density ratio losses (DDRO), one per example.

    Preferred: ``-f'(g)``; non-preferred: ``f'(g) g - f(g)``, with ``g`` of `ddro_log_direct_ratio`.
    Logistic: ``softplus(-log g)`` and ``softplus(log g)``.

    Parameters
    ----------
    log_ratio : array
        Log-ratios u of policy to reference in nats, any shape; NumPy or torch.
    preferred : array of bool
        True for preferred examples; same kind of array and same shape.
    alpha : float or array
        Weight t of the preferred law in the reference, in (0, 1): one number, or one per example (same shape).
    generator : str or Generator
        Key of `theory.bregman.GENERATORS` or a generator.
    beyond_domain : {"infinite", "extend"}
        Where ``alpha e^u >= 1``: +inf for both classes (a divergence to be reported; its gradient is 0), or the
        losses on the linear continuation of log g.

    Returns
    -------
    array
        Losses, same shape and kind as `log_ratio`; float32 for half-precision input.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1), shapes differ, or an option is unknown.
    TypeError
        If `preferred` is not boolean or `log_ratio` not floating.

    Notes
    -----
    The derivative of the non-preferred loss is ``sigmoid(log g) / (1 - alpha e^u)``: unbounded at the edge of
    the domain (proposition P4). On the edge itself the preferred loss would have the limit 0 for the logistic
    generator; we count the edge as beyond.

    References
    ----------
    .. [1] Higuchi and Suzuki, "Direct Density Ratio Optimization", arXiv 2505.07558, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> ddro_losses(np.array([0.0, 1.0]), np.array([True, True]), alpha=0.5).round(4)
    array([0.6931,    inf])
    """
    u, is_preferred, xp = prepare(log_ratio, preferred)
    chosen = get_generator(generator)
    log_g = ddro_log_direct_ratio(u, alpha, beyond_domain)
    if beyond_domain == "extend":
        return chosen.direct_losses(log_g, is_preferred)
    inside = xp.isfinite(log_g) | (u < 0)  # u = -inf has log g = -inf, which is inside
    inner = xp.where(inside, log_g, xp.zeros_like(log_g))
    return xp.where(inside, chosen.direct_losses(inner, is_preferred), math.inf)


def mle_losses(log_ratio: Any, preferred: Any, alpha: Any) -> Any:
    """Negative log-likelihood of the class given the response, one per example.

    Preferred: ``-log(alpha r)``; non-preferred: ``-log(1 - alpha r)``, with ``r = exp(log_ratio)``.

    Parameters
    ----------
    log_ratio : array
        Log-ratios u of policy to reference in nats, any shape; NumPy or torch.
    preferred : array of bool
        True for preferred examples; same kind of array and same shape.
    alpha : float or array
        Weight of the preferred law in the reference, in (0, 1): one number, or one per example (same shape).

    Returns
    -------
    array
        Losses in [0, inf], same shape and kind; +inf for both classes where ``alpha r >= 1``, which no class
        posterior can be. float32 for half-precision input.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1) or shapes differ.
    TypeError
        If `preferred` is not boolean or `log_ratio` not floating.

    Notes
    -----
    Averaged with every example weighted alike ("pooled") this is the likelihood of the model
    ``p- = (p_ref - alpha p_theta) / (1 - alpha)``: the efficient benchmark. With alpha = 1/2 and balanced classes
    it equals logistic DDRO (proposition P7).

    References
    ----------
    .. [1] Derived here.

    Examples
    --------
    >>> import numpy as np
    >>> mle_losses(np.zeros(2), np.array([True, False]), alpha=0.25).round(4)
    array([1.3863, 0.2877])
    """
    u, is_preferred, xp = prepare(log_ratio, preferred)
    log_posterior = u + log(prepare_alpha(alpha, u, xp), xp)
    inside = log_posterior < 0
    inner = xp.where(inside, log_posterior, -xp.ones_like(u))
    return xp.where(inside, xp.where(is_preferred, -inner, -log1mexp(inner, xp)), math.inf)


def sft_losses(log_ratio: Any, preferred: Any) -> Any:
    """Supervised fine-tuning on the preferred examples, as losses relative to the reference.

    Preferred: ``-u``; non-preferred: 0, with ``u = log_ratio``. The reference adds a constant and no gradient.

    Parameters
    ----------
    log_ratio : array
        Log-ratios u of policy to reference in nats, any shape; NumPy or torch.
    preferred : array of bool
        True for preferred examples; same kind of array and same shape.

    Returns
    -------
    array
        Losses, same shape and kind as `log_ratio`; float32 for half-precision input.

    Raises
    ------
    ValueError
        If shapes differ.
    TypeError
        If `preferred` is not boolean or `log_ratio` not floating.

    Examples
    --------
    >>> import numpy as np
    >>> sft_losses(np.array([0.5, 0.5]), np.array([True, False]))
    array([-0.5,  0. ])
    """
    u, is_preferred, xp = prepare(log_ratio, preferred)
    return xp.where(is_preferred, -u, xp.zeros_like(u))


def kto_losses(log_ratio: Any, preferred: Any, beta: float, kl: Any) -> Any:
    """Kahneman-Tversky losses (KTO) with unit class weights, one per example.

    Preferred: ``1 - sigmoid(beta (u - kl))``; non-preferred: ``1 - sigmoid(beta (kl - u))``, with ``u = log_ratio``.

    Parameters
    ----------
    log_ratio : array
        Log-ratios u of policy to reference in nats, any shape; NumPy or torch.
    preferred : array of bool
        True for preferred (desirable) examples; same kind of array and same shape.
    beta : float
        Inverse temperature, greater than 0.
    kl : float or array
        Reference point ``KL(p_theta || p_ref)`` in nats: one number or one per example. It is not differentiated:
        pass a detached value.

    Returns
    -------
    array
        Losses in [0, 1], same shape and kind; float32 for half-precision input.

    Raises
    ------
    ValueError
        If beta is not positive or shapes differ.
    TypeError
        If `preferred` is not boolean or `log_ratio` not floating.

    References
    ----------
    .. [1] Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv 2402.01306, eq. (8).

    Examples
    --------
    >>> import numpy as np
    >>> kto_losses(np.zeros(2), np.array([True, False]), beta=0.1, kl=0.0)
    array([0.5, 0.5])
    """
    u, is_preferred, xp = prepare(log_ratio, preferred)
    gain = check_positive(beta, "beta") * (u - like(kl, u, xp, "kl"))
    return sigmoid(signs(is_preferred, gain) * gain)  # 1 - sigmoid(s) = sigmoid(-s)


def dpo_losses(log_ratio_chosen: Any, log_ratio_rejected: Any, beta: float) -> Any:
    """Direct preference optimisation losses (DPO), one per pair.

    ``softplus(-beta (u_chosen - u_rejected))``, that is ``-log sigmoid`` of the implied reward difference.

    Parameters
    ----------
    log_ratio_chosen, log_ratio_rejected : array
        Log-ratios of policy to reference in nats of the two responses of each pair, of one shape.
    beta : float
        Inverse temperature, greater than 0.

    Returns
    -------
    array
        Losses in [0, inf), same shape and kind; float32 for half-precision input.

    Raises
    ------
    ValueError
        If beta is not positive or shapes differ.
    TypeError
        If the log-ratios are not floating.

    References
    ----------
    .. [1] Rafailov et al., "Direct Preference Optimization", arXiv 2305.18290, eq. (7).

    Examples
    --------
    >>> import numpy as np
    >>> dpo_losses(np.array([1.0]), np.array([0.0]), beta=1.0).round(4)
    array([0.3133])
    """
    margin = prepare_margins(log_ratio_chosen, log_ratio_rejected)
    return softplus(-check_positive(beta, "beta") * margin)


def ipo_losses(log_ratio_chosen: Any, log_ratio_rejected: Any, beta: float) -> Any:
    """Identity preference optimisation losses (IPO), one per pair.

    ``(u_chosen - u_rejected - 1 / (2 beta))^2``.

    Parameters
    ----------
    log_ratio_chosen, log_ratio_rejected : array
        Log-ratios of policy to reference in nats of the two responses of each pair, of one shape.
    beta : float
        Regularisation (tau in the paper), greater than 0.

    Returns
    -------
    array
        Losses in [0, inf), same shape and kind; float32 for half-precision input.

    Raises
    ------
    ValueError
        If beta is not positive or shapes differ.
    TypeError
        If the log-ratios are not floating.

    References
    ----------
    .. [1] Azar et al., "A General Theoretical Paradigm to Understand Learning from Human Preferences",
       arXiv 2310.12036, eq. (17).

    Examples
    --------
    >>> import numpy as np
    >>> ipo_losses(np.array([1.0]), np.array([0.0]), beta=0.25)
    array([1.])
    """
    margin = prepare_margins(log_ratio_chosen, log_ratio_rejected)
    return (margin - 0.5 / check_positive(beta, "beta")) ** 2


def _log_g(u: Any, log_alpha: Any, log_rest: Any, xp: Any) -> Any:
    """Return ``log g = log(1 - t) + u - log(1 - t e^u)`` inside the domain."""
    return log_rest + u - log1mexp(u + log_alpha, xp)
