"""The embedded experiment: exact measures, references, runs, results on disk and what is said of them."""

import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lm.__main__ import main
from lm.validation import runner
from lm.validation.answers import answer, chosen_settings
from lm.validation.experiments import (
    PROFILES,
    Experiment,
    Method,
    Run,
    World,
    load_experiment,
    parse_experiment,
    shipped_experiments,
)
from lm.validation.networks import (
    ensure_reference,
    language_of,
    load_reference,
    log_conditionals,
    log_prob_table,
    log_probs,
    network_of,
    reference_key,
)
from lm.validation.runner import run_experiment
from lm.validation.scores import EnumeratedScorer, SampledScorer, exact_target
from lm.validation.store import find_checked, save_checked
from lm.validation.tables import mean_interval, share_interval, summarise
from lm.validation.training import train
from theory import kl_divergence, population_target, total_variation

_TINY = """
name = "tiny"
question = "Does it run?"
report = "REPORT"
baseline = "rdro"
seed = 7

[language]
prompts = 2
symbols = 3
longest = 2

[training]
per_device_train_batch_size = 16

[[worlds]]
name = "w"

[[methods]]
label = "rdro"
method = "rdro"

[[methods]]
label = "OTHER"
method = "OTHER"

[profiles.smoke]
n = [32]
seeds = 2
learning_rates = [1e-3]
steps = 2
evaluations = 1
held_out = 40
pretraining_steps = 2
"""


def _run(**changes: object) -> Run:
    world = World("w", {"prompts": 2, "symbols": 3, "longest": 3, "separation": 2.0})
    run = Run("x", 1, 0, world, Method("rdro", "rdro"), 64, 1e-3, 4, 2, 50, 40, {"per_device_train_batch_size": 16})
    return dataclasses.replace(run, **changes)


def _file(folder: Path, report: str = "error", other: str = "dpo") -> str:
    path = folder / "tiny.toml"
    path.write_text(_TINY.replace("REPORT", report).replace("OTHER", other))
    return str(path)


