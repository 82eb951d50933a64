"""Claims: each is declared in full, points to what exists, and gets the opposite verdict from opposite data."""

import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from figures.catalogue import FIGURES
from figures.claims import CLAIMS, claim_tables
from figures.judging.evidence import find_evidence
from figures.judging.rules import Compare, Extreme, Paired, Share, StudyClaim, StudyInterval
from figures.verdicts import judge_claims
from sim.engine.study import load_study, shipped_studies
from sim.exact_tables import EXACT_TABLES
from tests.figures.claim_tables import rule_rows, write_rules

ROOT = Path(__file__).parents[2]
RULES = [rule for claim in CLAIMS for rule in claim.rules]
STUDY_RULES = [rule for rule in RULES if isinstance(rule, StudyClaim | StudyInterval)]
TRAINING_RULES = [rule for rule in RULES if isinstance(rule, Paired | Share)]
DECLARED = [(name, claim) for name in shipped_studies() for claim in getattr(load_study(name), "claims", ())]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_opposite_data_give_the_opposite_verdict(claim, tmp_path):
    for folder, holds in (("for", True), ("against", False)):
        write_rules(tmp_path / folder, claim.rules, holds=holds)
    verdicts = [judge_claims(tmp_path / folder, [claim])[0]["verdict"] for folder in ("for", "against", "nowhere")]
    assert verdicts == ["supported", "refuted", "not run"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.table)
def test_each_rule_alone_can_support_refute_and_lack_results(rule):
    for holds, verdict in ((True, "supported"), (False, "refuted")):
        evidence = find_evidence(rule, pd.DataFrame(rule_rows(rule, holds=holds)))
        assert {row.verdict for row in evidence} == {verdict}
    table = pd.DataFrame(rule_rows(rule, holds=True))
    assert {row.verdict for row in find_evidence(rule, table.iloc[:0])} == {"not run"}
    assert {row.verdict for row in find_evidence(rule, None)} == {"not run"}


@pytest.mark.parametrize("name", ["convexity", "efficiencies", "guarantees", "loss_shapes", "ratio_shapes"])
def test_rules_about_exact_studies_are_met_by_the_tables_of_these_studies(name):
    study = load_study(name)
    table = EXACT_TABLES[study.table](**study.parameters)
    rules = [rule for rule in RULES if rule.table == f"{name}/table"]
    assert rules
    assert all(row.verdict in ("supported", "refuted") for rule in rules for row in find_evidence(rule, table))


def test_claims_are_declared_in_full():
    assert len({claim.id for claim in CLAIMS}) == len({claim.statement for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", claim.id)
        assert claim.statement.endswith(".")
        assert claim.scope.endswith(".")
        assert claim.rules
        assert claim.source in {"RDRO paper (arXiv 2604.04410)", "DDRO paper (arXiv 2505.07558)", "ours"}
        assert all(rule.decision in claim.decision for rule in claim.rules)


def test_claims_point_to_figures_and_tests_that_exist():
    for claim in CLAIMS:
        assert claim.figure is None or claim.figure in FIGURES
        if claim.test:
            file, name = claim.test.split("::")
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), claim.test


def test_rules_about_studies_name_claims_of_their_files_that_are_no_controls():
    evidence = {(study, claim.claim): claim for study, claim in DECLARED if claim.control == "none"}
    for rule in STUDY_RULES:
        claim = evidence[rule.study, rule.claim]
        study = load_study(rule.study)
        labels = {method.label for method in study.methods}
        assert set(rule.methods) <= set(claim.methods or labels), rule
        assert set(rule.worlds) <= set(claim.worlds or {world["name"] for world in study.worlds}), rule


def test_every_claim_of_a_study_that_is_no_control_is_evidence():
    used = {(rule.study, rule.claim) for rule in STUDY_RULES}
    assert {(study, claim.claim) for study, claim in DECLARED if claim.control == "none"} == used


def test_rules_about_language_models_name_methods_and_worlds_of_the_quick_profile():
    for rule in TRAINING_RULES:
        path = ROOT / "lm/validation/experiments" / f"{rule.experiment}.toml"
        experiment = tomllib.loads(path.read_text(encoding="utf-8"))
        methods = {rule.first, rule.second} if isinstance(rule, Paired) else {rule.method}
        assert methods <= {method["label"] for method in experiment["methods"]}
        worlds = experiment["profiles"]["quick"].get("worlds", [world["name"] for world in experiment["worlds"]])
        assert set(getattr(rule, "worlds", ())) <= set(worlds)


def test_tables_of_claims_are_named_with_all_their_columns():
    tables = claim_tables()
    for rule in RULES:
        assert set(rule.columns) <= set(tables[rule.table])
        if isinstance(rule, Extreme | Compare):
            assert rule.table.split("/")[0] in {*shipped_studies(), "stability"}
