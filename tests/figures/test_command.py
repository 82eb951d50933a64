"""The command line: the same tables give the same bytes, and whatever is wrong is one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from figures.__main__ import main
from figures.catalogue import FIGURES

ROOT = Path(__file__).parents[2]
CHEAPEST = "balanced_against_pooled_weighting"


def command(*arguments, **environment):
    """Run the command in a fresh process."""
    return subprocess.run(
        [sys.executable, "-m", "figures", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )


def contents(folder):
    """Return the bytes of every file in a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


def test_fresh_processes_with_other_settings_build_the_same_bytes(results, output, tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20\npdf.fonttype: 3\nsavefig.dpi: 50\n", encoding="utf-8")
    environment = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    arguments = ["--results", results, "--output", tmp_path / "new"]
    result = command(*arguments, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "new") == contents(output)
    assert set(result.stdout.split()) == {str(tmp_path / "new" / name) for name in contents(output)} - {
        str(tmp_path / "new" / "manifest.json")
    }


def test_svg_is_deterministic_too(results, tmp_path):
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
    for name, data in contents(output).items():
        (tmp_path / name).write_bytes(data)
    if change == "removed":
        (tmp_path / file).unlink()
    else:
        data = (tmp_path / file).read_bytes()
        changed = data.replace(b'"tables"', b'"tablas"') if file == "manifest.json" else data[:-1] + b"?"
        assert changed != data
        (tmp_path / file).write_bytes(changed)
    err = failure(capsys, CHEAPEST, "--check", "--results", results, "--output", tmp_path)
    assert err == f"figures: {tmp_path} must equal a fresh build, got other or missing files: {file}\n"


def test_check_sees_that_the_results_have_changed(broken, output, capsys):
    table = pd.read_parquet(broken)
    table.assign(mean=table["mean"] * 1.01).to_parquet(broken)
    err = failure(capsys, CHEAPEST, "--check", "--results", broken.parents[1], "--output", output)
    assert f"{CHEAPEST}.csv" in err and "manifest.json" in err


def test_a_later_build_of_one_figure_keeps_the_others_in_the_manifest(results, output, tmp_path, capsys):
    for name, data in contents(output).items():
        (tmp_path / name).write_bytes(data)
    assert main([CHEAPEST, CHEAPEST, "--results", str(results), "--output", str(tmp_path)]) == 0
    assert contents(tmp_path) == contents(output)
    assert len(capsys.readouterr().out.splitlines()) == 3  # asked for twice, built once


def test_unknown_figure_names_the_nearest(results, tmp_path, capsys):
    err = failure(capsys, "loss_and_gradient_shape", "--results", results, "--output", tmp_path / "out")
    assert "got 'loss_and_gradient_shape' (did you mean 'loss_and_gradient_shapes'?)" in err
    assert not (tmp_path / "out").exists()


def test_missing_results_name_the_command_for_all_of_them(tmp_path, capsys):
    err = failure(capsys, "--results", tmp_path / "my results", "--output", tmp_path / "out")
    studies = (
        "ratio_shapes boundedness overlap loss_shapes dynamics consistency label_noise arena bt_distance efficiencies "
        "constants class_weighting wrong_alpha wrong_reference prompt_rates"
    )
    assert err.endswith(f"python -m sim run {studies} --profile quick --output '{tmp_path / 'my results'}'\n")
    assert not (tmp_path / "out").exists()


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
    for name, data in contents(output).items():
        (tmp_path / "results" / name).write_bytes(data)
    table = pd.read_parquet(broken)
    table[table["method"] != "pooled"].to_parquet(broken)
    failure(capsys, CHEAPEST, "--results", broken.parents[1], "--output", tmp_path / "results")
    after = {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir() if path.is_file()}
    assert after == contents(output)


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": 3}'])
def test_broken_manifest_is_refused(text, results, tmp_path, capsys):
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    err = failure(capsys, CHEAPEST, "--results", results, "--output", tmp_path)
    assert f"{tmp_path / 'manifest.json'} must be a manifest of figures, got " in err


def test_output_that_is_a_file_is_refused(results, tmp_path, capsys):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    assert "out" in failure(capsys, CHEAPEST, "--results", results, "--output", tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("arguments", [["--format", "bmp"], ["--no-such-option"]])
def test_wrong_usage_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.startswith("figures: ") and err.count("\n") == 1
