"""Result tables and one build of everything, shared by the tests of figures and by all processes that run them."""

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager
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
def once(tmp_path_factory):
    """Return a function that gives a folder and whether this is the process that has to fill it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    @contextmanager
    def take(name):
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait until it is filled
            if not done.exists():
                folder.mkdir(exist_ok=True)
            yield folder, not done.exists()
            done.touch()

    return take


@pytest.fixture(scope="session")
def results(once):
    """Folder of result tables; tests do not change it."""
    with once("figures-results") as (folder, first):
        if first:
            write_tables(folder)
    return folder


@pytest.fixture(scope="session")
def other_results(once):
    """Folder of tables with other numbers; tests do not change it."""
    with once("figures-other-results") as (folder, first):
        if first:
            write_tables(folder, factor=0.5)
    return folder


@pytest.fixture(scope="session")
def drawn(results):
    """Return a function that gives a figure as it is printed by default, its ticks in place; tests do not change it."""

    @cache
    def draw(name):
        module = load_figure(name)
        drawing = draw_figure(module, read_tables(results, module.TABLES))
        drawing.figure.draw_without_rendering()
        return drawing

    return draw


@pytest.fixture(scope="session")
def output(once, results, command, tmp_path_factory):
    """Folder of everything in the default formats, made by a user with other settings; tests do not change it."""
    with once("figures-output") as (folder, first):
        if first:
            settings = tmp_path_factory.mktemp("settings") / "matplotlibrc"
            settings.write_text("font.size: 20\npdf.fonttype: 3\nsavefig.dpi: 50\n", encoding="utf-8")
            environment = {"MATPLOTLIBRC": str(settings), "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
            result = command("--results", results, "--output", folder, **environment)
            assert (result.returncode, result.stderr) == (0, "")
            made = {str(path) for path in folder.rglob("*.*")} - {str(folder / "manifest.json")}
            assert set(result.stdout.splitlines()) == made
    return folder
