"""The command line lists and runs what was asked for, or says in one line why not."""

import subprocess
import sys
from pathlib import Path

import distributed
import pandas as pd
import pytest

from sim import simulation
from sim.__main__ import main
from sim.commands import actions
from sim.engine.store import digest
from sim.engine.study import load_study, shipped_studies
from sim.estimators import METHODS
from sim.preferences import PREFERENCE_MODELS
from tests.sim.command_line import ROOT, refusal, write_study
from theory import GENERATORS

COMMANDS = ("list", "estimate", "run", "collect", "status", "summary", "diff", "replay", "distance")

CLAIMS = """
[[claims]]
claim = "rdro finds the preferred law"
kind = "target"
methods = ["rdro"]
metric = "tv_target"
at_n = 1_000
margin = 0.1
control = "positive"

[profiles.quick]
"""


@pytest.fixture
def study(tmp_path):
    """Return the path of a study file."""
    return write_study(tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=lambda a: a[0])
def test_help_reads_well_and_imports_nothing_heavy(arguments):
    code = "import sys; from sim.__main__ import main\n"
    code += f"try: main({arguments!r})\nexcept SystemExit as end: print(end.code)\n"
    heavy = ("numpy", "scipy", "pandas", "pyarrow", "joblib", "torch", "distributed")
    code += f"print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-2:] == ["0", "[]"] and "%%" not in result.stdout
    if arguments == ["--help"]:
        assert all(f"\n    {name} " in result.stdout for name in COMMANDS)


def test_list_names_all_there_is(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    listed = dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  ") and line[2] != " ")
    assert set(listed) == {*shipped_studies(), *PREFERENCE_MODELS, *METHODS, *GENERATORS}
    assert listed["consistency"] == load_study("consistency").question
    assert listed["hodge"] == PREFERENCE_MODELS["hodge"].summary and listed["dpo"] == METHODS["dpo"].summary
    assert PREFERENCE_MODELS["hodge"].formula in text and "`" not in text
    assert listed["power"].endswith("; exponent = 0.5, scale = 1")


def test_run_writes_tables_and_a_second_run_is_up_to_date(study, tmp_path, capsys):
    arguments = ["run", study, "loss_shapes", "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert first.out == (
        f"mine: 4 of 4 tasks computed, tables in {tmp_path}/out/mine\n"
        f"loss_shapes: 1 of 1 tasks computed, tables in {tmp_path}/out/loss_shapes\n"
    )
    assert first.err == ""  # no progress bar where stderr is not a terminal
    summary = pd.read_parquet(tmp_path / "out" / "mine" / "summary.parquet")
    assert set(zip(summary["n"], summary["method"], strict=True)) == {
        (n, method) for n in (100, 1000) for method in ("rdro", "ddro")
    }
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("up to date") == 2


def test_no_name_means_all_studies(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(actions, "shipped_studies", lambda: ("loss_shapes", "ratio_shapes"))
    assert main(["run", "--output", str(tmp_path), "--jobs", "1"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["loss_shapes", "ratio_shapes"]


def test_run_tells_the_verdicts_and_how_the_controls_came_out(tmp_path, capsys):
    path = write_study(tmp_path, ("[profiles.quick]\n", CLAIMS))
    arguments = ["run", path, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "mine: claims: 1 supported, 0 rejected, 0 inconclusive, 0 not run; controls: 1 of 1 as expected"
    )
    # At n = 1,000 the error is about (3 / 500)^(1/2) / 2 = .04, far from the exact value 0 to within 1e-4.
    write_study(tmp_path, ("[profiles.quick]\n", CLAIMS.replace("margin = 0.1", "margin = 0.0001")))
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "mine: claims: 0 supported, 1 rejected, 0 inconclusive, 0 not run; controls: 0 of 1 as expected, "
        "not the positive control 'rdro finds the preferred law' in hodge: rejected"
    )


def test_shards_are_run_apart_and_collected(study, tmp_path, capsys):
    arguments = [study, "--profile", "smoke", "--output", str(tmp_path / "shards")]
    assert main(["run", *arguments, "--shard", "1/3", "--jobs", "1"]) == 0
    assert capsys.readouterr().out == f"mine: 2 of 2 tasks computed, parts in {tmp_path}/shards/mine\n"
    message = refusal(capsys, "collect", *arguments)
    assert "tables must be made of all 4 tasks of mine (smoke), got none for 2 of them" in message
    for shard in ("2/3", "3/3"):
        assert main(["run", *arguments, "--shard", shard, "--jobs", "1"]) == 0
    assert main(["collect", *arguments]) == 0
    assert f"mine: up to date, tables in {tmp_path}/shards/mine" in capsys.readouterr().out
    assert main(["run", study, "--profile", "smoke", "--output", str(tmp_path / "whole"), "--jobs", "1"]) == 0
    assert digest(tmp_path / "shards") == digest(tmp_path / "whole")


def test_tasks_run_on_a_dask_cluster(study, tmp_path):
    arguments = ["run", study, "--profile", "smoke"]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        there = ["--backend", "dask", "--scheduler", cluster.scheduler_address]
        assert main([*arguments, *there, "--output", str(tmp_path / "there")]) == 0
    assert main([*arguments, "--jobs", "1", "--output", str(tmp_path / "here")]) == 0
    assert digest(tmp_path / "there") == digest(tmp_path / "here")


def test_a_method_that_takes_too_long_is_a_timeout_and_the_command_fails(tmp_path, capsys):
    path = write_study(tmp_path, ("responses = 4", "responses = 64"), ("n = [100, 1_000]", "n = [100]"))
    arguments = ["run", path, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]
    assert main([*arguments, "--timeout", "0.001"]) == 1
    error = capsys.readouterr().err
    assert "relratio-sim: timeout in mine/hodge/n=100/block=0:rdro, seed key 3:" in error
    assert "took longer than 0.001 s" in error
    assert main([*arguments, "--timeout", "600"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "consistancy"], "got 'consistancy' (did you mean 'consistency'?)"),
        (["run", "absent.toml"], "a study must be a file that can be read, got absent.toml: No such file or directory"),
        (["run", "loss_shapes", "loss_shapes"], "must have different names, got loss_shapes twice"),
        (["collect", "consistancy"], "got 'consistancy' (did you mean 'consistency'?)"),
        (["collect", "class_weighting"], "tables must be made of tasks that shards have computed, got none in"),
    ],
)
def test_a_wrong_request_is_one_line(arguments, message, tmp_path, capsys):
    assert message in refusal(capsys, *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", "sead = 3", "mine.toml: key of a study must be one of"),
        ("seed = 3", "seed = ", "mine.toml: Invalid value"),
        (
            "signal = 1.0",
            "signal = -1.0",
            "study mine, world hodge: signal must be finite and greater than 0, got -1.0",
        ),
        ("cyclic_share", "cyclic_shape", "got 'cyclic_shape' (did you mean 'cyclic_share'?)"),
        ('method = "rdro"', 'method = "rdo"', "got 'rdo' (did you mean 'rdro'?)"),
    ],
)
@pytest.mark.parametrize("command", ["run", "estimate"])
def test_a_wrong_file_stops_all_studies_before_any_work(tmp_path, capsys, command, old, new, message):
    path = write_study(tmp_path, (old, new))
    folder = ["--output", tmp_path / "out"] if command == "run" else []
    assert message in refusal(capsys, command, "loss_shapes", path, *folder)
    assert not (tmp_path / "out").exists()