@pytest.fixture(scope="module")
def references(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    ensure_reference(_run(), folder)
    return folder


# Exact measures


def test_table_of_a_network_is_what_it_says_of_each_completion_alone(references):
    run = _run()
    language, model = language_of(run), load_reference(run, references)
    table = log_prob_table(model, language)
    everything = language.completions()
    for prompt in range(language.prompts):
        for c, ids in enumerate(language.completion_ids(everything)):
            head = language.prompt_ids(prompt)
            tokens = torch.from_numpy(np.concatenate([head, ids]).astype(np.int64))[None]
            with torch.no_grad():
                steps = torch.log_softmax(model(input_ids=tokens, use_cache=False).logits[0].double(), dim=1)
            alone = sum(steps[len(head) - 1 + t, token].item() for t, token in enumerate(ids))
            # Logits of size 10 in float32, three of them: about 1e-5 at most.
            assert table[prompt, c] == pytest.approx(alone, abs=2e-5)
    # No mass on anything but completions: 3 sums in float32.
    np.testing.assert_allclose(np.exp(table).sum(axis=1), 1.0, rtol=0, atol=1e-5)
    rows = np.repeat(np.arange(2), len(everything))
    flat = log_probs(model, language, rows, np.tile(everything, (2, 1)))
    np.testing.assert_allclose(flat.reshape(table.shape), table, rtol=0, atol=2e-5)


def test_exact_distances_are_those_of_theory_by_brute_force(references):
    run = _run()
    language, model = language_of(run), load_reference(run, references)
    policy = np.exp(log_prob_table(model, language))
    policy /= policy.sum(axis=1, keepdims=True)
    preferred, nonpreferred = language.tables()
    target = population_target(language.problem(), "rdro", weighting="pooled", preferred_fraction=0.2)
    scores = EnumeratedScorer(language, target).preferred(model)
    by_hand = {
        "kl_preferred": (kl_divergence(preferred, policy), kl_divergence(preferred, target)),
        "tv_preferred": (total_variation(preferred, policy), total_variation(preferred, target)),
        "kl_target": (kl_divergence(target, policy), np.zeros(2)),
        "tv_target": (total_variation(target, policy), np.zeros(2)),
    }
    assert set(scores) == set(by_hand)
    for name, (value, exact) in by_hand.items():
        # The table's masses sum to 1 within 1e-5.
        assert scores[name].value == pytest.approx(value.mean(), abs=2e-5)
        assert scores[name].exact == pytest.approx(exact.mean(), abs=1e-12)
        assert scores[name].standard_error == 0.0
    mixture = EnumeratedScorer(language).mixture(model).value
    assert mixture == pytest.approx(kl_divergence(0.5 * preferred + 0.5 * nonpreferred, policy).mean(), abs=2e-5)


def test_sampled_distances_agree_with_the_exact_ones(references):
    run = _run()
    language, model = language_of(run), load_reference(run, references)
    exact, sampled = EnumeratedScorer(language), SampledScorer(language, np.random.default_rng(0), samples=2000)
    for one, other in (
        (exact.preferred(model)["kl_preferred"], sampled.preferred(model)["kl_preferred"]),
        (exact.mixture(model), sampled.mixture(model)),
    ):
        assert 0.0 < other.standard_error < 0.05 * one.value
        assert abs(one.value - other.value) <= 4.0 * other.standard_error  # by chance once in 16,000 seeds


def test_conditionals_do_not_depend_on_what_comes_later(references):
    run = _run()
    language, model = language_of(run), load_reference(run, references)
    completions = np.array([[0, 1, 2], [0, 2, 1]])
    steps = log_conditionals(model, language, np.zeros(2, dtype=np.int64), completions).numpy()
    np.testing.assert_allclose(steps[0, :2], steps[1, :2], rtol=0, atol=1e-6)
    assert np.abs(steps[0, 2] - steps[1, 2]).max() > 1e-3


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Method("a", "rdro"), {}),
        (Method("a", "rdro", {"weighting": "pooled"}), {"weighting": "pooled"}),
        (Method("a", "ddro", {"alpha": 0.3}), {"alpha": 0.3}),
        (Method("a", "rdro", {"alpha": "auto"}), {"alpha": 0.4}),
        (Method("a", "ipo", {"beta": 0.5}), {"beta": 0.5}),
    ],
)
def test_exact_targets_are_those_of_theory(method, expected):
    run = _run(world=World("w", {"prompts": 2, "symbols": 3, "longest": 2, "preferred_fraction": [0.3, 0.5]}))
    language = language_of(run)
    found = exact_target(language, method, np.log(language.problem().mixture))
    wanted = population_target(
        language.problem(), method.method, preferred_fraction=language.preferred_fraction, **expected
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_weights_by_prompt_repair_rdro_where_rates_depend_on_the_prompt():
    run = _run(world=World("w", {"prompts": 2, "symbols": 3, "longest": 2, "alpha": [0.1, 0.8]}))
    language = language_of(run)
    mixture = np.log(language.problem().mixture)
    repaired = exact_target(language, Method("a", "rdro", {"weighting": "balanced_by_prompt"}), mixture)
    np.testing.assert_allclose(repaired, language.tables()[0], rtol=0, atol=1e-9)
    alone = exact_target(language, Method("a", "rdro"), mixture)
    assert kl_divergence(language.tables()[0], alone).mean() > 0.005


def test_ddro_beyond_its_domain_has_no_known_target():
    language = language_of(_run())
    method = Method("a", "ddro", {"beyond_domain": "extend"})
    assert exact_target(language, method, np.log(language.problem().mixture)) is None


# References


def test_a_reference_learns_the_mixture_and_is_the_same_each_time(references):
    run = _run()
    language = language_of(run)
    judge = EnumeratedScorer(language)
    learned = judge.mixture(load_reference(run, references)).value
    assert learned < 0.3 * judge.mixture(network_of(language)).value
    path, again = find_checked(references, reference_key(run)), references.parent / "again"
    ensure_reference(run, again)
    assert find_checked(again, reference_key(run)).name == path.name  # which holds a checksum of the weights


def test_references_are_shared_by_what_does_not_change_them():
    run = _run()
    labels = dataclasses.replace(run.world, language=run.world.language | {"preferred_fraction": 0.2})
    assert reference_key(_run(world=labels, n=1000, learning_rate=1.0)) == reference_key(run)
    for change in ({"replicate": 1}, {"pretraining_steps": 41}, {"seed": 2}):
        assert reference_key(_run(**change)) != reference_key(run)


def test_a_missing_reference_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="reference of a run must be trained first"):
        load_reference(_run(), tmp_path)


