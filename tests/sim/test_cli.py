"""The command line does what was asked for, or says in one line why not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sim import runner
from sim.__main__ import main
from sim.estimators import METHODS
from sim.preferences import PREFERENCE_MODELS
from sim.runner import run_study
from sim.store import digest, open_store
from sim.study import load_study, shipped_studies
from theory import GENERATORS

ROOT = Path(__file__).parents[2]

STUDY = """
name = "mine"
kind = "monte_carlo"
question = "Does the command line work?"
seed = 3

[[worlds]]
name = "hodge"
preference = "hodge"
options = { cyclic_share = 0.5, signal = 1.0 }
responses = 4

[[methods]]
label = "rdro"
method = "rdro"

[profiles.quick]
n = [100, 1_000]
replicates = 5_000

[profiles.smoke]
n = [100]
replicates = 5
"""


@pytest.fixture
def study(tmp_path):
    """Return the path of a study file."""
    path = tmp_path / "mine.toml"
    path.write_text(STUDY)
    return str(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the digest of the study run in one go."""
    path = tmp_path_factory.mktemp("whole") / "mine.toml"
    path.write_text(STUDY)
    return digest(run_study(load_study(path), path.parent).folder)


def command(*arguments):
    """Return the command line of the simulations in a process of its own."""
    return [sys.executable, "-m", "sim", *map(str, arguments)]


def test_help_imports_nothing_heavy():
    code = "import sys; from sim.__main__ import main\n"
    code += "try: main(['run', '--help'])\nexcept SystemExit as end: print(end.code)\n"
    code += (
        "print([name for name in ('numpy', 'scipy', 'pandas', 'pyarrow', 'joblib', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-2:] == ["0", "[]"] and "--profile" in result.stdout


def test_list_names_all_there_is(capsys):
    assert main(["list"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    listed = dict(lines)
    assert set(listed) == {*shipped_studies(), *PREFERENCE_MODELS, *METHODS, *GENERATORS}
    assert listed["consistency"] == load_study("consistency").question
    assert listed["hodge"] == PREFERENCE_MODELS["hodge"].summary and listed["dpo"] == METHODS["dpo"].summary


def test_run_writes_tables_and_a_second_run_is_up_to_date(study, tmp_path, capsys):
    arguments = ["run", study, "loss_shapes", "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert first.out == (
        f"mine: 1 of 1 tasks computed, tables in {tmp_path}/out/mine\n"
        f"loss_shapes: 1 of 1 tasks computed, tables in {tmp_path}/out/loss_shapes\n"
    )
    assert first.err == ""  # no progress bar where stderr is not a terminal
    assert len(pd.read_parquet(tmp_path / "out" / "mine" / "summary.parquet")) == 6
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("up to date") == 2


def test_no_name_means_all_studies(tmp_path, capsys):
    assert main(["run", "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(shipped_studies())
    rates = pd.read_parquet(tmp_path / "consistency" / "rates.parquet")
    assert set(rates["world"]) == {"bradley_terry", "hodge", "intransitive_dice", "thumbs", "arena"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "consistancy"], "got 'consistancy' (did you mean 'consistency'?)"),
        (["run", "absent.toml"], "a study must be a file that can be read, got absent.toml: No such file or directory"),
        (["run", "loss_shapes", "loss_shapes"], "studies of one run must have different names, got loss_shapes twice"),
    ],
)
def test_a_wrong_request_is_one_line(arguments, message, tmp_path, capsys):
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.err.startswith("relratio-sim: ")
    assert captured.out == "" and not (tmp_path / "out").exists()


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
def test_a_wrong_file_stops_all_studies_before_any_work(study, tmp_path, capsys, old, new, message):
    Path(study).write_text(STUDY.replace(old, new))
    assert main(["run", "loss_shapes", study, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: {list,run,distance}"),
        (["run", "--profile", "large"], "invalid choice: 'large'"),
        (["run", "--jobs", "0"], "must be a positive integer, got '0'"),
        (["run", "--jobs", "two"], "must be a positive integer, got 'two'"),
        (["run", "--otput", "x"], "unrecognized arguments: --otput"),
    ],
)
def test_wrong_flags_show_the_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_changed_settings_name_difference_and_remedies(study, tmp_path, capsys):
    arguments = ["run", study, "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main(arguments) == 0
    Path(study).write_text(STUDY.replace("seed = 3", "seed = 4"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "got seed: 3 -> 4. Remedies: choose another --output, or delete" in error and error.count("\n") == 1


def test_an_output_below_a_file_is_refused(study, capsys):
    assert main(["run", study, "--profile", "smoke", "--output", study]) == 2
    error = capsys.readouterr().err
    assert f"results must go to a folder that can be written, got {study}/mine: Not a directory" in error


def test_a_second_process_on_one_store_is_refused(study, tmp_path):
    with open_store(tmp_path / "mine", load_study(study).settings("smoke")):
        second = subprocess.run(
            command("run", study, "--profile", "smoke", "--output", tmp_path), capture_output=True, text=True, cwd=ROOT
        )
    assert second.returncode == 2
    assert second.stderr == (
        "relratio-sim: results must be written by one process at a time, "
        f"got {tmp_path}/mine in use by process {os.getpid()}\n"
    )


def test_a_missing_extra_names_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["run", "consistency", "--output", str(tmp_path / "out")]) == 2
    assert "install it with: pip install 'relratio[data]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_task_that_raises_is_told_and_fails_the_command(study, tmp_path, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("a fault")

    monkeypatch.setattr(runner, "simulate", broken)
    arguments = ["run", study, "--profile", "smoke", "--output", str(tmp_path), "--jobs", "1"]
    assert main(arguments) == 1
    assert "relratio-sim: error in mine: rdro in hodge at n = 100, seed key 3:" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(arguments) == 0


@pytest.mark.parametrize(("ending", "jobs"), [(signal.SIGKILL, 2), (signal.SIGINT, 2), (signal.SIGINT, 1)])
def test_a_run_that_is_cut_short_goes_on_to_the_same_result(study, whole, tmp_path, ending, jobs):
    arguments = command("run", study, "--output", tmp_path / "cut", "--jobs", jobs)
    parts, total = tmp_path / "cut" / "mine" / "parts", 40
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    ) as run:
        try:
            while len(list(parts.glob("*.parquet"))) < 3:
                assert run.poll() is None, run.stderr.read()
                time.sleep(0.002)
            # A kill hits one process, whose workers are left behind; Ctrl-C in a terminal reaches the whole group.
            os.kill(run.pid, ending) if ending == signal.SIGKILL else os.killpg(run.pid, ending)
            code = run.wait(timeout=60)
            saved = len(list(parts.glob("*.parquet")))
            assert 3 <= saved < total
            if ending == signal.SIGINT:
                error = run.stderr.read()
                assert code == 130
                assert (
                    f"interrupted; {saved} of {total} tasks of mine (quick) are saved in {tmp_path}/cut/mine" in error
                )
                assert "Traceback" not in error
            resumed = run_study(load_study(study), tmp_path / "cut")
        finally:
            with contextlib.suppress(ProcessLookupError):  # the workers that a kill left behind
                os.killpg(run.pid, signal.SIGKILL)
    assert resumed.computed == total - saved
    assert digest(resumed.folder) == whole
