"""The command line: the same tables give the same bytes, and whatever is wrong is one clear line."""

import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from figures.__main__ import main
from figures.catalogue import FIGURES, load_figure
from figures.claims import CLAIMS
from figures.sources import ROOT
from figures.tables import EXPERIMENTS

CHEAPEST = "balanced_against_pooled_weighting"


def contents(folder):
    """Return the bytes of every file in a folder by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def failure(capsys, *arguments):
    """Run the command in this process and return its one line of error."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("figures: ") and err.count("\n") == 1
    return err


@pytest.fixture
def broken(results, tmp_path):
    """Folder with a copy of the tables of the cheapest figure, to be broken."""
    path = tmp_path / "results" / "class_weighting" / "summary.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes((results / "class_weighting" / "summary.parquet").read_bytes())
    return path


def test_svg_is_deterministic_too(results, tmp_path, command):
    arguments = [CHEAPEST, "--format", "svg", "--results", str(results), "--output"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    assert command(*arguments, tmp_path / "two", PYTHONHASHSEED="7").returncode == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert set(contents(tmp_path / "one")) == {f"{CHEAPEST}.svg", f"{CHEAPEST}.csv", "manifest.json"}


def test_list_prints_the_catalogue_without_loading_plots_or_tables():
    code = (
        "import sys; from figures.__main__ import main; assert main(['--list']) == 0; "
        "print(*{'matplotlib', 'pandas', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines() == [*FIGURES, ""]


def test_figures_import_neither_sim_nor_theory():
    code = (
        "import sys; from figures.catalogue import FIGURES, load_figure; import figures.save, figures.tables; "
        "[load_figure(name) for name in FIGURES]; print(*{'sim', 'theory', 'lm', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "\n"


def test_check_agrees_with_a_fresh_build_and_changes_nothing(results, output, capsys):
    before = contents(output)
    assert main([CHEAPEST, "--check", "--results", str(results), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output} equals a fresh build of {CHEAPEST}\n"
    assert contents(output) == before


@pytest.mark.parametrize("file", [f"{CHEAPEST}.pdf", f"{CHEAPEST}.png", f"{CHEAPEST}.csv", "manifest.json"])
@pytest.mark.parametrize("change", ["changed", "removed"])
def test_check_names_a_changed_or_missing_file(file, change, results, output, tmp_path, capsys):
    shutil.copytree(output, tmp_path, dirs_exist_ok=True)
    if change == "removed":
        (tmp_path / file).unlink()
    else:
        data = (tmp_path / file).read_bytes()
        changed = data.replace(b'"venue"', b'"avenue"') if file == "manifest.json" else data[:-1] + b"?"
        assert changed != data
        (tmp_path / file).write_bytes(changed)
    err = failure(capsys, CHEAPEST, "--check", "--results", results, "--output", tmp_path)
    assert err == f"figures: {tmp_path} must equal a fresh build, got other or missing files: {file}\n"


def test_check_sees_that_the_results_have_changed(broken, output, capsys):
    table = pd.read_parquet(broken)
    table.assign(mean=table["mean"] * 1.01).to_parquet(broken)
    err = failure(capsys, CHEAPEST, "--check", "--results", broken.parents[1], "--output", output)
    assert f"{CHEAPEST}.csv" in err and "manifest.json" in err


def test_unknown_figure_names_the_nearest(results, tmp_path, capsys):
    err = failure(capsys, "loss_and_gradient_shape", "--results", results, "--output", tmp_path / "out")
    assert "got 'loss_and_gradient_shape' (did you mean 'loss_and_gradient_shapes'?)" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_missing_results_name_the_commands_for_all_of_them(profile, tmp_path, capsys):
    err = failure(capsys, "--profile", profile, "--results", tmp_path / "my results", "--output", tmp_path / "out")
    where = f"--profile {profile} --output '{tmp_path / 'my results'}'"
    studies = (
        "ratio_shapes boundedness overlap loss_shapes dynamics consistency label_noise arena bt_distance efficiencies "
        "constants class_weighting wrong_alpha wrong_reference prompt_rates"
    )
    made = re.search(
        "make it with: python -m sim run ([a-z_ ]+) (--.*) && python -m lm validate ([a-z_ ]+) (--.*)", err
    )
    assert (made[1], made[2], made[4]) == (studies, where, where)
    assert set(made[3].split()) == set(EXPERIMENTS)
    assert not (tmp_path / "out").exists()


def test_profiles_have_folders_of_their_own(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert failure(capsys, "--profile", "paper", CHEAPEST).startswith("figures: results/paper must hold ")
    assert "--profile quick --output results/quick\n" in failure(capsys, CHEAPEST)


def test_truncated_table_is_named_with_the_command(broken, tmp_path, capsys):
    broken.write_bytes(broken.read_bytes()[:-100])
    err = failure(capsys, CHEAPEST, "--results", broken.parents[1], "--output", tmp_path / "out")
    assert f"{broken} must be a Parquet table, got " in err and "python -m sim run class_weighting" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="exact"), "got none called exact"),
        (lambda t: t.iloc[:0], "must have at least one row, got none"),
        (lambda t: t[t["method"] != "pooled"], "class_weighting must hold tv_preferred of pooled, got none"),
        (lambda t: pd.concat([t, t]), "a point must have one row for each method, alpha, got 2 rows for method = "),
    ],
)
def test_table_that_is_not_what_the_figure_needs_is_refused(change, message, broken, tmp_path, capsys):
    change(pd.read_parquet(broken)).to_parquet(broken)
    assert message in failure(capsys, CHEAPEST, "--results", broken.parents[1], "--output", tmp_path / "out")


def test_failure_leaves_the_old_figures_alone(broken, output, tmp_path, capsys):
    shutil.copytree(output, tmp_path / "out")
    table = pd.read_parquet(broken)
    table[table["method"] != "pooled"].to_parquet(broken)
    failure(capsys, CHEAPEST, "--results", broken.parents[1], "--output", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(output)


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": 3}'])
def test_broken_manifest_is_refused(text, results, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    err = failure(capsys, CHEAPEST, "--results", results, "--output", tmp_path)
    assert f"{tmp_path / 'manifest.json'} must be a manifest of figures, got " in err


def test_output_that_is_a_file_is_refused(results, tmp_path, capsys):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    assert "out" in failure(capsys, CHEAPEST, "--results", results, "--output", tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_why_prints_what_a_figure_shows_without_loading_plots_or_tables():
    code = (
        "import sys; from figures.__main__ import main; assert main(['--why', 'training_divergence']) == 0; "
        "print(*{'matplotlib', 'pandas', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.startswith(f"{load_figure('training_divergence').__doc__.splitlines()[0]}\n\n")
    assert result.stdout.endswith(".\n\n")


def test_why_of_an_unknown_figure_names_the_nearest(capsys):
    assert "(did you mean 'training_divergence'?)" in failure(capsys, "--why", "training_divergenc")


def test_claims_prints_the_verdicts_as_the_file_has_them(results, output, capsys):
    assert main(["--claims", "--results", str(results)]) == 0
    table = capsys.readouterr().out
    assert table.startswith(f"{len(CLAIMS)} claims: ") and table in (output / "claims.md").read_text(encoding="utf-8")


def test_ctrl_c_is_one_line_and_has_a_status_of_its_own(monkeypatch, tmp_path, capsys):
    def stop(order):
        raise KeyboardInterrupt

    monkeypatch.setattr("figures.__main__.build", stop)
    assert main([CHEAPEST, "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "figures: stopped; run it again to go on\n"


@pytest.mark.parametrize(
    "arguments", [["--format", "bmp"], ["--no-such-option"], ["--venue", "nature"], ["--profile", "smoke"]]
)
def test_wrong_usage_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.startswith("figures: ") and err.count("\n") == 1
