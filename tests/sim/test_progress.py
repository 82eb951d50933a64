"""Progress for programs, and what is not done again when studies are up to date."""

from pathlib import Path

import pytest

from sim.__main__ import main
from sim.engine import study_checks
from sim.engine.study_checks import check_study
from tests.sim.command_line import refusal, write_study


@pytest.fixture
def files(tmp_path):
    """Return the files of two small studies."""
    small = (("n = [100, 1_000]", "n = [100]"), ("replicates = 1_200", "replicates = 40"))
    first = write_study(tmp_path, *small)
    second = tmp_path / "other.toml"
    second.write_text(Path(first).read_text().replace('name = "mine"', 'name = "other"'))
    return [first, str(second)]


def told(capsys):
    """Return the lines of progress of the last command."""
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("progress ")]


def test_progress_is_planned_for_all_studies_and_then_told_task_by_task(files, tmp_path, capsys):
    arguments = ["run", *files, "loss_shapes", "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert main([*arguments, "--progress"]) == 0
    plan = ["mine 0 1", "other 0 1", "loss_shapes 0 1"]
    ends = ["mine 1 1", "mine 1 1", "other 1 1", "other 1 1", "loss_shapes 1 1"]  # of the last task, of the tables
    assert told(capsys) == [f"progress {line}" for line in plan + ends]
    assert main([*arguments, "--progress"]) == 0
    assert told(capsys) == [f"progress {line}" for line in ends[::2] + ends[::2]]
    assert main(arguments) == 0
    assert told(capsys) == []


def test_studies_are_checked_once_before_their_folders_are_begun(files, tmp_path, monkeypatch):
    checked = []

    def check(study, profile):
        checked.append(study.name)
        check_study(study, profile)

    for place in ("sim.commands.actions", "sim.engine.runner"):
        monkeypatch.setattr(f"{place}.check_study", check)
    arguments = ["run", *files, "--profile", "smoke", "--output", str(tmp_path / "out"), "--jobs", "1"]
    for _ in range(2):
        assert main(arguments) == 0
    assert checked == ["mine", "other"] and study_checks.check_study is check_study


def test_all_folders_of_other_settings_are_named_at_once_before_any_work(files, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["run", *files, "--profile", "smoke", "--output", str(output), "--jobs", "1"]
    assert main(arguments) == 0
    capsys.readouterr()
    for path in map(Path, files):
        path.write_text(path.read_text().replace("seed = 3", "seed = 4"))
    message = refusal(capsys, "run", "ratio_shapes", *arguments[1:])
    assert message.startswith("a study must resume with the settings it began with, got seed: 3 -> 4. Remedies: ")
    assert message.endswith(f"or delete {output}/mine to start again; the same holds for {output}/other")
    assert not (output / "ratio_shapes").exists()
