"""What two texts, or two arrays of tokens, share at their beginning."""

import numpy as np

__all__ = ["common_text", "common_tokens", "common_words"]


def common_tokens(first: np.ndarray, second: np.ndarray) -> int:
    """Return how many entries two arrays share at their beginning.

    Examples
    --------
    >>> common_tokens(np.array([1, 2, 3]), np.array([1, 2, 4, 5]))
    2
    """
    shortest = min(len(first), len(second))
    different = first[:shortest] != second[:shortest]
    return int(different.argmax()) if different.any() else shortest


def common_text(first: str, second: str) -> str:
    """Return the longest text with which both begin.

    Examples
    --------
    >>> common_text("cat", "car")
    'ca'
    """
    same, different = 0, min(len(first), len(second)) + 1  # bisection: a loop over characters takes far longer
    while different - same > 1:
        middle = (same + different) // 2
        if first[:middle] == second[:middle]:
            same = middle
        else:
            different = middle
    return first[:same]


def common_words(first: str, second: str) -> str:
    """Return the words that two texts share at their beginning; one space before the first difference is left out.

    Examples
    --------
    >>> common_words("Say hello to Ann", "Say hello to Anton"), common_words("cat", "car")
    ('Say hello to', '')
    """
    shared = common_text(first, second)
    if shared and not shared[-1].isspace():  # back to the beginning of a word
        shared = shared[: -len(shared.split()[-1])]
    return shared.removesuffix(" ")
