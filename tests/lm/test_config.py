"""RatioConfig: options of other methods are errors, defaults are the method's, and a copy is the same again."""

import dataclasses
import json
import pickle

import pytest

from lm.config import RatioConfig, make_ratio_config
from lm.method import METHODS, resolve_method
from lm.options import load_settings
from lm.settings import MethodConfig
from theory.targets import METHODS as THEORY_METHODS


@pytest.fixture
def make(tmp_path):
    """Return a maker of configurations for the CPU."""
    return lambda **options: RatioConfig(output_dir=str(tmp_path), use_cpu=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rdor"}, r"method must be one of .*got 'rdor' \(did you mean 'rdro'\?\)"),
        ({"method": "rdro", "beta": 0.1}, "beta is an option of kto, dpo, ipo, got it for rdro"),
        ({"method": "rdro", "beyond_domain": "extend"}, "beyond_domain is an option of ddro, got it for rdro"),
        ({"method": "ddro", "beyond_domain": "clip"}, "beyond_domain must be one of extend, infinite; got 'clip'"),
        ({"method": "mle", "generator": "kl"}, "generator is an option of rdro, ddro, got it for mle"),
        ({"method": "mle", "weighting": "balanced"}, "weighting is an option of rdro, ddro, kto, got it for mle"),
        ({"method": "sft", "alpha": 0.5}, "alpha is an option of rdro, ddro, mle, got it for sft"),
        ({"method": "dpo", "alpha": "auto"}, "alpha is an option of rdro, ddro, mle, got it for dpo"),
        ({"method": "dpo", "weighting": "pooled"}, "weighting is an option of rdro, ddro, kto, got it for dpo"),
        ({"alpha": 1.2}, "alpha must lie strictly between 0 and 1, got 1.2"),
        ({"alpha": 0}, "alpha must lie strictly between 0 and 1, got 0"),
        ({"alpha": float("nan")}, "alpha must not contain NaN"),
        ({"alpha": "automatic"}, r"alpha must be one of .*got 'automatic' \(did you mean 'auto'\?\)"),
        ({"generator": "logistics"}, r"did you mean 'logistic'\?"),
        ({"weighting": "balance"}, r"did you mean 'balanced'\?"),
        ({"method": "kto", "beta": 0.0}, "beta must be finite and greater than 0, got 0.0"),
        ({"method": "kto", "beta": "0.1"}, "beta must be a number, got str"),
        ({"reference": "none"}, "reference 'none' is an option of sft, got it for rdro"),
        ({"reference": "frozn"}, r"did you mean 'frozen'\?"),
        ({"reference": "adapter_off", "reference_model": "x"}, "reference_model is an option of reference precomputed"),
        ({"reference": "frozen", "reference_cache": "x"}, "reference_cache is an option of reference precomputed, got"),
        ({"log_probs": "fast"}, "log_probs must be one of checkpoint, full, fused"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of raise, skip"),
        ({"chunk_mebibytes": 0}, "chunk_mebibytes must be a whole number of at least 1, got 0"),
        ({"sample_completions": -1}, "sample_completions must be a whole number of at least 0, got -1"),
        ({"sample_new_tokens": 1.5}, "sample_new_tokens must be a whole number of at least 1, got 1.5"),
        ({"remove_unused_columns": True}, "remove_unused_columns must be off"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor has no meaning for losses of log-ratios, got 0.1"),
    ],
)
def test_wrong_options_are_refused_by_name(make, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(**options)


def test_options_that_trl_has_are_unknown(make):
    with pytest.raises(TypeError, match="desirable_weight"):
        make(method="kto", desirable_weight=1.0)
    with pytest.raises(TypeError, match="loss_type"):
        make(method="rdro", loss_type="apo")


def test_methods_are_those_of_theory():
    assert set(METHODS) == set(THEORY_METHODS)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("sft", (None, None, None, None, None, "none")),
        ("rdro", ("auto", "logistic", "balanced", None, None, "precomputed")),
        ("ddro", ("auto", "logistic", "balanced", "infinite", None, "precomputed")),
        ("mle", ("auto", None, None, None, None, "precomputed")),
        ("kto", (None, None, "balanced", None, 0.1, "precomputed")),
        ("dpo", (None, None, None, None, 0.1, "precomputed")),
        ("ipo", (None, None, None, None, 0.1, "precomputed")),
    ],
)
def test_defaults_are_the_methods(method, expected):
    assert dataclasses.astuple(resolve_method(MethodConfig(method=method)))[1:] == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_is_the_same_again(make, method):
    config = make(method=method, learning_rate=3e-4, warmup_steps=0.1, lr_scheduler_type="cosine", save_steps=7)
    copies = [
        RatioConfig(**config.to_dict()),
        RatioConfig(**json.loads(config.to_json_string())),
        dataclasses.replace(config),
        pickle.loads(pickle.dumps(config)),  # how Trainer keeps training_args.bin
    ]
    for copied in copies:
        assert copied.to_dict() == config.to_dict()
        assert copied.resolved == config.resolved


def test_what_the_user_said_stays(make):
    config = make(method="rdro")
    assert (config.alpha, config.generator, config.weighting, config.reference) == (None,) * 4
    # A copy with another method is not held back by what was filled in for the first one.
    assert dataclasses.replace(config, method="dpo").resolved.beta == 0.1


def test_logged_losses_are_not_filtered(make):
    config = make()
    assert (config.logging_nan_inf_filter, config.remove_unused_columns, config.dataloader_pin_memory) == (False,) * 3
    assert config.report_to == []


def test_settings_of_a_file_and_a_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("method: ddro\nalpha: 0.39\nlearning_rate: 5e-7\nuse_cpu: true\n")
    config = make_ratio_config(load_settings(path, ["--beyond_domain", "extend", "--output_dir", str(tmp_path)]))
    assert (config.alpha, config.learning_rate, config.resolved.beyond_domain) == (0.39, 5e-7, "extend")
