"""The pages of docs/: the reference holds every public name, code runs, and Sphinx builds all without a warning."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import CHECKS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "api").glob("*.rst")))
GUIDES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
PACKAGES = ("theory", "sim", "sim.preferences", "lm", "lm.data", "figures")
# Sphinx checks links and names; commands of guides are slow, and the READMEs that they come from run theirs.
QUICK = ("tags", "inline_commands", "python", "sessions", "files", "tests_named")

LISTING = re.compile(r"^\.\. api:: ([\w.]+)\n\n((?:   \w+\n)*)", flags=re.M)


def source(module):
    """Return the syntax tree of a module of ours."""
    path = ROOT.joinpath(*module.split("."))
    package = path / "__init__.py"
    return ast.parse((package if package.exists() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def homes(package):
    """Return the module that defines each public name of a package, from its source alone: lm would load torch."""
    tree, defined, public = source(package), {}, []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            defined |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Assign) and node.targets[0].id in ("_HOME", "_HOMES"):
            defined |= ast.literal_eval(node.value)
            public = list(ast.literal_eval(node.value))
        elif isinstance(node, ast.Assign) and node.targets[0].id == "__all__" and isinstance(node.value, ast.List):
            public = ast.literal_eval(node.value)
    return {name: defined.get(name, package) for name in public}


def top_level_names(module):
    """Return what a module defines or imports, and what it offers on first use."""
    names = set(homes(module)) if module in PACKAGES else set()
    for node in source(module).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names.add(getattr(target, "id", None))
    return names


def listed(reference):
    """Return (module, name) of each entry; a listing without names holds all of its module's."""
    return [(module, name) for module, names in LISTING.findall(reference) for name in names.split() or homes(module)]


def undocumented(reference, package):
    """Return the public names that are listed neither under the package nor under their home."""
    entries = set(listed(reference))
    return [name for name, home in homes(package).items() if not {(package, name), (home, name)} & entries]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package):
    assert homes(package)
    assert undocumented(REFERENCE, package) == []


def test_a_name_missing_from_the_reference_is_noticed():
    without = re.sub(r"^   (relative_ratio|PREFERENCE_MODELS|RatioTrainer)\n", "", REFERENCE, flags=re.M)
    assert undocumented(without, "theory") == ["relative_ratio"]
    assert undocumented(without, "sim") == undocumented(without, "sim.preferences") == ["PREFERENCE_MODELS"]
    assert undocumented(without, "lm") == ["RatioTrainer"]
    assert undocumented(REFERENCE.replace(".. api:: figures", ""), "figures") == list(homes("figures"))


def test_the_reference_lists_each_name_once_and_only_names_that_exist():
    entries = listed(REFERENCE)
    assert len(set(entries)) == len(entries) > 0
    assert REFERENCE.count(".. api::") == len(LISTING.findall(REFERENCE))
    assert [f"{module}.{name}" for module, name in entries if name not in top_level_names(module)] == []


@pytest.mark.parametrize("page", GUIDES)
@pytest.mark.parametrize("name", QUICK)
def test_guide(name, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CHECKS[name](GUIDES[page], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES)
def test_commands_of_guide(page, tmp_path):
    CHECKS["console"](GUIDES[page], tmp_path)


@pytest.mark.slow
def test_documentation_builds_without_a_warning_and_asks_for_nothing_from_a_network(tmp_path):
    pytest.importorskip("sphinx", reason="needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", str(DOCS), str(tmp_path)]
    build = subprocess.run(command, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")} <= {
        path.relative_to(tmp_path).as_posix() for path in pages
    }
    fetched = re.compile(r"""<(?:script|img|link|iframe)[^>]* (?:src|href)=["']?(?:https?:)?//""")
    assert [path.name for path in pages if fetched.search(path.read_text(encoding="utf-8"))] == []
