"""Studies are read, checked and resolved before any work, and refused with the rule they break."""

import json
import re
import sys

import pytest

from sim.engine.kinds import KINDS
from sim.engine.study import canonical_json, fingerprint, load_study, parse_study, shipped_studies, study_of_settings
from sim.engine.study_checks import check_study
from sim.engine.tasks import study_tasks
from sim.estimators import METHODS
from sim.exact_tables import EXACT_TABLES
from tests.sim.small_study import SMALL, small_study, small_table

EXACT = {"name": "e", "kind": "exact", "question": "?", "table": "ratio_shapes", "parameters": {"alphas": [0.5]}}
WORLD, METHOD = SMALL["worlds"][0], SMALL["methods"][0]
QUICK = SMALL["profiles"]["quick"]
CLAIM = {"claim": "rdro is consistent", "kind": "target", "metric": "tv_preferred"}


def _pattern(message):
    """Return the pattern of a message, where only .* is special."""
    return re.escape(message).replace(r"\.\*", ".*")


@pytest.mark.parametrize("name", shipped_studies())
@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_every_shipped_study_is_valid_at_every_profile(name, profile):
    study = load_study(name)
    assert study.name == name and study.question.endswith("?")
    check_study(study, profile)


def test_the_shipped_studies_use_every_method_and_every_exact_table():
    studies = [load_study(name) for name in shipped_studies()]
    replicated = [study for study in studies if study.kind == "monte_carlo"]
    assert {method.method for study in replicated for method in study.methods} == set(METHODS)
    assert {study.table for study in studies if study.kind == "exact"} == set(EXACT_TABLES)


def test_profiles_grow():
    for study in map(load_study, shipped_studies()):
        sizes = [len(study.cells(p)) * study.profile(p).replicates for p in ("smoke", "quick", "paper") if study.worlds]
        assert sizes == sorted(set(sizes))


def test_cells_are_worlds_by_swept_values_by_sizes():
    cells = small_study(vary={"alpha": [0.3, 0.5]}).cells("quick")
    assert [(cell.world["name"], cell.vary["alpha"], cell.n) for cell in cells] == [
        (world, alpha, n) for world in ("laws", "other") for alpha in (0.3, 0.5) for n in (40, 200, 1000)
    ]
    assert all(cell.world["alpha"] == cell.vary["alpha"] for cell in cells)


def test_worlds_share_settings_that_their_own_and_swept_ones_replace():
    shared = {"alpha": 0.1, "label_fraction": 0.5, "reference": "mixture"}
    worlds = [cell.world for cell in small_study(settings=shared).cells("smoke")]
    assert [world["label_fraction"] for world in worlds] == [0.5, 0.3]
    assert all(world["alpha"] == 0.3 and world["reference"] == "mixture" for world in worlds)


def test_a_method_may_run_in_some_worlds_alone():
    methods = [METHOD, SMALL["methods"][1] | {"worlds": ["other"]}]
    cells = small_study(methods=methods).cells("smoke")
    assert [[method.label for method in cell.methods] for cell in cells] == [["rdro"], ["rdro", "dpo"]]
    assert cells[1].methods[1].options == {"beta": 1.0}


def test_settings_give_the_study_back():
    methods = [METHOD, SMALL["methods"][1] | {"worlds": ["other"]}]
    study = small_study(methods=methods, vary={"label_fraction": [0.4], "alpha": [0.3, 0.5]})
    again = study_of_settings(json.loads(json.dumps(study.settings("quick"))))
    assert study_tasks(again, "quick") == study_tasks(study, "quick")
    assert again.settings("quick") == study.settings("quick")
    exact = parse_study(EXACT)
    assert study_of_settings(exact.settings("quick")).parameters == exact.parameters


def test_a_profile_may_replace_swept_values():
    profiles = {"quick": QUICK, "smoke": {"n": [40], "replicates": 3, "vary": {"alpha": [0.9]}}}
    study = small_study(profiles=profiles)
    assert study.profile("smoke").vary == {"alpha": (0.9,)}
    assert study.profile("quick").vary == {"alpha": (0.3,)}


def test_whole_numbers_among_fractions_become_fractions():
    assert small_study(vary={"alpha": [0.5, 1]}).profile("quick").vary == {"alpha": (0.5, 1.0)}


