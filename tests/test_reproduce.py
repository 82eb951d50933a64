"""The main job, with commands of a few lines in place of the real ones: progress, kills, refusals, second runs."""

import contextlib
import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from figures.job import freshness, stages
from figures.job.stages import Stage, run_stages
from figures.reproduce import main
from tests.sim.test_faults import no_writing

ROOT = Path(__file__).parents[1]
RESULTS, OUTPUT = Path("results/quick"), Path("figures/output/quick")

# Each command notes its arguments and its number; what it makes goes where the real ones put it.
SIM = """
import sys, time, os, pathlib
pathlib.Path("sim.txt").write_text(" ".join(sys.argv[1:])); pathlib.Path("sim.pid").write_text(str(os.getpid()))
folder = pathlib.Path("results/quick/arena"); folder.mkdir(parents=True, exist_ok=True)
"""
LM = """
import sys, time, os, pathlib
pathlib.Path("lm.txt").write_text(" ".join(sys.argv[1:])); pathlib.Path("lm.pid").write_text(str(os.getpid()))
folder = pathlib.Path("results/quick/alpha"); folder.mkdir(parents=True, exist_ok=True)
"""
MAKE_ARENA = """
print("progress arena 0 2", flush=True)
for done in (1, 2): print(f"progress arena {done} 2", flush=True)
print("arena: claims: 1 supported")
(folder / "config.json").write_text("{}"); (folder / "summary.parquet").write_bytes(b"arena")
"""
MAKE_ALPHA = """
print("progress alpha/references 0 1\\nprogress alpha 0 2", flush=True)
print("progress alpha/references 1 1\\nprogress alpha 1 2\\nprogress alpha 2 2", flush=True)
(folder / "settings.json").write_text("{}"); (folder / "summary.parquet").write_bytes(b"alpha")
"""
DRAW = """
import sys, pathlib
pathlib.Path("figures.txt").write_text(" ".join(sys.argv[1:]))
folder = pathlib.Path("figures/output/quick"); folder.mkdir(parents=True, exist_ok=True)
claims = '{"claims": [{"verdict": "supported"}, {"verdict": "refuted"}, {"verdict": "supported"}]}'
(folder / "claims.json").write_text(claims); (folder / "report.html").write_text("")
"""
WORK_UNTIL_TOLD = """
print("progress arena 1 4", flush=True)
try: time.sleep(60)
except KeyboardInterrupt: print("interrupted; what is done is saved"); sys.exit(130)
"""
WORK_ON_AND_ON = """
import signal, subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("helper.pid").write_text(str(helper.pid))
print("progress alpha 1 4", flush=True); time.sleep(60)
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Work in an empty folder, in which a checksum of code is one of few files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sim").mkdir()
    monkeypatch.setattr(freshness, "ROOT", tmp_path)
    return tmp_path


def write_commands(sim=MAKE_ARENA, lm=MAKE_ALPHA, figures=DRAW):
    """Write the commands ``python -m sim``, ``lm`` and ``figures`` of this folder."""
    for name, code in {"sim": SIM + sim, "lm": LM + lm, "figures": figures}.items():
        Path(name).mkdir(exist_ok=True)
        Path(name, "__main__.py").write_text(code)


def start_job():
    """Start the job in a process of its own."""
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; from figures.reproduce import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(*names):
    """Wait until files are there that hold a number, and return the numbers."""
    end = time.monotonic() + 20.0
    while not all(Path(name).is_file() and Path(name).read_text() for name in names):
        assert time.monotonic() < end
        time.sleep(0.01)
    return [int(Path(name).read_text()) for name in names]


def assert_gone(*numbers):
    """Wait until processes have ended."""
    end = time.monotonic() + 20.0
    while any(map(alive, numbers)):
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(number):
    """Return whether a process is there and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_all_is_made_once_by_the_public_commands(capsys):
    write_commands()
    assert main([]) == 0
    output, error = capsys.readouterr()
    for name, command in {"sim": "run", "lm": "validate"}.items():
        assert Path(f"{name}.txt").read_text() == f"{command} --profile quick --output {RESULTS} --progress"
    assert Path("figures.txt").read_text() == f"--profile quick --results {RESULTS} --output {OUTPUT}"
    assert (RESULTS / "logs" / "studies.log").read_text() == "arena: claims: 1 supported\n"
    assert output.splitlines()[0] == "claims: 2 supported, 1 refuted, 0 inconclusive, 0 not run"
    assert output.splitlines()[1].endswith(
        f"tables in {RESULTS}, figures in {OUTPUT}, and {OUTPUT}/report.html to read"
    )
    assert error.splitlines()[-1] == "now the figures, the claims and the report"
    for name in ("sim", "lm", "figures"):
        Path(f"{name}.txt").unlink()
    assert main(["--jobs", "3"]) == 0
    assert f"the tables in {RESULTS} are up to date" in capsys.readouterr().err
    assert (Path("sim.txt").exists(), Path("lm.txt").exists(), Path("figures.txt").exists()) == (False, False, True)


