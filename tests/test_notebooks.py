"""Notebooks run from top to bottom, hold no outputs, and say the same as their text."""

import ast
import os
import re
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TEXTS = sorted(FOLDER.glob("*.py"))

# What takes the place of a notebook's cell with the tag "parameters". All the others run here as they stand.
SMOKE = {"05_a_language_model_exactly": {"profile": "smoke"}}

NO_WIDGETS = "import sys\nsys.modules['ipywidgets'] = None"


def parameter_cells(notebook):
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def at_smoke_size(notebook, values):
    """Set a notebook's parameters, each of which must be there."""
    cells = parameter_cells(notebook)
    assert len(cells) == bool(values)
    for cell in cells:
        names = [target.id for statement in ast.parse(cell.source).body for target in statement.targets]
        assert names == list(values)
        cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    return notebook


def run(notebook, folder):
    """Run a notebook as a front end without widgets shows it, and return the outputs of its cells."""
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
    # nbclient's imitation of an output widget answers the kernel, and by that misses a reply now and then until the
    # time is up. Without it, what a slider draws is an output of its cell.
    client.widget_registry = {}
    client.execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_five_notebooks_each_with_its_text():
    stems = [path.stem for path in NOTEBOOKS]
    assert [stem[:2] for stem in stems] == ["01", "02", "03", "04", "05"]
    assert stems == [path.stem for path in TEXTS]
    assert SMOKE.keys() <= set(stems)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_equals_its_text_and_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    text = jupytext.read(path.with_suffix(".py"))

    def contents(cells):
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in cells]

    assert contents(notebook.cells) == contents(text.cells), "run: jupytext --sync notebooks/*.py"
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_asks_a_question_answers_it_and_leads_on(path):
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    assert re.match(r"# .+\n\n\*\*Question\.\*\* ", prose[0])
    assert re.match(r"\*\*What was learnt\.\*\* .+\n\n\*\*Where to go on\.\*\* ", prose[-1], re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", "\n".join(prose))
    missing = [link for link in links if not (FOLDER / link).is_file()]
    assert not missing


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel is another process with a socket of its own; what Jupyter's clean-up warns of is not ours.
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_notebook_runs_without_a_warning_and_leaves_no_file(path, tmp_path):
    notebook = at_smoke_size(nbformat.read(path, as_version=4), SMOKE.get(path.stem, {}))
    sliders = [cell for cell in notebook.cells if cell.cell_type == "code" and "interact(" in cell.source]
    assert len(sliders) == path.stem.startswith("02")
    without = [nbformat.v4.new_code_cell(f"{NO_WIDGETS}\n{cell.source}") for cell in sliders]
    notebook.cells += without
    outputs = run(notebook, tmp_path)
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert os.listdir(tmp_path) == []
    for cell in [*sliders, *without]:  # a slider draws a picture also where widgets are missing
        kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
        assert kinds.count("image/png") == 1
        assert ("application/vnd.jupyter.widget-view+json" in kinds) == (cell in sliders)


@pytest.mark.slow
@pytest.mark.parametrize("path", [FOLDER / f"{stem}.ipynb" for stem in SMOKE], ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_notebook_runs_at_full_size(path, tmp_path):
    assert run(nbformat.read(path, as_version=4), tmp_path)
