"""Command lines of any words: help, the work that was asked for, or exit status 2 with one line; never a traceback."""

from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import figures.__main__
import lm.__main__
import sim.__main__
from lm.options import load_settings
from sim.commands import actions
from sim.engine.runner import StudyResult

_VALUES = (
    *("", "-", "--", "0", "1", "2", "-1", "٣", "²", "9" * 30, "9" * 5000, "0.5", "1e-3", "1e999", "nan", "inf", "1/2"),
    *("2/1", "0/1", "1/" + "9" * 30, "a", "a/b", "\x00", "\ud800", "x" * 300, ".", "..", "/dev/null", "a=b", "true"),
)
_SIM = (
    *("list", "run", "estimate", "collect", "status", "summary", "diff", "replay", "distance", "loss_shapes"),
    *(
        "class_weighting",
        "class_weighting/a",
        "study.toml",
        "arena",
        "votes.csv",
        "smoke",
        "quick",
        "dask",
        "processes",
    ),
    *("--profile", "--output", "--jobs", "--backend", "--scheduler", "--timeout", "--progress", "--shard", "--metric"),
    *("--world", "--method", "--min-decisive", "--replicates", "--seed", "-h", "--he", "--output=out", "--jobs=2"),
)
_LM = (
    *("inspect", "precompute", "train", "evaluate", "validate", "tiny-qwen2", "stability", "smoke", "out", "rows.csv"),
    *("--config", "--json", "--checkpoint", "--completions", "--profile", "--output", "--jobs", "--progress", "-h"),
    *("--model", "--alpha", "--alpha=0.5", "--train_data", "--max-length", "--learning_rate=5e-7", "--use_cpu"),
)
_FIGURES = (
    *("rates", "loss_shapes", "pdf", "png", "quick", "paper", "out", "house", "neurips", "--profile", "--results"),
    *("--output", "--format", "--venue", "--list", "--why", "--claims", "--check", "-h", "--format=png", "--why=rates"),
)


def _words(own):
    return st.lists(st.sampled_from(own) | st.sampled_from(_VALUES), max_size=7)


def _run(main, arguments):
    """Run a command line and check what it says of its end."""
    out, err = (TextIOWrapper(BytesIO(), "utf-8", errors, newline="\n") for errors in ("strict", "backslashreplace"))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as stop:  # argparse: help, or a wrong option
            status = stop.code
    err.flush()
    lines = err.buffer.getvalue().decode().splitlines()
    assert status in (0, 1, 2)
    if status == 2:
        assert len([line for line in lines if not line.startswith((" ", "usage:"))]) == 1, lines


@pytest.fixture(scope="module", autouse=True)
def nothing_is_done(tmp_path_factory):
    """Leave out all that takes long: what comes before it, and after, is what a command line can break."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "votes.csv").write_text("winner,loser\na,b\nb,a\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = StudyResult("toy", folder, 1, 0)
        patch.setattr(actions, "run_study", lambda *arguments, **options: done)
        patch.setattr(actions, "collect_study", lambda *arguments, **options: done)
        patch.setattr(actions, "check_study", lambda *arguments: None)
        patch.setattr(actions, "forecast", lambda *arguments: SimpleNamespace(text=str, failed=0))
        command = SimpleNamespace(
            **dict.fromkeys(("inspect", "precompute", "train", "evaluate", "validate"), _settings)
        )
        patch.setattr(lm.__main__, "import_module", lambda name: command)
        for name in ("build", "check"):
            patch.setattr(figures.__main__, name, lambda order: [])
        yield


def _settings(arguments):
    if arguments.command != "validate":
        load_settings(arguments.config, arguments.overrides)
    return 0


@given(words=_words(_SIM))
def test_sim(words):
    _run(sim.__main__.main, words)


@given(words=_words(_LM))
def test_lm(words):
    _run(lm.__main__.main, words)


@given(words=_words(_FIGURES))
def test_figures(words):
    _run(figures.__main__.main, words)