def test_fingerprint_depends_on_what_determines_results_alone():
    base = fingerprint(small_study().settings("quick"))
    assert fingerprint(small_study(question="Another?", claims=[CLAIM]).settings("quick")) == base
    for changes in (
        {"seed": 8},
        {"vary": {"alpha": [0.4]}},
        {"methods": [METHOD]},
        {"worlds": [WORLD]},
        {"settings": {"label_fraction": 0.4}},
    ):
        assert fingerprint(small_study(**changes).settings("quick")) != base
    assert fingerprint(small_study().settings("smoke")) != base


def test_an_edited_file_of_comparisons_is_another_study(tmp_path):
    votes = tmp_path / "votes.csv"
    world = {"name": "votes", "preference": "from_counts", "options": {"csv": str(votes)}}
    study = small_study(worlds=[world], vary=None)
    hashes = set()
    for count in (3, 4):
        votes.write_text(f"winner,loser,count\na,b,{count}\nb,a,1\n")
        check_study(study, "quick")
        hashes.add(fingerprint(study.settings("quick")))
    assert len(hashes) == 2


def test_canonical_json_is_one_form():
    assert canonical_json({"b": (1, 2.5), "a": "ä"}) == '{"a":"\\u00e4","b":[1,2.5]}'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 3}, "key of a study must be one of .*; got 'sead' (did you mean 'seed'?)"),
        ({"kind": "montecarlo"}, "got 'montecarlo' (did you mean 'monte_carlo'?)"),
        ({"kind": None}, "kind must be one of continuous, dynamics, exact, monte_carlo; got 'missing'"),
        ({"name": "a/b"}, "name must be made of letters, digits, - and _, as a folder is named so; got 'a/b'"),
        ({"question": " "}, "question of a study must not be blank, got ' '"),
        ({"question": None}, "a study must have the key question, got only name"),
        ({"seed": True}, "seed of a study must be an integer, got True"),
        ({"seed": 1.5}, "seed of a study must be an integer, got 1.5"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"worlds": []}, "worlds must hold at least one table [[worlds]], got none"),
        ({"worlds": ["hodge"]}, "worlds must hold tables [[worlds]], got 'hodge'"),
        ({"worlds": [{"preference": "hodge"}]}, "worlds[0] must have a name, got None"),
        ({"worlds": [WORLD, WORLD]}, "names of worlds must all be different, got 'laws' twice"),
        ({"worlds": [WORLD | {"options": 3}]}, "options of worlds[0] must be a table, got 3"),
        ({"methods": [METHOD, METHOD]}, "labels of methods must all be different, got 'rdro' twice"),
        ({"methods": [{"label": "a"}]}, "methods[0] must have the key method, got only label"),
        ({"methods": [{"label": 3, "method": "rdro"}]}, "label of methods[0] must be a string, got 3"),
        ({"methods": [METHOD | {"alpha": float("inf")}]}, "settings must be made of tables, arrays, strings and"),
        ({"methods": [METHOD | {"worlds": ["law"]}]}, "worlds of methods[0] must be one of laws, other; got 'law'"),
        ({"methods": [METHOD | {"worlds": ["laws"]}]}, "at least one method must run in each world, got none for"),
        ({"settings": {"name": "laws"}}, "settings must be what worlds share, and each has a name of its own"),
        ({"settings": {"options": 3}}, "options of worlds[0] must be a table, got 3"),
        ({"claims": [{"claim": "?"}]}, "claims[0] must have a kind"),
        ({"claims": [CLAIM | {"methods": ["rddro"]}]}, "methods of claims[0] must be one of dpo, rdro; got 'rddro'"),
        ({"profiles": {}}, "profiles must hold at least one of smoke, quick, paper, got none"),
        ({"profiles": {"quik": QUICK}}, "key of profiles must be one of .*; got 'quik' (did you mean 'quick'?)"),
        ({"profiles": {"quick": 3}}, "quick of profiles must be a table, got 3"),
        ({"profiles": {"quick": {"n": [10]}}}, "profiles.quick must have the key replicates, got only n"),
        ({"profiles": {"quick": QUICK | {"n": []}}}, "n of profiles.quick must be made of positive integers, got none"),
        ({"profiles": {"quick": QUICK | {"n": [1e4]}}}, "must be made of positive integers, got 10000.0"),
        ({"profiles": {"quick": QUICK | {"n": [4, 4]}}}, "n of profiles.quick must all be different, got 4 twice"),
        ({"profiles": {"quick": QUICK | {"replicates": 0}}}, "replicates of profiles.quick must be made of"),
        ({"profiles": {"quick": QUICK | {"vary": {"prompts": [1]}}}}, "key of vary of profiles.quick must be"),
        ({"vary": {"name": ["a"]}}, "vary must sweep settings of worlds other than name, which is a column of its own"),
        ({"vary": {"alpha": 0.5}}, "alpha of vary must be an array of values, got 0.5"),
        ({"vary": {"alpha": [0.5, "a"]}}, "alpha of vary must hold finite numbers, or strings only, got [0.5, 'a']"),
        ({"vary": {"alpha": [0.5, 0.5]}}, "alpha of vary must all be different, got 0.5 twice"),
    ],
)  # fmt: skip
def test_a_malformed_study_is_refused_with_rule_and_value(changes, message):
    with pytest.raises((ValueError, TypeError), match=_pattern(message)):
        parse_study(small_table(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vary": {"alpha": [0.5, 1.2]}}, "study small, world laws: alpha must lie strictly between 0 and 1, got 1.2"),
        ({"vary": {"alfa": [0.5]}}, "got 'alfa' (did you mean 'alpha'?)"),
        ({"worlds": [{"name": "h", "preference": "hodges"}], "vary": None}, "got 'hodges' (did you mean 'hodge'?)"),
        ({"methods": [{"label": "a", "method": "rddro"}]}, "method must be one of .*; got 'rddro'"),
        ({"methods": [METHOD | {"generatr": "kl"}]}, "got 'generatr' (did you mean 'generator'?)"),
        ({"methods": [METHOD | {"generator": "logistik"}]}, "got 'logistik' (did you mean 'logistic'?)"),
        ({"methods": [METHOD | {"beta": 0.5}]}, "beta is an option of"),
        ({"methods": [METHOD | {"alpha": "half"}]}, "alpha must be one of plug_in, plug_in_by_prompt; got 'half'"),
    ],
)  # fmt: skip
def test_what_other_modules_refuse_is_refused_before_any_work(changes, message):
    with pytest.raises(ValueError, match=_pattern(message)):
        check_study(small_study(**changes), "quick")


