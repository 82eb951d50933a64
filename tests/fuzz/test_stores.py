"""Damaged files of results: a part, a value or a state that is not what was written is noticed, and nothing else."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lm.validation.store as lm_store
import sim.engine.store as sim_store
from lm.reference_cache import ReferenceCache
from lm.resume import STATE_FILE, check_same, last_checkpoint, read_state
from tests.fuzz.damage import damage, recipes, survives

_SETTINGS = {"name": "toy", "kind": "monte_carlo", "seed": 1, "worlds": [{"name": "w", "alpha": 0.5}], "files": {}}
_PART = b"what two methods of a task found: 0.5 and 1.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose files are written again and again."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def store(folder):
    """A store of results with two parts and a table."""
    with sim_store.open_store(folder / "toy", _SETTINGS) as store:
        for index in range(2):
            store.save_part(index, _PART)
        store.save_table("runs", pa.table({"x": [1]}))
        store.finish_tables("made of")
        yield store


@given(recipe=recipes())
def test_part_of_a_study(store, recipe):
    first, second = (store.save_part(index, _PART) for index in range(2))
    content = damage(_PART, recipe)
    first.write_bytes(content)
    assert store.parts() == ({0: first} if content == _PART else {}) | {1: second}


_NAMES = ("0", "000001", "-", "0123456789abcdef", ".arrow", ".parquet", "٣", "²", "a", ".tmp", " ", "\n", "9" * 30)


@given(name=st.lists(st.sampled_from(_NAMES), min_size=1, max_size=5).map("".join))
def test_file_beside_the_parts_of_a_study(store, name):
    parts = {index: store.save_part(index, _PART) for index in range(2)}
    (store.folder / "parts" / name).write_bytes(_PART)
    assert store.parts() == parts
    assert len(list((store.folder / "parts").iterdir())) == 2


@given(recipe=recipes())
def test_list_of_tables(store, recipe):
    """Tables are complete only where the list says so of what is there."""
    path = store.folder / "checksums.json"
    content = json.dumps({"inputs": "made of", "tables": {"runs": store.checksum_of(store.folder / "runs.parquet")}})
    path.write_bytes(damage(content.encode(), recipe))
    complete = store.tables_are_complete("made of")
    assert not complete or json.loads(path.read_bytes())["inputs"] == "made of"


@pytest.mark.parametrize("module", [sim_store, lm_store], ids=["sim", "lm"])
@given(recipe=recipes())
def test_settings(folder, module, recipe):
    """A folder is gone on with only where its settings are the same."""
    name = "config.json" if module is sim_store else "settings.json"
    content = damage(json.dumps(_SETTINGS, indent=2).encode(), recipe)
    (folder / name).write_bytes(content)
    same = survives(module.check_settings, folder, _SETTINGS)
    assert same == (True if _loaded(content) == _SETTINGS else None)


def _loaded(content):
    try:
        return json.loads(content)
    except (RecursionError, ValueError):
        return None


@given(recipe=recipes())
def test_part_of_an_experiment(folder, recipe):
    path = lm_store.save_checked(folder, "part", _PART, "parquet")
    content = damage(_PART, recipe)
    path.write_bytes(content)
    assert lm_store.find_checked(folder, "part") == (path if content == _PART else None)


_KEYS = [bytes([i]) * 16 for i in range(3)]
_LOG_PROBS = np.array([-0.5, -1.5, -300.0], dtype=np.float32)


@given(recipe=recipes())
def test_reference_log_probs(folder, recipe):
    cache = ReferenceCache(folder / "reference", {"weights": "0"})
    if not (paths := list(cache.folder.glob("*.parquet"))):
        cache.save(_KEYS, _LOG_PROBS)
        paths = list(cache.folder.glob("*.parquet"))
    whole = paths[0].read_bytes()
    content = damage(whole, recipe)
    paths[0].write_bytes(content)
    found = survives(cache.lookup, _KEYS, errors=(ValueError,))
    paths[0].write_bytes(whole)
    if content == whole:
        np.testing.assert_array_equal(found, _LOG_PROBS)
    else:
        assert found is None


_RUN = {"method": "rdro", "alpha": 0.4, "data": "0" * 64, "reference": None}
_STATE = {"run": _RUN, "tokens_seen": 5, "metrics": {"loss": [0.5, 2.0]}}


@given(recipe=recipes())
def test_state_of_a_checkpoint(folder, recipe):
    (folder / STATE_FILE).write_bytes(damage(json.dumps(_STATE, indent=2).encode(), recipe))
    state = survives(read_state, folder, errors=(ValueError,))
    if state is not None:
        survives(check_same, state["run"], _RUN, folder, errors=(ValueError,))


@given(recipe=recipes(), name=st.lists(st.sampled_from(_NAMES), max_size=3).map("".join))
def test_last_checkpoint(folder, recipe, name):
    """A checkpoint that is not whole, and what is none, are passed over."""
    run = folder / "run"
    for step in (3, 20):
        (run / f"checkpoint-{step}").mkdir(parents=True, exist_ok=True)
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    other = run / f"checkpoint-{name}"
    if not other.exists():
        other.write_bytes(b"")
    content = damage(b'{"epoch": 1.0, "log_history": [{"loss": 0.5}]}', recipe)
    (run / "checkpoint-20" / "trainer_state.json").write_bytes(content)
    found = last_checkpoint(run)
    assert found in [str(run / f"checkpoint-{step}") for step in (3, 20)]
    if other.is_file():
        other.unlink()
