"""Wrong arguments: each error states the rule and what was received."""

import numpy as np
import pytest

from sim.preferences import (
    PairwisePreference,
    ThumbsPreference,
    additive_difference,
    annotator_mixture,
    blade_chest,
    bradley_terry,
    build_preference,
    context,
    from_counts,
    general_preference,
    hodge,
    intransitive_dice,
    label_flip,
    noisy_sorting,
    rock_paper_scissors,
    thumbs,
    thurstone,
    tournament,
)
from sim.preferences.hodge import hodge_logits
from sim.preferences.tournament import cyclic_triples
from tests.sim.preferences.models import BEATS, CHESTS, COVARIANCE, ETA, NOISE, SCORES, UTILITIES, VECTORS, example

RNG = np.random.default_rng(0)  # of the errors below none comes after a draw that matters

ERRORS = [
    (lambda: PairwisePreference("m", [[0.5, 0.7], [0.2, 0.5]]), "P_ij \\+ P_ji = 1.*got 0.7 and 0.2"),
    (lambda: PairwisePreference("m", [[0.6, 0.7], [0.3, 0.5]]), "1/2 on the diagonal.*responses 0 and 0"),
    (lambda: PairwisePreference("m", [[0.5, 1.7], [-0.7, 0.5]]), "lie in \\[0, 1\\], got 1.7"),
    (lambda: PairwisePreference("m", [[0.5, np.nan], [0.5, 0.5]]), "NaN"),
    (lambda: PairwisePreference("m", [[0.5]]), "two responses, got shape \\(1, 1, 1\\)"),
    (lambda: PairwisePreference("m", [0.5, 0.5]), "shape \\(prompts, K, K\\), got \\(2,\\)"),
    (lambda: PairwisePreference(" ", [[0.5, 0.7], [0.3, 0.5]]), "non-empty string, got ' '"),
    (lambda: ThumbsPreference("m", [0.5, 1.2]), "label_probabilities must lie in \\[0, 1\\], got 1.2"),
    (lambda: ThumbsPreference("m", [0.5]), "at least two responses, got \\(1, 1\\)"),
    (lambda: ThumbsPreference("m", [0.5, 0.6], report_up=0.0), "report_up must lie in \\(0, 1\\], got 0"),
    (lambda: ThumbsPreference("m", [0.5, 0.6], report_down=[0.5, 0.6]), "same shape"),
    (lambda: ThumbsPreference("m", [1.0, 1.0]).class_laws([0.5, 0.5]), "got no thumb down at prompt 0"),
    (lambda: ThumbsPreference("m", [0.0, 0.5]).class_laws([1.0, 0.0]), "got no thumb up at prompt 0"),
    (lambda: bradley_terry(4), "exactly one of scores and signal must be given, got none"),
    (lambda: bradley_terry(4, scores=SCORES, signal=1.0), "exactly one of scores and signal must be given, got both"),
    (lambda: bradley_terry(signal=1.0), "responses must be given"),
    (lambda: bradley_terry(5, scores=SCORES), "shape \\(1, 5\\), got \\(1, 4\\)"),
    (lambda: bradley_terry(scores=[0.0, np.inf]), "finite"),
    (lambda: bradley_terry(4, signal=-1.0, rng=np.random.default_rng(0)), "signal must be finite and greater than 0"),
    (lambda: hodge(2, cyclic_share=0.1, signal=1.0, rng=np.random.default_rng(0)), "at least 3, got 2"),
    (lambda: hodge(4, cyclic_share=1.1, signal=1.0, rng=np.random.default_rng(0)), "cyclic_share.*\\[0, 1\\], got 1.1"),
    (lambda: hodge_logits(np.zeros(4), NOISE, cyclic_share=0.1, signal=1.0), "nonzero entry"),
    (lambda: intransitive_dice([[1, 2, 3]]), "K >= 2, got shape \\(1, 3\\)"),
    (lambda: thumbs(4), "exactly one of label_probabilities and signal must be given, got none"),
    (lambda: thumbs(signal=1.0), "responses must be given"),
    (lambda: thumbs(4, signal=-1.0, rng=np.random.default_rng(0)), "signal must be finite and not negative, got -1"),
    (lambda: thumbs(3, label_probabilities=ETA), "shape \\(1, 3\\), got \\(1, 4\\)"),
    (lambda: from_counts([[0, 3, 1], [1, 0, 0], [2, 0, 0]], ["a", "b", "c"]), "got none between 'b' and 'c'"),
    (lambda: from_counts([[0, 3, 1], [1, 0, 0], [2, 0, 0]]), "got none between item 1 and item 2"),
    (lambda: from_counts([[0, -3], [1, 0]]), "not negative, got -3 at index \\(0, 1\\)"),
    (lambda: from_counts([[0, 2.5], [1, 0]], ["a", "b"]), "whole numbers, got 2.5 for 'a' against 'b'"),
    (lambda: from_counts([[0, 2], [1, 4]]), "0 on the diagonal, got 4 for item 1"),
    (lambda: from_counts([[0, 2, 1], [1, 0, 1]]), "shape \\(K, K\\) with K >= 2, got \\(2, 3\\)"),
    (lambda: from_counts([[0, 2], [1, 0]], ["a"]), "one entry for each of the 2 items, got 1"),
    (
        lambda: example("hodge").sample([0.5, 0.5], 3, np.random.default_rng(0)),
        "base_policy must have shape \\(2, 6\\)",
    ),
    (lambda: example("from_counts").sample([0.5, 0.5, 0.5, 0.5], 3, np.random.default_rng(0)), "sum to 1"),
    (
        lambda: example("from_counts").sample([0.25] * 4, -3, np.random.default_rng(0)),
        "pairs must not be negative, got -3",
    ),
    (
        lambda: example("hodge").sample(np.full((2, 6), 1 / 6), [1, 2, 3], np.random.default_rng(0)),
        "one entry per prompt",
    ),
]