def test_odd_sizes_are_refused_where_examples_come_in_pairs():
    study = small_study(
        worlds=[{"name": "dice", "preference": "intransitive_dice"}],
        vary=None,
        profiles={"quick": {"n": [40, 101], "replicates": 3}},
    )
    with pytest.raises(ValueError, match=r"world dice: n must be even in the paired regime, .* got 101"):
        check_study(study, "quick")


def test_the_order_of_swept_settings_counts():
    orders = [["alpha", "label_fraction"], ["label_fraction", "alpha"]]
    one, other = (small_study(vary={key: [0.3, 0.5] for key in order}).settings("quick") for order in orders)
    assert fingerprint(one) != fingerprint(other)


def test_a_missing_torch_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "sim.dynamics.training", raising=False)
    monkeypatch.delitem(sys.modules, "sim.dynamics.descent", raising=False)
    with pytest.raises(ImportError, match=re.escape("install it with: pip install 'relratio[networks]'")):
        KINDS["dynamics"].build({"name": "w"})


def test_a_missing_profile_is_named():
    with pytest.raises(ValueError, match="profile of study small must be one of quick, smoke; got 'paper'"):
        check_study(small_study(), "paper")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "ratio_shape"}, "got 'ratio_shape' (did you mean 'ratio_shapes'?)"),
        ({"parameters": {"alphs": [0.5]}}, "got 'alphs' (did you mean 'alphas'?)"),
        ({"parameters": {}}, "table ratio_shapes must be given alphas, got only nothing"),
    ],
)
def test_an_exact_study_names_a_table_and_its_parameters(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_study(parse_study(EXACT | changes), "quick")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "Invalid value"),
        ('name = "a"\nname = "b"', "Cannot overwrite a value"),
        ('kind = "exact"\nname = "a"', "a study must have the key question"),
        ("kind = 1979-05-27", "kind must be a string"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"mine.toml: .*{message}"):
        load_study(path)


def test_unknown_studies_and_missing_files_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"study must be one of .*; got 'consistancy' \(did you mean 'consistency'\?\)"
    ):
        load_study("consistancy")
    with pytest.raises(OSError, match=r"a study must be a file that can be read, got .*absent\.toml: No such file"):
        load_study(tmp_path / "absent.toml")
