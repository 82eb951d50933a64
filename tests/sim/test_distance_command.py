"""`python -m sim distance`: observed comparisons against Bradley-Terry, from the command line."""

import pytest

from sim.__main__ import main
from sim.real_data import observed_counts

CYCLE = "winner,loser,count\na,b,90\nb,a,10\nb,c,90\nc,b,10\nc,a,90\na,c,10\n"
BRADLEY_TERRY = "winner,loser,count\na,b,80\nb,a,20\nb,c,80\nc,b,20\na,c,94\nc,a,6\n"  # odds 4, 4 and about 16


def run(text, tmp_path, capsys, *flags):
    path = tmp_path / "wins.csv"
    path.write_text(text)
    status = main(["distance", str(path), "--replicates", "200", *flags])
    return status, capsys.readouterr()


def test_cycles_are_far_from_bradley_terry_and_a_fitting_table_is_not(tmp_path, capsys):
    status, cycles = run(CYCLE, tmp_path, capsys)
    assert status == 0 and "p = 0.005;" in cycles.out  # (1 + 0) / (1 + 200)
    status, fitting = run(BRADLEY_TERRY, tmp_path, capsys)
    p_value = float(fitting.out.split("p = ")[1].split(";")[0])
    assert status == 0 and p_value > 0.2


def test_the_seed_fixes_the_null(tmp_path, capsys):
    first, second, other = (run(CYCLE, tmp_path, capsys, "--seed", seed)[1].out for seed in ("1", "1", "2"))
    assert first == second != other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with a line 'winner,loser"),
        ("winner,loser\na,b\nb,c\n", "must be strongly connected"),
        ("winner,loser,count\na,b,x\n", "count"),
    ],
)
def test_bad_files_are_refused_in_one_line(text, message, tmp_path, capsys):
    status, printed = run(text, tmp_path, capsys)
    assert status == 2
    assert message in printed.err and printed.err.count("\n") == 1


def test_a_missing_file_is_refused(capsys):
    assert main(["distance", "arean"]) == 2
    assert "must come from \"arena\" or an existing CSV file, got 'arean'" in capsys.readouterr().err


def test_a_core_is_cut_on_request(tmp_path):
    path = tmp_path / "wins.csv"
    path.write_text(CYCLE + "a,d,3\nd,a,1\n")
    assert observed_counts(str(path), 50).names == ("a", "b", "c")
    assert len(observed_counts(str(path)).names) == 4
