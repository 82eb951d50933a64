"""Our claims on training, that of language models above all; not in the papers as far as we know."""

from figures.judging.rules import Claim, Extreme, Paired, Rule, Share, StudyClaim

__all__ = ["TRAINING_CLAIMS"]

_KL = "KL(p+ to policy)"


def _paired(experiment: str, first: str, *others: str, worlds: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Return the rules that one method ends closer to p+ than others."""
    return tuple(Paired(experiment, first, other, _KL, worlds=worlds) for other in others)


TRAINING_CLAIMS = (
    Claim(
        id="likelihood-trains-unstably",
        statement="Training by the likelihood is unstable like strict DDRO: where overlap is poor most runs diverge.",
        source="ours",
        scope="As for DDRO; the likelihood of the class labels, which is infinite beyond the same domain.",
        rules=(
            StudyClaim(
                "dynamics",
                "strict ddro and the likelihood diverge in most runs when overlap is poor and steps are not small",
                methods=("mle",),
            ),
            StudyClaim(
                "continuous",
                "where the direct ratio has no bound, networks trained by ddro or the likelihood leave its domain in "
                "most runs",
                methods=("mle",),
            ),
            Share("stability", "mle", ">", 0.5),
        ),
        figure="training_divergence",
        test="tests/lm/test_validation.py::test_ddro_meets_an_infinite_loss_which_is_an_outcome_where_rdro_trains_on",
    ),
    Claim(
        id="clipping-does-not-save-ddro",
        statement="Shortening gradients does not keep strict DDRO from diverging.",
        source="ours",
        scope="SGD on tabular policies, poor overlap, learning rates of .3 and more.",
        rules=(StudyClaim("dynamics", "shortened gradients keep strict ddro from diverging", holds=False),),
        figure="training_divergence",
        test="tests/sim/test_dynamics.py::test_ddro_and_mle_diverge_without_overlap_and_rdro_does_not",
    ),
    Claim(
        id="continued-ddro-trains-stably",
        statement="DDRO continued beyond its domain trains as stably as RDRO: its runs do not diverge.",
        source="ours",
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
        source="ours",
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
        source="ours",
        scope="Tiny language models; the largest share of a batch beyond the bound, in any run.",
        rules=(
            Extreme(
                *("stability/metrics", "value", "max", ">", 0.0, "share of a batch beyond log(1/alpha)"),
                where={"metric": ("largest_share_over_bound",), "method": ("rdro",)},
            ),
        ),
        figure="strict_losses_stop_language_models",
        test="tests/theory/test_simplex.py::test_p3_normalised_policy_may_exceed_the_bound_in_a_small_sample",
    ),
    Claim(
        id="pooled-mean-ruins-networks",
        statement="A plain mean over mixed batches takes language models trained by RDRO further from p+.",
        source="ours",
        scope="A fifth of the labels preferred, alpha .5 or .2; tiny models.",
        rules=_paired("weighting", "balanced", "pooled"),
        figure="balanced_weights_in_language_models",
        test="tests/theory/test_target_values.py::test_published_values_of_pooled_weighting",
    ),
    Claim(
        id="language-models-sft",
        statement="A language model aligned by RDRO ends closer to p+ than one by SFT on the preferred completions.",
        source="ours",
        scope="Tiny models, alpha .2, .5 and .8, all told the truth, and a reference trained briefly.",
        rules=(
            *_paired("alpha", "rdro, told the truth", "sft"),
            *_paired("reference_error", "rdro", "sft", worlds=("trained briefly",)),
        ),
        figure="wrong_alpha_in_language_models",
        test="tests/theory/test_asymptotics.py::test_rdro_gains_much_over_sft_and_loses_little_to_the_bound",
    ),
    Claim(
        id="language-models-wrong-alpha",
        statement="With a wrong alpha a language model aligned by RDRO ends closer to p+ than one by DDRO.",
        source="ours",
        scope="Tiny models, true alpha .5, told .2 and .8; DDRO continued by us.",
        rules=(
            *_paired("alpha", "rdro, told .2", "ddro, extended, told .2"),
            *_paired("alpha", "rdro, told .8", "ddro, extended, told .8"),
        ),
        figure="wrong_alpha_in_language_models",
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="language-models-prompt-rates",
        statement="Where label rates depend on the prompt, language models need alpha(x) and class weights by prompt.",
        source="ours",
        scope="Tiny models, rates of .1 to .9: RDRO with both against RDRO with one alpha and with alpha(x) alone.",
        rules=_paired("rates_by_prompt", "rdro, alpha(x), weights by prompt", "rdro, one alpha", "rdro, alpha(x)"),
        figure="prompt_rates_in_language_models",
        test="tests/theory/test_target_values.py::test_prompt_dependent_label_rates_need_weights_for_each_prompt",
    ),
)
