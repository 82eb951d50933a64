"""Damaged tables, manifests and settings of figures: read as a whole, or refused on one line."""

import json

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from pyarrow import parquet

from figures.manifest import KINDS, MANIFEST, read_manifest
from figures.provenance import read_provenance
from figures.tables import PUBLISHED, read_tables
from tests.fuzz.damage import damage, recipes, survives

_COLUMNS = {"study/summary": ["method", "n", "mean"], PUBLISHED: ["question", "median", "size"]}
_PUBLISHED = b'question,contender,size,median\na,"relratio, fused",128,0.5\na,peer,128,1.5\nb,peer,,\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose files are written again and again."""
    folder = tmp_path_factory.mktemp("figures")
    for name in ("study", "benchmarks"):
        (folder / name).mkdir()
    return folder


def _parquet_bytes():
    frame = pd.DataFrame({"method": ["rdro", "ddro"], "n": [10, 20], "mean": [0.5, None]})
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
    return sink.getvalue().to_pybytes()


_SUMMARY = _parquet_bytes()


@given(recipe=recipes())
def test_tables(folder, recipe):
    for name, content in {"study/summary.parquet": _SUMMARY, f"{PUBLISHED}.csv": _PUBLISHED}.items():
        (folder / name).write_bytes(damage(content, recipe))
    for name, columns in _COLUMNS.items():
        tables = survives(read_tables, folder, {name: columns}, errors=(ValueError,))
        assert tables is None or {*columns} <= {*tables[name]}


@given(recipe=recipes())
def test_manifest(folder, recipe):
    entry = {"files": {"a.pdf": "0" * 64}, "tables": {"study/summary": "1"}, "versions": {"numpy": "2"}}
    content = json.dumps({kind: {"a": entry} for kind in KINDS}, indent=1).encode()
    (folder / MANIFEST).write_bytes(damage(content, recipe))
    survives(read_manifest, folder, errors=(ValueError,))


@given(recipe=recipes())
def test_settings_beside_tables(folder, recipe):
    settings = {"name": "study", "kind": "monte_carlo", "seed": 1, "profile": {"name": "quick"}, "versions": {"x": "1"}}
    (folder / "study" / "config.json").write_bytes(damage(json.dumps(settings, indent=1).encode(), recipe))
    survives(read_provenance, folder, errors=(ValueError,))
