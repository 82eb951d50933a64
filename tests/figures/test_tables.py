"""Which command makes a missing or broken table, and where measurements are read from."""

from pathlib import Path

import pandas as pd
import pytest

from figures.sources import ROOT
from figures.tables import EXPERIMENTS, PUBLISHED, read_tables, table_path


def test_experiments_are_those_of_lm_and_no_study_has_their_names():
    assert set(EXPERIMENTS) == {path.stem for path in (ROOT / "lm" / "validation" / "experiments").glob("*.toml")}
    assert not set(EXPERIMENTS) & {path.stem for path in (ROOT / "sim" / "studies").glob("*.toml")}


def test_missing_tables_name_every_command_that_makes_them(tmp_path):
    names = ["methods/summary", "overlap/summary", "overlap/rates", "alpha/runs"]
    with pytest.raises(ValueError, match=r"must hold methods/summary\.parquet, overlap/summary\.parquet") as caught:
        read_tables(tmp_path / "my results", {name: ["n"] for name in names}, profile="paper")
    where = f"--profile paper --output '{tmp_path / 'my results'}'"
    made = f"python -m sim run overlap {where} && python -m lm validate methods alpha {where}"
    assert str(caught.value).endswith(f"got none; make it with: {made}")


def test_measurements_are_the_published_ones_unless_the_results_have_some(tmp_path):
    assert table_path(tmp_path, PUBLISHED) == ROOT / "benchmarks" / "published.csv"
    own = tmp_path / "benchmarks" / "published.csv"
    own.parent.mkdir()
    own.write_text("median\n0.5\n", encoding="utf-8")
    pd.testing.assert_frame_equal(
        read_tables(tmp_path, {PUBLISHED: ["median"]})[PUBLISHED], pd.DataFrame({"median": [0.5]})
    )


@pytest.mark.parametrize(
    ("name", "kind", "remedy"), [(PUBLISHED, "CSV", "make bench"), ("stability/runs", "Parquet", "python -m lm")]
)
def test_broken_table_is_named_with_its_command(name, kind, remedy, tmp_path):
    path = tmp_path / f"{name}{'.csv' if name == PUBLISHED else '.parquet'}"
    path.parent.mkdir()
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{path} must be a {kind} table, got .*; make it with: {remedy}"):
        read_tables(tmp_path, {name: ["n"]})


def test_published_measurements_of_the_repository_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert table_path(Path("results"), PUBLISHED).is_absolute()
