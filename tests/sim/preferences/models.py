"""Instances of every preference model, and the statistical check, that the tests of this folder share."""

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from sim.preferences import (
    PREFERENCE_MODELS,
    PairwisePreference,
    additive_difference,
    annotator_mixture,
    blade_chest,
    bradley_terry,
    build_preference,
    context,
    from_counts,
    general_preference,
    intransitive_dice,
    label_flip,
    noisy_sorting,
    rock_paper_scissors,
    thumbs,
    thurstone,
    tournament,
)
from sim.preferences.hodge import hodge_logits
from sim.preferences.intransitive_dice import EFRON_DICE

EPS = np.finfo(float).eps

# Parameters that have one entry a response, so that relabelling the responses means permuting them.
SCORES = np.array([1.2, -0.3, 0.4, -1.3])
NOISE = np.array([[0.0, 1.0, -2.0, 0.5], [0.3, 0.0, 0.9, 0.1], [0.2, 0.4, 0.0, -0.7], [1.1, 0.0, 0.6, 0.0]])
VECTORS = np.array([[0.6, -0.2], [-0.9, 0.4], [0.3, 1.1], [0.8, 0.7]])
CHESTS = np.array([[-0.4, 0.5], [0.2, 0.3], [1.0, -0.6], [0.1, -0.9]])
COVARIANCE = NOISE @ NOISE.T + np.eye(4)
UTILITIES = np.array([[1.0, 0.2, -0.5, 0.3], [-1.5, 2.0, 0.0, 0.4], [0.1, -0.6, 0.9, 2.1]])
BEATS = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]])
ETA = np.array([0.9, 0.5, 0.3, 0.2])
COUNTS = np.array([[0, 7, 3, 9], [2, 0, 8, 4], [5, 1, 0, 6], [3, 3, 2, 0]])


def hodge_of(order: np.ndarray) -> PairwisePreference:
    """The Hodge model of fixed scores and noise, in the given order of responses."""
    logits = hodge_logits(SCORES[order], NOISE[np.ix_(order, order)], cyclic_share=0.4, signal=1.3)
    return PairwisePreference("hodge", expit(logits))


def blade_chest_of(order: np.ndarray) -> PairwisePreference:
    """Blades, chests and scores in the given order of responses."""
    return blade_chest(kind="dist", blades=VECTORS[order], chests=CHESTS[order], scores=SCORES[order])


def context_of(order: np.ndarray) -> PairwisePreference:
    """Utilities and interactions in the given order of responses."""
    effects = NOISE[np.ix_(order, order)]
    return context(utilities=SCORES[order], interactions=effects, menu_size=3, position_bias=0.3)


def additive_difference_of(order: np.ndarray) -> PairwisePreference:
    """Attributes in the given order of responses."""
    return additive_difference(values=2.0 * VECTORS[order], functions=["threshold", "saturating"], weights=[1.0, 2.0])


RELABELLED = {
    "additive_difference": additive_difference_of,
    "annotator_mixture": lambda order: annotator_mixture(utilities=UTILITIES[:, order], weights=[0.5, 0.3, 0.2]),
    "blade_chest": blade_chest_of,
    "bradley_terry": lambda order: bradley_terry(scores=SCORES[order]),
    "context": context_of,
    "from_counts": lambda order: from_counts(COUNTS[np.ix_(order, order)]),
    "general_preference": lambda order: general_preference(vectors=VECTORS[order], tau=0.5),
    "hodge": hodge_of,
    "intransitive_dice": lambda order: intransitive_dice(np.array(EFRON_DICE)[order]),
    "label_flip": lambda order: label_flip(scores=SCORES[order], flip=0.1),
    "noisy_sorting": lambda order: noisy_sorting(gamma=0.2, ranks=SCORES[order]),
    "rock_paper_scissors": lambda order: rock_paper_scissors(signal=0.7, angles=3.0 * SCORES[order]),
    "thumbs": lambda order: thumbs(label_probabilities=ETA[order], report_up=0.6),
    "thurstone": lambda order: thurstone(case="I", means=SCORES[order], covariance=COVARIANCE[np.ix_(order, order)]),
    "tournament": lambda order: tournament(gamma=0.2, beats=BEATS[np.ix_(order, order)]),
}

