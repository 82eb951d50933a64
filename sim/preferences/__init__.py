"""Preference models: the registry, and one function that builds any of them by name."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.preferences.additive_difference import additive_difference
from sim.preferences.annotator_mixture import annotator_mixture
from sim.preferences.base import ClassLaws, PairwisePreference, PreferenceModel, ThumbsPreference
from sim.preferences.blade_chest import blade_chest
from sim.preferences.bradley_terry import bradley_terry
from sim.preferences.context import context
from sim.preferences.from_counts import from_counts
from sim.preferences.general_preference import general_preference
from sim.preferences.hodge import hodge
from sim.preferences.intransitive_dice import intransitive_dice
from sim.preferences.label_flip import label_flip
from sim.preferences.noisy_sorting import noisy_sorting
from sim.preferences.rock_paper_scissors import rock_paper_scissors
from sim.preferences.thumbs import thumbs
from sim.preferences.thurstone import thurstone
from sim.preferences.tournament import tournament
from theory.checks import check_choice

__all__ = [
    "PREFERENCE_MODELS",
    "ClassLaws",
    "PairwisePreference",
    "PreferenceModel",
    "ThumbsPreference",
    "additive_difference",
    "annotator_mixture",
    "blade_chest",
    "bradley_terry",
    "build_preference",
    "context",
    "from_counts",
    "general_preference",
    "hodge",
    "intransitive_dice",
    "label_flip",
    "noisy_sorting",
    "rock_paper_scissors",
    "thumbs",
    "thurstone",
    "tournament",
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
    "rock_paper_scissors": PreferenceModel(
        rock_paper_scissors,
        summary="nothing but a cycle: each response beats those after it on a circle",
        formula="P_ij = sigma(c sin(theta_i - theta_j)), or sigma(+-c) on an odd circle",
        source="derived here",
        regime="paired",
    ),
    "blade_chest": PreferenceModel(
        blade_chest,
        summary="each response attacks with a blade and defends with a chest",
        formula="P_ij = sigma(b_i . c_j - c_i . b_j + s_i - s_j), or with distances |b_j - c_i|^2 - |b_i - c_j|^2",
        source="after Chen and Joachims, WSDM 2016",
        regime="paired",
    ),
    "general_preference": PreferenceModel(
        general_preference,
        summary="responses as vectors, compared through a rotation by a right angle",
        formula="P_ij = sigma(<R v_i, v_j> / tau)",
        source="after Zhang et al., arXiv 2410.02197",
        regime="paired",
    ),
    "thurstone": PreferenceModel(
        thurstone,
        summary="each response has a normal worth and the larger one wins (cases V, III and I)",
        formula="P_ij = Phi((m_i - m_j) / sqrt(v_i + v_j - 2 c_ij))",
        source="after Thurstone, Psychological Review 1927",
        regime="paired",
    ),
    "annotator_mixture": PreferenceModel(
        annotator_mixture,
        summary="hidden groups of annotators who disagree, up to Condorcet cycles",
        formula="P_ij = sum_k w_k sigma(u_k(i) - u_k(j))",
        source="after Siththaranjan et al., arXiv 2312.08358",
        regime="paired",
    ),
    "noisy_sorting": PreferenceModel(
        noisy_sorting,
        summary="the better response wins with one and the same probability, however much better",
        formula="P_ij = 1/2 + gamma sgn(rank_j - rank_i)",
        source="Braverman and Mossel, SODA 2008",
        regime="paired",
    ),
    "label_flip": PreferenceModel(
        label_flip,
        summary="Bradley-Terry comparisons of which a share is recorded the wrong way round",
        formula="P_ij = (1 - 2 e) sigma(s_i - s_j) + e",
        source="derived here",
        regime="paired",
    ),
    "tournament": PreferenceModel(
        tournament,
        summary="a favourite in each pair that follows no ranking",
        formula="P_ij = 1/2 + gamma (2 T_ij - 1)",
        source="after Moon, Topics on Tournaments, 1968",
        regime="paired",
    ),
    "additive_difference": PreferenceModel(
        additive_difference,
        summary="differences in attributes are judged one by one and added up",
        formula="P_ij = sigma(sum_f w_f g_f(x_f(i) - x_f(j))), g odd",
        source="after Tversky, Psychological Review 1969",
        regime="paired",
    ),
    "context": PreferenceModel(
        context,
        summary="a pair is judged within a random menu whose other members act as decoys",
        formula="P_ij = E_M sigma(u_i - u_j + sum_{k in M} (a_ik - a_jk))",
        source="after Seshadri, Peysakhovich and Ugander, ICML 2019",
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
"""Preference models by name."""


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
