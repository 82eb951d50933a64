"""Validation: statistics, answers, files of experiments and the command line."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lm.__main__ import main
from lm.validation.answers import answer, chosen_settings
from lm.validation.experiments import PROFILES, Experiment, load_experiment, parse_experiment, shipped_experiments
from lm.validation.networks import language_of
from lm.validation.runner import run_experiment
from lm.validation.tables import mean_interval, share_interval, summarise
from tests.lm.tiny_validation import tiny_file

# Statistics and answers


def _metrics(rows: list[tuple[str, float, int, int, str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["method", "learning_rate", "replicate", "step", "metric", "value"])
    return table.assign(study="s", world="w", n=1, status="ok", standard_error=0.0, exact=0.0)


def test_intervals_are_the_textbooks():
    # Student's quantile with 3 degrees of freedom is 3.1824; 0 of 10: 1 - .025^(1/10) = .3085.
    mean, error, low, high = mean_interval(np.array([1.0, 2.0, 3.0, 6.0]))
    assert (mean, error) == pytest.approx((3.0, 1.0801), abs=1e-4)
    assert (low, high) == pytest.approx((3.0 - 3.1824 * 1.0801, 3.0 + 3.1824 * 1.0801), abs=1e-3)
    assert share_interval(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert share_interval(10, 10) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert np.isnan(mean_interval(np.array([1.0]))[1])


def test_settings_are_chosen_by_the_methods_own_held_out_loss():
    rows = []
    for replicate in (0, 1):
        rows += [
            ("a", 0.1, replicate, 10, "held_out_loss", 0.5),
            ("a", 0.1, replicate, 20, "held_out_loss", 0.3),
            ("a", 0.2, replicate, 10, "held_out_loss", 0.1),  # but one of its runs diverged
            ("b", 0.1, replicate, 10, "held_out_loss", np.inf),
            ("b", 0.2, replicate, 10, "held_out_loss", 7.0),
            ("c", 0.2, replicate, 10, "held_out_loss", np.inf),
            ("c", 0.1, replicate, 10, "held_out_loss", np.inf),
            ("c", 0.1, replicate, 20, "held_out_loss", np.inf),
            ("b", 0.1, replicate, 10, "kl_preferred", 0.0),  # what no user can see plays no role
        ]
    runs = pd.DataFrame(
        [
            {"world": "w", "n": 1, "method": method, "learning_rate": rate, "replicate": r, "status": "ok"}
            for method in "abc"
            for rate in (0.1, 0.2)
            for r in (0, 1)
        ]
    )
    runs.loc[(runs["method"] == "a") & (runs["learning_rate"] == 0.2) & (runs["replicate"] == 1), "status"] = "diverged"
    chosen = chosen_settings(_metrics(rows), runs).set_index("method")
    assert chosen.loc["a", ["learning_rate", "step"]].tolist() == [0.1, 20]
    assert chosen.loc["b", ["learning_rate", "step"]].tolist() == [0.2, 10]
    assert chosen.loc["c", ["learning_rate", "step"]].tolist() == [0.1, 20]


def test_summary_keeps_diverged_runs_apart():
    metrics = _metrics([("a", 0.1, r, 5, m, float(r)) for r in (0, 1, 2) for m in ("kl_preferred", "diverged")])
    metrics.loc[metrics["replicate"] == 2, "status"] = "diverged"
    runs = metrics.drop_duplicates("replicate")[["study", "world", "n", "learning_rate", "method", "status"]]
    table = summarise(metrics, runs).set_index("metric")
    assert table.loc["kl_preferred", ["finite", "mean"]].tolist() == [2, 0.5]
    assert table.loc["diverged", ["finite", "mean"]].tolist() == [3, 1.0]
    assert table["share_diverged"].tolist() == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize("report", ["error", "stability"])
def test_an_answer_names_question_methods_and_uncertainty(tmp_path, report):
    experiment = load_experiment(tiny_file(tmp_path, report, "ddro"))
    result = run_experiment(experiment, tmp_path, profile="smoke")
    text = answer(experiment, result.folder)
    lines = text.splitlines()
    assert lines[0] == "tiny: Does it run?"
    assert "rdro" in text and "ddro" in text and "diverged" in lines[1]
    assert ("±" in text) and ("/2" in text)


# Experiments and the command line


def test_every_shipped_experiment_is_in_order():
    names = shipped_experiments()
    assert len(names) == 7
    for name in names:
        experiment = load_experiment(name)
        assert isinstance(experiment, Experiment) and experiment.name == name
        for profile in PROFILES:
            runs = experiment.runs(profile)
            assert len({run.key for run in runs}) == len(runs) > 0
            language_of(runs[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seed = 7", "seeds = 7"), "key of an experiment must be one of .* got 'seeds'"),
        (("longest = 2", "longest = 0"), "longest must be at least 1, got 0"),
        (("n = [32]", "n = [0]"), "n must be made of positive integers, got 0"),
        (("evaluations = 1", "evaluations = 3"), "steps must be a multiple of evaluations, got 2 and 3"),
        (("learning_rates = [1e-3]", "learning_rates = [-1.0]"), "learning_rates must be finite and greater than 0"),
        (('baseline = "rdro"', 'baseline = "rdo"'), "baseline must be one of .*did you mean 'rdro'"),
        (('report = "error"', 'report = "errors"'), "report must be one of error, stability"),
        (('method = "dpo"', 'method = "dppo"'), "method must be one of .* got 'dppo'"),
        (("[profiles.smoke]", "[profiles.tiny]"), "profile must be one of"),
        (('label = "dpo"', 'label = "rdro"'), "labels of methods must all be different"),
        (('name = "w"', 'name = "w"\nreference = "perfect"'), "reference of world w must be one of exact, network"),
        (('method = "dpo"', 'method = "dpo"\nalpha = 0.5'), "alpha is an option of rdro, ddro, mle, got it for dpo"),
        (('method = "dpo"', 'method = "dpo"\nbta = 0.5'), "option of method dpo must be one of .*did you mean 'beta'"),
        (("[training]", "[training]\nmax_grad_nrm = 1.0"), "training must be one of .*did you mean 'max_grad_norm'"),
        (("longest = 2", "longst = 2"), "language of world w must be one of .*did you mean 'longest'"),
    ],
)
def test_experiments_that_are_not_in_order_are_refused_before_anything_runs(tmp_path, capsys, change, message):
    path = Path(tiny_file(tmp_path))
    path.write_text(path.read_text().replace(*change))
    status = main(["validate", str(path), "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"])
    assert status == 2 and not (tmp_path / "out").exists()
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stabilty"], "did you mean 'stability'"),
        (["no/such.toml"], "an experiment must be a file that can be read"),
        (["stability", "--output", "/dev/null"], "folder that can be written"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(capsys, arguments, message):
    assert main(["validate", *arguments, "--profile", "smoke", "--jobs", "1"]) == 2
    assert message in capsys.readouterr().err


def test_tables_of_a_file_are_checked():
    with pytest.raises(TypeError, match="worlds must hold tables"):
        parse_experiment({"worlds": [1]})
    with pytest.raises(ValueError, match="an experiment must have the key name"):
        parse_experiment({})