# Each model and each of its kinds, with several prompts where it has them. What follows the slash tells kinds apart.
EXAMPLES = {
    "additive_difference/one": {"responses": 5, "prompts": 2, "functions": "sign", "attributes": 3, "signal": 1.1},
    "additive_difference/two": {
        "responses": 6,
        "prompts": 3,
        "functions": ["threshold", "convex"],
        "weights": [2.0, 0.3],
        "attributes": 2,
        "signal": 1.0,
    },
    "annotator_mixture": {"responses": 5, "prompts": 2, "groups": 3, "signal": 2.0, "weights": [0.5, 0.3, 0.2]},
    "blade_chest/inner": {"responses": 5, "prompts": 3, "signal": 1.2, "dimension": 3},
    "blade_chest/dist": {"responses": 6, "prompts": 2, "kind": "dist", "signal": 1.2, "score_spread": 0.5},
    "bradley_terry": {"responses": 5, "prompts": 3, "signal": 1.5},
    "context/pair": {"responses": 5, "prompts": 3, "signal": 1.0, "menu_size": 2},
    "context/menu": {"responses": 6, "prompts": 2, "signal": 0.8, "menu_size": 4, "position_bias": 0.5},
    "from_counts": {"counts": COUNTS},
    "general_preference/signal": {"responses": 6, "prompts": 2, "blocks": 2, "signal": 1.0},
    "general_preference/tau": {"responses": 5, "prompts": 3, "blocks": 1, "tau": 0.4},
    "hodge": {"responses": 6, "prompts": 2, "cyclic_share": 0.3, "signal": 1.2},
    "intransitive_dice": {},
    "label_flip": {"responses": 5, "prompts": 2, "flip": 0.15, "signal": 2.0},
    "noisy_sorting": {"responses": 6, "prompts": 3, "gamma": 0.3},
    "rock_paper_scissors/sign": {"responses": 5, "prompts": 2, "kind": "sign", "signal": 0.8},
    "rock_paper_scissors/sine": {"responses": 6, "prompts": 2, "signal": 0.8},
    "thumbs": {"responses": 5, "prompts": 3, "signal": 1.0, "bias_spread": 1.0, "report_down": 0.4},
    "thurstone/V": {"responses": 5, "prompts": 2, "signal": 1.0},
    "thurstone/III": {"responses": 6, "prompts": 2, "case": "III", "signal": 1.0, "log_spread": 1.5},
    "thurstone/I": {"responses": 5, "prompts": 3, "case": "I", "signal": 1.0},
    "tournament": {"responses": 6, "prompts": 2, "gamma": 0.25},
}

KINDS = sorted(EXAMPLES)
PAIRED = [kind for kind in KINDS if PREFERENCE_MODELS[kind.split("/")[0]].regime == "paired"]


def example(kind: str, seed: int = 7):
    """An instance of a registered model."""
    options = dict(EXAMPLES[kind])
    size = {key: options.pop(key) for key in ("responses", "prompts") if key in options}
    return build_preference(kind.split("/")[0], options, rng=np.random.default_rng(seed), **size)


def policy_for(model) -> np.ndarray:
    """A base policy that differs between prompts and responses."""
    return np.random.default_rng(8).dirichlet(np.full(model.responses, 3.0), size=model.prompts)


def logits_of(matrices: np.ndarray) -> np.ndarray:
    """The logits of complementary probabilities, which do not lose digits near 0 and 1."""
    return np.log(matrices) - np.log(matrices.swapaxes(-1, -2))


def exceeds_chance(counts: np.ndarray, law: np.ndarray) -> bool:
    """Whether Pearson's statistic of multinomial counts passes the 1 - 1e-6 quantile of its chi-square limit.

    The limit holds when every expected count is large; the guard below asks for 25 in each cell.
    """
    expected = counts.sum() * law
    assert expected.min() >= 25
    return float((np.square(counts - expected) / expected).sum()) > chi2.isf(1e-6, law.size - 1)
