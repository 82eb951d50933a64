"""Validation: results on disk, however the work was interrupted or shared out."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from lm.__main__ import main
from lm.validation import work
from lm.validation.experiments import load_experiment, shipped_experiments
from lm.validation.runner import run_experiment
from lm.validation.store import find_checked, save_checked
from lm.validation.training import train
from tests.lm.tiny_validation import tiny_file


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("runs", "metrics", "summary")}


def _assert_equal(first: Path, second: Path) -> None:
    one, other = _tables(first), _tables(second)
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, other[name])


def test_results_do_not_depend_on_interruptions(tmp_path, monkeypatch):
    experiment = load_experiment(tiny_file(tmp_path))
    whole = run_experiment(experiment, tmp_path / "whole", profile="smoke")
    assert (whole.runs, whole.computed, whole.errors) == (4, 4, ())
    calls = []

    def stopping(run, references):
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(run, references)

    monkeypatch.setattr(work, "train", stopping)
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
    experiment = load_experiment(tiny_file(tmp_path))
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


def test_that_nothing_is_left_to_do_is_told_without_torch(tmp_path):
    arguments = [
        "validate",
        tiny_file(tmp_path),
        "--profile",
        "smoke",
        "--output",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]
    assert main(arguments) == 0
    code = f"import sys; from lm.__main__ import main; sys.exit(main({arguments}) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "0 of 4 runs computed" in done.stdout, done.stderr


def test_a_run_that_raises_is_recorded_and_tried_again(tmp_path, monkeypatch, capsys):
    path = tiny_file(tmp_path)

    def failing(run, references):
        if run.method.label == "dpo" and run.replicate == 0:
            raise RuntimeError("no such luck")
        return train(run, references)

    monkeypatch.setattr(work, "train", failing)
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
    assert main([*arguments, tiny_file(tmp_path)]) == 0
    assert main([*arguments, tiny_file(tmp_path, other="sft")]) == 2
    told = capsys.readouterr().err
    assert "an experiment must resume with the settings it began with" in told and "delete" in told


def test_tables_have_the_columns_of_studies(tmp_path):
    result = run_experiment(load_experiment(tiny_file(tmp_path)), tmp_path, profile="smoke")
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
