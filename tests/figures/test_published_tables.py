"""Tables for papers: what they hold, and LaTeX that any engine reads."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from figures.latex import escape, number, tabular
from figures.published_tables import PAPER_TABLES, write_claims_table, write_table
from figures.tables import read_tables

NAMES = (*PAPER_TABLES, "claims")


@pytest.mark.parametrize("name", NAMES)
def test_latex_has_the_rows_of_the_csv_and_is_well_formed(name, output):
    text = (output / "tables" / f"{name}.tex").read_text(encoding="utf-8")
    rows = pd.read_csv(output / "tables" / f"{name}.csv", keep_default_na=False)
    assert text.isascii() and "nan" not in text.split("\\midrule")[1]
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}")] == [1] * 4
    columns = len(re.findall(r"p\{.*?\}|[lr]", re.search(r"\\begin\{tabular\}\{(.*)\}\n", text)[1]))
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(lines) == len(rows) + 1
    for line in lines:
        assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
        assert len(re.findall(r"(?<!\\)\$", line)) % 2 == 0
    merged = {column for column in rows if column.endswith((" half", " low", " high"))}
    assert columns == rows.shape[1] - len(merged)


def test_slopes_and_errors_are_those_of_the_tables(results):
    tables = read_tables(results, PAPER_TABLES["final_errors"].tables)
    rows = PAPER_TABLES["final_errors"].rows(tables).set_index("world")
    summary = tables["consistency/summary"]
    point = summary[(summary["world"] == "hodge") & (summary["method"] == "dpo") & (summary["regime"] == "paired")]
    point = point[(point["metric"] == "tv_preferred") & (point["n"] == point["n"].max())].iloc[0]
    assert rows.loc["hodge", "dpo"] == point["mean"] and rows.loc["hodge", "n"] == point["n"]
    assert math.isclose(rows.loc["hodge", "dpo half"], (point["high"] - point["low"]) / 2)
    assert PAPER_TABLES["exact_targets"].rows(tables).set_index("world").loc["hodge", "dpo"] == point["exact"]


def test_experiment_in_which_all_runs_diverged_has_a_share_and_no_distance(results):
    tables = read_tables(results, PAPER_TABLES["lm_stability"].tables)
    table = tables["stability/summary"]
    lost = table["method"] == "ddro"
    tables = {"stability/summary": table.assign(share_diverged=np.where(lost, 1.0, 0.0))[~lost | (table["step"] == 0)]}
    rows = PAPER_TABLES["lm_stability"].rows(tables).set_index("method")
    assert set(rows["diverged"].drop("ddro")) == {0.0} and set(rows.loc["ddro", "diverged"]) == {1.0}


def test_control_of_a_study_is_in_no_table(results):
    tables = read_tables(results, PAPER_TABLES["constants"].tables)
    control = tables["constants/summary"].iloc[:1].assign(method="rdro pooled")
    tables = {"constants/summary": pd.concat([control, tables["constants/summary"]])}
    assert "rdro pooled" not in set(PAPER_TABLES["constants"].rows(tables)["method"])


def test_claims_are_escaped(tmp_path):
    statement = "p_+ & 5 % \N{LESS-THAN OR EQUAL TO} 1"
    claim = {"statement": statement, "source": "ours", "verdict": "not run", "id": "a", "evidence": []}
    latex, csv = write_claims_table([claim], tmp_path)
    assert r"p\_+ \& 5 \% $\le$ 1 & ours & not run \\" in latex.read_text(encoding="utf-8")
    assert csv.read_text(encoding="utf-8") == f"statement,source,verdict\n{statement},ours,not run\n"


def test_table_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="table empty must have at least one row, got none"):
        write_table("empty", pd.DataFrame({"a": []}), "nothing", tmp_path)


def test_every_special_character_is_escaped_and_an_unknown_one_refused():
    assert escape(r"\{}~^#$") == r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\#\$"
    with pytest.raises(ValueError, match="must have known characters, got '\N{SNOWMAN}'"):
        escape("cold \N{SNOWMAN}")


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (math.nan, None, "--"),
        (math.inf, None, r"$\infty$"),
        (-math.inf, 0.1, r"$-\infty$"),
        (1e-17, None, "$0$"),
        (0.5, 0.0, "$0.5$"),
        (123.4, 12.0, r"$123 \pm 12$"),
        (-0.001, 0.2, r"$0.00 \pm 0.20$"),
        (1.0, math.inf, "$1$"),
    ],
)
def test_numbers_at_the_edges(value, half, text):
    assert number(value, half=half) == text


def test_missing_values_are_dashes_and_whole_numbers_have_commas():
    rows = [{"n": 1_000_000, "error": 0.5, "error low": 0.4, "error high": 0.6}]
    rows += [{"n": 10, "error": math.nan, "error low": math.nan, "error high": math.nan}]
    body = tabular(list(rows[0]), rows, "errors").split("\\midrule\n")[1]
    assert body.startswith("1,000,000 & $0.5$ [$0.4$, $0.6$] \\\\\n10 & -- \\\\\n")
