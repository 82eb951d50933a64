"""Directive `claims`: every claim of the registry, with where it is asserted and how it is decided.

Verdicts are not here: they are made from results, which a build of these pages need not have.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from figures.claims import CLAIMS, Claim


def entry(claim: Claim) -> nodes.definition_list_item:
    """Return the entry of one claim, under its id, as text that no markup is read from.

    Parameters
    ----------
    claim : Claim
        The claim.

    Returns
    -------
    definition_list_item
        Statement and source; below them scope, rules, figure and test.
    """
    term = nodes.term("", "", nodes.strong("", claim.statement), ids=[claim.id])
    facts = {"Asserted for": claim.scope, "Decided by": claim.decision, "Figure": claim.figure, "Test": claim.test}
    body = nodes.definition()
    for label, fact in {"Source": claim.source, **facts}.items():
        if fact:
            text = nodes.literal("", fact) if label in ("Figure", "Test") else nodes.Text(fact)
            body += nodes.paragraph("", "", nodes.emphasis("", label), nodes.Text(": "), text)
    return nodes.definition_list_item("", term, body)


class ClaimList(SphinxDirective):
    """All claims, in the order of the registry."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        return [nodes.definition_list("", *map(entry, CLAIMS))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("claims", ClaimList)
    return {"parallel_read_safe": True}
