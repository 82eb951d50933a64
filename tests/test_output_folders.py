"""Nothing is written or removed outside the folder that the user named, whatever names and links say."""

import json
import tomllib
from pathlib import Path

import pytest

from figures.build import Order, _alone, build
from figures.catalogue import check_name
from lm.files import locked
from lm.resume import remove_checkpoints
from lm.validation.experiments import load_experiment, parse_experiment, shipped_experiments
from sim.engine.store import open_store
from sim.engine.study import load_study, parse_study, study_of_settings
from theory.checks import check_links

ROOT = Path(__file__).parents[1]
NAMES = ["../x", "..", ".", "/tmp/x", "a/b", "a\\b", "a\0b", "~", "x\n", " ", "-x", ".hidden"]


def table_of(folder, name):
    """Return a shipped TOML file as a table."""
    return tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_study_is_only_a_name(name):
    table = table_of(ROOT / "sim" / "studies", "class_weighting")
    with pytest.raises(ValueError, match=r"name .*must "):
        parse_study({**table, "name": name})
    settings = load_study("class_weighting").settings("smoke")
    with pytest.raises(ValueError, match=r"must be those that a run wrote|name .*must "):
        study_of_settings({**settings, "name": name})


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_experiment_is_only_a_name(name):
    table = table_of(ROOT / "lm" / "validation" / "experiments", shipped_experiments()[0])
    assert parse_experiment(table).name == load_experiment(shipped_experiments()[0]).name
    with pytest.raises(ValueError, match="name must be made of letters"):
        parse_experiment({**table, "name": name})


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_figure_is_one_of_ours(tmp_path, name):
    with pytest.raises(ValueError, match="must be one of"):
        check_name(name)
    with pytest.raises(ValueError, match="must be one of"):
        build(Order(tmp_path, tmp_path / "output", names=(name,)))
    assert not (tmp_path / "output").exists()


@pytest.fixture
def elsewhere(tmp_path):
    """Return a folder outside the output with a file that must stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "000001-0123456789abcdef.parquet").write_text("mine")
    yield folder
    assert [path.read_text() for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["parts", "config.json", ".lock", "metrics.parquet"])
def test_a_store_follows_no_link_out_of_its_folder(tmp_path, elsewhere, name):
    folder = tmp_path / "results" / "study"
    folder.mkdir(parents=True)
    target = elsewhere if name == "parts" else elsewhere / "000001-0123456789abcdef.parquet"
    (folder / name).symlink_to(target)
    for settings in ({"seed": 1}, {"seed": 2}):
        with pytest.raises(OSError, match=r"results must stay in .*, which is a link to"), open_store(folder, settings):
            pass
    with pytest.raises(OSError, match=r"results must stay in .*, which is a link to"), locked(folder):
        pass


def test_the_folder_of_a_study_is_no_link_out_of_the_output(tmp_path, elsewhere):
    output = tmp_path / "results"
    output.mkdir()
    (output / "study").symlink_to(elsewhere)
    refused = pytest.raises(OSError, match=r"results must stay in .*results, got .*study, which is a link to")
    with refused, open_store(output / "study", {"seed": 1}):
        pass
    with refused, locked(output / "study", output):
        pass


def test_figures_follow_no_link_out_of_their_folder(tmp_path, elsewhere):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "tables").symlink_to(elsewhere)
    with pytest.raises(OSError, match="results must stay in"), _alone(tmp_path / "output"):
        pass


def test_links_within_a_folder_and_of_the_folder_itself_are_the_users_own(tmp_path):
    (tmp_path / "disk" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "disk" / "latest").symlink_to("checkpoint-5")
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    check_links(tmp_path / "results", tmp_path / "results")
    check_links(tmp_path / "no such folder", tmp_path)
    with locked(tmp_path / "results"), open_store(tmp_path / "results" / "study", {"seed": 1}):
        pass


def test_checkpoints_of_others_stay(tmp_path, elsewhere):
    run = tmp_path / "run"
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-2-kept", "checkpoint-x"):
        (run / name).mkdir(parents=True)
        (run / name / "trainer_state.json").write_text("{}")
    (run / "checkpoint-0").symlink_to(elsewhere)
    remove_checkpoints(run, 1, [elsewhere, tmp_path])
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-2", "checkpoint-2-kept", "checkpoint-x"]


@pytest.mark.parametrize("name", ["../elsewhere/new", "/tmp/new"])
def test_a_manifest_names_no_place_to_write_to(tmp_path, elsewhere, name):
    output = tmp_path / "output"
    output.mkdir()
    entry = {"files": {f"training_divergence.{name}": "0" * 64}}
    manifest = {"figures": {"training_divergence": entry}, "tables": {}, "pages": {}}
    (output / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((ValueError, OSError)):
        build(Order(tmp_path / "results", output, names=("training_divergence",)))
