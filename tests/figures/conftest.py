"""Result tables and one build of everything, shared by the tests of figures."""

import os
import subprocess
import sys
from functools import cache

import pytest

from figures.catalogue import load_figure
from figures.save import draw_figure
from figures.sources import ROOT
from figures.tables import read_tables
from tests.figures.tables import write_tables


@pytest.fixture(scope="session")
def command():
    """Return a function that runs the command in a fresh process."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "figures", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Folder of result tables; tests do not change it."""
    folder = tmp_path_factory.mktemp("results")
    write_tables(folder)
    return folder


@pytest.fixture(scope="session")
def other_results(tmp_path_factory):
    """Folder of tables with other numbers; tests do not change it."""
    folder = tmp_path_factory.mktemp("other-results")
    write_tables(folder, factor=0.5)
    return folder


@pytest.fixture(scope="session")
def drawn(results):
    """Return a function that gives a figure as it is printed by default; tests do not change it."""

    @cache
    def draw(name):
        module = load_figure(name)
        return draw_figure(module, read_tables(results, module.TABLES))

    return draw


@pytest.fixture(scope="session")
def output(results, command, tmp_path_factory):
    """Folder of everything in the default formats, made by a user with other settings; tests do not change it."""
    folder, settings = tmp_path_factory.mktemp("output"), tmp_path_factory.mktemp("settings") / "matplotlibrc"
    settings.write_text("font.size: 20\npdf.fonttype: 3\nsavefig.dpi: 50\n", encoding="utf-8")
    environment = {"MATPLOTLIBRC": str(settings), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    result = command("--results", results, "--output", folder, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    made = {str(path) for path in folder.rglob("*.*")} - {str(folder / "manifest.json")}
    assert set(result.stdout.splitlines()) == made
    return folder


def pytest_collection_modifyitems(items):
    """Give all tests of what is built and drawn to one process, so that everything is built and drawn once."""
    for item in items:
        if {"drawn", "output"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.xdist_group("output"))
