"""Progress of validation for programs, and refusals that name all folders at once."""

from pathlib import Path

from lm.__main__ import main
from tests.lm.tiny_validation import tiny_file
from tests.sim.test_faults import no_writing


def test_progress_is_planned_and_told_and_all_folders_of_other_settings_are_named(tmp_path, capsys):
    first, second = Path(tiny_file(tmp_path)), tmp_path / "second.toml"
    second.write_text(first.read_text().replace('name = "tiny"', 'name = "second"'))
    output = tmp_path / "out"
    arguments = ["validate", str(first), str(second), "--profile", "smoke", "--output", str(output), "--jobs", "1"]
    assert main([*arguments, "--progress"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("progress ")]
    plan = ["tiny/references 0 2", "tiny 0 4", "second 0 4"]  # the references of the first serve the second
    references = [f"tiny/references {done} 2" for done in (1, 2)]
    runs = [f"{name} {done} 4" for name in ("tiny", "second") for done in (1, 2, 3, 4)]
    assert lines == [f"progress {line}" for line in plan + references + runs]
    assert main([*arguments, "--progress"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("progress ")]
    assert lines == ["progress tiny 4 4", "progress second 4 4"]
    for path in (first, second):
        path.write_text(path.read_text().replace("seed = 7", "seed = 8"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "an experiment must resume with the settings it began with, got seed: 7 -> 8" in error
    assert error.endswith(f"or delete {output}/tiny to start again; the same holds for {output}/second\n")


def test_a_sealed_folder_is_one_line(tmp_path, capsys):
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    with no_writing(sealed):
        assert main(["validate", "weighting", "--profile", "smoke", "--output", str(sealed), "--jobs", "1"]) == 2
    sealed.chmod(0o755)
    message = "relratio-lm: results must go to a folder that can be written, got"
    assert capsys.readouterr().err == f"{message} {sealed}/weighting: Permission denied\n"
