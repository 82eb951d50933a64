"""Real comparisons: the Arena counts, the dense core, and CSV files good and bad."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.real_data import WinCounts, dense_core, load_arena, load_arena_core, read_comparisons_csv
from tests.sim.optional import needs_leaderbot

ROOT = Path(__file__).parents[2]


def write(tmp_path, text):
    """A CSV file with the given text."""
    path = tmp_path / "votes.csv"
    path.write_text(text, encoding="utf-8")
    return path


@needs_leaderbot
def test_arena_has_its_known_totals():
    arena = load_arena()
    assert len(arena.names) == 129
    assert arena.total == 595_570 + 498_305
    assert (arena.ties_left_out, arena.both_bad_left_out) == (281_121, 295_254)
    compared = arena.decisive + arena.ties + arena.both_bad
    assert np.count_nonzero(np.triu(compared)) == 3460
    assert np.count_nonzero(np.triu(arena.decisive)) == 3453  # seven pairs were only ever undecided


@needs_leaderbot
def test_arena_orientation_of_wins():
    """The strongest and the weakest model of the time differ the right way round."""
    arena = load_arena()
    strong, weak = arena.names.index("gpt-4o-2024-05-13"), arena.names.index("llama-3-8b-instruct")
    assert arena.wins[strong, weak] > 2 * arena.wins[weak, strong] > 0


@needs_leaderbot
def test_arena_core_has_23_models():
    core = load_arena_core()
    assert (len(core.names), core.total) == (23, 361_491)
    assert (core.ties_left_out, core.both_bad_left_out) == (104_894, 87_585)
    assert core.decisive[np.triu_indices(23, 1)].min() == 205
    assert {"gpt-4o-2024-05-13", "claude-3-opus-20240229", "llama-3-70b-instruct"} < set(core.names)


@needs_leaderbot
def test_arena_is_read_without_importing_leaderbot():
    code = (
        "import sys; from sim.real_data import load_arena; load_arena(); "
        "sys.exit(any(name.split('.')[0] in ('leaderbot', 'numba') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_missing_leaderbot_names_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"leaderbot, got none; install it with: pip install 'relratio\[data\]'"):
        load_arena()


@needs_leaderbot
def test_leaderbot_without_the_file_names_its_version(monkeypatch):
    monkeypatch.setattr("sim.real_data.ARENA_FILE", "data/chatbotarena_19700101.json")
    with pytest.raises(
        ImportError, match=r"chatbotarena_19700101.json, got version [0-9.]+ without it.*relratio\[data\]"
    ):
        load_arena()


COUNTS = [[0, 9, 9, 1], [9, 0, 9, 9], [9, 9, 0, 2], [0, 9, 1, 0]]


@pytest.mark.parametrize(("minimum", "kept"), [(1, "abcd"), (2, "abc"), (18, "abc")])
def test_dense_core_of_a_small_table(minimum, kept):
    assert dense_core(COUNTS, "abcd", minimum) == tuple(kept)


def test_dense_core_breaks_ties_by_votes_and_then_by_name():
    ring = np.array([[0, 5, 5, 0], [5, 0, 0, 5], [5, 0, 0, 6], [0, 5, 6, 0]])  # two qualifying pairs each
    assert dense_core(ring, "abcd", 10) == ("c", "d")  # a and b have fewest votes: b goes, then a
    ring[2, 3] = ring[3, 2] = 5
    assert dense_core(ring, "abcd", 10) == ("a", "b")  # all alike: d goes, then c rather than b


@given(seed=st.integers(0, 2**32 - 1), items=st.integers(2, 12), minimum=st.integers(1, 6))
@settings(deadline=None)
def test_dense_core_is_dense_and_ignores_the_order_of_items(seed, items, minimum):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, size=(items, items))
    counts[0, 1], counts[1, 0] = minimum, 0  # one qualifying pair at least
    np.fill_diagonal(counts, 0)
    names = [f"item {k:02d}" for k in range(items)]
    core = dense_core(counts, names, minimum)
    assert len(core) >= 2
    restricted = WinCounts(tuple(names), counts).restrict(core)
    assert restricted.decisive[np.triu_indices(len(core), 1)].min() >= minimum
    order = rng.permutation(items)
    assert set(dense_core(counts[np.ix_(order, order)], [names[k] for k in order], minimum)) == set(core)


def test_csv_counts_rows_and_weights(tmp_path):
    table = read_comparisons_csv(write(tmp_path, "winner,loser\ntea,coffee\n\ntea , coffee\ncoffee,tea\nmilk,tea\n"))
    assert table.names == ("coffee", "milk", "tea")
    assert np.array_equal(table.wins, [[0, 0, 1], [0, 0, 1], [2, 0, 0]])
    path = write(tmp_path, '\ufeffcount,loser,winner\n3,"a, b",c\n0,c,"a, b"\n4,"a, b",c\n')
    weighted = read_comparisons_csv(path)
    assert weighted.names == ("a, b", "c")
    assert np.array_equal(weighted.wins, [[0, 0], [7, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "start with a line 'winner,loser\\[,count\\]', got an empty .*votes.csv"),
        ("winner,loser\n", "between 1 and 2\\^53 of them below its header line, got 0"),
        ("winner,loser,count\na,b,0\n", "between 1 and 2\\^53 of them below its header line, got 0"),
        ("winner,looser\na,b\n", "row 1 must name a column 'loser', got winner, looser"),
        ("winner,loser,cuont\na,b,1\n", "row 1 must name the columns winner, loser and count at most, got .*cuont"),
        ("winner,loser,loser\na,b,c\n", "row 1 must name the columns"),
        ("winner,loser\na,b\na\n", "row 3 must have 2 values \\(winner, loser\\), got 1"),
        ("winner,loser\na,b,3\n", "row 2 must have 2 values \\(winner, loser\\), got 3"),
        ("winner,loser\na,\n", "row 2, column 'loser' must not be blank"),
        ("winner,loser\n ,b\n", "row 2, column 'winner' must not be blank"),
        ("winner,loser\na,b\nb,b\n", "row 3, columns 'winner' and 'loser' must differ, got 'b' twice"),
        ("winner,loser,count\na,b,1\na,b,-2\n", "row 3, column 'count' must be a whole number of at least 0, got '-2'"),
        ("winner,loser,count\na,b,1.5\n", "row 2, column 'count' must be a whole number of at least 0, got '1.5'"),
        ("winner,loser,count\na,b,\n", "row 2, column 'count' must be a whole number of at least 0, got ''"),
        ("winner,loser,count\na,b,٣\n", "row 2, column 'count' must be a whole number"),
        (f"winner,loser,count\na,b,{10**30}\n", "row 2, column 'count' must be at most 2\\^53"),
        ("winner,loser,count\na,b,9007199254740993\n", "between 1 and 2\\^53"),
        ('winner,loser\n"a,b\n', "valid CSV in UTF-8"),
    ],
)
def test_bad_csv_is_refused_by_row_and_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_comparisons_csv(write(tmp_path, text))


def test_csv_must_be_utf8_and_exist(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("winner,loser\ncaf\xe9,tea\n".encode("latin-1"))
    with pytest.raises(ValueError, match="valid CSV in UTF-8"):
        read_comparisons_csv(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_comparisons_csv(tmp_path / "absent.csv")


def test_win_counts_restrict_keeps_ties_apart():
    ties, bad = np.array([[0, 4, 1], [4, 0, 0], [1, 0, 0]]), np.array([[0, 0, 2], [0, 0, 3], [2, 3, 0]])
    counts = WinCounts(("a", "b", "c"), [[0, 3, 1], [1, 0, 5], [2, 2, 0]], ties, bad)
    assert (counts.total, counts.ties_left_out, counts.both_bad_left_out) == (14, 5, 5)
    part = counts.restrict(["c", "a"])
    assert (part.names, part.total, part.ties_left_out, part.both_bad_left_out) == (("c", "a"), 3, 1, 2)
    with pytest.raises(ValueError, match="read-only"):
        part.wins[0, 1] = 9


ERRORS = [
    (lambda: WinCounts(("a", "a"), [[0, 1], [1, 0]]), "names must be different and not blank, got \\['a'\\]"),
    (lambda: WinCounts(("a", " "), [[0, 1], [1, 0]]), "names must be different and not blank"),
    (lambda: WinCounts(("a",), [[0]]), "K >= 2, got \\(1, 1\\)"),
    (lambda: WinCounts(("a", "b", "c"), [[0, 1], [1, 0]]), "each of the 2 items, got 3"),
    (lambda: WinCounts(("a", "b"), [[0, 1], [1, 0]], ties=[[0, 1], [2, 0]]), "ties must be a symmetric table"),
    (lambda: WinCounts(("a", "b"), [[0, 1], [1, 0]]).restrict(["a", "z"]), "among the 2 items, got 'z'"),
    (lambda: dense_core(COUNTS, "abcd", 19), "at least 19 decisive comparisons, got at most 18"),
    (lambda: dense_core(COUNTS, "abcd", 0), "minimum must be at least 1, got 0"),
    (lambda: dense_core(COUNTS, "abc", 1), "each of the 4 items, got 3"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_state_the_rule_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
