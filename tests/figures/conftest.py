"""Result tables and one build of every figure, shared by the tests of figures."""

import pytest

from figures.__main__ import main
from tests.figures.tables import write_tables


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Folder of result tables; tests do not change it."""
    return write_tables(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def other_results(tmp_path_factory):
    """Folder of tables with other numbers; tests do not change it."""
    return write_tables(tmp_path_factory.mktemp("other_results"), factor=0.5)


@pytest.fixture(scope="session")
def output(results, tmp_path_factory):
    """Folder of all figures in the default formats; tests do not change it."""
    folder = tmp_path_factory.mktemp("output")
    assert main(["--results", str(results), "--output", str(folder)]) == 0
    return folder
