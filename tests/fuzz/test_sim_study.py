"""Damaged studies, experiments, saved settings and files of comparisons: valid as a whole, or refused on one line."""

import json

import pytest
from hypothesis import given

from lm.validation.experiments import load_experiment
from sim.commands.results import open_results
from sim.engine.study import load_study
from sim.engine.study_checks import check_study
from sim.real_data import observed_counts
from tests.fuzz.damage import damage, damaged, recipes, survives

_STUDIES = (
    b"""name = "toy"
kind = "monte_carlo"
question = "?"
seed = 1
[settings]
alpha = 0.5
[[worlds]]
name = "w"
p_preferred = [0.5, 0.3, 0.2]
p_nonpreferred = [0.1, 0.3, 0.6]
label_noise = 0.1
[[methods]]
label = "m"
method = "rdro"
generator = "kl"
worlds = ["w"]
[vary]
label_noise = [0.0, 0.25]
[[claims]]
claim = "?"
kind = "target"
metric = "tv_preferred"
methods = ["m"]
where = { label_noise = 0.25 }
[profiles.smoke]
n = [10, 100]
replicates = 2
vary = { label_noise = [0.1] }
""",
    b"""name = "toy"
kind = "exact"
question = "?"
table = "loss_shapes"
parameters = { alphas = [0.5], n = 3 }
""",
    b"""name = "toy"
kind = "monte_carlo"
question = "?"
seed = 1
[[worlds]]
name = "w"
preference = "hodge"
options = { cyclic_share = 0.5, signal = 1.0 }
responses = 3
prompts = 2
regime = "paired"
annotators = 3
annotator_spread = 0.5
[[methods]]
label = "m"
method = "dpo"
beta = 0.5
[profiles.smoke]
n = [10]
replicates = 2
""",
)
_EXPERIMENT = b"""name = "toy"
question = "?"
report = "error"
baseline = "rdro"
seed = 1
[language]
prompts = 2
alpha = [0.4, 0.6]
[training]
max_grad_norm = 1.0
[[worlds]]
name = "w"
language = { symbols = 3 }
pretraining = 0.5
[[methods]]
label = "rdro"
method = "rdro"
alpha = "true"
worlds = ["w"]
[profiles.smoke]
n = [4, 8]
seeds = 2
learning_rates = [1e-3, 1]
steps = 2
pretraining_steps = 3
evaluations = 1
worlds = ["w"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose files are written again and again."""
    return tmp_path_factory.mktemp("studies")


@given(recipe=recipes())
def test_study(folder, recipe):
    path = folder / "study.toml"
    for content in damaged(_STUDIES, recipe):
        path.write_bytes(content)
        study = survives(load_study, path)
        if study is not None:
            survives(check_study, study, "smoke", errors=(TypeError, ValueError))


@given(recipe=recipes())
def test_experiment(folder, recipe):
    path = folder / "experiment.toml"
    for content in damaged([_EXPERIMENT], recipe, places=2):
        path.write_bytes(content)
        experiment = survives(load_experiment, path)
        if experiment is not None:
            survives(experiment.runs, "smoke", errors=(ValueError,))


@pytest.fixture(scope="module")
def settings(folder):
    """Settings as results keep them."""
    (folder / "study.toml").write_bytes(_STUDIES[0])
    return json.dumps(load_study(folder / "study.toml").settings("smoke"), indent=1).encode()


@given(recipe=recipes())
def test_saved_settings(folder, settings, recipe):
    (folder / "config.json").write_bytes(damage(settings, recipe))
    results = survives(open_results, folder)
    if results is not None:
        survives(results.status, errors=(TypeError, ValueError))


_COMPARISONS = (
    b"winner,loser,count\ntea,coffee,3\ncoffee,tea,1\ntea,water,2\n",
    b'loser,winner\n"a, b",c\n\nc,"a, b"\n',
)


@given(recipe=recipes())
def test_comparisons(folder, recipe):
    path = folder / "comparisons.csv"
    for content in damaged(_COMPARISONS, recipe, places=2):
        path.write_bytes(content)
        counts = survives(observed_counts, str(path))
        assert counts is None or 0 < counts.total <= 2**53
        survives(observed_counts, str(path), 2)
