"""Links and names of the repository, made to work in the documentation.

READMEs are included as they are. Their links lead to files and folders; those that have a page here lead to it, other
files to a copy for download. Names in single backticks lead to the page of the object wherever it is documented, under
the name that users import; a name of ours that does not exist is a warning.
"""

import pkgutil
import re
from functools import cache
from importlib import import_module
from os.path import normpath, relpath
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

PACKAGES = ("theory", "sim", "lm", "figures")
PAGES = {
    "README.md": "readme.md",
    "sim/README.md": "simulations.md",
    "lm/README.md": "language_models.md",
    "CHANGELOG.md": "changelog.md",
    "theory": "api/index.rst",
    "sim": "simulations.md",
    "lm": "language_models.md",
    "figures": "api/figures.rst",
    "notebooks": "explore.md",
    "docs": "index.md",
    "benchmarks": "readme.md#speed",
    "tests": "verify.md",
}
"""Pages that stand for files and folders of the repository."""

_TARGET = re.compile(r'(\]\(|src=")([^)"\s#]+)')
_FENCED = re.compile(r"(^```\w*\n.*?^```$)", flags=re.M | re.S)
_SCHEME = re.compile(r"\w+:")
_log = logging.getLogger(__name__)


def rewrite_links(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Point the relative links of an included file to pages, or to the file itself.

    Parameters
    ----------
    app : Sphinx
        The application.
    path : Path
        The included file.
    parent : str
        Name of the page that includes it.
    content : list of str
        Its text, changed in place.
    """
    root = Path(app.srcdir).parent
    folder = (Path(app.srcdir) / path).resolve().parent.relative_to(root)
    page_folder = (Path(app.srcdir) / parent).parent

    def rewritten(match: re.Match[str]) -> str:
        opening, target = match.groups()
        if _SCHEME.match(target):
            return match[0]
        file = normpath(folder / target)
        return opening + relpath(Path(app.srcdir) / PAGES[file] if file in PAGES else root / file, page_folder)

    parts = _FENCED.split(content[0])
    content[0] = "".join(part if _FENCED.match(part) else _TARGET.sub(rewritten, part) for part in parts)


@cache
def public_names() -> dict[int, str]:
    """Return, by identity, the name under which a package offers each object that is not a plain number or text."""
    names = {}
    for package in map(import_module, PACKAGES):
        for name in package.__all__:
            names[id(getattr(package, name))] = f"{package.__name__}.{name}"
    return names


def resolve_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Find an object under the name that users import, or complain that there is none.

    Parameters
    ----------
    app : Sphinx
        The application.
    env : BuildEnvironment
        What has been read.
    node : pending_xref
        The reference.
    text : TextElement
        What it shows.

    Returns
    -------
    Node or None
        The reference resolved, or None where the object has no entry.
    """
    target = node["reftarget"]
    if node.get("refdomain") != "py" or target.split(".")[0] not in PACKAGES:
        return None
    try:
        name = public_names().get(id(pkgutil.resolve_name(target)))
    except (ImportError, AttributeError):
        _log.warning("names in backticks must exist, got %s", target, location=node)
        return None
    if name in (None, target):
        return None
    node["reftarget"] = name
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the handlers."""
    app.connect("include-read", rewrite_links)
    app.connect("missing-reference", resolve_name)
    return {"parallel_read_safe": True}
