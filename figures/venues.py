"""Where figures are printed: the widths of columns, and how large everything drawn in points is."""

from dataclasses import dataclass

__all__ = ["HOUSE", "VENUES", "Venue"]


@dataclass(frozen=True)
class Venue:
    """Sizes of figures at one venue, as they are printed there.

    Attributes
    ----------
    narrow : float
        Width of a column, in inches.
    wide : float
        Width of the text, in inches; that of a column where there is one column.
    scale : float
        Size of letters, lines and markers, and of heights, as a multiple of those in a paper.
    """

    narrow: float
    wide: float
    scale: float = 1.0


HOUSE = "icml"
"""The venue that figure modules are written for, and the default."""

VENUES = {
    "neurips": Venue(5.5, 5.5),
    HOUSE: Venue(3.25, 6.75),
    "jmlr": Venue(6.0, 6.0),
    # The paper's figure at 1.9 times its size, which is a slide of 13.33 inches less its margins.
    "talk": Venue(6.175, 12.825, 1.9),
}
"""All venues: the sizes of the style files of NeurIPS, ICML and JMLR, and a slide of 16:9."""
