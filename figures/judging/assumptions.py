"""Our claims on what broken assumptions cost; not in the papers as far as we know."""

from figures.judging.rules import Claim, Extreme, StudyClaim, StudyInterval

__all__ = ["ASSUMPTION_CLAIMS"]

_VOTES = {"world": ("arena",), "quantity": ("size",)}


ASSUMPTION_CLAIMS = (
    Claim(
        id="real-votes-reject-bradley-terry",
        statement="Real votes are not Bradley-Terry.",
        source="ours",
        scope="The 23 models of the Chatbot Arena with at least 200 decisive votes on every pair: size of the distance "
        "above the central 95 % of its bootstrap null, and likelihood ratio.",
        rules=(
            Extreme("bt_distance/table", "value", "max", ">", "null_high", "size of the distance", where=_VOTES),
            Extreme("bt_distance/table", "p_value", "max", "<", 0.05, "p-value of Bradley-Terry", where=_VOTES),
        ),
        figure="distance_from_bradley_terry",
        test="tests/sim/test_bt_distance.py::test_chatbot_arena_core",
    ),
    Claim(
        id="real-votes-nearly-bradley-terry",
        statement="Real votes are Bradley-Terry but for less than a hundredth of a nat a comparison.",
        source="ours",
        scope="The same votes. Other populations, other prompts and finer questions may be further from it.",
        rules=(Extreme("bt_distance/table", "value", "max", "<", 0.01, "size of the distance", where=_VOTES),),
        figure="distance_from_bradley_terry",
        test="tests/sim/test_bt_distance.py::test_chatbot_arena_core",
    ),
    Claim(
        id="wrong-alpha-biases",
        statement="A wrong alpha biases RDRO, DDRO and the likelihood, by as much as their exact targets.",
        source="ours",
        scope="True alpha .3, told .15, .45 and .6; tabular policies.",
        rules=(
            StudyInterval("wrong_alpha", "a wrong alpha leaves the divergence from p+ that the exact target has", 0.0),
            StudyClaim("wrong_alpha", "a wrong alpha leaves the divergence from p+ that the exact target has"),
        ),
        figure="wrong_alpha_leaves_a_bias",
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="wrong-alpha-rdro-against-ddro",
        statement="With a wrong alpha RDRO stays closer to p+ than DDRO.",
        source="ours",
        scope="True alpha .3, told .15 and .45; tabular, the largest n.",
        rules=(
            StudyClaim("wrong_alpha", "with alpha understated rdro stays closer to p+ than ddro"),
            StudyClaim("wrong_alpha", "with alpha overstated rdro stays closer to p+ than ddro"),
        ),
        figure="wrong_alpha_leaves_a_bias",
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="wrong-alpha-rdro-against-likelihood",
        statement="With a wrong alpha RDRO stays closer to p+ than the likelihood.",
        source="ours",
        scope="As before; a first conjecture of ours.",
        rules=(
            StudyClaim("wrong_alpha", "with alpha understated rdro stays closer to p+ than the likelihood"),
            StudyClaim("wrong_alpha", "with alpha overstated rdro stays closer to p+ than the likelihood"),
        ),
        figure="wrong_alpha_leaves_a_bias",
        test="tests/theory/test_target_values.py::"
        "test_understated_alpha_biases_rdro_less_than_ddro_but_not_always_less_than_mle",
    ),
    Claim(
        id="class-share-replaces-alpha",
        statement="Where labels are not selected, the share of preferred labels in the data replaces an unknown alpha.",
        source="ours",
        scope="RDRO, DDRO and MLE reach p+ with it, at a slope of -1/2 within .05.",
        rules=(
            StudyClaim("wrong_alpha", "the class share of the data in place of alpha gives p+ at the rate one half"),
        ),
        figure="wrong_alpha_leaves_a_bias",
        test="tests/sim/test_options.py::test_plug_in_numbers_are_shares_of_the_data",
    ),
    Claim(
        id="wrong-reference-biases",
        statement="A reference other than the mixture biases RDRO and DDRO, and calibrating it to the pooled data "
        "restores the rate 1/2.",
        source="ours",
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
        figure="wrong_reference_and_its_remedy",
        test="tests/sim/test_options.py::test_a_calibrated_reference_turns_tabular_ratios_into_supervised_fine_tuning",
    ),
    Claim(
        id="calibrated-reference-forfeits-gain",
        statement="With a calibrated reference tabular RDRO has no gain over SFT.",
        source="ours",
        scope="Not 5 % of the mean error: it is SFT then, example for example.",
        rules=(
            StudyClaim(
                "wrong_reference", "with a calibrated reference tabular rdro has a smaller error than sft", holds=False
            ),
        ),
        figure="wrong_reference_and_its_remedy",
        test="tests/sim/test_options.py::test_a_calibrated_reference_turns_tabular_ratios_into_supervised_fine_tuning",
    ),
    Claim(
        id="wrong-reference-rdro-against-ddro",
        statement="With a wrong reference RDRO stays closer to p+ than DDRO.",
        source="ours",
        scope="Errors of .1, .3 and 1 nat; by a few per cent of the error only.",
        rules=(StudyClaim("wrong_reference", "with a wrong reference rdro stays closer to p+ than ddro"),),
        figure="wrong_reference_and_its_remedy",
        test="tests/sim/test_disturbances.py::test_perturbed_references_turn_one_dial",
    ),
    Claim(
        id="prompt-rates-need-weights",
        statement="Where label rates depend on the prompt, RDRO needs alpha and class weights prompt by prompt; "
        "alpha(x) alone does not repair it.",
        source="ours",
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
        figure="prompt_rates_need_weights_by_prompt",
        test="tests/theory/test_target_values.py::test_prompt_dependent_label_rates_need_weights_for_each_prompt",
    ),
    Claim(
        id="label-noise-moves-targets",
        statement="Flipped labels move the targets of SFT, RDRO, DDRO and MLE away from p+, and more data do not help.",
        source="ours",
        scope="A tenth to two fifths of the labels flipped, pairs and thumbs; each reaches its own moved target.",
        rules=(
            StudyInterval(
                "label_noise", "flipped labels leave the distance from the clean p+ that the exact target has", 0.0
            ),
            StudyClaim("label_noise", "flipped labels leave the distance from the clean p+ that the exact target has"),
            StudyClaim("label_noise", "each method reaches its own target, the one of the noisy laws"),
        ),
        figure="label_noise_moves_every_target",
        test="tests/sim/test_disturbances.py::test_noise_flips_single_labels",
    ),
    Claim(
        id="label-noise-hits-all-alike",
        statement="RDRO stands label noise no better than SFT.",
        source="ours",
        scope="A fifth and two fifths of the labels flipped, pairs and thumbs; better means 5 % of the mean error.",
        rules=(StudyClaim("label_noise", "rdro stands label noise better than sft", holds=False),),
        figure="label_noise_moves_every_target",
        test="tests/sim/test_disturbances.py::test_noise_flips_pairs_and_leaves_the_estimand_clean",
    ),
    Claim(
        id="few-annotators-cannot-be-outweighed",
        statement="A million labels do not make up for having but three annotators of the population.",
        source="ours",
        scope="Tastes differ by 1 nat; more than .05 in TV remains for SFT, RDRO, DDRO and MLE alike.",
        rules=(
            StudyClaim(
                "annotators", "with three annotators a million labels are enough to come within 0.05 of p+", holds=False
            ),
        ),
        test="tests/sim/test_annotators.py::test_estimand_is_the_clean_law_of_the_whole_population",
    ),
    Claim(
        id="thousand-annotators-slow-the-rate",
        statement="With a thousand annotators in place of the population, RDRO's error falls more slowly than at the "
        "rate 1/2.",
        source="ours",
        scope="Tastes differ by 1 nat; n up to a million.",
        rules=(
            StudyClaim(
                "annotators", "with a thousand annotators the error still falls at the rate one half", holds=False
            ),
        ),
        test="tests/sim/test_annotators.py::test_labels_of_one_annotator_are_dependent",
    ),
)