def test_an_empty_file_is_refused(tmp_path, capsys):
    (tmp_path / "empty.toml").write_text("")
    assert "empty.toml: kind must be one of" in refusal(capsys, "run", tmp_path / "empty.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run", "--profile", "large"], "invalid choice: 'large'"),
        (["run", "--jobs", "0"], "must be a positive integer, got '0'"),
        (["run", "--jobs", "two"], "must be a positive integer, got 'two'"),
        (["run", "--otput", "x"], "unrecognized arguments: --otput"),
        (["run", "--timeout", "0"], "must be a positive number of seconds, got '0'"),
        (["run", "--timeout", "nan"], "must be a positive number of seconds, got 'nan'"),
        (["run", "--timeout", "inf"], "must be a positive number of seconds, got 'inf'"),
        (["run", "--timeout", "soon"], "must be a positive number of seconds, got 'soon'"),
        (["run", "--shard", "0/4"], "must be I/N with 1 <= I <= N, got '0/4'"),
        (["run", "--shard", "5/4"], "must be I/N with 1 <= I <= N, got '5/4'"),
        (["run", "--shard", "2"], "must be I/N with 1 <= I <= N, got '2'"),
        (["run", "--backend", "dask"], "--backend dask and --scheduler ADDRESS go together"),
        (["run", "--scheduler", "tcp://host:8786"], "--backend dask and --scheduler ADDRESS go together"),
        (["run", "--backend", "slurm"], "invalid choice: 'slurm'"),
        (["estimate", "--output", "x"], "unrecognized arguments: --output"),
        (["summary"], "the following arguments are required: STUDY|FOLDER"),
        (["diff", "one"], "the following arguments are required: FOLDER"),
        (["replay"], "the following arguments are required: RUN"),
    ],
)
def test_wrong_flags_show_the_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_changed_settings_name_difference_and_remedies(study, tmp_path, capsys):
    arguments = ["run", study, "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(arguments) == 0
    capsys.readouterr()
    write_study(Path(study).parent, ("seed = 3", "seed = 4"))
    assert "got seed: 3 -> 4. Remedies: choose another --output, or delete" in refusal(capsys, *arguments)


def test_a_missing_extra_names_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refusal(capsys, "run", "arena", "--output", tmp_path / "out")
    assert "install it with: pip install 'relratio[data]'" in message
    assert not (tmp_path / "out").exists()


def test_a_task_that_raises_is_told_with_its_run_and_fails_the_command(study, tmp_path, monkeypatch, capsys):
    real = simulation.simulate

    def broken(world, method, *arguments, **options):
        if method == "ddro":
            raise RuntimeError("a fault\nover two lines")
        return real(world, method, *arguments, **options)

    arguments = ["run", study, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(simulation, "simulate", broken)
        assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("relratio-sim: error in mine/hodge/n=100/block=0:ddro, seed key 3:")
    assert lines[0].endswith(":0: RuntimeError: a fault over two lines")
    assert main(arguments) == 0
    assert "4 of 4 tasks computed" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    listing = [sys.executable, "-m", "sim", "list"]
    run = subprocess.Popen(listing, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run.stdout.close()  # as head does once it has its lines
    assert run.wait() == 141 and run.stderr.read() == ""
    run.stderr.close()