@pytest.mark.parametrize("change", ["table", "table gone", "code", "stamp", "package", "settings"])
def test_what_changed_is_looked_at_again(change, monkeypatch):
    write_commands()
    assert main([]) == 0 and freshness.is_fresh(RESULTS, "quick") and not freshness.is_fresh(RESULTS, "paper")
    if change == "package":
        monkeypatch.setattr("importlib.metadata.version", lambda package: "0.0")
    elif change == "table gone":
        (RESULTS / "arena" / "summary.parquet").unlink()
    else:
        paths = {"table": RESULTS / "arena" / "summary.parquet", "code": Path("sim", "new.py")}
        paths |= {"stamp": RESULTS / freshness.STAMP, "settings": RESULTS / "alpha" / "settings.json"}
        paths[change].write_text("[]")
    assert not freshness.is_fresh(RESULTS, "quick")
    Path("sim.txt").unlink()
    assert main(["--jobs", "3"]) == 0
    assert Path("sim.txt").read_text().endswith("--progress --jobs 3") and freshness.is_fresh(RESULTS, "quick")


def test_the_stamp_looks_at_the_code_and_packages_of_studies_and_experiments(monkeypatch):
    monkeypatch.setattr(freshness, "ROOT", ROOT)
    assert freshness.ROOT.joinpath("sim/studies/consistency.toml").is_file()
    RESULTS.mkdir(parents=True)
    freshness.write_stamp(RESULTS, "quick")
    stamp = json.loads((RESULTS / freshness.STAMP).read_text())
    assert freshness.is_fresh(RESULTS, "quick") and "not installed" not in stamp["versions"].values()


def test_a_refused_stage_stops_the_others_which_save_their_work(capsys):
    write_commands(
        sim="time.sleep(0.3); print('relratio-sim: alpha must be below 1, got 2', file=sys.stderr); sys.exit(2)",
        lm=WORK_UNTIL_TOLD,
    )
    assert main([]) == 2
    output, error = capsys.readouterr()
    log = RESULTS / "logs" / "studies.log"
    assert output == "" and error == (
        f"reproduce: the studies stopped (exit status 2): relratio-sim: alpha must be below 1, got 2; log: {log}\n"
    )
    assert log.read_text() == "relratio-sim: alpha must be below 1, got 2\n"
    assert (RESULTS / "logs" / "experiments.log").read_text() == "interrupted; what is done is saved\n"
    assert not Path("figures.txt").exists() and not (RESULTS / freshness.STAMP).exists()


def test_a_stage_that_dies_is_told(capsys):
    write_commands(lm="print('at work'); sys.stdout.flush(); os.kill(os.getpid(), 9)")
    assert main([]) == 2
    message = "reproduce: the experiments stopped (signal 9): at work; log: results/quick/logs/experiments.log\n"
    assert capsys.readouterr().err.endswith(message)


def test_failed_runs_do_not_keep_the_rest_from_being_done_and_are_tried_again(capsys):
    write_commands(sim=f"{MAKE_ARENA}\nprint('relratio-sim: error in arena'); sys.exit(1)")
    assert main([]) == 1
    output, error = capsys.readouterr()
    assert "some runs of the studies failed: arena: claims: 1 supported relratio-sim: error in arena; log: " in error
    assert Path("figures.txt").exists() and "report.html" in output
    assert not freshness.is_fresh(RESULTS, "quick")


def test_figures_that_cannot_be_drawn_are_told_and_drawn_by_the_next_job(capsys):
    write_commands(figures="import sys; sys.exit('figures: a table must have a row, got none')")
    assert main([]) == 2
    assert "the figures stopped (exit status 1): figures: a table must have a row, got" in capsys.readouterr().err
    write_commands()
    Path("sim.txt").unlink()
    assert main([]) == 0
    assert Path("figures.txt").exists() and not Path("sim.txt").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_tells_what_is_saved_and_leaves_no_process(number, status):
    plan = 'print("progress arena 0 4\\nprogress late 0 1", flush=True)'
    write_commands(sim=plan + WORK_UNTIL_TOLD, lm='print("progress alpha 2 2", flush=True)')
    job = start_job()
    numbers = wait_for("sim.pid")
    while Path("lm.pid").exists() is False or alive(*wait_for("lm.pid")):
        time.sleep(0.01)
    time.sleep(0.3)  # for what was told to be read
    job.send_signal(number)
    output, error = job.communicate(timeout=20)
    assert (job.returncode, output) == (status, "")
    assert error.splitlines()[-1].endswith(
        f" %, which is saved in {RESULTS} (0 of 2 studies and 1 of 1 experiments are whole); "
        "the same command goes on from there"
    )
    assert not any(map(alive, numbers))
    assert (RESULTS / "logs" / "studies.log").read_text() == "interrupted; what is done is saved\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stage ends at its next line of output")
