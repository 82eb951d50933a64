"""Verdicts: evidence agrees with the statistics it stands for, is combined by one rule, and is written whole."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from figures.claims import CLAIMS
from figures.judging.evidence import find_evidence
from figures.judging.rules import VERDICTS, Claim, Compare, Extreme, Paired, Share, StudyClaim, StudyInterval
from figures.verdicts import claims_table, combine, judge_claims, write_claims
from sim.claims.claim import Claim as DeclaredClaim
from sim.claims.verdicts import judge
from sim.statistics.equivalence import holm
from tests.figures.claim_tables import metrics, rule_rows, write_rules

PAIRED = Paired("some", "a", "b", "error")


def only(rule, table):
    (evidence,) = find_evidence(rule, table)
    return evidence


@given(st.lists(st.sampled_from(VERDICTS), max_size=6))
def test_verdicts_are_combined_by_one_rule(verdicts):
    verdict = combine(verdicts)
    assert (verdict == "refuted") == ("refuted" in verdicts)
    assert (verdict == "supported") == (set(verdicts) == {"supported"})
    assert combine(reversed(verdicts)) == verdict
    if verdict == "inconclusive":
        assert "not run" not in verdicts


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=3, max_size=6, unique=True))
def test_paired_differences_agree_with_scipy(tenths):
    differences = np.array(tenths) / 10
    table = metrics(differences)
    evidence = only(PAIRED, table)
    second = np.arange(len(differences), dtype=float)  # as in the table
    test = stats.ttest_rel(second + differences, second, alternative="less")
    interval = stats.ttest_rel(second + differences, second).confidence_interval(0.9)
    expected = "supported" if test.pvalue <= 0.05 else "refuted" if test.pvalue >= 0.95 else "inconclusive"
    assert evidence.verdict == expected
    shown = (evidence.estimate, evidence.low, evidence.high)
    assert shown == pytest.approx((np.mean(differences), *interval), rel=1e-5, abs=1e-5)
    assert evidence.level == 0.9
    assert (evidence.high < 0) == (expected == "supported")


def test_scenarios_of_paired_differences_are_corrected_as_in_studies():
    spreads = ((-1.0, -1.2, -0.9), (-1.0, -0.2, -0.3), (-1.0, 0.4, -1.3))
    table = pd.concat([metrics(values, world=str(index)) for index, values in enumerate(spreads)])
    alone = [stats.ttest_1samp(values, 0.0, alternative="less").pvalue for values in spreads]
    told = [float(row.note.split("p = ")[1].split()[0]) for row in find_evidence(PAIRED, table)]
    assert told == pytest.approx(holm(alone), rel=0.05)


def test_runs_without_a_value_make_a_comparison_inconclusive():
    table = metrics([-1.0, -1.1, -0.9, -1.0])
    assert only(PAIRED, table).verdict == "supported"
    table.loc[(table["method"] == "a") & (table["replicate"] == 0), "status"] = "diverged"
    evidence = only(PAIRED, table)
    assert (evidence.verdict, evidence.estimate) == ("inconclusive", None)
    assert "1 runs ended without a value" in evidence.note
    whole = Paired("some", "a", "b", "error", whole_run=True)
    assert only(whole, table).verdict == "supported"
    assert only(PAIRED, metrics([-np.inf, -1.0, -1.0])).verdict == "inconclusive"
    assert only(PAIRED, metrics([-1.0])).verdict == "inconclusive"
    assert only(PAIRED, metrics([-1.0, -1.0])).verdict == "supported"


def test_each_method_stops_at_its_own_least_held_out_loss():
    early, late = metrics([-1.0, -1.1, -0.9], step=5), metrics([3.0, 3.1, 2.9], step=10)
    assert only(PAIRED, pd.concat([early, late])).estimate == pytest.approx(3.0)  # losses agree: the last step
    late.loc[(late["metric"] == "held_out_loss") & (late["method"] == "a"), "value"] = 2.0
    assert only(PAIRED, pd.concat([early, late])).estimate == pytest.approx(-1.0)
    both = pd.concat([early, late])
    both.loc[both["metric"] == "held_out_loss", "value"] = np.inf
    assert only(PAIRED, both).estimate == pytest.approx(3.0)


@pytest.mark.parametrize(("count", "total"), [(0, 18), (18, 18), (2, 18), (12, 18), (16, 18)])
def test_shares_agree_with_scipy(count, total):
    table = pd.DataFrame(rule_rows(Share("some", "a", "<", 0.5), holds=True) * 18).iloc[:total]
    table["value"] = (np.arange(total) < count).astype(float)
    evidence = only(Share("some", "a", "<", 0.5), table)
    interval = stats.binomtest(count, total).proportion_ci(0.9, method="exact")
    assert (evidence.low, evidence.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert evidence.estimate == pytest.approx(count / total, abs=1e-6)
    expected = "supported" if interval.high < 0.5 else "refuted" if interval.low > 0.5 else "inconclusive"
    assert evidence.verdict == expected
    opposite = {"supported": "refuted", "refuted": "supported"}
    assert only(Share("some", "a", ">", 0.5), table).verdict == opposite.get(expected, expected)


def test_learning_rates_of_one_data_set_count_once():
    table = pd.DataFrame(rule_rows(Share("some", "a", "<", 0.5), holds=True))
    fast = table.assign(learning_rate=1e-1, value=1.0)
    both = pd.concat([table, fast])
    for relation, count in (("<", 20), (">", 0)):
        evidence = only(Share("some", "a", relation, 0.5), both)
        assert (evidence.verdict, evidence.estimate) == ("refuted", count / 20)
        assert evidence.note.startswith(f"{count} of 20 data sets, 20 of 40 runs")


def test_extremes_and_comparisons_are_exact():
    table = pd.DataFrame({"alpha": [0.2, 0.2, 0.5], "method": ["a", "b", "a"], "value": [5.0, -7.0, 2.0]})
    for of, relation, verdicts in (("max", "<=", ["supported"] * 2), ("max_abs", "<=", ["refuted", "supported"])):
        rule = Extreme("s/table", "value", of, relation, "1/alpha", "ratio", by=("alpha",))
        evidence = find_evidence(rule, table)
        assert [row.verdict for row in evidence] == verdicts
        assert [row.compared_with for row in evidence] == [5.0, 2.0]
        assert {(row.low, row.high, row.level) for row in evidence} == {(None, None, None)}
    rule = Compare("s/table", "value", {"method": ("a",)}, {"method": ("b",)}, ">", "ratio", by=("alpha",))
    assert [row.verdict for row in find_evidence(rule, table)] == ["supported", "not run"]
    with pytest.raises(ValueError, match=r"s/table must have one row at alpha = 0\.2, got 2"):
        find_evidence(rule, pd.concat([table, table]))
    missing = pd.DataFrame({"value": [1.0, np.nan]})
    assert only(Extreme("s/table", "value", "max", "<=", 2.0, "ratio"), missing).verdict == "inconclusive"
    assert only(Extreme("s/table", "value", "max", "<", 1.0, "ratio"), missing.iloc[:1]).verdict == "refuted"


@pytest.mark.parametrize(("slope", "verdict"), [(-0.5, "supported"), (-0.3, "refuted")])
def test_verdicts_of_studies_follow_their_data(slope, verdict):
    n = np.array([100, 1_000, 10_000, 100_000])
    curve = {"study": "s", "world": "w", "n": n, "method": "m", "metric": "tv_preferred", "replicates": 50}
    numbers = {"finite": 50, "mean": n**slope, "standard_error": 0.01 * n**slope, "exact": 0.0}
    declared = {"slope": -0.5, "margin": 0.05, "n_min": None}
    judged = judge(
        [DeclaredClaim("the rate is 1/2", "rate", "tv_preferred", settings=declared)], pd.DataFrame(curve | numbers)
    )
    evidence = only(StudyClaim("s", "the rate is 1/2"), judged)
    assert (evidence.verdict, evidence.quantity) == (verdict, "slope of log TV from p+ on log n")
    assert evidence.estimate == pytest.approx(slope, abs=0.01)
    turned = only(StudyClaim("s", "the rate is 1/2", holds=False), judged).verdict
    assert {turned, verdict} == {"supported", "refuted"}
    assert only(StudyClaim("s", "another wording"), judged).verdict == "not run"
    assert [row.verdict for row in find_evidence(StudyClaim("s", "the rate is 1/2", methods=("m", "o")), judged)] == [
        *(verdict, "not run"),
    ]


def test_intervals_of_studies_must_clear_the_number_whole():
    table = pd.DataFrame(rule_rows(StudyInterval("s", "c", 0.0), holds=True))
    assert [row.verdict for row in find_evidence(StudyInterval("s", "c", 0.0), table)] == ["supported"]
    assert [row.verdict for row in find_evidence(StudyInterval("s", "c", 0.5), table)] == ["inconclusive"]
    assert [row.verdict for row in find_evidence(StudyInterval("s", "c", 2.0), table)] == ["refuted"]
    table["verdict"] = "not_run"
    assert [row.verdict for row in find_evidence(StudyInterval("s", "c", 0.0), table)] == ["not run"]


def test_one_missing_table_leaves_a_claim_open_unless_another_refutes_it(tmp_path):
    rules = (StudyClaim("one", "c"), StudyClaim("two", "c"))
    claim = Claim("some", "Some.", "ours", "Somewhere.", rules)
    for holds, verdict in ((True, "not run"), (False, "refuted")):
        write_rules(tmp_path, rules[:1], holds=holds)
        (judged,) = judge_claims(tmp_path, [claim])
        assert judged["verdict"] == verdict
        assert [row["note"] for row in judged["evidence"]] == ["", "two/verdicts.parquet is missing"]


def test_summaries_show_the_decisive_numbers(tmp_path):
    rule = Paired("some", "a", "b", "error")
    table = pd.concat([metrics([-1.0, -1.1, -0.9], world="good"), metrics([2.0, 2.1, 1.9], world="bad")])
    (tmp_path / "some").mkdir()
    table.to_parquet(tmp_path / "some/metrics.parquet")
    (judged,) = judge_claims(tmp_path, [Claim("some", "Some.", "ours", "Somewhere.", (rule,))])
    assert judged["verdict"] == "refuted"
    assert judged["summary"] == ("1 supported, 1 refuted: some, error: a less b 2 [1.831, 2.169] against 0")


def test_tables_that_cannot_be_read_are_errors_and_not_missing_results(tmp_path):
    claim = CLAIMS[0]
    write_rules(tmp_path, claim.rules, holds=True)
    (tmp_path / "ratio_shapes/table.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"ratio_shapes.table\.parquet must be a Parquet table"):
        judge_claims(tmp_path, [claim])
    pd.DataFrame({"alpha": [0.5]}).to_parquet(tmp_path / "ratio_shapes/table.parquet")
    with pytest.raises(ValueError, match="got none called relative_ratio"):
        judge_claims(tmp_path, [claim])


def test_files_are_equal_for_equal_tables_and_hold_plain_values(tmp_path):
    claims = CLAIMS[:3]
    write_rules(tmp_path, [rule for claim in claims for rule in claim.rules], holds=True)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        paths = write_claims(judge_claims(tmp_path, claims), folder)
        assert [path.name for path in paths] == ["claims.md", "claims.json"]
    for name in ("claims.md", "claims.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    stored = json.loads((folders[0] / "claims.json").read_text(encoding="utf-8"))
    assert [claim["id"] for claim in stored["claims"]] == [claim.id for claim in claims]
    keys = {"id", "statement", "source", "scope", "figure", "test", "decision", "verdict", "summary", "evidence"}
    evidence = {"study", "scenario", "quantity", "estimate", "low", "high", "level", "compared_with", "verdict", "note"}
    assert all(set(claim) == keys for claim in stored["claims"])
    assert all(set(row) == evidence for claim in stored["claims"] for row in claim["evidence"])


def test_markdown_has_one_row_a_claim_and_keeps_its_columns(tmp_path):
    rule = Extreme("s/table", "value", "max", "<=", 2.0, "KL(p+ || policy)")
    claims = judge_claims(tmp_path, [Claim("some", "KL(p+ || policy) is small.", "ours", "Here.", (rule,))])
    table = claims_table(claims)
    assert table.splitlines()[0] == "1 claims: 0 supported, 0 refuted, 0 inconclusive, 1 not run."
    row = table.splitlines()[-1]
    assert len(row.replace("\\|", "").strip("|").split("|")) == 5
    assert "s/table.parquet is missing" in row
    write_claims(claims, tmp_path)
    text = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert table in text
    assert "## some" in text
    assert "- Scope: Here." in text
