"""The catalogue of figures: their names, in the order of the story they tell, and their modules.

A figure is a module of this package, named after the claim it shows. It has a docstring that states the claim, a
mapping ``TABLES`` from the tables it reads (``study/table``) to the columns it needs, and a function
``draw(tables) -> Drawing``.
"""

import ast
import difflib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["FIGURES", "FORMATS", "check_name", "explain_figure", "load_figure"]

FIGURES = (
    "relative_ratio_is_bounded",
    "tails_as_overlap_vanishes",
    "loss_and_gradient_shapes",
    "training_divergence",
    "consistency_without_bradley_terry",
    "errors_fall_at_rate_one_half",
    "distance_from_bradley_terry",
    "efficiency_against_cramer_rao",
    "balanced_against_pooled_weighting",
    "wrong_alpha_leaves_a_bias",
    "wrong_reference_and_its_remedy",
    "prompt_rates_need_weights_by_prompt",
    "label_noise_moves_every_target",
    "language_models_against_steps",
    "language_models_against_sample_size",
    "strict_losses_stop_language_models",
    "balanced_weights_in_language_models",
    "wrong_alpha_in_language_models",
    "prompt_rates_in_language_models",
    "reference_error_in_language_models",
    "cost_against_peers",
)
"""Names of all figures, in the order of the story they tell."""

# No date, no version and no path: what matplotlib would write into a file beside the picture.
FORMATS: dict[str, dict[str, Any]] = {
    "pdf": {"Creator": "relratio", "Producer": "matplotlib", "CreationDate": None},
    "png": {"Software": "relratio"},
    "svg": {"Creator": "relratio", "Date": None},
}
"""File formats, with the metadata written into each."""


def check_name(name: str) -> str:
    """Return the name of a figure, or raise, with the nearest name, if there is no such figure.

    Examples
    --------
    >>> check_name("relative_ratio_is_bound")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: figure must be one of ...; got 'relative_ratio_is_bound' (did you mean 'relative_ratio_is_bounded'?)
    """
    if name not in FIGURES:
        nearest = difflib.get_close_matches(name, FIGURES, n=1, cutoff=0.3)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        raise ValueError(f"figure must be one of {', '.join(FIGURES)}; got {name!r}{hint}")
    return name


def explain_figure(name: str) -> str:
    """Return what a figure shows and how to read it: the docstring of its module, which is not imported for this.

    Raises
    ------
    ValueError
        If there is no such figure.

    Examples
    --------
    >>> explain_figure("relative_ratio_is_bounded").splitlines()[0]
    'The direct density ratio diverges while the relative one stays under 1/alpha.'
    """
    text = Path(__file__).with_name("plots").joinpath(f"{check_name(name)}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(text)) or ""


def load_figure(name: str) -> ModuleType:
    """Return the module of a figure.

    Parameters
    ----------
    name : str
        One of `FIGURES`.

    Returns
    -------
    module
        With ``TABLES`` and ``draw``.

    Raises
    ------
    ValueError
        If there is no such figure; the nearest name is given.
    """
    return import_module(f"figures.plots.{check_name(name)}")