def test_a_killed_job_leaves_no_process_and_the_next_one_goes_on(capsys):
    write_commands(sim=WORK_UNTIL_TOLD, lm=WORK_UNTIL_TOLD)
    job = start_job()
    numbers = wait_for("sim.pid", "lm.pid")
    job.kill()
    job.communicate()
    assert_gone(*numbers)
    write_commands(sim=MAKE_ARENA.replace("arena 0 2", "arena 1 2"))
    assert main([]) == 0
    assert "going on from " in capsys.readouterr().err


def test_a_stage_that_does_not_end_when_told_is_killed_with_all_it_started(monkeypatch, capsys):
    monkeypatch.setattr(stages, "_GRACE", 0.3)
    once_lm_works = "while not pathlib.Path('helper.pid').exists(): time.sleep(0.01)\nsys.exit(2)"
    write_commands(sim=once_lm_works, lm=WORK_ON_AND_ON)
    assert main([]) == 2
    assert "the studies stopped (exit status 2): it said nothing; log: " in capsys.readouterr().err
    assert_gone(*wait_for("lm.pid", "helper.pid"))


def test_a_second_interruption_does_not_wait():
    write_commands(sim=WORK_ON_AND_ON, lm="")
    job = start_job()
    numbers = wait_for("sim.pid", "helper.pid")
    for _ in range(2):
        job.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert job.wait(timeout=10) == 130
    job.communicate()
    assert_gone(*numbers)


def test_helpers_that_a_stage_leaves_behind_are_ended():
    write_commands(sim=WORK_ON_AND_ON.replace("time.sleep(60)\n", "sys.exit(0)\n"), lm="")
    assert "time.sleep(60); sys.exit" not in Path("sim/__main__.py").read_text()
    assert main([]) == 0
    assert_gone(*wait_for("helper.pid"))


def test_two_jobs_do_not_write_to_the_same_results(capsys):
    RESULTS.mkdir(parents=True)
    with open(RESULTS / ".job", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("123\n")
        lock.flush()
        assert main([]) == 2
    message = f"got {RESULTS}, where the job of process 123 is running"
    assert capsys.readouterr().err == f"reproduce: results must go to a folder that can be written, {message}\n"


def test_results_that_cannot_be_written_are_refused(workplace, capsys):
    with no_writing(workplace):
        assert main([]) == 2
    message = "reproduce: results must go to a folder that can be written, got results: Permission denied\n"
    workplace.chmod(0o755)
    assert capsys.readouterr().err == message
    Path("results").write_text("mine")
    assert main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is a device of Linux here")
def test_a_disk_too_full_for_logs_is_one_line_and_leaves_no_process(capsys, monkeypatch):
    write_commands(sim="print('a line')", lm="print('another')")
    monkeypatch.setattr("figures.reproduce._logs", lambda results: results)
    monkeypatch.setattr("theory.checks.check_links", lambda folder, root: None)  # the link stands for a full disk
    RESULTS.mkdir(parents=True)
    (RESULTS / "studies.log").symlink_to("/dev/full")
    assert main([]) == 2
    message = f"reproduce: results must go to a folder that can be written, got {RESULTS}: No space left on device\n"
    assert capsys.readouterr().err == message
    assert not any(map(alive, wait_for("sim.pid")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "large"], "argument --profile: invalid choice: 'large' (choose from"),
        (["--jobs", "0"], "argument --jobs: must be a positive integer, got '0'"),
        (["studies"], "unrecognized arguments: studies"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith(f"reproduce: {message}") and error.count("\n") == 1


def test_output_is_kept_whatever_its_bytes_and_lengths(tmp_path):
    told = []
    code = (
        "import sys; sys.stdout.buffer.write(b'\\xff' + b'x' * 200_000 + b'\\nprogress a 1 2\\nprogress a b 2\\nend')"
    )
    stage = Stage("s", (sys.executable, "-c", code), tmp_path / "log")
    (outcome,), number = run_stages([stage], lambda *words: told.append(words), lambda: None)
    assert (outcome.status, number, told) == (0, 0, [("s", "a", 1, 2)])
    assert stage.log.read_text() == "\ufffd" + "x" * 200_000 + "\nprogress a b 2\nend\n"
    assert outcome.message.endswith("x progress a b 2 end")


@pytest.mark.parametrize(("target", "profile"), [("figures", "quick"), ("paper", "paper")])
def test_make_runs_the_job(target, profile):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "--dry-run", "--directory", str(ROOT), target]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f".venv/bin/python -m figures.reproduce --profile {profile}\n" in shown
    wrong = ["make", "--directory", str(ROOT), f"VENV={Path.cwd() / 'v'}", "PYTHON=nosuchpython", target]
    refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
    message = "PYTHON must be Python 3.11 or newer, got nosuchpython ("
    assert refused.returncode == 2 and refused.stderr.startswith(message)
    assert refused.stderr.count("\n") == 2 and not Path("v").exists()  # the second line is make's own
