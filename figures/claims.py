"""The registry of claims: those of the two papers and our own, each with the rule that decides about it."""

from collections.abc import Sequence

from figures.judging.assumptions import ASSUMPTION_CLAIMS
from figures.judging.estimation import ESTIMATION_CLAIMS
from figures.judging.papers import PAPER_CLAIMS
from figures.judging.rules import Claim
from figures.judging.training import TRAINING_CLAIMS

__all__ = ["CLAIMS", "Claim", "claim_tables"]

CLAIMS: tuple[Claim, ...] = (*PAPER_CLAIMS, *ESTIMATION_CLAIMS, *ASSUMPTION_CLAIMS, *TRAINING_CLAIMS)
"""All claims, those of the papers first."""


def claim_tables(claims: Sequence[Claim] = CLAIMS) -> dict[str, tuple[str, ...]]:
    """Return the tables that decide about claims, with the columns that are read.

    Parameters
    ----------
    claims : sequence of Claim
        The claims; default all.

    Returns
    -------
    dict of str to tuple of str
        Columns by table ``study/table``, in the order of the claims.

    Examples
    --------
    >>> claim_tables()["ratio_shapes/table"]
    ('relative_ratio', 'alpha', 'relative_ratio_bound')
    """
    columns: dict[str, dict[str, None]] = {}
    for rule in (rule for claim in claims for rule in claim.rules):
        columns.setdefault(rule.table, {}).update(dict.fromkeys(rule.columns))
    return {table: tuple(names) for table, names in columns.items()}
