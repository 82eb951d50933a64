"""Directive `api`: a table of names with their first sentences, then the docstring of each.

A name is listed once, in the page of its topic, and gets the autodoc directive that fits it. Nothing is written into
the source folder, so that no stub of a name that is gone can linger there.
"""

import inspect
import pkgutil
from importlib import import_module
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_LONGEST = 40


def auto_directive(value: Any) -> str:
    """Return the autodoc directive for an object, with its options.

    Parameters
    ----------
    value : object
        What is documented.

    Returns
    -------
    str
        A line of reStructuredText with a place for the name, and the options below it.

    Examples
    --------
    >>> auto_directive(len)
    '.. autofunction:: {}'
    """
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {{}}\n   :members:"
    if inspect.isroutine(value):
        return ".. autofunction:: {}"
    return ".. autodata:: {}\n   :no-value:"  # registries would print all that is in them


class ApiListing(SphinxDirective):
    """Document the names in the body, of the module in the argument; without a body, all of its names."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Return the table and the entries."""
        module = self.arguments[0]
        names = [line.strip() for line in self.content if line.strip()] or import_module(module).__all__
        table = "\n".join([".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names)])
        entries = [auto_directive(pkgutil.resolve_name(f"{module}.{name}")).format(name) for name in names]
        return self.parse_text_to_nodes("\n\n".join([f".. currentmodule:: {module}", table, *entries, ""]))


def shorten_signature(
    app: Sphinx, kind: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show a signature of very many parameters, which are those of transformers, as an ellipsis.

    Parameters
    ----------
    app : Sphinx
        The application.
    kind, name : str
        Kind and full name of the object.
    value : object
        The object.
    options : mapping
        Options of the autodoc directive.
    signature, returns : str or None
        What autodoc found.

    Returns
    -------
    tuple
        Signature and returned type to show.
    """
    return ("(...)" if signature and signature.count("=") > _LONGEST else signature), returns


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the handler."""
    app.add_directive("api", ApiListing)
    app.connect("autodoc-process-signature", shorten_signature)
    return {"parallel_read_safe": True}