NEW_ERRORS = [
    (lambda: rock_paper_scissors(4, kind="sign", signal=1.0), 'responses must be odd for kind = "sign", got 4'),
    (lambda: rock_paper_scissors(2, signal=1.0), "responses must be at least 3, got 2"),
    (lambda: rock_paper_scissors(signal=1.0), "responses must be given"),
    (lambda: rock_paper_scissors(3, kind="sin", signal=1.0), "kind must be one of.*did you mean 'sine'"),
    (lambda: rock_paper_scissors(3, kind="sign", signal=1.0, angles=[1, 2, 3]), "angles must only be given for kind"),
    (lambda: rock_paper_scissors(signal=1.0, angles=[1.0, 1.0]), "nonzero entry"),
    (lambda: rock_paper_scissors(3, signal=0.0), "signal must be finite and greater than 0, got 0.0"),
    (
        lambda: rock_paper_scissors(3, 2, signal=1.0, angles=[[1, 2, 3]]),
        r"angles must have shape \(2, 3\), got \(1, 3\)",
    ),
    (lambda: blade_chest(3), "exactly one of blades and signal must be given, got none"),
    (lambda: blade_chest(blades=VECTORS, chests=CHESTS, signal=1.0), "blades and signal must be given, got both"),
    (lambda: blade_chest(blades=VECTORS), "chests must be given together with blades, got None"),
    (lambda: blade_chest(4, signal=1.0, scores=SCORES), "scores must only be given together with blades"),
    (lambda: blade_chest(blades=VECTORS, chests=CHESTS[:, :1]), "blades and chests must have the same shape"),
    (lambda: blade_chest(blades=VECTORS, chests=CHESTS, scores=[1.0, 2.0]), r"scores must have shape \(1, 4\)"),
    (lambda: blade_chest(blades=VECTORS, chests=[[np.inf, 0.0]] * 4), "chests must be finite .* got inf"),
    (
        lambda: blade_chest(blades=[1.0, 2.0], chests=[1.0, 2.0]),
        r"shape \(prompts, K, d\) and K >= 2, got shape \(2,\)",
    ),
    (lambda: blade_chest(3, signal=1.0, kind="outer", rng=RNG), "kind must be one of dist, inner; got 'outer'"),
    (lambda: blade_chest(3, signal=1.0, dimension=0, rng=RNG), "dimension must be at least 1, got 0"),
    (
        lambda: blade_chest(3, signal=1.0, score_spread=-1.0, rng=RNG),
        r"score_spread must be a number in \[0, inf\), got -",
    ),
    (lambda: general_preference(3, tau=1.0), "exactly one of vectors and blocks must be given, got none"),
    (lambda: general_preference(3, blocks=1, rng=RNG), "exactly one of tau and signal must be given, got none"),
    (lambda: general_preference(vectors=VECTORS, tau=1.0, signal=1.0), "tau and signal must be given, got both"),
    (lambda: general_preference(vectors=VECTORS[:, :1], tau=1.0), "even dimension 2k, got 1"),
    (lambda: general_preference(vectors=VECTORS, tau=-1.0), "tau must be finite and greater than 0, got -1"),
    (lambda: general_preference(3, blocks=0, tau=1.0, rng=RNG), "blocks must be at least 1, got 0"),
    (lambda: general_preference(blocks=1, tau=1.0, rng=RNG), "responses must be given for random vectors"),
    (lambda: thurstone(4), "exactly one of means and signal must be given, got none"),
    (lambda: thurstone(case="2", means=SCORES), "case must be one of I, III, V; got '2'"),
    (lambda: thurstone(case="III", means=SCORES), 'variances must be given for case = "III", got None'),
    (lambda: thurstone(case="I", means=SCORES), 'covariance must be given for case = "I", got None'),
    (lambda: thurstone(means=SCORES, variances=[1, 1, 1, 1]), 'variances must only be given for case = "III"'),
    (lambda: thurstone(means=SCORES, covariance=COVARIANCE), 'covariance must only be given for case = "I"'),
    (lambda: thurstone(4, signal=1.0, covariance=COVARIANCE), "covariance must only be given together with means"),
    (lambda: thurstone(case="III", means=SCORES, variances=[1, 1, 0, 1]), "variances must be positive, got 0"),
    (lambda: thurstone(case="III", means=SCORES, variances=[1, 1, 1]), "variances must have shape"),
    (lambda: thurstone(case="I", means=SCORES, covariance=NOISE), "covariance must be symmetric"),
    (
        lambda: thurstone(case="I", means=SCORES, covariance=np.ones((4, 4))),
        "positive variance, got 0 for responses 0 and 1",
    ),
    (lambda: thurstone(case="I", means=SCORES, covariance=np.eye(3)), r"covariance must have shape \(1, 4, 4\)"),
    (
        lambda: thurstone(4, case="III", signal=1.0, log_spread=-1.0, rng=RNG),
        r"log_spread must be a number in \[0, inf\), got -",
    ),
    (lambda: annotator_mixture(4), "exactly one of utilities and signal must be given, got none"),
    (lambda: annotator_mixture(4, signal=1.0, rng=RNG), "groups must be given for random utilities, got None"),
    (lambda: annotator_mixture(utilities=UTILITIES, groups=3), "groups must only be given together with signal, got 3"),
    (lambda: annotator_mixture(4, signal=1.0, groups=0, rng=RNG), "groups must be at least 1, got 0"),
    (lambda: annotator_mixture(utilities=UTILITIES, weights=[0.5, 0.5]), "each of the 3 groups, got shape"),
    (lambda: annotator_mixture(utilities=UTILITIES, weights=[0.5, 0.5, 0.5]), "weights must sum to 1"),
    (lambda: annotator_mixture(utilities=SCORES), r"utilities must be finite with shape \(prompts, groups, K\)"),
    (lambda: annotator_mixture(3, utilities=UTILITIES), r"utilities must have shape \(1, groups, 3\), got \(1, 3, 4\)"),
    (lambda: noisy_sorting(4, gamma=0.6, rng=RNG), r"gamma must be a number in \[0, 0.5\], got 0.6"),
    (lambda: noisy_sorting(4, gamma=[0.1], rng=RNG), r"gamma must be a number in \[0, 0.5\], got \[0.1\]"),
    (lambda: noisy_sorting(gamma=0.1, ranks=[1, 2, 2]), "ranks must differ .* got 2 twice"),
    (lambda: noisy_sorting(gamma=0.1), "responses must be given for random ranks"),
    (lambda: noisy_sorting(1, gamma=0.1, rng=RNG), "responses must be at least 2, got 1"),
    (lambda: label_flip(flip=0.6, scores=SCORES), r"flip must be a number in \[0, 0.5\], got 0.6"),
    (lambda: label_flip(4, flip=0.1), "exactly one of scores and signal"),
    (lambda: tournament(4, gamma=-0.1, rng=RNG), r"gamma must be a number in \[0, 0.5\], got -0.1"),
    (lambda: tournament(gamma=0.1, beats=np.ones((3, 3))), "got 1 and 1 for responses 0 and 0 at prompt 0"),
    (lambda: tournament(gamma=0.1, beats=[[0.0, 0.4], [0.6, 0.0]]), "got 0.4 and 0.6 for responses 0 and 1"),
    (lambda: tournament(gamma=0.1, beats=[[0, 1, 0], [0, 0, 1]]), r"beats must be finite with shape \(prompts, K, K\)"),
    (lambda: cyclic_triples([BEATS, BEATS]), r"beats must have shape \(K, K\), got \(2, 4, 4\)"),
    (lambda: additive_difference(4, functions="sign"), "exactly one of values and signal must be given, got none"),
    (
        lambda: additive_difference(4, functions="sign", signal=1.0, rng=RNG),
        "attributes must be given for random values",
    ),
    (
        lambda: additive_difference(values=VECTORS, functions="linaer"),
        "functions must be one of.*did you mean 'linear'",
    ),
    (
        lambda: additive_difference(values=VECTORS, functions=["sign"]),
        "functions must have one entry for each of the 2",
    ),
    (
        lambda: additive_difference(values=VECTORS, functions="sign", weights=[1.0]),
        "weights must have one entry for each",
    ),
    (
        lambda: additive_difference(values=VECTORS, functions="sign", weights=[1.0, -1.0]),
        "weights must be .* not negative",
    ),
    (
        lambda: additive_difference(values=VECTORS, functions="sign", attributes=2),
        "attributes must only be given together",
    ),
    (
        lambda: additive_difference(4, functions="sign", signal=1.0, attributes=0, rng=RNG),
        "attributes must be at least 1, got 0",
    ),
    (lambda: context(4), "exactly one of utilities and signal must be given, got none"),
    (lambda: context(4, signal=1.0, interactions=NOISE), "interactions must only be given together with utilities"),
    (lambda: context(utilities=SCORES, menu_size=5), "menu_size must be at most the number of responses, 4, got 5"),
    (lambda: context(utilities=SCORES, menu_size=1), "menu_size must be at least 2, got 1"),
    (lambda: context(64, signal=1.0, menu_size=6, rng=RNG), "at most 50000 choices of the other members, got 635376"),
    (lambda: context(utilities=SCORES, interactions=np.eye(4)), "interactions must be 0 on the diagonal, got 1"),
    (lambda: context(utilities=SCORES, interactions=np.zeros((3, 3))), r"interactions must have shape \(1, 4, 4\)"),
    (lambda: context(utilities=SCORES, position_bias=-0.1), r"position_bias must be a number in \[0, inf\), got -"),
    (lambda: context(utilities=SCORES, position_bias=[1.0]), r"position_bias must be a number in .* got \[1.0\]"),
    (
        lambda: context(4, signal=1.0, interaction_spread=-1.0, rng=RNG),
        r"interaction_spread must be a number in \[0, inf\), got -",
    ),
]


