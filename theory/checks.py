"""Argument checks shared by every module: each error states the rule and then what was received."""

import difflib
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# A caller's probabilities come from divisions and sums over at most a few thousand cells, each carrying
# rounding errors of a few eps = 2.2e-16; 1e-8 also admits values that were once stored as float32 means.
_SUM_TOLERANCE = 1e-8


def check_alpha(alpha: ArrayLike, name: str = "alpha") -> FloatArray:
    """Return `alpha` as float64, or raise if any value lies outside the open interval (0, 1)."""
    values = as_floats(name, alpha)
    if not np.all((values > 0.0) & (values < 1.0)):
        offending = values[~((values > 0.0) & (values < 1.0))].flat[0]
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {offending:g}")
    return values


def check_positive(value: float, name: str) -> float:
    """Return `value`, or raise if it is not a finite number above zero."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 < value <= sys.float_info.max:  # of integers too, which may lie beyond
        raise ValueError(f"{name} must be finite and greater than 0, got {value!r}")
    return float(value)


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return `value`, or raise naming the nearest of `choices`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {', '.join(sorted(choices))}; got {type(value).__name__}")
    if value in choices:
        return value
    nearest = difflib.get_close_matches(value, list(choices), n=1, cutoff=0.4)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}; got {value!r}{hint}")


def check_folder_name(name: str, value: str) -> str:
    """Return `value`, or raise unless it can only name a folder within another one."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError(f"{name} must be made of letters, digits, - and _, as a folder is named so; got {value!r}")
    return value


def check_links(folder: Path, root: Path) -> None:
    """Raise if a folder, which may not exist, or a name in it is a link out of `root`, where results are to stay."""
    inside = root.resolve()
    for path in (folder, *(folder.iterdir() if folder.is_dir() else ())):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise OSError(f"results must stay in {root}, got {path}, which is a link to {path.resolve()}")


def as_floats(name: str, values: ArrayLike) -> FloatArray:
    """Return `values` as a float64 array, or raise if they are not real numbers or contain NaN."""
    try:
        array = np.asarray(values)
        numeric = array.dtype.kind in "iuf"
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of real numbers, got {type(values).__name__}: {error}") from error
    if not numeric:
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    floats = array.astype(np.float64)
    if np.isnan(floats).any():
        position = tuple(int(i) for i in np.argwhere(np.isnan(floats))[0])
        raise ValueError(f"{name} must not contain NaN, got NaN{_place(position)}")
    return floats


def check_nonnegative(name: str, values: ArrayLike) -> FloatArray:
    """Return `values` as float64, or raise if any is negative, infinite or NaN."""
    floats = as_floats(name, values)
    if not np.all((floats >= 0.0) & np.isfinite(floats)):
        position = tuple(int(i) for i in np.argwhere((floats < 0.0) | ~np.isfinite(floats))[0])
        raise ValueError(f"{name} must be finite and not negative, got {floats[position]:g}{_place(position)}")
    return floats


def check_probabilities(name: str, values: ArrayLike) -> FloatArray:
    """Return `values` as float64, or raise unless the last axis holds probabilities that sum to one."""
    floats = check_nonnegative(name, values)
    if floats.ndim == 0 or floats.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one response on its last axis, got shape {floats.shape}")
    with np.errstate(over="ignore"):
        sums = floats.sum(axis=-1)
    off = np.abs(sums - 1.0) > _SUM_TOLERANCE
    if off.any():
        worst = float(sums.flat[int(np.argmax(np.abs(sums - 1.0)))])
        raise ValueError(f"{name} must sum to 1 over its last axis, got a sum of {worst:.10g}")
    return floats


def check_same_shape(**arrays: Any) -> None:
    """Raise unless all named arrays have one shape; nothing is broadcast silently."""
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        described = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} must have the same shape, got {described}")


def _place(position: tuple[int, ...]) -> str:
    """Return where a value stands, or nothing for a single number."""
    return f" at index {position}" if position else ""
