"""A build makes what is out of date and nothing else, and leaves a folder that is as if all had been made anew."""

import fcntl
import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from figures.build import Order, build, check, up_to_date
from figures.catalogue import FIGURES
from figures.published_tables import PAPER_TABLES
from figures.sources import ROOT, code_state, file_hash

CHEAPEST = "balanced_against_pooled_weighting"
TABLE = "class_weighting/summary.parquet"


@pytest.fixture
def order(results, output, tmp_path):
    """Everything, as built from tables that a test may change."""
    shutil.copytree(results, tmp_path / "results")
    shutil.copytree(output, tmp_path / "output")
    return Order(tmp_path / "results", tmp_path / "output")


@pytest.fixture
def one(order):
    """The cheapest figure, as built."""
    return Order(order.results, order.output, (CHEAPEST,))


def names_of(paths, order):
    return {path.relative_to(order.output).as_posix() for path in paths}


def test_manifest_has_checksums_of_every_product(output):
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    assert {kind: set(entries) for kind, entries in manifest.items()} == {
        "figures": set(FIGURES),
        "tables": set(PAPER_TABLES),
        "pages": {"claims", "report"},
    }
    entries = [entry for kind in manifest.values() for entry in kind.values()]
    files = {file: value for entry in entries for file, value in entry["files"].items()}
    assert files == {
        path.relative_to(output).as_posix(): file_hash(path) for path in output.rglob("*.*") if path.suffix != ".json"
    } | {"claims.json": file_hash(output / "claims.json")}
    assert all(len(entry["code"]) == 64 and entry["versions"]["matplotlib"] for entry in entries)


def test_nothing_to_do_is_found_out_without_loading_libraries(order):
    code = (
        "import sys; from figures.__main__ import main; "
        f"assert main(['--results', {str(order.results)!r}, '--output', {str(order.output)!r}]) == 0; "
        "print(*{'matplotlib', 'numpy', 'pandas', 'scipy', 'jinja2'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == f"{order.output} is up to date\n\n"


def test_changed_table_rebuilds_what_was_made_of_it_and_the_rest_is_kept(order, results, output):
    table = pd.read_parquet(order.results / TABLE)
    table.assign(mean=table["mean"] * 1.01).to_parquet(order.results / TABLE)
    built = names_of(build(order), order)
    figure = {f"{CHEAPEST}.{end}" for end in ("csv", "pdf", "png")}
    assert built == {*figure, "claims.json", "claims.md", "tables/claims.csv", "tables/claims.tex", "report.html"}
    assert up_to_date(order) and build(order) == []
    shutil.copyfile(results / TABLE, order.results / TABLE)
    build(order)  # as if nothing had happened
    for path in (path for path in output.rglob("*.*") if path.is_file()):
        assert (order.output / path.relative_to(output)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("file", [f"{CHEAPEST}.png", "tables/rates.tex", "claims.json", "report.html", "manifest.json"])
def test_removed_or_changed_file_is_out_of_date(file, order):
    data = (order.output / file).read_bytes()
    (order.output / file).unlink()
    assert not up_to_date(order)
    (order.output / file).write_bytes(data)
    assert up_to_date(order)
    if file != "manifest.json":
        (order.output / file).write_bytes(data + b"\n")
        assert not up_to_date(order)


def test_changed_file_is_made_anew(one):
    path = one.output / f"{CHEAPEST}.csv"
    data = path.read_bytes()
    path.write_bytes(b"mine")
    assert names_of(build(one), one) == {f"{CHEAPEST}.{end}" for end in ("csv", "pdf", "png")}
    assert path.read_bytes() == data and up_to_date(one)


def test_other_code_versions_and_venues_are_out_of_date(one, monkeypatch):
    assert not up_to_date(Order(one.results, one.output, one.names, venue="talk"))
    monkeypatch.setattr("figures.build.code_state", lambda: {"code": "other", "versions": {}})
    assert not up_to_date(one)


def test_code_is_every_source_and_nothing_that_it_made(tmp_path):
    for file in ("draw.py", "page/style.css", "output/quick/report.html", "__pycache__/draw.pyc"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("old", encoding="utf-8")
    before = code_state(tmp_path)
    for file, same in {"output/quick/report.html": True, "page/style.css": False, "draw.py": False}.items():
        (tmp_path / file).write_text("new", encoding="utf-8")
        assert (code_state(tmp_path) == before) is same
        (tmp_path / file).write_text("old", encoding="utf-8")


def test_missing_table_that_claims_could_use_is_noticed_when_it_comes(order):
    shutil.copytree(order.results / "class_weighting", order.results / "guarantees")
    assert not (order.results / "guarantees" / "table.parquet").exists() and up_to_date(order)
    (order.results / "guarantees" / "summary.parquet").rename(order.results / "guarantees" / "table.parquet")
    assert not up_to_date(order)


def test_settings_of_results_are_in_the_report(order):
    (order.results / "class_weighting" / "config.json").write_text("{}", encoding="utf-8")
    assert not up_to_date(order)


def test_a_folder_keeps_the_formats_that_it_has(one):
    fresh = Order(one.results, one.output / "new", one.names, formats=("svg",))
    build(fresh)
    build(Order(fresh.results, fresh.output, fresh.names))
    table = pd.read_parquet(one.results / TABLE)
    table.assign(mean=table["mean"] * 1.01).to_parquet(one.results / TABLE)
    old = (fresh.output / f"{CHEAPEST}.svg").read_bytes()
    assert names_of(build(fresh), fresh) == {f"{CHEAPEST}.{end}" for end in ("csv", "pdf", "png", "svg")}
    assert (fresh.output / f"{CHEAPEST}.svg").read_bytes() != old and check(fresh) == []


def test_the_report_has_a_picture_whatever_the_formats(order):
    wanted = Order(order.results, order.output, formats=("pdf",))
    assert wanted.ends({}) == ["pdf", "png"] and up_to_date(wanted)
    assert Order(order.results, order.output, (CHEAPEST,), ("pdf",)).ends({}) == ["pdf"]


def test_second_build_in_one_folder_is_refused(one):
    (one.output / f"{CHEAPEST}.csv").unlink()
    descriptor = os.open(one.output, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="must be built by one process at a time"):
            build(one)
    finally:
        os.close(descriptor)


def test_what_a_killed_build_left_is_removed(one):
    left = one.output / ".building-killed"
    left.mkdir()
    (left / "half.png").write_bytes(b"\x89PNG")
    (one.output / f"{CHEAPEST}.csv").unlink()
    build(one)
    assert not list(one.output.glob(".building-*"))
