"""Preference models: the registry, and one function that builds any of them by name."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.preferences.base import ClassLaws, PairwisePreference, PreferenceModel, ThumbsPreference
from sim.preferences.bradley_terry import bradley_terry
from sim.preferences.from_counts import from_counts
from sim.preferences.hodge import hodge
from sim.preferences.intransitive_dice import intransitive_dice
from sim.preferences.thumbs import thumbs
from theory.checks import check_choice

__all__ = [
    "PREFERENCE_MODELS",
    "ClassLaws",
    "PairwisePreference",
    "PreferenceModel",
    "ThumbsPreference",
    "bradley_terry",
    "build_preference",
    "from_counts",
    "hodge",
    "intransitive_dice",
    "thumbs",
]

PREFERENCE_MODELS: dict[str, PreferenceModel] = {
    "bradley_terry": PreferenceModel(
        bradley_terry,
        summary="one score per response explains every comparison (the control)",
        formula="P_ij = sigma(s_i - s_j)",
        source="Bradley and Terry, Biometrika 1952",
        regime="paired",
    ),
    "hodge": PreferenceModel(
        hodge,
        summary="a dial from Bradley-Terry to pure cycles at constant signal",
        formula="P_ij = sigma(rho [sqrt(1 - lam) G_ij + sqrt(lam) C_ij])",
        source="after Jiang, Lim, Yao and Ye, Mathematical Programming 2011",
        regime="paired",
    ),
    "intransitive_dice": PreferenceModel(
        intransitive_dice,
        summary="Efron's dice: each beats the next in a circle with probability 2/3",
        formula="P_ij = P(face of i > face of j) + P(equal faces) / 2",
        source="Efron, in Gardner, Scientific American, December 1970",
        regime="paired",
    ),
    "thumbs": PreferenceModel(
        thumbs,
        summary="thumbs up or down on single responses, with optional under-reporting",
        formula="label ~ Bern(eta(x, y)); p+ = mu eta / eta_bar(x), p- = mu (1 - eta) / (1 - eta_bar(x))",
        source="after Ethayarajh et al., arXiv 2402.01306",
        regime="unpaired",
    ),
    "from_counts": PreferenceModel(
        from_counts,
        summary="the observed shares of wins of a real table of comparisons",
        formula="P_ij = wins_ij / (wins_ij + wins_ji)",
        source="observed data",
        regime="paired",
    ),
}


def build_preference(
    name: str,
    options: Mapping[str, Any],
    *,
    responses: int | None = None,
    prompts: int | None = None,
    rng: np.random.Generator,
) -> PairwisePreference | ThumbsPreference:
    """Build a registered preference model from its name and a table of options.

    Parameters
    ----------
    name : str
        A key of `PREFERENCE_MODELS`.
    options : mapping
        The builder's keyword arguments, apart from those below.
    responses, prompts : int, optional
        Size of the model. Handed to builders that take them; a model whose size follows from its data must agree.
    rng : numpy.random.Generator
        Source of randomness, handed to builders that draw.

    Returns
    -------
    PairwisePreference or ThumbsPreference
        The model, by its regime.

    Raises
    ------
    ValueError
        If the name or an option is unknown (the nearest is named), an option is missing, or the size disagrees.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> build_preference("hodge", {"cyclic_share": 0.5, "signal": 1.0}, responses=6, rng=rng).responses
    6
    """
    build = PREFERENCE_MODELS[check_choice("preference", name, PREFERENCE_MODELS)].build
    parameters = inspect.signature(build).parameters
    supplied = {"responses": responses, "prompts": prompts, "rng": rng}
    for option in options:
        if option not in parameters.keys() - supplied.keys():
            allowed = sorted(parameters.keys() - supplied.keys())
            nearest = difflib.get_close_matches(option, allowed, n=1, cutoff=0.4)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise ValueError(f"options of {name} must be among {', '.join(allowed)}; got {option!r}{hint}")
    arguments = dict(options) | {key: v for key, v in supplied.items() if v is not None and key in parameters}
    missing = [key for key, p in parameters.items() if p.default is inspect.Parameter.empty and key not in arguments]
    if missing:
        raise ValueError(f"{name} must be given {', '.join(missing)}, got only {', '.join(arguments) or 'nothing'}")
    model = build(**arguments)
    for key, wanted in (("responses", responses), ("prompts", prompts)):
        if wanted is not None and getattr(model, key) != wanted:
            raise ValueError(f"{name} must have as many {key} as its data, {getattr(model, key)}; got {wanted}")
    return model
