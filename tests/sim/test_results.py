"""`status`, `summary` and `diff` tell what is on disk: what ran, what failed, what was never run, and what differs."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from sim.__main__ import main
from sim.commands.comparison import compare
from sim.commands.results import open_results
from sim.commands.summaries import summary_text, verdict_counts
from sim.engine.runner import run_study
from sim.engine.store import open_store
from sim.engine.study import load_study
from sim.engine.tasks import lost_task, study_tasks
from tests.sim.command_line import refusal, status_rows, write_study

COUNTS = ("tasks", "done", "failed", "not run", "damaged", "errors", "timeouts")
SWEPT = ("[profiles.quick]\n", "[vary]\nresponses = [4, 6]\n\n[profiles.quick]\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with a finished study and an exact one, which tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    for study in (load_study(write_study(folder, SWEPT)), load_study("ratio_shapes")):
        run_study(study, folder, profile="smoke")
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """Return a copy of the finished study, to change."""
    return shutil.copytree(finished / "mine", tmp_path / "copy" / "mine")


def status_of(folder, capsys):
    """Return what `status` prints, and its rows."""
    assert main(["status", "--output", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out, status_rows(captured.out)


def counts(row):
    """Return the numbers of tasks of a row."""
    return tuple(int(row[name]) for name in COUNTS)


def run_with(folder, *changes, **options):
    """Run the study with changed text."""
    folder.mkdir()
    return run_study(load_study(write_study(folder, *changes)), folder, profile="smoke", **options).folder


def test_status_of_finished_studies(finished, capsys):
    _, rows = status_of(finished, capsys)
    assert list(rows["mine"]) == ["study", "profile", "state", *COUNTS, "tables"]
    assert [rows["mine"][name] for name in ("profile", "state", "tables")] == ["smoke", "complete", "yes"]
    assert counts(rows["mine"]) == (8, 8, 0, 0, 0, 0, 0)
    assert [rows["ratio_shapes"][name] for name in ("profile", "state", "tables")] == ["-", "complete", "yes"]
    assert counts(rows["ratio_shapes"]) == (1, 1, 0, 0, 0, 0, 0)


def test_status_tells_not_run_from_failed_and_damaged(copy, capsys):
    study = open_results(copy)
    tasks = study.tasks()
    with open_store(copy, study.settings) as store:
        store.parts()
        store.save_part(*lost_task(tasks[0], "timeout", "took longer than 5 s"))
        store.save_part(*lost_task(tasks[1], "error", "RuntimeError: a fault"))
        store.discard_tables()
    parts = sorted((copy / "parts").iterdir())
    for part in parts[2:5]:
        part.unlink()
    parts[5].write_bytes(b"")
    text, rows = status_of(copy.parent, capsys)
    assert counts(rows["mine"]) == (8, 2, 2, 3, 1, 2, 2)  # both methods of a lost task failed
    assert (rows["mine"]["state"], rows["mine"]["tables"]) == ("unfinished", "no")
    assert (
        f"timeout in mine/hodge/n=100/responses=4/block=0:rdro, seed key {tasks[0].key}: took longer than 5 s" in text
    )
    assert f"error in mine/hodge/n=100/responses=4/block=1:ddro, seed key {tasks[1].key}: RuntimeError: a fault" in text
    assert sorted((copy / "parts").iterdir())[2:] == parts[5:]  # nothing is removed, not even what is damaged


def test_status_shows_some_failures_and_counts_the_others(copy, capsys):
    study = open_results(copy)
    with open_store(copy, study.settings) as store:
        store.parts()
        for task in study.tasks():
            store.save_part(*lost_task(task, "error", "RuntimeError: a fault"))
    text, rows = status_of(copy, capsys)
    assert counts(rows["mine"]) == (8, 0, 8, 0, 0, 16, 0)
    assert text.count("RuntimeError: a fault") == 5 and text.endswith("and 11 more failures\n")


def test_status_of_parts_without_tables_is_not_collected(finished, tmp_path, capsys):
    study = load_study(write_study(tmp_path, SWEPT))
    for number in (0, 1):
        run_study(study, tmp_path, profile="smoke", shard=(number, 2))
    _, rows = status_of(tmp_path, capsys)
    assert (rows["mine"]["state"], counts(rows["mine"])[:2]) == ("not collected", (8, 8))


def test_status_of_a_failure_in_complete_tables(copy, capsys):
    study = open_results(copy)
    with open_store(copy, study.settings) as store:
        store.parts()
        store.save_part(*lost_task(study.tasks()[7], "error", "RuntimeError: a fault"))
    _, rows = status_of(copy, capsys)  # the folder of one study will do
    assert rows["mine"]["state"] == "complete but for failures"


def test_status_names_writers_and_changes_nothing(copy, capsys):
    settings = open_results(copy).settings
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    with open_store(copy, settings):
        _, rows = status_of(copy, capsys)
    assert rows["mine"]["state"] == f"running ({os.getpid()})"
    with open_store(copy, settings, shard=(0, 2)), open_store(copy, settings, shard=(1, 2)):
        _, rows = status_of(copy, capsys)
    assert rows["mine"]["state"] == f"running ({os.getpid()}, {os.getpid()})"
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert {path.name for path in changed} <= {".lock", "mine"}  # what the writers themselves wrote
    _, rows = status_of(copy, capsys)
    assert rows["mine"]["state"] == "complete"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--output", "{}/absent"], "results must be a folder that a run wrote, got {}/absent: No such file"),
        (["status", "--output", "{}"], "results must be a folder that a run wrote, got {}: No such file"),
        (["summary", "{}/absent"], "results must be a folder that a run wrote, got {}/absent: No such file"),
        (["summary", "mine", "--output", "{}"], "results must be a folder that a run wrote, got {}/mine: No such file"),
        (["diff", "{}", "{}"], "results must be a folder that a run wrote, got {}: No such file"),
        (["replay", "mine/hodge/n=100/block=0:rdro", "--output", "{}"], "results must be a folder that a run wrote"),
    ],
)
def test_missing_and_empty_folders_are_refused(tmp_path, capsys, arguments, message):
    got = refusal(capsys, *(argument.format(tmp_path) for argument in arguments))
    assert got.startswith(message.format(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "must be the JSON that an earlier run wrote"), ("[]", "must hold the settings of a study")],
)
def test_broken_settings_are_refused(copy, capsys, content, message):
    (copy / "config.json").write_text(content)
    assert f"{copy}/config.json {message}" in refusal(capsys, "status", "--output", copy.parent)


def test_summary_shows_means_targets_and_failures(finished, capsys):
    assert main(["summary", "mine", "--output", str(finished)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("mine (smoke), metric tv_preferred; others by --metric: ")
    lines = [line.split() for line in text.splitlines()]
    summary = pd.read_parquet(finished / "mine" / "summary.parquet")
    rows = summary[summary["metric"] == "tv_preferred"].set_index(["method", "responses", "n"])
    shown = [line for line in lines if line[:1] in (["rdro"], ["ddro"])]
    assert len(shown) == len(rows) == 8
    for method, responses, n, mean, low, high, exact, failed in shown:
        row = rows.loc[method, int(responses), int(n.replace(",", ""))]
        for printed, value in ((mean, row["mean"]), (low.strip("[,"), row["low"]), (high.strip("]"), row["high"])):
            assert float(printed) == pytest.approx(value, rel=5e-4)  # four digits
        assert float(exact) == pytest.approx(row["exact"], rel=5e-4)
        assert (failed == "none") == (row["share_ok"] == 1.0)


def test_summary_can_be_narrowed_down(finished, capsys):
    arguments = ["summary", str(finished / "mine"), "--metric", "max_ratio", "--world", "hodge", "--method", "ddro"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "metric max_ratio" in text and "ddro" in text and "rdro" not in text


@pytest.mark.parametrize(
    ("flag", "value", "nearest"),
    [("--metric", "tv_prefered", "tv_preferred"), ("--world", "hedge", "hodge"), ("--method", "rdo", "rdro")],
)
def test_summary_names_the_nearest(finished, capsys, flag, value, nearest):
    message = refusal(capsys, "summary", finished / "mine", flag, value)
    assert message.startswith(f"{flag[2:]} of mine must be one of") and f"(did you mean '{nearest}'?)" in message


def test_summary_of_an_exact_study(finished, capsys):
    assert main(["summary", "ratio_shapes", "--output", str(finished)]) == 0
    text = capsys.readouterr().out
    table = pd.read_parquet(finished / "ratio_shapes" / "table.parquet")
    assert text.startswith(f"ratio_shapes: exact table of {len(table)} rows") and all(name in text for name in table)


def test_summary_before_the_tables_is_refused(copy, capsys):
    (copy / "summary.parquet").unlink()
    assert f"{copy} must hold summary.parquet, got none" in refusal(capsys, "summary", copy)


def test_summary_shows_rates_failures_and_verdicts(copy):
    summary = pd.read_parquet(copy / "summary.parquet")
    summary.loc[0, ["share_ok", "share_diverged", "share_timeout"]] = [0.5, 0.25, 0.25]
    summary.loc[0, ["mean", "low", "high"]] = np.nan
    summary.to_parquet(copy / "summary.parquet")
    rate = {"study": "mine", "world": "hodge", "responses": 4, "method": "rdro", "metric": "tv_preferred"}
    rate |= {"slope": -0.5, "low": -0.52, "high": -0.48, "points": 5, "lack_of_fit_p": 0.3}
    pd.DataFrame([rate]).to_parquet(copy / "rates.parquet")
    verdicts().to_parquet(copy / "verdicts.parquet")
    text = summary_text(open_results(copy))
    first = next(line for line in text.splitlines() if "diverged" in line)
    assert "- [-, -]" in first and first.endswith("diverged 25.00%, timeout 25.00%")
    assert "-0.5 [-0.52, -0.48]" in text
    lines = text.splitlines()[-5:]
    assert "claims: 1 supported" in lines[0] and lines[1].startswith("claim ")
    assert "w, alpha = 0.2" in lines[3] and "negative, NOT as expected" in lines[3]
    assert lines[4].split()[-5:] == ["not", "run", "-", "[-,", "-]", "-"][-5:]


def verdicts():
    """Return verdicts of each sort."""
    nothing = {"estimate": np.nan, "low": np.nan, "high": np.nan, "p_holm": np.nan}
    found = {"estimate": -0.5, "low": -0.51, "high": -0.49, "p_holm": 0.01}
    rows = [
        {"claim": "a", "where": "{}", "verdict": "supported", "control": "positive", "as_expected": True, **found},
        {
            "claim": "b",
            "where": '{"alpha": 0.2}',
            "verdict": "rejected",
            "control": "negative",
            "as_expected": False,
            **found,
        },
        {"claim": "c", "where": "{}", "verdict": "not_run", "control": "positive", "as_expected": pd.NA, **nothing},
    ]
    table = pd.DataFrame([{"world": "w", "method": "m", "metric": "tv", **row} for row in rows])
    return table.astype({"as_expected": "boolean"})


def test_verdicts_are_counted_and_controls_that_failed_or_did_not_run_are_told_apart():
    assert verdict_counts(verdicts()) == (
        "claims: 1 supported, 1 rejected, 0 inconclusive, 1 not run; controls: 1 of 2 as expected, 1 not run, "
        "not the negative control 'b' in w, alpha = 0.2: rejected"
    )
    assert verdict_counts(verdicts().assign(control="none")).endswith("1 not run; no controls")


def test_equal_results_are_equal_however_they_were_made(finished, tmp_path, capsys):
    again = run_with(tmp_path / "again", SWEPT, jobs=2)
    assert main(["diff", str(finished / "mine"), str(again)]) == 0
    assert capsys.readouterr().out == "mine: equal\n"


def test_a_single_changed_value_is_found_and_sized(copy, finished, capsys):
    metrics = pd.read_parquet(copy / "metrics.parquet")
    place = metrics.index[(metrics["metric"] == "max_ratio") & (metrics["n"] == 1000)][7]
    old = metrics.loc[place, "value"]
    metrics.loc[place, "value"] = old + 0.25
    metrics.to_parquet(copy / "metrics.parquet", index=False)
    (comparison,) = compare(finished / "mine", copy)
    (found,) = comparison.values
    assert (found.name, found.differing, found.values) == ("max_ratio", 1, 2 * 2 * 2 * 1200)
    assert found.absolute == pytest.approx(0.25) and found.relative == pytest.approx(0.25 / (old + 0.25))
    replicate, responses = metrics.loc[place, ["replicate", "responses"]]
    method = metrics.loc[place, "method"]
    assert found.where == f"hodge/n=1000/responses={responses}:{method}, replicate {replicate}"
    assert main(["diff", str(finished / "mine"), str(copy)]) == 1
    assert "max_ratio: 1 of 9,600, by at most 0.25" in capsys.readouterr().out


def test_a_value_that_is_missing_in_one_differs_without_bound_and_missing_in_both_is_equal(copy, finished):
    metrics = pd.read_parquet(copy / "metrics.parquet")
    metrics.loc[3, "value"] = np.nan
    metrics.to_parquet(copy / "metrics.parquet", index=False)
    ((found,),) = [comparison.values for comparison in compare(finished / "mine", copy)]
    assert found.differing == 1 and found.absolute == found.relative == np.inf
    twin = shutil.copytree(copy, copy.parent / "twin")
    (twin / "timing.parquet").unlink()  # times are not compared
    assert [comparison.equal for comparison in compare(copy, twin)] == [True]


def test_other_settings_runs_and_metrics_are_named(finished, tmp_path, capsys):
    other = run_with(tmp_path / "other", ("[profiles.quick]\n", "[vary]\nresponses = [4]\n\n[profiles.quick]\n"))
    assert main(["diff", str(finished / "mine"), str(other)]) == 1
    text = capsys.readouterr().out
    assert "profile.vary: [['responses', [4, 6]]] -> [['responses', [4]]]" in text
    assert "mine/hodge/n=100/responses=6/block=0:rdro" in text and "only in the second" not in text
    assert "values that differ" not in text  # what both have is equal


def test_a_run_that_ended_differently_is_named(copy, finished):
    runs = pd.read_parquet(copy / "runs.parquet")
    runs.loc[0, ["status", "message"]] = ["error", "RuntimeError: a fault"]
    runs.to_parquet(copy / "runs.parquet", index=False)
    (comparison,) = compare(finished / "mine", copy)
    (line,) = comparison.outcomes
    assert line.startswith("mine/hodge/n=100/responses=4/block=0:rdro: ok (1000 ok) -> error RuntimeError: a fault (")
    assert not comparison.equal


def test_different_seeds_are_compared_by_means_in_standard_errors(finished, tmp_path, capsys):
    other = run_with(tmp_path / "other", SWEPT, ("seed = 3", "seed = 4"))
    (comparison,) = compare(finished / "mine", other)
    assert comparison.settings == ("seed: 3 -> 4",) and comparison.values == () and not comparison.equal
    errors = np.array([mean.standard_errors for mean in comparison.means])
    rows = pd.read_parquet(other / "summary.parquet")
    assert len(errors) == (rows["standard_error"] > 0).sum()
    # Standard normal under equal laws; 5 is exceeded with probability 6e-7 by each of less than 100.
    assert np.abs(errors).mean() > 0.3 and np.abs(errors).max() < 5.0
    assert (np.diff(np.abs(errors)) <= 0).all()
    assert main(["diff", str(finished / "mine"), str(other)]) == 1
    beyond = (np.abs(errors) > 4.0).sum()
    assert f"{beyond} differ by more than 4 standard errors" in capsys.readouterr().out


def test_a_study_in_one_folder_only_and_exact_tables(finished, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    shutil.rmtree(other / "mine")
    assert main(["diff", str(finished), str(other)]) == 1
    text = capsys.readouterr().out
    assert "mine: different\n  only in the first: 1\n    the study" in text and "ratio_shapes: equal" in text
    table = pd.read_parquet(other / "ratio_shapes" / "table.parquet")
    table.iloc[0, 1] += 1e-9
    table.to_parquet(other / "ratio_shapes" / "table.parquet", index=False)
    (comparison,) = compare(finished / "ratio_shapes", other)
    (found,) = comparison.values
    assert (found.name, found.differing, found.where) == (table.columns[1], 1, "row 0")
    assert found.absolute == pytest.approx(1e-9, rel=1e-6)
    table.head(3).to_parquet(other / "ratio_shapes" / "table.parquet", index=False)
    assert [entry.name for entry in compare(finished / "ratio_shapes", other)[0].values] == ["shape"]


def test_studies_of_different_kinds_differ_in_their_settings(finished):
    (comparison,) = compare(finished / "mine", finished / "ratio_shapes")
    assert "kind: monte_carlo -> exact" in comparison.settings and not comparison.equal


def test_settings_are_compared_leaf_by_leaf(copy, finished):
    settings = json.loads((copy / "config.json").read_text())
    settings["worlds"][0]["options"]["signal"] = 2.0
    (copy / "config.json").write_text(json.dumps(settings))
    (comparison,) = compare(finished / "mine", copy)
    assert comparison.settings == ("worlds[0].options.signal: 1.0 -> 2.0",)


def test_tasks_are_those_of_the_study(finished):
    study = load_study(write_study(finished, SWEPT))
    assert open_results(finished / "mine").tasks() == study_tasks(study, "smoke")
