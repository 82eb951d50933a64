"""Load: what a replicate costs does not depend on its sample size, nor memory on the number of replicates."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sim import build_world

WORLD = {"name": "thumbs", "preference": "thumbs", "options": {"signal": 1.0}, "responses": 20}
STUDY = {
    "name": "million",
    "kind": "monte_carlo",
    "question": "How much memory do a million data sets take?",
    "seed": 1,
    "worlds": [WORLD],
    "methods": [{"label": "rdro", "method": "rdro"}],
    "profiles": {
        "quick": {"n": [10_000], "replicates": 100_000},
        "paper": {"n": [10_000], "replicates": 1_000_000},
    },
}
RUN = """
import json, resource, sys
from sim.engine.runner import run_study
from sim.engine.study import parse_study

if __name__ == "__main__":
    study, folder, profile = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    result = run_study(parse_study(study), folder, profile=profile, jobs=2)
    row = result.table("summary").query("metric == 'tv_preferred'").iloc[0]
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"kilobytes": largest, "replicates": int(row["replicates"]), "finite": int(row["finite"])}))
"""


def test_a_data_set_of_a_billion_examples_is_as_small_as_one_of_a_thousand():
    """Its counts are all that is drawn: nothing in memory has the length of the data."""
    world = build_world(WORLD)
    small, large = (world.sample(n, 100, np.random.default_rng(0)) for n in (10**3, 10**9))
    assert small.preferred.nbytes == large.preferred.nbytes == 100 * 20 * 8
    total = large.preferred.sum(axis=(1, 2)) + large.nonpreferred.sum(axis=(1, 2))
    assert (total == 10**9).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_replicates(tmp_path):
    """Ten times the replicates: no more memory but for one row of `runs` and one row group of each thousand."""
    found = {}
    for profile in ("quick", "paper"):
        arguments = [sys.executable, "-c", RUN, json.dumps(STUDY), str(tmp_path / profile), profile]
        run = subprocess.run(arguments, capture_output=True, text=True, check=True)
        found[profile] = json.loads(run.stdout)
    assert found["paper"]["replicates"] == found["paper"]["finite"] == 1_000_000
    # 900,000 more replicates of 7 metrics would be 50 MB as numbers alone, and 630 MB as rows of a table.
    assert found["paper"]["kilobytes"] - found["quick"]["kilobytes"] < 100_000
