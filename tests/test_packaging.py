"""The distribution holds what it says, and `import theory` stays light."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M))

ANNOUNCED_VERSIONS = {
    "CITATION.cff": r"^version: (\S+)$",
    "CHANGELOG.md": r"^## (\d\S*)",
}


def normalised(name):
    """Return a distribution's name in the one spelling that all its spellings share (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("heavy", ["torch", "matplotlib", "pandas", "scipy"])
def test_theory_loads_numpy_alone(heavy):
    code = f"import theory, sys; print({heavy!r} in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "False\n"


def test_packages_listed_are_the_packages_that_exist():
    top_levels = {name.split(".")[0] for name in PACKAGES}
    folders = {path.parent for top in top_levels for path in (ROOT / top).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(PACKAGES)
    assert [name for name in PACKAGES if not (ROOT / name.replace(".", "/") / "__init__.py").is_file()] == []


def test_every_top_level_folder_with_code_is_listed_or_known():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == {name for name in PACKAGES if "." not in name} | {"tests"}


def test_package_data_patterns_match_files():
    for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package}/{pattern} must match a file, matches none"


@pytest.mark.parametrize("script", PYPROJECT["project"]["scripts"])
def test_console_script_is_installed_and_resolves(script):
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=script)
    assert entry.value == PYPROJECT["project"]["scripts"][script]
    assert callable(entry.load())
    assert entry.module.endswith(".__main__")  # so that the script and `python -m` are one program


@pytest.mark.parametrize("name", ANNOUNCED_VERSIONS)
def test_announced_version_is_the_version(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    newest = re.findall(ANNOUNCED_VERSIONS[name], text, flags=re.M)[0]
    assert newest == PYPROJECT["project"]["version"] == importlib.metadata.version("relratio")


def test_every_requirement_is_pinned():
    project = PYPROJECT["project"]
    requirements = sum(project["optional-dependencies"].values(), project["dependencies"])
    names = {normalised(re.match(r"[\w.-]+", line).group()) for line in requirements}
    assert names - {normalised(name) for name in PINS} == set()
