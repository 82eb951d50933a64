"""Argument checks and the one sampler that the preference models share."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.checks import FloatArray, as_floats, check_probabilities

IntArray = NDArray[np.int64]
_Number = TypeVar("_Number", np.float64, np.int64)


def check_base_policy(base_policy: ArrayLike, prompts: int, responses: int) -> FloatArray:
    """Return the policy as (prompts, responses) float64; a vector is read as a single prompt."""
    policy = check_probabilities("base_policy", base_policy)
    policy = policy[np.newaxis] if policy.ndim == 1 else policy
    if policy.shape != (prompts, responses):
        raise ValueError(f"base_policy must have shape ({prompts}, {responses}), got {policy.shape}")
    return policy


def check_integer(name: str, value: int, minimum: int) -> int:
    """Return `value`, or raise unless it is an integer of at least `minimum`."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def check_number(name: str, value: float, largest: float = np.inf) -> float:
    """Return `value`, or raise unless it is a finite number in [0, largest]."""
    number = as_floats(name, value)
    if number.ndim or not 0.0 <= number <= largest or np.isinf(number):
        interval = "[0, inf)" if np.isinf(largest) else f"[0, {largest:g}]"
        raise ValueError(f"{name} must be a number in {interval}, got {value!r}")
    return float(number)


def check_rng(rng: np.random.Generator | None) -> np.random.Generator:
    """Return `rng`, or raise unless it is a NumPy Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    return rng


def draw_counts(name: str, sizes: ArrayLike, law: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return one multinomial draw for each entry of `sizes` (..., prompts) from `law` (prompts, rows, columns)."""
    check_rng(rng)
    numbers = np.asarray(sizes)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {numbers.dtype}")
    if np.any(numbers < 0):
        raise ValueError(f"{name} must not be negative, got {numbers.min()}")
    if numbers.ndim and numbers.shape[-1] != law.shape[0]:
        raise ValueError(f"{name} must have one entry per prompt ({law.shape[0]}), got shape {numbers.shape}")
    flat = law.reshape(law.shape[0], -1)
    counts = rng.multinomial(numbers.astype(np.int64), flat / flat.sum(axis=1, keepdims=True))
    return counts.reshape(*counts.shape[:-1], *law.shape[1:])


def check_unit_interval(name: str, values: FloatArray) -> None:
    """Raise unless all values lie in [0, 1]."""
    outside = ~((values >= 0.0) & (values <= 1.0))
    if outside.any():
        position = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(f"{name} must lie in [0, 1], got {values[position]:g} at index {position}")


def check_name(name: str) -> None:
    """Raise unless `name` is a non-empty string."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name must be a non-empty string, got {name!r}")


def check_exactly_one(**options: Any) -> None:
    """Raise unless exactly one of the two options is not None."""
    given = sum(value is not None for value in options.values())
    if given != 1:
        raise ValueError(f"exactly one of {' and '.join(options)} must be given, got {'both' if given else 'none'}")


def check_absent(rule: str, **options: Any) -> None:
    """Raise, stating the rule, if an option is not None."""
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option} {rule}, got {value!r}")


def check_random_size(drawn: str, responses: int | None, prompts: int, minimum: int = 2) -> tuple[int, int]:
    """Return (prompts, responses) of a model whose parameters are to be drawn, or raise."""
    if responses is None:
        raise ValueError(f"responses must be given for random {drawn}, got None")
    return check_integer("prompts", prompts, 1), check_integer("responses", responses, minimum)


def check_given(
    name: str, values: ArrayLike, axes: str, responses: int | None, prompts: int, minimum: int = 2
) -> FloatArray:
    """Return given finite parameters as (prompts, *axes), or raise; without the first axis they are a single prompt.

    An axis called K holds the responses, at least `minimum`, and must agree with `responses`.
    """
    array = as_floats(name, values)
    labels = axes.split(", ")
    array = array[np.newaxis] if array.ndim == len(labels) else array
    counts = {length for label, length in zip(labels, array.shape[1:], strict=False) if label == "K"}
    well_formed = array.ndim == len(labels) + 1 and array.size > 0 and len(counts) == 1 and min(counts) >= minimum
    if not well_formed or not np.isfinite(array).all():
        received = f"shape {array.shape}" if not well_formed else f"{array[~np.isfinite(array)][0]:g}"
        raise ValueError(f"{name} must be finite with shape (prompts, {axes}) and K >= {minimum}, got {received}")
    if responses not in (None, *counts) or prompts not in (1, len(array)):
        wanted = axes if responses is None else axes.replace("K", str(responses))
        raise ValueError(f"{name} must have shape ({prompts}, {wanted}), got {array.shape}")
    return array


def with_even_diagonal(matrices: FloatArray) -> FloatArray:
    """Return matrices (prompts, K, K) with exactly 1/2 on the diagonal, where an average of halves may be rounded."""
    return np.where(np.eye(matrices.shape[-1], dtype=bool), 0.5, matrices)


def read_only(values: NDArray[_Number]) -> NDArray[_Number]:
    """Return a copy that cannot be written to."""
    copy = np.array(values)
    copy.setflags(write=False)
    return copy
