"""What the two papers claim, as far as a result table can decide about it."""

from figures.judging.rules import Claim, Compare, Extreme, Paired, Share, StudyClaim, StudyInterval

__all__ = ["PAPER_CLAIMS"]

RDRO = "RDRO paper (arXiv 2604.04410)"
DDRO = "DDRO paper (arXiv 2505.07558)"

_REACHED = (
    "whatever explains the preferences, these reach p+ with an error that falls like one over the square root of n"
)
_REACHED_VOTES = "these reach p+ of real votes as well as of votes that scores explain"
_KEPT = "the divergence from p+ that these keep is that of their exact targets"
_KEPT_VOTES = "the distance from p+ that these keep is that of their exact targets"
_LOGISTIC = {"generator": ("logistic",)}
_RDRO, _DDRO = ({"method": (name,), **_LOGISTIC} for name in ("rdro", "ddro"))
_STRICT = {"method": ("ddro",), "beyond_domain": ("infinite",)}

PAPER_CLAIMS = (
    Claim(
        id="ratio-bounded",
        statement="The relative density ratio p+/(alpha p+ + (1 - alpha) p-) never exceeds 1/alpha, and neither does "
        "its estimate from any sample, however large p+/p- is.",
        source=RDRO,
        scope="All pairs of laws (P1) and the estimate before it is normalised (P2). Tables cover direct ratios from "
        ".001 to a million and simulated data sets with little overlap; the test covers all densities.",
        rules=(
            Extreme(
                *("ratio_shapes/table", "relative_ratio", "max", "<=", "relative_ratio_bound", "relative ratio"),
                by=("alpha",),
            ),
            Extreme(
                *("boundedness/summary", "max", "max", "<=", "1/alpha", "relative estimate in any data set"),
                by=("alpha",),
                where={"metric": ("max_relative_estimate",)},
            ),
        ),
        figure="relative_ratio_is_bounded",
        test="tests/theory/test_density_ratios.py::test_p1_relative_ratio_never_exceeds_its_bound",
    ),
    Claim(
        id="direct-ratio-unbounded",
        statement="The direct ratio p+/p-, which DDRO estimates, has no bound: with little overlap its estimate is "
        "infinite in most data sets.",
        source=RDRO,
        scope="Tabular estimates at n = 300 where the rarest of ten responses has p- of about .001; with more data it "
        "becomes finite.",
        rules=(StudyClaim("boundedness", "the direct ratio's estimate is infinite in most data sets of n = 300"),),
        figure="relative_ratio_is_bounded",
        test="tests/theory/test_density_ratios.py::test_p2_tabular_estimate_is_bounded_for_every_sample",
    ),
    Claim(
        id="rdro-consistent",
        statement="RDRO is statistically consistent whatever explains the preferences, Bradley-Terry or not: its "
        "policy tends to p+.",
        source=RDRO,
        scope="The reference is the mixture, alpha is known, classes weigh the same (P5). Thirteen preference models "
        "and real votes, paired and unpaired labels, tabular policies; a slope of -1/2 within .05.",
        rules=(
            StudyClaim("consistency", _REACHED, methods=("rdro",)),
            StudyClaim("arena", _REACHED_VOTES, methods=("rdro",)),
        ),
        figure="errors_fall_at_rate_one_half",
        test="tests/theory/test_target_values.py::test_p5_under_assumption_m_rdro_targets_the_preferred_law",
    ),
    Claim(
        id="ddro-consistent",
        statement="DDRO is statistically consistent whatever explains the preferences: its policy tends to p+.",
        source=DDRO,
        scope="As for RDRO, with DDRO's loss fitted exactly.",
        rules=(
            StudyClaim("consistency", _REACHED, methods=("ddro",)),
            StudyClaim("arena", _REACHED_VOTES, methods=("ddro",)),
        ),
        figure="errors_fall_at_rate_one_half",
        test="tests/theory/test_target_values.py::test_p5_under_assumption_m_ddro_targets_the_preferred_law",
    ),
    Claim(
        id="bradley-terry-methods-inconsistent",
        statement="DPO, IPO and KTO are not consistent: with ever more data their policies stay away from p+.",
        source=RDRO,
        scope="Both papers put this down to Bradley-Terry failing; here it is only asked whether they stay away, in "
        "thirteen preference models and real votes. Why they do is another claim. beta = 1, KTO .1.",
        rules=(
            StudyInterval("consistency", _KEPT, 0.0, methods=("dpo", "ipo")),
            StudyInterval(
                "consistency", "the distance from p+ that kto keeps is that of its exact target", 0.0, methods=("kto",)
            ),
            StudyInterval("arena", _KEPT_VOTES, 0.0, methods=("dpo", "ipo")),
        ),
        figure="consistency_without_bradley_terry",
        test="tests/theory/test_target_values.py::test_dpo_on_independent_pairs_has_a_closed_form",
    ),
    Claim(
        id="guarantee-independent-of-overlap",
        statement="RDRO's guarantee, its squared error for a nat of excess risk, has a constant that overlap cannot "
        "spoil; DDRO's error exceeds it as p+/p- grows.",
        source=RDRO,
        scope="Logistic losses, direct ratios of up to a million (P6). Each error is that of the method's own ratio, "
        "in the norm of its own guarantee, in the simplest form that we derive; the paper's theorem may be another.",
        rules=(
            Extreme(
                *("guarantees/table", "worst", "max", "<=", "rdro_guarantee", "error of RDRO's ratio for a nat"),
                by=("alpha",),
                where={"method": ("rdro",)},
            ),
            Extreme(
                *("guarantees/table", "worst", "max", ">", "rdro_guarantee", "error of DDRO's ratio for a nat"),
                by=("alpha",),
                where={"method": ("ddro",)},
            ),
        ),
        test="tests/theory/test_bounds.py::test_p6_ddro_error_bound_is_approached_and_has_no_content_without_a_range",
    ),
    Claim(
        id="guarantee-tighter-everywhere",
        statement="RDRO's guarantee is tighter than DDRO's, whatever the overlap.",
        source=RDRO,
        scope="The constants of that claim, compared at every alpha and overlap tried, good overlap (direct ratios of "
        "at most 2) too. The strongest reading of a claim that the paper may make of poor overlap alone.",
        rules=(
            Compare(
                "guarantees/table",
                "guarantee",
                *({"method": ("rdro",)}, {"method": ("ddro",)}, "<", "constant of the guarantee"),
                by=("alpha", "largest_ratio"),
            ),
        ),
        test="tests/theory/test_bounds.py::test_p6_ddro_error_bound_is_approached_and_has_no_content_without_a_range",
    ),
    Claim(
        id="tighter-in-the-limit",
        statement="RDRO converges to p+ with smaller errors than DDRO.",
        source=RDRO,
        scope="The paper claims significantly tighter convergence guarantees; this is the strongest reading, errors "
        "themselves: in the limit of many data, logistic losses, everything well specified.",
        rules=(
            StudyClaim("constants", "logistic rdro's divergence is smaller than that of logistic ddro"),
            Compare("efficiencies/table", "efficiency", _RDRO, _DDRO, ">", "efficiency", by=("alpha",)),
        ),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_rdro_gains_much_over_sft_and_loses_little_to_the_bound",
    ),
    Claim(
        id="tighter-without-overlap",
        statement="RDRO has lighter tails than DDRO where p- vanishes on part of the support.",
        source=RDRO,
        scope="The guarantees' worst case: 97.5 % quantiles of the error at n = 1,000, p- thinned to a hundredth "
        "or less on half of the responses; logistic losses, fitted exactly.",
        rules=(
            StudyClaim(
                "overlap", "rdro's error has a smaller 97.5 % quantile than that of logistic ddro when overlap is poor"
            ),
        ),
        figure="tails_as_overlap_vanishes",
        test="tests/sim/test_options.py::test_with_little_overlap_logistic_ddro_is_the_more_accurate",
    ),
    Claim(
        id="rdro-gradients-bounded",
        statement="The derivatives of RDRO's loss with respect to the log-ratio never exceed 1; DDRO's do, near the "
        "edge of its domain.",
        source=RDRO,
        scope="Logistic losses (P4), log-ratios of -4 to 4. A bounded derivative does not bound a network's gradient.",
        rules=(
            Extreme(
                *("loss_shapes/table", "derivative", "max_abs", "<=", 1.0, "derivative of RDRO's loss"),
                by=("alpha", "preferred"),
                where={"method": ("rdro",)},
            ),
            Extreme(
                *("loss_shapes/table", "derivative", "max_abs", ">", 1.0, "derivative of strict DDRO's loss"),
                by=("alpha",),
                where=_STRICT,
            ),
        ),
        figure="loss_and_gradient_shapes",
        test="tests/theory/test_loss_derivatives.py::test_p4_logistic_rdro_is_lipschitz_and_smooth",
    ),
    Claim(
        id="rdro-trains-stably",
        statement="Training by RDRO is stable: runs do not diverge.",
        source=RDRO,
        scope="Less than a tenth of the runs in each cell of optimiser, learning rate and overlap (tabular), less than "
        "half for small networks and tiny language models, which have fewer runs. A run diverges when a loss, "
        "gradient or parameter is not finite; that it came near its target is not said.",
        rules=(
            StudyClaim(
                "dynamics",
                "rdro and continued ddro do not diverge, at any learning rate and overlap",
                methods=("rdro",),
            ),
            StudyClaim("continuous", "networks trained by rdro end in most runs, with any overlap"),
            Share("stability", "rdro", "<", 0.5),
        ),
        figure="training_divergence",
        test="tests/sim/test_dynamics.py::test_ddro_and_mle_diverge_without_overlap_and_rdro_does_not",
    ),
    Claim(
        id="ddro-trains-unstably",
        statement="Training by DDRO is unstable: where overlap is poor most runs diverge.",
        source=RDRO,
        scope="DDRO's loss as it stands, infinite beyond its domain. The stabiliser of its authors is unknown to us. "
        "Language models: all worlds, good overlap too.",
        rules=(
            StudyClaim(
                "dynamics",
                "strict ddro and the likelihood diverge in most runs when overlap is poor and steps are not small",
                methods=("ddro",),
            ),
            StudyClaim(
                "continuous",
                "where the direct ratio has no bound, networks trained by ddro or the likelihood leave its domain in "
                "most runs",
                methods=("ddro",),
            ),
            Share("stability", "ddro", ">", 0.5),
        ),
        figure="training_divergence",
        test="tests/lm/test_validation.py::test_ddro_meets_an_infinite_loss_which_is_an_outcome_where_rdro_trains_on",
    ),
    Claim(
        id="better-than-ddro",
        statement="A language model aligned by RDRO ends closer to p+ than one aligned by DDRO.",
        source=RDRO,
        scope="The paper compares benchmark scores of large models; here the exact KL of tiny ones, against DDRO "
        "continued by us beyond its domain, where it trains as stably as RDRO. Strict DDRO is another claim.",
        rules=(
            Paired("methods", "rdro", "ddro, extended", "KL(p+ to policy)"),
            Paired("sample_size", "rdro", "ddro, extended", "KL(p+ to policy)"),
        ),
        figure="language_models_against_sample_size",
    ),
    Claim(
        id="better-than-strict-ddro",
        statement="A language model trained by RDRO ends closer to p+ than one trained by strict DDRO, which stops at "
        "its first infinite loss.",
        source=RDRO,
        scope="Weights at the end of 40 steps, or before the step that diverged; each world and learning rate.",
        rules=(Paired(*("stability", "rdro", "ddro", "KL(p+ to policy)"), metric="last_kl_preferred", whole_run=True),),
        figure="strict_losses_stop_language_models",
    ),
    Claim(
        id="better-than-kto",
        statement="A language model aligned by RDRO ends closer to p+ than one aligned by KTO.",
        source=RDRO,
        scope="As for DDRO: the exact KL of tiny models in place of benchmark scores; beta .1 and 1. KTO has another "
        "target than p+.",
        rules=tuple(Paired("methods", "rdro", f"kto, beta {beta}", "KL(p+ to policy)") for beta in (".1", "1")),
        figure="language_models_against_steps",
    ),
    Claim(
        id="ddro-better-than-others",
        statement="A language model aligned by DDRO ends closer to p+ than one aligned by KTO or DPO.",
        source=DDRO,
        scope="The paper compares benchmark scores of large models; here the exact KL of tiny ones, beta .1 and 1, "
        "with DDRO continued by us beyond its domain.",
        rules=tuple(
            Paired("methods", "ddro, extended", f"{rival}, beta {beta}", "KL(p+ to policy)")
            for rival in ("kto", "dpo")
            for beta in (".1", "1")
        ),
        figure="language_models_against_steps",
    ),
)
"""Claims of the papers, in the order of their argument."""
