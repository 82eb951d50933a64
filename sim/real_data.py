"""Real preference data: who won against whom, from the Chatbot Arena or from any CSV file."""

import csv
import importlib.metadata
import importlib.util
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from sim.preferences.arguments import IntArray, check_integer, read_only
from sim.preferences.from_counts import check_win_counts

ARENA_FILE = "data/chatbotarena_20240814.json"
ARENA_MINIMUM = 200

_INSTALL_HINT = "install it with: pip install 'relratio[data]'"
# Counts are divided as float64, which holds whole numbers exactly up to 2^53.
_LARGEST_COUNT = 2**53
_MOST_ITEMS = 5000  # every pair has a place in a table


@dataclass(frozen=True, eq=False)
class WinCounts:
    """How often each item won against each other, with the undecided comparisons counted apart.

    Parameters
    ----------
    names : sequence of str
        Names of the K >= 2 items, all different.
    wins : array_like of whole numbers, shape (K, K)
        Entry (i, j) counts the decisive comparisons that item i won against item j.
    ties, both_bad : array_like of whole numbers, shape (K, K), optional
        Symmetric tables of the comparisons that ended in a tie, or with both called bad. They say nothing about who
        wins, so they are left out of `wins` and of everything computed from it, and only counted. Zero by default.

    Raises
    ------
    ValueError
        If names are blank or repeated, or a table has the wrong shape, negative or fractional entries, or a nonzero
        diagonal.

    Examples
    --------
    >>> counts = WinCounts(("a", "b"), [[0, 3], [1, 0]], ties=[[0, 2], [2, 0]])
    >>> counts.total, counts.ties_left_out, counts.both_bad_left_out
    (4, 2, 0)
    """

    names: tuple[str, ...]
    wins: IntArray
    ties: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    both_bad: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def __post_init__(self) -> None:
        """Validate the tables and freeze them."""
        names = tuple(self.names)
        repeated = [name for name, times in Counter(names).items() if times > 1]
        if repeated or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f"names must be different and not blank, got {repeated or names}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "wins", read_only(check_win_counts(self.wins, names)))
        for key in ("ties", "both_bad"):
            table = np.asarray(getattr(self, key))
            table = check_win_counts(table if table.size else np.zeros_like(self.wins), names)
            if not np.array_equal(table, table.T):
                raise ValueError(f"{key} must be a symmetric table, got {table.tolist()}")
            object.__setattr__(self, key, read_only(table))

    @property
    def decisive(self) -> IntArray:
        """Number of decisive comparisons of each pair, shape (K, K), symmetric."""
        return self.wins + self.wins.T

    @property
    def total(self) -> int:
        """Number of decisive comparisons."""
        return int(self.wins.sum())

    @property
    def ties_left_out(self) -> int:
        """Number of comparisons that ended in a tie."""
        return int(self.ties.sum()) // 2

    @property
    def both_bad_left_out(self) -> int:
        """Number of comparisons in which both were called bad."""
        return int(self.both_bad.sum()) // 2

    def restrict(self, names: Sequence[str]) -> "WinCounts":
        """Return the counts among the named items, in the given order.

        Parameters
        ----------
        names : sequence of str
            At least two of the items.

        Returns
        -------
        WinCounts
            The same counts, restricted to comparisons among the named items.

        Raises
        ------
        ValueError
            If a name is not among the items.

        Examples
        --------
        >>> counts = WinCounts(("a", "b", "c"), [[0, 3, 1], [1, 0, 5], [2, 2, 0]])
        >>> counts.restrict(["c", "a"]).wins
        array([[0, 2],
               [1, 0]])
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"names must be among the {len(self.names)} items, got {unknown[0]!r}")
        kept = np.ix_(*[[self.names.index(name) for name in names]] * 2)
        return WinCounts(tuple(names), self.wins[kept], self.ties[kept], self.both_bad[kept])


def dense_core(counts: ArrayLike, names: Sequence[str], minimum: int) -> tuple[str, ...]:
    """Return the names of a set of items of which every pair has at least `minimum` decisive comparisons.

    Greedy: while some pair has fewer, remove the item with the fewest qualifying pairs among the remaining ones; of
    several, the one with the fewest decisive comparisons among the remaining ones; of several still, the last name in
    alphabetical order. The result does not depend on the order of the items.

    Parameters
    ----------
    counts : array_like of whole numbers, shape (K, K)
        Entry (i, j) counts the decisive comparisons that item i won against item j.
    names : sequence of str
        Names of the K items, all different.
    minimum : int
        Decisive comparisons that each pair must have, at least 1.

    Returns
    -------
    tuple of str
        The names kept, at least two, in the order of `names`.

    Raises
    ------
    ValueError
        If no pair has `minimum` decisive comparisons, or the counts are not a table of wins.

    Notes
    -----
    The largest such set is a maximum clique, which no known fast rule finds for every table, so the greedy set may be
    smaller. On the Chatbot Arena counts with minimum 200 an exhaustive search for cliques found three largest sets, of
    23 models each; the greedy set is the one of them with the most votes.

    References
    ----------
    .. [1] Rule: derived here.

    Examples
    --------
    >>> dense_core([[0, 9, 1], [9, 0, 9], [0, 9, 0]], ["a", "b", "c"], 10)
    ('a', 'b')
    """
    core = WinCounts(tuple(names), check_win_counts(counts, names))
    minimum = check_integer("minimum", minimum, 1)
    if core.decisive.max() < minimum:
        raise ValueError(
            f"a dense core must have a pair with at least {minimum} decisive comparisons, "
            f"got at most {core.decisive.max()}"
        )
    votes = core.decisive
    kept = list(range(len(core.names)))
    while True:
        among = votes[np.ix_(kept, kept)]
        qualifying = (among >= minimum).sum(axis=1)
        if qualifying.min() == len(kept) - 1:
            return tuple(core.names[i] for i in kept)
        alphabetical = np.argsort(np.argsort([core.names[i] for i in kept]))
        kept.pop(int(np.lexsort((-alphabetical, among.sum(axis=1), qualifying))[0]))


def load_arena() -> WinCounts:
    """Return the Chatbot Arena comparisons of 14 August 2024, all 129 models.

    The counts come from the data file of the installed PyPI package ``leaderbot``, which is read without being
    imported. Ties and "both bad" votes are left out of the wins and counted.

    Returns
    -------
    WinCounts
        Of 129 models, with 1,093,875 decisive votes on 3,460 pairs.

    Raises
    ------
    ImportError
        If leaderbot, or its data file, is not installed.

    References
    ----------
    .. [1] W.-L. Chiang et al., "Chatbot Arena: an open platform for evaluating LLMs by human preference", ICML 2024.
    .. [2] S. Ameli, S. Zhuang, I. Stoica and M. W. Mahoney, "A statistical framework for ranking LLM-based chatbots",
       ICLR 2025 (leaderbot, BSD-3-Clause).

    Examples
    --------
    >>> load_arena().names[:2]
    ('RWKV-4-Raven-14B', 'alpaca-13b')
    """
    content = json.loads(_arena_path().read_text(encoding="utf-8"))
    pairs, outcomes = np.asarray(content["X"]), np.asarray(content["Y"])
    names = tuple(content["models"])
    first, second = pairs.T
    tables = np.zeros((3, len(names), len(names)), dtype=np.int64)
    # The columns of Y: first wins, second wins, tie, both bad. A pair listed twice adds up.
    np.add.at(tables[0], (first, second), outcomes[:, 0])
    np.add.at(tables[0], (second, first), outcomes[:, 1])
    for table, column in ((tables[1], 2), (tables[2], 3)):
        np.add.at(table, (first, second), outcomes[:, column])
        np.add.at(table, (second, first), outcomes[:, column])
    return WinCounts(names, *tables)


def load_arena_core(minimum: int = ARENA_MINIMUM) -> WinCounts:
    """Return the Chatbot Arena comparisons among the models of the dense core.

    Parameters
    ----------
    minimum : int, default 200
        Decisive votes that each pair must have; 200 leaves 23 models with 361,491 decisive votes.

    Returns
    -------
    WinCounts
        Restricted by `dense_core`.

    Raises
    ------
    ImportError
        If leaderbot is not installed.
    ValueError
        If no pair has `minimum` decisive votes.

    Examples
    --------
    >>> core = load_arena_core()
    >>> len(core.names), core.total
    (23, 361491)
    """
    arena = load_arena()
    return arena.restrict(dense_core(arena.wins, arena.names, minimum))


def read_comparisons_csv(path: str | PathLike[str]) -> WinCounts:
    r"""Read comparisons from a CSV file with the columns ``winner``, ``loser`` and, optionally, ``count``.

    Each row is one comparison, or `count` of them; rows of the same pair add up. The file is UTF-8, the first line
    names the columns in any order, blank lines are skipped and spaces around values are ignored.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    WinCounts
        With the names in alphabetical order. Ties have no place in such a file and should be left out of it.

    Raises
    ------
    ValueError
        If the file has no comparisons or too many items, a wrong or missing column, a blank name, a winner that is the
        loser, or a `count` that is not a whole number of at least 0; row (line of the file) and column are named.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "votes.csv")
    ...     _ = path.write_text("winner,loser,count\ntea,coffee,3\ncoffee,tea,1\n")
    ...     read_comparisons_csv(path).wins
    array([[0, 1],
           [3, 0]])
    """
    totals: Counter[tuple[str, str]] = Counter()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = _csv_header(path, next(reader, []))
            for row in reader:
                if row:
                    pair, count = _csv_row(f"{path}, row {reader.line_num}", header, row)
                    totals[pair] += count
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"a file of comparisons must be valid CSV in UTF-8, got {path}: {error}") from error
    if not 0 < totals.total() <= _LARGEST_COUNT:
        rule = f"a file of comparisons must hold between 1 and 2^53 of them below its header line, got {totals.total()}"
        raise ValueError(f"{rule} in {path}")
    names = tuple(sorted({name for pair in totals for name in pair}))
    if len(names) > _MOST_ITEMS:
        raise ValueError(
            f"a file of comparisons must be about at most {_MOST_ITEMS:,} items, got {len(names):,} in {path}"
        )
    index = {name: i for i, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)), dtype=np.int64)
    for (winner, loser), count in totals.items():
        wins[index[winner], index[loser]] = count
    return WinCounts(names, wins)


def observed_counts(source: str, min_decisive: int | None = None) -> WinCounts:
    """Read observed comparisons, and cut them to a dense core on request.

    Parameters
    ----------
    source : str
        "arena" for the Chatbot Arena counts of the optional package leaderbot, else the path of a CSV file.
    min_decisive : int, optional
        Decisive comparisons that every pair of the core must have, at least 1; default no cut.

    Returns
    -------
    WinCounts
        Names and win counts.

    Raises
    ------
    ValueError
        If there is no such file, it is malformed (row and column are named), or no core of two items is left.
    ImportError
        If the optional package is missing.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "wins.csv"
    >>> _ = path.write_text("winner,loser,count" + chr(10) + "a,b,3" + chr(10) + "b,a,1")
    >>> observed_counts(str(path)).total
    4
    """
    if source != "arena" and not Path(source).is_file():
        raise ValueError(f'comparisons must come from "arena" or an existing CSV file, got {source!r}')
    observed = load_arena() if source == "arena" else read_comparisons_csv(source)
    if min_decisive is None:
        return observed
    return observed.restrict(dense_core(observed.wins, observed.names, min_decisive))


def _csv_header(path: str | PathLike[str], fields: list[str]) -> list[str]:
    """Return the column names of a file of comparisons, or an error naming the missing or unknown column."""
    if not fields:
        raise ValueError(f"a file of comparisons must start with a line 'winner,loser[,count]', got an empty {path}")
    header = [name.strip() for name in fields]
    for column in ("winner", "loser"):
        if column not in header:
            raise ValueError(f"{path}, row 1 must name a column {column!r}, got {_shown(header)}")
    unknown = set(header) - {"winner", "loser", "count"}
    if unknown or len(set(header)) < len(header):
        raise ValueError(f"{path}, row 1 must name the columns winner, loser and count at most, got {_shown(header)}")
    return header


def _shown(names: Sequence[str]) -> str:
    """Return names on one line."""
    return ", ".join(name if name.isprintable() else repr(name) for name in names)


def _csv_row(place: str, header: list[str], row: list[str]) -> tuple[tuple[str, str], int]:
    """Return the (winner, loser) of one row and how often it counts, or an error naming row and column."""
    if len(row) != len(header):
        raise ValueError(f"{place} must have {len(header)} values ({_shown(header)}), got {len(row)}")
    values = dict(zip(header, (value.strip() for value in row), strict=True))
    for column in ("winner", "loser"):
        if not values[column]:
            raise ValueError(f"{place}, column {column!r} must not be blank, got {row}")
    if values["winner"] == values["loser"]:
        raise ValueError(f"{place}, columns 'winner' and 'loser' must differ, got {values['winner']!r} twice")
    count = values.get("count", "1")
    if not (count.isascii() and count.isdigit()):
        raise ValueError(f"{place}, column 'count' must be a whole number of at least 0, got {count!r}")
    if len(count) > len(str(_LARGEST_COUNT)):
        raise ValueError(f"{place}, column 'count' must be at most 2^53, got {count}")
    return (values["winner"], values["loser"]), int(count)


def _arena_path() -> Path:
    """Return where the installed leaderbot keeps the counts; finding a top-level package does not execute it."""
    spec = importlib.util.find_spec("leaderbot")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the Chatbot Arena counts must come from the package leaderbot, got none; {_INSTALL_HINT}")
    path = Path(next(iter(spec.submodule_search_locations)), ARENA_FILE)
    if not path.is_file():
        version = importlib.metadata.version("leaderbot")
        raise ImportError(f"leaderbot must carry {ARENA_FILE}, got version {version} without it; {_INSTALL_HINT}")
    return path
