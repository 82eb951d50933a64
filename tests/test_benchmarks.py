"""Benchmarks run at tiny sizes, and their results become one table."""

import importlib.util
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from figures.readme import fill

ROOT = Path(__file__).parents[1]
TINY = {  # benchmarks that need no training of language models, and arguments with which they take a second or two
    "drawing_floor": ["--responses", "3", "--replicates", "4", "1001", "--repeats", "2"],
    "log_linear": [
        *("--dimensions", "3", "--prompts", "3", "--responses", "4", "--replicates", "4", "--loop", "2"),
        *("--repeats", "2", "--peers", "scipy"),
    ],
    "loss_kernels": ["--size", "1000", "--repeats", "2", "--libraries", "numpy"],
    "population": ["--prompts", "2", "--responses", "5", "--repeats", "2"],
    "problem_size": [
        *("--responses", "2", "4", "--prompts", "1", "2", "--cells", "40", "--loop", "1", "--repeats", "2"),
        *("--memory-responses", "3", "--memory-cells", "300000", "--rounds", "1"),
    ],
    "rulsif": ["--sizes", "30", "--kernels", "10", "--repeats", "2", "--fresh", "100"],
    "sample_size": ["--sizes", "1000", "100000", "--replicates", "4", "--peer-replicates", "2", "--repeats", "2"],
    "startup": ["--parts", "imports", "--repeats", "1"],
    "tabular_fit": ["--responses", "3", "5", "--replicates", "4", "--loop", "2", "--repeats", "3"],
}
IN_TABLE = ("sample_size", "tabular_fit")
LM = {  # each in processes that train with torch
    "lm_head": ["--widths", "8", "--vocabularies", "300", "--lengths", "64", "--passes", "1"],
    "lm_packing": ["--steps", "2", "--spreads", "70", "--median", "20"],
    "lm_start": ["--rounds", "1", "--kinds", "relratio", "transformers"],
    "lm_step": ["--vocabularies", "300", "--steps", "2", "--kinds", "relratio", "trl, lean"],
}


def run(script, *arguments):
    """Run a script of benchmarks/."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a function that runs a benchmark, once, and gives what it printed and its folder; do not change them."""

    @cache
    def measure(name):
        folder = tmp_path_factory.mktemp(name)
        done = run(f"{name}.py", *TINY[name], "--output", folder)
        assert done.returncode == 0, done.stderr
        return done.stdout, folder

    return measure


