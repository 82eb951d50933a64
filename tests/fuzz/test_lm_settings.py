"""Damaged configurations and command lines of training: settings of the right types, or one line of what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.options import load_settings, ratio_arguments
from tests.fuzz.damage import damage, recipes, survives

_FILES = (
    b"model: tiny-qwen2  # a comment\ntrain_data: ${config_folder}/rows.jsonl\nalpha: 0.4\nlearning_rate: 3.0e-4\n",
    b"use_cpu: true\noutput_dir: 'runs'\nlogging_steps: &n 5\nsave_steps: *n\nlr_scheduler_kwargs: {power: 2}\n",
    b"beta: 1_0.5\neval_data: null\nreport_to: [none]\nseed: 0x1f\nmax_length: 512\nmodel_revision: 2026-01-01\n",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose files are written again and again."""
    return tmp_path_factory.mktemp("settings")


@given(recipe=recipes())
def test_file(folder, recipe):
    path = folder / "config.yaml"
    path.write_bytes(damage(_FILES[recipe[0][1] % len(_FILES)], recipe))  # one of them, as YAML is slow
    survives(load_settings, path)


_NAMES = (
    "model",
    "alpha",
    "beta",
    "max_length",
    "check_start",
    "learning-rate",
    "seed",
    "lr_scheduler_kwargs",
    "x",
    "",
)
_TEXTS = (
    *("", "1", "0.5", "5e-7", "1e999", "nan", "true", "null", "auto", "٣", "1_0", "1e1_0", "9" * 400, "9" * 5000),
    *("[1", "{a: 1}", "[[]]", "[" * 990, "{" * 400, "*a", "&a [*a]", "!!int x", "!!float", "!!map a", "!!bool x"),
    *("2026-01-01", "2001-99-99", "0x_", "a: b", "a:\n- b", "\x00", "\ud800", "--", "-1", "'", "0x" + "f" * 400),
    *("9" * 400 + ":59.5", "1:59", "!!python/name:os.system", "? a", "%", "---", "<<: {a: 1}", "tiny-qwen2"),
)


@given(arguments=st.lists(st.sampled_from([f"--{name}" for name in _NAMES]) | st.sampled_from(_TEXTS), max_size=6))
def test_command_line(arguments):
    survives(load_settings, None, arguments)


@given(name=st.sampled_from(_NAMES), value=st.sampled_from(_TEXTS) | st.text(max_size=5), joined=st.booleans())
def test_value_of_a_field(name, value, joined):
    """One field after the other, with the types of transformers too."""
    arguments = [f"--{name}={value}"] if joined else [f"--{name}", value]
    settings = survives(load_settings, None, arguments)
    if settings is not None:
        survives(ratio_arguments, settings)
