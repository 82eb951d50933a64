"""What this project claims, for and against RDRO; none of it is in the papers as far as we know."""

from figures.rules import Claim, Compare, Extreme, Paired, Rule, Share, StudyClaim, StudyInterval

__all__ = ["OWN_CLAIMS"]

OURS = "ours"
_KL = "KL(p+ to policy)"
_ALPHA = ("alpha",)
_LOGISTIC = {"method": ("rdro",), "generator": ("logistic",)}
_HALF = {"method": ("ddro",), "generator": ("logistic",), "alpha": (0.5,)}


def _paired(experiment: str, first: str, *others: str, worlds: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Return the rules that one method ends closer to p+ than others."""
    return tuple(Paired(experiment, first, other, _KL, worlds=worlds) for other in others)


_ESTIMATION = (
    Claim(
        id="normalised-policy-exceeds-bound",
        statement="In a small sample the normalised RDRO policy may exceed 1/alpha times the reference.",
        source=OURS,
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
        source=OURS,
        scope="Tabular policies, five responses; within 5 % at n of at least 100,000.",
        rules=(StudyClaim("constants", "n times the mean divergence from p+ has the limit that the asymptotics tell"),),
        figure="efficiency_against_cramer_rao",
        test="tests/theory/test_asymptotics.py::test_p7_ddro_at_one_half_attains_the_bound",
    ),
    Claim(
        id="rdro-beats-sft-in-the-limit",
        statement="RDRO needs fewer examples than SFT on the preferred ones alone.",
        source=OURS,
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
        source=OURS,
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
        source=OURS,
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
        source=OURS,
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
        test="tests/theory/test_simplex.py::test_p9_convexity_of_each_generator",
    ),
    Claim(
        id="dpo-misses-p-plus-under-bradley-terry",
        statement="DPO and IPO stay away from p+ where Bradley-Terry holds, too: they reach another target.",
        source=OURS,
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
        figure="error_against_sample_size",
        test="tests/theory/test_target_values.py::test_dpo_on_independent_pairs_has_a_closed_form",
    ),
    Claim(
        id="pooled-mean-inconsistent",
        statement="A plain mean over mixed batches makes RDRO inconsistent unless the classes are equally large.",
        source=OURS,
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
        source=OURS,
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
        source=OURS,
        scope="Tabular, logistic and KL generator; less than 2 % of data sets without a fit.",
        rules=(StudyClaim("overlap", "rdro always has a fit, whatever the overlap"),),
        figure="tails_as_overlap_vanishes",
        test="tests/sim/test_options.py::test_with_little_overlap_logistic_ddro_is_the_more_accurate",
    ),
    Claim(
        id="continued-ddro-biased",
        statement="Continuing DDRO's loss beyond its domain costs accuracy where overlap is poor.",
        source=OURS,
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
        source=OURS,
        scope="Two dimensions, three worlds, the study's largest n, error of the ratio.",
        rules=(StudyClaim("continuous", "networks trained by rdro recover the relative ratio better than RuLSIF"),),
        test="tests/sim/test_continuous.py::test_rdro_error_falls_with_n",
    ),
    Claim(
        id="log-linear-policies",
        statement="With log-linear policies all four reach p+ where it is among them, and otherwise their own targets.",
        source=OURS,
        scope="SFT, RDRO, DDRO, MLE with 2, 4 or 16 features; a slope of -1/2 within .05.",
        rules=(
            StudyClaim("log_linear", "with p+ among the policies these reach it at the rate one half"),
            StudyClaim("log_linear", "without p+ among the policies each reaches its own target at the same rate"),
        ),
        test="tests/sim/test_options.py::test_log_linear_policies_reach_p_plus_where_it_is_among_them",
    ),
)

_ASSUMPTIONS = (
    Claim(
        id="wrong-alpha-rdro-against-ddro",
        statement="With a wrong alpha RDRO stays closer to p+ than DDRO.",
        source=OURS,
        scope="True alpha .3, told .15 and .45; tabular, the largest n.",
        rules=(
            StudyClaim("wrong_alpha", "with alpha understated rdro stays closer to p+ than ddro"),
            StudyClaim("wrong_alpha", "with alpha overstated rdro stays closer to p+ than ddro"),
        ),
        figure="errors_under_wrong_assumptions",
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="wrong-alpha-rdro-against-likelihood",
        statement="With a wrong alpha RDRO stays closer to p+ than the likelihood.",
        source=OURS,
        scope="As before; a first conjecture of ours.",
        rules=(
            StudyClaim("wrong_alpha", "with alpha understated rdro stays closer to p+ than the likelihood"),
            StudyClaim("wrong_alpha", "with alpha overstated rdro stays closer to p+ than the likelihood"),
        ),
        figure="errors_under_wrong_assumptions",
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="class-share-replaces-alpha",
        statement="Where labels are not selected, the share of preferred labels in the data replaces an unknown alpha.",
        source=OURS,
        scope="RDRO, DDRO and MLE reach p+ with it, at a slope of -1/2 within .05.",
        rules=(
            StudyClaim("wrong_alpha", "the class share of the data in place of alpha gives p+ at the rate one half"),
        ),
        figure="errors_under_wrong_assumptions",
        test="tests/sim/test_options.py::test_plug_in_numbers_are_shares_of_the_data",
    ),
    Claim(
        id="wrong-reference-biases",
        statement="A reference other than the mixture biases RDRO and DDRO, and calibrating it to the pooled data "
        "restores the rate 1/2.",
        source=OURS,
        scope="Errors of .1, .3 and 1 nat in the log of the reference; tabular policies.",
        rules=(
            StudyInterval(
                "wrong_reference",
                "a reference other than the mixture leaves the divergence from p+ that the exact target has",
                0.0,
                methods=("rdro", "ddro"),
            ),
            StudyClaim("wrong_reference", "a calibrated reference gives p+ at the rate one half"),
        ),
        figure="errors_under_wrong_assumptions",
        test="tests/sim/test_options.py::test_a_calibrated_reference_turns_tabular_ratios_into_supervised_fine_tuning",
    ),
    Claim(
        id="calibrated-reference-forfeits-gain",
        statement="With a calibrated reference tabular RDRO has no gain over SFT.",
        source=OURS,
        scope="Not 5 % of the mean error: it is SFT then, example for example.",
        rules=(
            StudyClaim(
                "wrong_reference", "with a calibrated reference tabular rdro has a smaller error than sft", holds=False
            ),
        ),
        figure="errors_under_wrong_assumptions",
        test="tests/sim/test_options.py::test_a_calibrated_reference_turns_tabular_ratios_into_supervised_fine_tuning",
    ),
    Claim(
        id="wrong-reference-rdro-against-ddro",
        statement="With a wrong reference RDRO stays closer to p+ than DDRO.",
        source=OURS,
        scope="Errors of .1, .3 and 1 nat; by a few per cent of the error only.",
        rules=(StudyClaim("wrong_reference", "with a wrong reference rdro stays closer to p+ than ddro"),),
        figure="errors_under_wrong_assumptions",
        test="tests/sim/test_disturbances.py::test_perturbed_references_turn_one_dial",
    ),
    Claim(
        id="prompt-rates-need-weights",
        statement="Where label rates depend on the prompt, RDRO needs alpha and class weights prompt by prompt; "
        "alpha(x) alone does not repair it.",
        source=OURS,
        scope="Rates of .1 to .9; tabular policies. The likelihood needs alpha(x) alone.",
        rules=(
            StudyInterval(
                "prompt_rates",
                "one alpha misses p+ when label rates differ, by as much as the exact target",
                0.0,
                methods=("rdro, one alpha",),
            ),
            StudyClaim("prompt_rates", "alpha(x) alone repairs rdro", holds=False),
            StudyClaim("prompt_rates", "alpha(x) with class weights by prompt repairs rdro and ddro"),
            StudyClaim("prompt_rates", "alpha(x) alone repairs the likelihood"),
        ),
        figure="errors_under_wrong_assumptions",
        test="tests/theory/test_target_values.py::test_prompt_dependent_label_rates_need_weights_for_each_prompt",
    ),
    Claim(
        id="label-noise-hits-all-alike",
        statement="RDRO stands label noise no better than SFT.",
        source=OURS,
        scope="A fifth and two fifths of the labels flipped, pairs and thumbs; better means 5 % of the mean error.",
        rules=(StudyClaim("label_noise", "rdro stands label noise better than sft", holds=False),),
        figure="errors_under_wrong_assumptions",
        test="tests/sim/test_disturbances.py::test_noise_flips_pairs_and_leaves_the_estimand_clean",
    ),
    Claim(
        id="few-annotators-cannot-be-outweighed",
        statement="A million labels do not make up for having but three annotators of the population.",
        source=OURS,
        scope="Tastes differ by 1 nat; more than .05 in TV remains for SFT, RDRO, DDRO and MLE alike.",
        rules=(
            StudyClaim(
                "annotators", "with three annotators a million labels are enough to come within 0.05 of p+", holds=False
            ),
        ),
        test="tests/sim/test_annotators.py::test_estimand_is_the_clean_law_of_the_whole_population",
    ),
)

_NETWORKS = (
    Claim(
        id="clipping-does-not-save-ddro",
        statement="Shortening gradients does not keep strict DDRO from diverging.",
        source=OURS,
        scope="SGD on tabular policies, poor overlap, learning rates of .3 and more.",
        rules=(StudyClaim("dynamics", "shortened gradients keep strict ddro from diverging", holds=False),),
        figure="training_divergence",
        test="tests/sim/test_dynamics.py::test_ddro_and_mle_diverge_without_overlap_and_rdro_does_not",
    ),
    Claim(
        id="continued-ddro-trains-stably",
        statement="DDRO continued beyond its domain trains as stably as RDRO: its runs do not diverge.",
        source=OURS,
        scope="Our continuation. Tabular: less than a tenth of each cell; tiny language models: less than half.",
        rules=(
            StudyClaim(
                "dynamics",
                "rdro and continued ddro do not diverge, at any learning rate and overlap",
                methods=("ddro_extend",),
            ),
            Share("stability", "ddro, extended", "<", 0.5),
        ),
        figure="training_divergence",
        test="tests/sim/test_dynamics.py::test_extended_ddro_runs_where_the_infinite_one_diverges",
    ),
    Claim(
        id="rdro-gradients-smaller",
        statement="RDRO's largest gradients are smaller than those of continued DDRO, by half where overlap is poor.",
        source=OURS,
        scope="Tabular training with a hundredth of the overlap: by half; tiny language models: each world and rate.",
        rules=(
            StudyClaim(
                "dynamics", "rdro's largest gradient is less than half that of continued ddro when overlap is poor"
            ),
            Paired(
                *("stability", "rdro", "ddro, extended", "largest gradient norm"),
                metric="largest_grad_norm",
                whole_run=True,
            ),
        ),
        figure="training_divergence",
        test="tests/theory/test_loss_derivatives.py::test_p4_ddro_has_an_unbounded_derivative",
    ),
    Claim(
        id="network-exceeds-bound",
        statement="RDRO does not bound a network's ratio: trained networks exceed 1/alpha on some completions.",
        source=OURS,
        scope="Tiny language models; the largest share of a batch beyond the bound, in any run.",
        rules=(
            Extreme(
                *("stability/metrics", "value", "max", ">", 0.0, "share of a batch beyond log(1/alpha)"),
                where={"metric": ("largest_share_over_bound",), "method": ("rdro",)},
            ),
        ),
        test="tests/theory/test_simplex.py::test_p3_normalised_policy_may_exceed_the_bound_in_a_small_sample",
    ),
    Claim(
        id="pooled-mean-ruins-networks",
        statement="A plain mean over mixed batches takes language models trained by RDRO further from p+.",
        source=OURS,
        scope="A fifth of the labels preferred, alpha .5 or .2; tiny models.",
        rules=_paired("weighting", "balanced", "pooled"),
        test="tests/theory/test_target_values.py::test_published_values_of_pooled_weighting",
    ),
    Claim(
        id="language-models-sft",
        statement="A language model aligned by RDRO ends closer to p+ than one by SFT on the preferred completions.",
        source=OURS,
        scope="Tiny models, alpha .2, .5 and .8, all told the truth, and a reference trained briefly.",
        rules=(
            *_paired("alpha", "rdro, told the truth", "sft"),
            *_paired("reference_error", "rdro", "sft", worlds=("trained briefly",)),
        ),
        test="tests/theory/test_asymptotics.py::test_rdro_gains_much_over_sft_and_loses_little_to_the_bound",
    ),
    Claim(
        id="language-models-wrong-alpha",
        statement="With a wrong alpha a language model aligned by RDRO ends closer to p+ than one by DDRO.",
        source=OURS,
        scope="Tiny models, true alpha .5, told .2 and .8; DDRO continued by us.",
        rules=(
            *_paired("alpha", "rdro, told .2", "ddro, extended, told .2"),
            *_paired("alpha", "rdro, told .8", "ddro, extended, told .8"),
        ),
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="language-models-prompt-rates",
        statement="Where label rates depend on the prompt, language models need alpha(x) and class weights by prompt.",
        source=OURS,
        scope="Tiny models, rates of .1 to .9: RDRO with both against RDRO with one alpha and with alpha(x) alone.",
        rules=_paired("rates_by_prompt", "rdro, alpha(x), weights by prompt", "rdro, one alpha", "rdro, alpha(x)"),
        test="tests/theory/test_target_values.py::test_prompt_dependent_label_rates_need_weights_for_each_prompt",
    ),
)

OWN_CLAIMS = (*_ESTIMATION, *_ASSUMPTIONS, *_NETWORKS)
"""Claims of this project: estimates, broken assumptions, training and language models."""