# Runs


def test_all_methods_of_a_repetition_start_from_the_same_reference_and_data(references):
    outcomes = {
        label: train(_run(method=Method(label, label)), references) for label in ("rdro", "sft", "kto", "dpo", "mle")
    }
    start = {
        label: {m.metric: m.score.value for m in outcome.measurements if m.step == 0}
        for label, outcome in outcomes.items()
    }
    assert len({values["kl_preferred"] for values in start.values()}) == 1
    for label in ("rdro", "sft", "kto", "dpo"):
        assert outcomes[label].status == "ok" and outcomes[label].steps == 4
        steps = [m.step for m in outcomes[label].measurements if m.metric == "held_out_loss"]
        assert steps == [2, 4]


def test_ddro_meets_an_infinite_loss_which_is_an_outcome_where_rdro_trains_on(references):
    outcome = train(_run(method=Method("ddro", "ddro"), learning_rate=0.1, steps=20), references)
    assert outcome.status == "diverged" and "step" in outcome.message and outcome.steps < 20
    values = {m.metric: m.score.value for m in outcome.measurements if m.step == 20}
    assert values["diverged"] == 1.0 and values["steps_taken"] == outcome.steps
    assert values["largest_log_ratio"] >= np.log(2.0)  # beyond log(1/alpha), which is why it diverged
    rdro = train(_run(method=Method("rdro", "rdro"), learning_rate=0.1, steps=20), references)
    assert (rdro.status, rdro.steps) == ("ok", 20)


def test_exact_log_probabilities_may_stand_in_for_the_networks_own(references):
    run = _run()
    outcome = train(_run(world=dataclasses.replace(run.world, reference="exact")), references)
    assert outcome.status == "ok"
    exact = {m.metric: m.score.exact for m in outcome.measurements if m.step == 4}
    assert exact["kl_preferred"] == pytest.approx(0.0, abs=1e-9)  # assumption M holds


# Results on disk


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("runs", "metrics", "summary")}


def _assert_equal(first: Path, second: Path) -> None:
    one, other = _tables(first), _tables(second)
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, other[name])