@pytest.mark.parametrize(("call", "message"), [*ERRORS, *NEW_ERRORS])
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


TYPE_ERRORS = [
    (lambda: bradley_terry(4, signal=1.0), "rng must be a numpy.random.Generator, got NoneType"),
    (lambda: hodge(4.0, cyclic_share=0.1, signal=1.0, rng=np.random.default_rng(0)), "responses must be an integer"),
    (
        lambda: hodge(4, cyclic_share="x", signal=1.0, rng=np.random.default_rng(0)),
        "cyclic_share must be an array of real",
    ),
    (lambda: tournament(4, gamma="x", rng=RNG), "gamma must be an array of real numbers"),
    (lambda: noisy_sorting(4, gamma=0.1), "rng must be a numpy.random.Generator, got NoneType"),
    (lambda: label_flip(4, flip="much", signal=1.0), "flip must be an array of real numbers"),
    (lambda: thurstone(4, case=5, signal=1.0), "case must be a string"),
    (lambda: annotator_mixture(4, groups=2.0, signal=1.0, rng=RNG), "groups must be an integer, got 2.0"),
    (lambda: general_preference(4, blocks=1, signal="x", rng=RNG), "signal must be a number, got str"),
    (
        lambda: additive_difference(4, functions=3, attributes=2, signal=1.0, rng=RNG),
        "functions must be a name or a sequence of names, got 3",
    ),
    (lambda: context(utilities=SCORES, menu_size=2.5), "menu_size must be an integer, got 2.5"),
    (lambda: example("hodge").sample(np.full((2, 6), 1 / 6), 2.5, np.random.default_rng(0)), "pairs must be integers"),
]


@pytest.mark.parametrize(("call", "message"), TYPE_ERRORS)
def test_type_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "options", "size", "message"),
    [
        ("hogde", {}, {}, "preference must be one of.*did you mean 'hodge'"),
        ("hodge", {"cyclic_shar": 1.0}, {"responses": 4}, "got 'cyclic_shar' \\(did you mean 'cyclic_share'\\?\\)"),
        ("hodge", {"signal": 1.0}, {"responses": 4}, "hodge must be given cyclic_share, got only signal"),
        ("hodge", {"rng": 3}, {"responses": 4}, "got 'rng'"),
        ("intransitive_dice", {}, {"responses": 5}, "as many responses as its data, 4; got 5"),
        ("intransitive_dice", {}, {"prompts": 2}, "as many prompts as its data, 1; got 2"),
    ],
)
def test_build_preference_refuses_what_it_does_not_know(name, options, size, message):
    with pytest.raises(ValueError, match=message):
        build_preference(name, options, rng=np.random.default_rng(0), **size)
