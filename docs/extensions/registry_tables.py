"""Directive `registry`: a table of all that a registry of the repository holds, so that no page lags behind it."""

import ast
import json
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from figures.catalogue import FIGURES
from figures.published_tables import PAPER_TABLES
from lm.validation.experiments import shipped_experiments
from sim.engine.study import load_study, shipped_studies
from sim.estimators import METHODS
from sim.preferences import PREFERENCE_MODELS
from theory import GENERATORS

ROOT = Path(__file__).parents[2]
Rows = Iterator[tuple[str, ...]]
_MODULES = ("module", "what is in it")


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring without running the module.

    Parameters
    ----------
    module : Path
        A Python file.

    Returns
    -------
    str
        The line.
    """
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def figures() -> Rows:
    """Each figure and the claim it shows."""
    for name in FIGURES:
        yield code(name), first_line(ROOT / "figures" / "plots" / f"{name}.py")


def generators() -> Rows:
    """Each generator with its formula."""
    for name, generator in GENERATORS.items():
        yield code(name), (type(generator).__doc__ or "").partition("\n")[0]


def methods() -> Rows:
    """Each method."""
    for name, method in METHODS.items():
        yield code(name), method.summary


def modules(package: str) -> Rows:
    """Each module of a package, and what is in it."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if not path.name.startswith("__"):
            yield code(".".join(path.relative_to(ROOT).with_suffix("").parts)), first_line(path)


def notebooks() -> Rows:
    """Each guided tour and the question it asks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        title, _, text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).partition("\n")
        yield f"{path.name[:2]} {title.lstrip('# ')}", " ".join(text.split()).removeprefix("**Question.** ")


def paper_tables() -> Rows:
    """Each table for papers and its caption."""
    for name, table in PAPER_TABLES.items():
        yield code(name), table.caption


def preference_models() -> Rows:
    """Each preference model with its formula and where it comes from."""
    for name, model in PREFERENCE_MODELS.items():
        yield code(name), model.summary, code(model.formula), model.source


def experiments() -> Rows:
    """Each experiment with language models."""
    for name in shipped_experiments():
        path = ROOT / "lm" / "validation" / "experiments" / f"{name}.toml"
        yield code(name), tomllib.loads(path.read_text(encoding="utf-8"))["question"]


def studies() -> Rows:
    """Each study with its kind and its question."""
    for name in shipped_studies():
        study = load_study(name)
        yield code(name), study.kind, study.question


def study_claims() -> Rows:
    """Each claim of each study, with how it is judged and whether it is a control."""
    for name in shipped_studies():
        for claim in load_study(name).claims:
            yield code(name), claim.claim, claim.kind, "" if claim.control == "none" else claim.control


REGISTRIES: dict[str, tuple[tuple[str, ...], Callable[[], Rows]]] = {
    "experiments": (("experiment", "question"), experiments),
    "figures": (("figure", "what it shows"), figures),
    "generators": (("generator", "function"), generators),
    "methods": (("method", "what it is"), methods),
    "notebooks": (("notebook", "question"), notebooks),
    "paper_tables": (("table", "what is in it"), paper_tables),
    "preference_models": (("model", "what it stands for", "formula", "source"), preference_models),
    **{f"{name}_modules": (_MODULES, partial(modules, name)) for name in ("theory", "sim", "lm", "figures")},
    "studies": (("study", "kind", "question"), studies),
    "study_claims": (("study", "claim", "judged by", "control"), study_claims),
}
"""Columns of each table, and its rows."""


def code(text: str) -> str:
    """Return Markdown of text in a fixed font."""
    return f"`{text}`"


class RegistryTable(SphinxDirective):
    """A Markdown page's table of the registry in the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        columns, rows = REGISTRIES[self.arguments[0]]
        lines = [columns, ("---",) * len(columns), *rows()]
        # A table of Markdown ends a cell at a bar, also in code.
        cells = ((cell.replace("``", "`").replace("|", r"\|") for cell in line) for line in lines)
        return self.parse_text_to_nodes("\n".join(f"| {' | '.join(line)} |" for line in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("registry", RegistryTable)
    return {"parallel_read_safe": True}