def test_results_do_not_depend_on_interruptions(tmp_path, monkeypatch):
    experiment = load_experiment(_file(tmp_path))
    whole = run_experiment(experiment, tmp_path / "whole", profile="smoke")
    assert (whole.runs, whole.computed, whole.errors) == (4, 4, ())
    calls = []

    def stopping(run, references):
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(run, references)

    monkeypatch.setattr(runner, "train", stopping)
    with pytest.raises(KeyboardInterrupt, match=r"2 of 4 runs of tiny \(smoke\) are saved"):
        run_experiment(experiment, tmp_path / "cut", profile="smoke")
    monkeypatch.undo()
    parts = sorted((tmp_path / "cut" / "tiny" / "parts").glob("*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:-10])  # and one part was damaged since
    resumed = run_experiment(experiment, tmp_path / "cut", profile="smoke")
    assert resumed.computed == 3
    _assert_equal(whole.folder, resumed.folder)
    assert run_experiment(experiment, tmp_path / "cut", profile="smoke").computed == 0


def test_results_do_not_depend_on_the_number_of_processes(tmp_path):
    experiment = load_experiment(_file(tmp_path))
    one = run_experiment(experiment, tmp_path / "one", profile="smoke", jobs=1)
    two = run_experiment(experiment, tmp_path / "two", profile="smoke", jobs=2)
    _assert_equal(one.folder, two.folder)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, "-m", "lm", "validate", "weighting", "--profile", "smoke", "--jobs", "2", "--output"]
    parts = tmp_path / "cut" / "weighting" / "parts"
    with subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL) as process:
        while len(list(parts.glob("*.parquet"))) < 3:
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    for name in ("cut", "whole"):
        subprocess.run([*command, str(tmp_path / name)], check=True, stdout=subprocess.DEVNULL)
    _assert_equal(tmp_path / "whole" / "weighting", tmp_path / "cut" / "weighting")
    timing = pd.read_parquet(tmp_path / "cut" / "weighting" / "timing.parquet")
    assert len(timing) == 12


@pytest.mark.slow
def test_every_shipped_experiment_runs_at_smoke_size(tmp_path, capsys):
    assert main(["validate", "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    for name in shipped_experiments():
        assert f"{name}: {load_experiment(name).question}" in told
        assert (pd.read_parquet(tmp_path / name / "runs.parquet")["status"] != "error").all()


def test_a_run_that_raises_is_recorded_and_tried_again(tmp_path, monkeypatch, capsys):
    path = _file(tmp_path)

    def failing(run, references):
        if run.method.label == "dpo" and run.replicate == 0:
            raise RuntimeError("no such luck")
        return train(run, references)

    monkeypatch.setattr(runner, "train", failing)
    arguments = ["validate", path, "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(arguments) == 1
    assert "failed: tiny/w/n=32/learning_rate=0.001/seed=0:dpo: RuntimeError: no such luck" in capsys.readouterr().out
    runs = pd.read_parquet(tmp_path / "out" / "tiny" / "runs.parquet")
    assert runs["status"].tolist() == ["ok", "ok", "error", "ok"]
    monkeypatch.undo()
    assert main(arguments) == 0
    assert "1 of 4 runs computed" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "tiny" / "parts").iterdir())) == 4  # the one that failed is gone


def test_changed_settings_are_refused(tmp_path, capsys):
    arguments = ["validate", "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main([*arguments, _file(tmp_path)]) == 0
    assert main([*arguments, _file(tmp_path, other="sft")]) == 2
    told = capsys.readouterr().err
    assert "an experiment must resume with the settings it began with" in told and "delete" in told


def test_tables_have_the_columns_of_studies(tmp_path):
    result = run_experiment(load_experiment(_file(tmp_path)), tmp_path, profile="smoke")
    tables = _tables(result.folder)
    keys = ["study", "world", "n", "learning_rate", "method", "replicate"]
    assert tables["metrics"].columns.tolist() == [
        *keys,
        *("status", "step", "metric", "value", "standard_error", "exact"),
    ]
    assert tables["runs"].columns.tolist()[:9] == [*keys, "status", "message", "steps"]
    timing = pd.read_parquet(result.folder / "timing.parquet")
    assert (timing["seconds_total"] > 0).all() and len(timing) == len(tables["runs"])
    settings = json.loads((result.folder / "settings.json").read_text())
    assert settings["seed"] == 7 and "sources" in settings["versions"]


def test_a_checked_file_that_was_altered_is_no_result(tmp_path, capsys):
    path = save_checked(tmp_path, "key", b"content", "parquet")
    assert find_checked(tmp_path, "key") == path
    path.write_bytes(b"contents")
    assert find_checked(tmp_path, "key") is None and not path.exists()
    assert "does not match its checksum" in capsys.readouterr().err


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
    experiment = load_experiment(_file(tmp_path, report, "ddro"))
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
    path = Path(_file(tmp_path))
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
