"""Streams depend on what is drawn and on nothing else."""

import itertools

import numpy as np
import pytest

from sim.engine.seeds import SeedKey
from sim.engine.tasks import study_tasks
from tests.sim.small_study import small_study

WORLD = {"name": "toy", "alpha": 0.5}
KEY = SeedKey.of(1, WORLD, 100, 0)


def test_same_key_and_name_give_the_same_stream_from_its_beginning():
    again = SeedKey.of(1, dict(reversed(WORLD.items())), 100, 0)
    assert again == KEY
    np.testing.assert_array_equal(again.stream("data").random(5), KEY.stream("data").random(5))


def test_every_part_of_the_key_changes_the_stream():
    keys = [
        KEY,
        SeedKey.of(2, WORLD, 100, 0),
        SeedKey.of(1, WORLD | {"alpha": 0.25}, 100, 0),
        SeedKey.of(1, WORLD, 102, 0),
        SeedKey.of(1, WORLD, 100, 1),
    ]
    draws = [key.stream(name).random() for key, name in itertools.product(keys, ["data", "method rdro", "method dpo"])]
    assert len(set(draws)) == len(draws) == 15


def test_streams_of_neighbouring_keys_are_uncorrelated():
    size = 20_000
    blocks = np.array([SeedKey.of(1, WORLD, 100, block).stream("data").standard_normal(size) for block in range(8)])
    correlations = np.corrcoef(blocks)[np.triu_indices(8, 1)]
    # 28 correlations of independent normals, each with standard deviation size^-1/2; 4.5 of them have p = 2e-4.
    assert np.abs(correlations).max() < 4.5 / np.sqrt(size)


def test_the_number_of_replicates_changes_no_stream():
    few, many = (
        study_tasks(small_study(profiles={"smoke": {"n": [40], "replicates": replicates}}), "smoke")
        for replicates in (1001, 5000)
    )
    keys = {(task.cell.world["name"], task.first): task.key for task in many}
    assert len(few) == 4 and all(keys[task.cell.world["name"], task.first] == task.key for task in few)


def test_streams_stay_what_they_were():
    # A change here makes all saved results unrepeatable: it must be meant, and told in the changelog.
    assert KEY.cell == "ddfccd2b015a06c6e03efdc1530f165044d98de3a6a0655806bece139f66c0bd"
    assert KEY.stream("data").integers(10**6, size=3).tolist() == [151032, 733315, 399896]


def test_a_world_without_a_canonical_form_is_refused():
    with pytest.raises(ValueError, match="settings must be made of tables, arrays, strings and finite numbers"):
        SeedKey.of(1, {"alpha": float("nan")}, 100, 0)


def test_key_shows_all_its_parts():
    assert str(KEY) == f"1:{KEY.cell}:0"