@pytest.fixture(scope="module")
def results(measured, tmp_path_factory):
    """Folder of the results of two benchmarks; tests do not change it."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in IN_TABLE:
        shutil.copy(measured(name)[1] / f"{name}.json", folder)
    return folder


@pytest.fixture(scope="module")
def table(results):
    """The table of these results."""
    path = results.parent / "published.csv"
    done = run("support/published.py", "--results", results, "--output", path)
    assert (done.returncode, done.stdout) == (0, f"{path}: 8 rows\n")
    return pd.read_csv(path)


@pytest.mark.parametrize("name", sorted(TINY))
def test_benchmark_compares_ours_with_a_peer_at_the_same_size(name, measured):
    printed, folder = measured(name)
    assert printed.strip()
    assert [path.name for path in folder.iterdir()] == [f"{name}.json"]
    content = json.loads((folder / f"{name}.json").read_text())
    assert content["question"] == name
    compared = [
        {(row["size_name"], row["size"], row["quantity"]) for row in content["measurements"] if row["role"] == role}
        for role in ("ours", "peer")
    ]
    assert compared[0] & compared[1]
    with_target = {
        (row["size_name"], row["size"], row["quantity"]) for row in content["measurements"] if "target" in row
    }
    assert with_target <= compared[0] & compared[1]


def test_table_has_a_row_for_each_contender_size_and_quantity(table):
    keys = table[["question", "contender", "role", "size_name", "size", "quantity", "unit"]]
    assert [tuple(row) for row in keys.itertuples(index=False)] == [
        ("sample_size", "relratio, counts", "ours", "examples", 1_000, "time a replicate", "s"),
        ("sample_size", "numpy, example by example", "peer", "examples", 1_000, "time a replicate", "s"),
        ("sample_size", "relratio, counts", "ours", "examples", 100_000, "time a replicate", "s"),
        ("sample_size", "numpy, example by example", "peer", "examples", 100_000, "time a replicate", "s"),
        ("tabular_fit", "relratio, batched", "ours", "responses", 3, "time a fit", "s"),
        ("tabular_fit", "scipy BFGS, one by one", "peer", "responses", 3, "time a fit", "s"),
        ("tabular_fit", "relratio, batched", "ours", "responses", 5, "time a fit", "s"),
        ("tabular_fit", "scipy BFGS, one by one", "peer", "responses", 5, "time a fit", "s"),
    ]
    assert list(table["repetitions"]) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_table_holds_the_spread_of_the_measured_values_and_what_measured_them(results, table):
    content = json.loads((results / "tabular_fit.json").read_text())
    low, middle, high = sorted(content["measurements"][0]["values"])
    row = table[table["question"] == "tabular_fit"].iloc[0]
    assert list(row[["low", "median", "high"]]) == pytest.approx([low, middle, high], rel=1e-5)
    assert low > 0
    assert row["processor"] == content["machine"]["processor"] and row["threads"] == 1
    assert row["versions"].startswith("python 3.") and "; scipy " in row["versions"]
    assert max(content["largest_policy_difference"].values()) < 1e-8


def test_published_table_of_the_repository_has_the_form_that_is_written(table):
    published = pd.read_csv(ROOT / "benchmarks" / "published.csv")
    assert list(published) == list(table)
    measured = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"lm_gpu"}
    assert set(published["question"]) >= measured
    for question, rows in published.groupby("question"):
        assert set(rows["role"]) == {"ours", "peer"}, question
    assert (published["median"] > 0).all()


def published_module():
    """Import benchmarks/support/published.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("published", ROOT / "benchmarks" / "support" / "published.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_shows_the_published_targets():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill(readme, "speed", published_module().speed_table(ROOT / "benchmarks" / "published.csv")) == readme


def test_ratios_and_targets_of_both_kinds_are_told(tmp_path):
    published = published_module()
    about = ("replicates", 10, "time", "s")
    rows = [
        published.measurement("relratio", "ours", *about, [1.0, 2.0, 3.0], target=1.5),
        published.measurement("scipy", "peer", *about, [30.0, 10.0, 20.0], target=8.0),
    ]
    machine = {"processor": "CPU", "cores": 2, "load": 0.1, "versions": {"python": "3.11"}}
    published.save(tmp_path / "results", "toy", machine, 1, rows)
    assert published.publish(tmp_path / "results", tmp_path / "published.csv") == 2
    ratios = pd.read_csv(tmp_path / "published.csv")["ratio"].tolist()
    assert pd.isna(ratios[0]) and ratios[1] == 10.0
    shown = published.speed_table(tmp_path / "published.csv").splitlines()
    assert "2 (1 to 3) s, relratio | 20 (10 to 30) s, scipy | 10 | at most 1.5 s: **missed** |" in shown[3]
    assert shown[4].endswith("| 10 | at least 8: met |")
    assert shown[-1] == "Measured on: CPU, 2 cores. Versions: python 3.11."


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "JSONDecodeError"), ('{"machine": {}}', "KeyError: 'versions'")]
)
def test_file_that_is_no_result_is_refused_in_one_line_and_nothing_written(content, problem, tmp_path):
    (tmp_path / "old.json").write_text(content)
    done = run("support/published.py", "--results", tmp_path, "--output", tmp_path / "p.csv")
    assert done.returncode == 1 and not (tmp_path / "p.csv").exists()
    assert done.stderr.startswith(f"error: {tmp_path / 'old.json'} must be the result of a benchmark, got {problem}")
    assert done.stderr.endswith("remake it: make bench\n") and done.stderr.count("\n") == 1


def test_no_results_name_the_command_that_makes_them(tmp_path):
    done = run("support/published.py", "--results", tmp_path, "--output", tmp_path / "p.csv")
    assert done.returncode == 1 and not (tmp_path / "p.csv").exists()
    assert done.stderr == f"error: {tmp_path} must hold results of benchmarks, got none; make them with: make bench\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", LM)
def test_language_model_benchmarks_compare_ours_with_a_peer(name, tmp_path):
    done = run(f"{name}.py", *LM[name], "--threads", "1", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    measurements = json.loads((tmp_path / f"{name}.json").read_text())["measurements"]
    compared = {
        role: {(row["size_name"], row["size"], row["quantity"]) for row in measurements if row["role"] == role}
        for role in ("ours", "peer")
    }
    assert compared["ours"] == compared["peer"] and measurements[0]["role"] == "ours"
    assert min(min(row["values"]) for row in measurements) > 0


@pytest.mark.slow
def test_study_engine_is_compared_with_its_tasks_alone_and_with_a_cache(tmp_path):
    small = ["--studies", "class_weighting", "--replicates", "2", "--scaled", "3", "--tasks", "3", "--repeats", "1"]
    done = run("study_engine.py", *small, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "study_engine.json").read_text())
    assert [row["role"] for row in content["measurements"]] == 5 * ["ours", "peer"]
    assert len(content["facts"]["trivial"]["bytes"]) == 1


@pytest.mark.slow
def test_start_up_is_measured_of_every_command_and_no_help_imports_torch(tmp_path):
    done = run("startup.py", "--parts", "help", "refusals", "--repeats", "1", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "startup.json").read_text())
    assert len(content["help"]) == 18 and [row["role"] for row in content["measurements"]] == 7 * ["ours", "peer"]
