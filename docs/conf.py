"""Settings of the documentation: `make docs` builds it into docs/_build, without a network; warnings are errors."""

import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER / "extensions"), str(FOLDER.parent)]
_DETAILS = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _DETAILS["name"]
author = _DETAILS["authors"][0]["name"]
copyright = author  # noqa: A001 - the name is Sphinx's
version = release = _DETAILS["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "api_listing",
    "claim_list",
    "registry_tables",
    "repository_links",
]
exclude_patterns = ["_build"]

# Single backticks in docstrings name an object; `repository_links` complains of those of ours that do not exist.
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
autodoc_typehints = "none"  # numpydoc sections give types with shapes and ranges
autosummary_generate = False  # no file is written into this folder
# numpydoc: fields stand in the Attributes section of a class; methods are documented below it by autodoc.
numpydoc_show_class_members = False
# Parameters are those of the signature, in its order; descriptions are there; sections are known and in order.
numpydoc_validation_checks = {"GL06", "GL07", "PR02", "PR03", "PR07", "RT03", "YD01"}

myst_enable_extensions = ["colon_fence", "deflist", "html_image"]
myst_heading_anchors = 3  # links of READMEs name headings as code hosts do

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
