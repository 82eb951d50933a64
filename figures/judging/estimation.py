"""Our claims on fitted policies: bounds, limits, targets and tails; not in the papers as far as we know."""

from figures.judging.rules import Claim, Compare, Extreme, StudyClaim, StudyInterval, Values

__all__ = ["ESTIMATION_CLAIMS"]

_ALPHA = ("alpha",)
_LOGISTIC = {"method": ("rdro",), "generator": ("logistic",)}
_HALF: Values = {"method": ("ddro",), "generator": ("logistic",), "alpha": (0.5,)}


ESTIMATION_CLAIMS = (
    Claim(
        id="normalised-policy-exceeds-bound",
        statement="In a small sample the normalised RDRO policy may exceed 1/alpha times the reference.",
        source="ours",
        scope="Tabular policies, little overlap (P3): the largest ratio of any data set. The population's stays below.",
        rules=(
            Extreme(
                *("boundedness/summary", "max", "max", ">", "1/alpha", "ratio of a normalised policy in any data set"),
                by=_ALPHA,
                where={"metric": ("max_ratio",)},
            ),
        ),
        figure="relative_ratio_is_bounded",
        test="tests/theory/test_simplex.py::test_p3_normalised_policy_may_exceed_the_bound_in_a_small_sample",
    ),
    Claim(
        id="asymptotic-constants",
        statement="n E[KL(p+ || policy)] has the limit that our asymptotics give, for every generator and alpha.",
        source="ours",
        scope="Tabular policies, five responses; within 5 % at n of at least 100,000.",
        rules=(StudyClaim("constants", "n times the mean divergence from p+ has the limit that the asymptotics tell"),),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_p7_ddro_at_one_half_attains_the_bound",
    ),
    Claim(
        id="rdro-beats-sft-in-the-limit",
        statement="RDRO needs fewer examples than SFT on the preferred ones alone.",
        source="ours",
        scope="Logistic RDRO with an exact reference and alpha, in the limit of many data.",
        rules=(
            StudyClaim(
                "constants", "logistic rdro needs fewer examples than sft, by the factor that the asymptotics tell"
            ),
            Compare(
                *("efficiencies/table", "efficiency", _LOGISTIC, {"method": ("sft",)}, ">", "efficiency"), by=_ALPHA
            ),
        ),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_rdro_gains_much_over_sft_and_loses_little_to_the_bound",
    ),
    Claim(
        id="rdro-less-efficient-than-ddro",
        statement="In the limit logistic RDRO is less efficient than logistic DDRO, and loses less than 5 % against "
        "the Cramer-Rao bound.",
        source="ours",
        scope="Well specified, five responses: the price of the bound. Other laws have other losses.",
        rules=(
            Compare(
                "efficiencies/table",
                "efficiency",
                *(_LOGISTIC, {"method": ("ddro",), "generator": ("logistic",)}, "<", "efficiency"),
                by=_ALPHA,
            ),
            Extreme(*("efficiencies/table", "efficiency", "min", ">", 0.95, "efficiency"), by=_ALPHA, where=_LOGISTIC),
        ),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_rdro_gains_much_over_sft_and_loses_little_to_the_bound",
    ),
    Claim(
        id="ddro-at-one-half-is-efficient",
        statement="Logistic DDRO at alpha = 1/2 attains the Cramer-Rao bound.",
        source="ours",
        scope="It is the likelihood there (P7); exact.",
        rules=tuple(
            Extreme("efficiencies/table", "efficiency", of, relation, 1.0, "efficiency", by=_ALPHA, where=_HALF)
            for of, relation in (("min", ">="), ("max", "<="))
        ),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_p7_ddro_at_one_half_attains_the_bound",
    ),
    Claim(
        id="kl-generator-more-efficient",
        statement="RDRO with the KL generator is more efficient than logistic RDRO.",
        source="ours",
        scope="In the limit, five responses, every alpha tried; its gradients have no bound.",
        rules=(
            Compare(
                "efficiencies/table",
                "efficiency",
                *({"method": ("rdro",), "generator": ("kl",)}, _LOGISTIC, ">", "efficiency"),
                by=_ALPHA,
            ),
        ),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_rdro_gains_much_over_sft_and_loses_little_to_the_bound",
    ),
    Claim(
        id="logistic-rdro-not-convex",
        statement="The risk of logistic RDRO is not convex in the policy; with least squares, KL or power it is.",
        source="ours",
        scope="A response with p+/p- = 10, ratios of policy to reference from .02 to 55 (P9). The global minimum is "
        "found all the same, see the test.",
        rules=(
            Extreme(
                *("convexity/table", "curvature", "min", "<", 0.0, "curvature of logistic RDRO's risk"),
                by=_ALPHA,
                where={"generator": ("logistic",)},
            ),
            Extreme(
                *("convexity/table", "curvature", "min", ">=", 0.0, "curvature with other generators"),
                by=("alpha", "generator"),
                where={"generator": ("least_squares", "kl", "power")},
            ),
        ),
        test="tests/theory/test_simplex.py::test_p9_global_minimum_equals_the_best_of_many_scipy_starts",
    ),
    Claim(
        id="dpo-misses-p-plus-under-bradley-terry",
        statement="DPO and IPO stay away from p+ where Bradley-Terry holds, too: they reach another target.",
        source="ours",
        scope="beta = 1. Their target for independent pairs is p_ref (p+/p-)^(1/beta), so a misspecified preference "
        "model is not what keeps them away.",
        rules=(
            StudyInterval(
                "consistency",
                "the divergence from p+ that these keep is that of their exact targets",
                0.0,
                methods=("dpo", "ipo"),
                worlds=("bradley_terry",),
            ),
            StudyInterval(
                "arena",
                "the distance from p+ that these keep is that of their exact targets",
                0.0,
                worlds=("arena, Bradley-Terry",),
            ),
            StudyClaim("consistency", "these reach their own exact targets at the same rate", methods=("dpo", "ipo")),
            StudyClaim("arena", "these reach their own targets"),
        ),
        figure="consistency_without_bradley_terry",
        test="tests/theory/test_target_values.py::test_dpo_on_independent_pairs_has_a_closed_form",
    ),
    Claim(
        id="pooled-mean-inconsistent",
        statement="A plain mean over mixed batches makes RDRO inconsistent unless the classes are equally large.",
        source="ours",
        scope="Tabular policies; labels are preferred with probability alpha, .05 to .95 without .5.",
        rules=(
            Extreme(
                *("class_weighting/summary", "exact", "min", ">", 0.0, "exact TV of the pooled target from p+"),
                by=_ALPHA,
                where={"metric": ("tv_preferred",), "method": ("pooled",)},
                unless={"alpha": (0.5,)},
            ),
            StudyClaim("class_weighting", "pooled rdro misses p+ by as much as its exact target"),
        ),
        figure="balanced_against_pooled_weighting",
        test="tests/theory/test_target_values.py::test_published_values_of_pooled_weighting",
    ),
    Claim(
        id="logistic-ddro-has-lighter-tails",
        statement="Fitted exactly, logistic DDRO always has a fit, and a lighter tail than RDRO as overlap vanishes; "
        "with other generators DDRO has none in most data sets.",
        source="ours",
        scope="Eight responses; p- thinned to a hundredth or less on half of them; 97.5 % quantiles at n = 1,000.",
        rules=(
            StudyClaim("overlap", "logistic ddro, fitted exactly, always has a fit too"),
            StudyClaim(
                "overlap",
                "rdro's error has a smaller 97.5 % quantile than that of logistic ddro when overlap is poor",
                holds=False,
            ),
            StudyClaim(
                "overlap",
                "strict ddro with least squares or KL has no finite fit in most data sets of n = 1000 when overlap is "
                "poor",
            ),
        ),
        figure="tails_as_overlap_vanishes",
        test="tests/sim/test_options.py::test_with_little_overlap_logistic_ddro_is_the_more_accurate",
    ),
    Claim(
        id="rdro-always-has-a-fit",
        statement="RDRO has a fit whatever the overlap.",
        source="ours",
        scope="Tabular, logistic and KL generator; less than 2 % of data sets without a fit.",
        rules=(StudyClaim("overlap", "rdro always has a fit, whatever the overlap"),),
        figure="tails_as_overlap_vanishes",
        test="tests/sim/test_options.py::test_with_little_overlap_logistic_ddro_is_the_more_accurate",
    ),
    Claim(
        id="continued-ddro-biased",
        statement="Continuing DDRO's loss beyond its domain costs accuracy where overlap is poor.",
        source="ours",
        scope="Our linear continuation, not the DDRO authors' stabiliser; more than 5 % of the mean error.",
        rules=(
            StudyClaim(
                "overlap",
                "continuing ddro's loss beyond its domain costs no accuracy when overlap is poor",
                holds=False,
            ),
        ),
        figure="tails_as_overlap_vanishes",
        test="tests/sim/test_options.py::test_continued_ddro_is_the_infinite_one_inside_its_domain_and_biased_beyond",
    ),
    Claim(
        id="rdro-networks-beat-rulsif",
        statement="Networks trained by RDRO recover the relative ratio better than RuLSIF.",
        source="ours",
        scope="Two dimensions, three worlds, the study's largest n, error of the ratio.",
        rules=(StudyClaim("continuous", "networks trained by rdro recover the relative ratio better than RuLSIF"),),
        test="tests/sim/test_continuous.py::test_rdro_error_falls_with_n",
    ),
    Claim(
        id="rdro-networks-beat-continued-ddro",
        statement="Networks trained by RDRO recover the relative ratio better than those of continued DDRO.",
        source="ours",
        scope="As for RuLSIF; DDRO continued by us beyond its domain.",
        rules=(
            StudyClaim(
                "continuous", "networks trained by rdro recover the relative ratio better than those of continued ddro"
            ),
        ),
        test="tests/sim/test_continuous.py::test_every_method_beats_the_reference",
    ),
    Claim(
        id="log-linear-policies",
        statement="With log-linear policies all four reach p+ where it is among them, and otherwise their own targets.",
        source="ours",
        scope="SFT, RDRO, DDRO, MLE with 2, 4 or 16 features; a slope of -1/2 within .05.",
        rules=(
            StudyClaim("log_linear", "with p+ among the policies these reach it at the rate one half"),
            StudyClaim("log_linear", "without p+ among the policies each reaches its own target at the same rate"),
        ),
        test="tests/sim/test_options.py::test_log_linear_policies_reach_p_plus_where_it_is_among_them",
    ),
    Claim(
        id="misspecified-rdro-against-sft",
        statement="Where p+ is not among the log-linear policies, RDRO ends closer to p+ than SFT.",
        source="ours",
        scope="2, 4 and 16 features, the largest n; by about a thousandth of the distance only.",
        rules=(StudyClaim("log_linear", "without p+ among the policies rdro ends closer to p+ than sft"),),
        test="tests/sim/test_log_linear.py::test_well_specified_worlds_have_p_plus_as_target",
    ),
)
