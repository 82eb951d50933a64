"""The shipped studies: each declares claims with both controls, and together they use everything there is."""

import pytest

from sim.engine.kinds import KINDS
from sim.engine.runner import run_study
from sim.engine.study import PROFILES, load_study, shipped_studies
from sim.estimators import METHODS
from sim.exact_tables import EXACT_TABLES
from sim.preferences import PREFERENCE_MODELS

STUDIES = {name: load_study(name) for name in shipped_studies()}
REPLICATED = [name for name, study in STUDIES.items() if study.kind != "exact"]


def test_the_shipped_studies_are_these():
    assert list(STUDIES) == [
        "annotators",
        "arena",
        "boundedness",
        "bt_distance",
        "class_weighting",
        "consistency",
        "constants",
        "continuous",
        "convexity",
        "dynamics",
        "efficiencies",
        "guarantees",
        "label_noise",
        "log_linear",
        "loss_shapes",
        "overlap",
        "prompt_rates",
        "ratio_shapes",
        "wrong_alpha",
        "wrong_reference",
    ]


@pytest.mark.parametrize("name", REPLICATED)
def test_every_study_has_a_positive_and_a_negative_control_and_every_profile(name):
    study = STUDIES[name]
    controls = [claim.control for claim in study.claims]
    assert {"none", "positive", "negative"} == set(controls)
    assert set(study.profiles) == set(PROFILES)
    sizes = {profile: max(study.profile(profile).n) * study.profile(profile).replicates for profile in PROFILES}
    assert sizes["smoke"] <= sizes["quick"] <= sizes["paper"]


def test_the_shipped_studies_use_every_model_method_kind_and_table():
    worlds = [world for study in STUDIES.values() for world in study.worlds]
    assert {world.get("preference") for world in worlds} - {None} == set(PREFERENCE_MODELS)
    assert {m.method for n in REPLICATED for m in STUDIES[n].methods} >= set(METHODS)
    assert {STUDIES[n].kind for n in REPLICATED} == set(KINDS)
    assert {s.table for s in STUDIES.values() if s.kind == "exact"} == set(EXACT_TABLES)


def test_controls_of_a_quick_study_come_out_as_declared(tmp_path):
    """The cheapest quick study, in earnest: what must be supported is, and what is false is found out."""
    verdicts = run_study("class_weighting", tmp_path, profile="quick").table("verdicts")
    controls = verdicts[verdicts["control"] != "none"]
    assert set(controls["control"]) == {"positive", "negative"}
    assert controls["as_expected"].all()
