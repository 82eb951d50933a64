"""What every loss needs before its formula: one dtype, one shape, one array namespace (NumPy or torch)."""

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array, is_torch_array

from theory.checks import check_alpha


def prepare(log_ratio: Any, preferred: Any) -> tuple[Any, Any, Any]:
    """Return float32/float64 log-ratios, boolean classes and their namespace, or raise."""
    if isinstance(log_ratio, (float, list, tuple)):
        log_ratio = np.asarray(log_ratio)
    if not is_array_api_obj(log_ratio):
        raise TypeError(f"log_ratio must be a NumPy array or a torch tensor, got {type(log_ratio).__name__}")
    xp = array_namespace(log_ratio)
    if not xp.isdtype(log_ratio.dtype, "real floating"):
        raise TypeError(f"log_ratio must be floating point, got {log_ratio.dtype}")
    if log_ratio.dtype not in (xp.float32, xp.float64):
        log_ratio = xp.astype(log_ratio, xp.float32)
    if preferred is None:
        return log_ratio, None, xp
    if isinstance(preferred, (bool, list, tuple)):
        preferred = xp.asarray(preferred)
    xp = array_namespace(log_ratio, preferred)
    if not xp.isdtype(preferred.dtype, "bool"):
        raise TypeError(f"preferred must be boolean, got {preferred.dtype}")
    _check_shape("preferred", preferred, log_ratio)
    return log_ratio, preferred, xp


def prepare_margins(log_ratio_chosen: Any, log_ratio_rejected: Any) -> Any:
    """Return the margins ``u_chosen - u_rejected``, or raise."""
    chosen, _, _ = prepare(log_ratio_chosen, None)
    rejected, _, _ = prepare(log_ratio_rejected, None)
    array_namespace(chosen, rejected)  # raises for arrays of two kinds
    _check_shape("log_ratio_rejected", rejected, chosen, "log_ratio_chosen")
    return chosen - rejected


def prepare_alpha(alpha: Any, u: Any, xp: Any) -> Any:
    """Return alpha as a Python float or as an array like `u`, checked wherever that costs no device transfer."""
    if isinstance(alpha, (int, float)) or (is_numpy_array(alpha) and alpha.ndim == 0):
        return float(check_alpha(alpha))
    weight = like(alpha, u, xp, "alpha")
    if is_numpy_array(weight):
        check_alpha(weight)
    elif str(device(weight)) == "cpu":
        check_alpha(weight.detach().numpy())
    return weight


def like(values: Any, u: Any, xp: Any, name: str) -> Any:
    """Return a number unchanged, and an array of the shape of `u` in its dtype on its device."""
    if isinstance(values, (int, float, np.floating)):
        return float(values)
    if isinstance(values, (list, tuple)):
        values = np.asarray(values)
    if not is_array_api_obj(values):
        raise TypeError(f"{name} must be a number or an array, got {type(values).__name__}")
    array = xp.asarray(values, dtype=u.dtype, device=device(u))
    return array if array.ndim == 0 else _check_shape(name, array, u)


def _check_shape(name: str, array: Any, u: Any, other: str = "log_ratio") -> Any:
    """Return `array`, or raise unless it has the shape of `u`."""
    if tuple(array.shape) != tuple(u.shape):
        raise ValueError(f"{name} must have the shape of {other} {tuple(u.shape)}, got {tuple(array.shape)}")
    return array


def log(values: Any, xp: Any) -> Any:
    """Return the natural logarithm of a Python float or an array."""
    return math.log(values) if isinstance(values, float) else xp.log(values)


def softplus(values: Any) -> Any:
    """Return ``log(1 + e^x)``, exact to a few eps for every x."""
    return -log_sigmoid(-values)


def sigmoid(values: Any) -> Any:
    """Return ``1 / (1 + e^-x)``, exact to a few eps for every x."""
    xp = array_namespace(values)
    if is_torch_array(values):
        return xp.exp(-softplus(-values))  # whose gradient is accurate in both tails
    from scipy.special import expit  # not above: its import would take longer than all others of theory together

    return expit(values)


def sigmoid_slope(values: Any) -> Any:
    """Return the derivative of the sigmoid, ``e^-x / (1 + e^-x)^2``, exact to a few eps for every x."""
    xp = array_namespace(values)
    decay = xp.exp(-xp.abs(values))
    return decay / (1.0 + decay) ** 2


def as_numbers(preferred: Any, u: Any) -> Any:
    """Return 1 for preferred examples and 0 for the others, in the dtype of `u`."""
    xp = array_namespace(preferred)
    # torch converts bytes several times as fast as booleans.
    return xp.astype(preferred.view(xp.uint8) if is_torch_array(preferred) else preferred, u.dtype)


def signs(preferred: Any, u: Any) -> Any:
    """Return -1 for preferred examples and 1 for the others, in the dtype of `u`."""
    # Products with signs are several times as fast as a choice from two arrays where classes are mixed.
    return 1.0 - 2.0 * as_numbers(preferred, u)


def log_sigmoid(values: Any) -> Any:
    """Return ``log(1 / (1 + e^-x))``, exact to a few eps for every x."""
    xp = array_namespace(values)
    if is_torch_array(values):
        return xp.nn.functional.logsigmoid(values)  # not its softplus, whose last bit depends on an element's place
    return xp.minimum(values, 0.0) - xp.log1p(xp.exp(-xp.abs(values)))


def bounded(values: Any, low: float, high: float) -> Any:
    """Return values, or the bound that they lie beyond."""
    xp = array_namespace(values)
    if is_torch_array(values):
        return xp.nn.functional.hardtanh(values, low, high)  # whose gradient is several times as fast as clip's
    return xp.clip(values, low, high)


def log1mexp(values: Any, xp: Any) -> Any:
    """Return ``log(1 - e^v)`` for v < 0 (Maechler 2012: two branches, each accurate to a few eps)."""
    near_zero = values > -math.log(2.0)
    # The unused branch is fed a harmless constant: autograd would otherwise multiply its inf by 0.
    near = xp.where(near_zero, values, -xp.ones_like(values))
    far = xp.where(near_zero, -xp.ones_like(values), values)
    return xp.where(near_zero, xp.log(-xp.expm1(near)), xp.log1p(-xp.exp(far)))
