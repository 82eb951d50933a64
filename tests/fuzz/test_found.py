"""What fuzzing found: each input once ended in an error of a library, a traceback, or was taken for what it is not."""

import json
import re

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from figures.manifest import KINDS, MANIFEST, read_manifest
from figures.provenance import read_provenance
from figures.tables import read_tables
from lm.data.formats import canonical_rows
from lm.data.sources import load_rows
from lm.options import load_settings
from lm.resume import STATE_FILE, last_checkpoint, read_state
from lm.validation.experiments import load_experiment
from sim.__main__ import main
from sim.commands.results import open_results
from sim.engine.execution import check_execution
from sim.engine.store import check_settings, open_store
from sim.engine.study import load_study, parse_study, study_of_settings
from sim.real_data import read_comparisons_csv
from theory.checks import check_positive

_DEEP = "[" * 5000
_HUGE = "9" * 400


def _labelled(**columns):
    return {"prompt": "2+2=", "completion": "4", "label": 1, **columns}


@pytest.mark.parametrize("column", ["alpha", "weight", "ref_logps"])
def test_number_beyond_floats(column):
    with pytest.raises(ValueError, match=rf"^row 0: {column} must be at most 1.8e308 in magnitude, got 9+\.\.\.$"):
        canonical_rows([_labelled(**{column: int(_HUGE)})], 50)


@pytest.mark.parametrize("value", [json.loads("[" * 900 + "]" * 900), int("f" * 5000, 16)], ids=["deep", "long"])
def test_value_that_cannot_be_shown(value):
    with pytest.raises(ValueError, match=r"^row 0: label must be true, false, 0 or 1, got"):
        canonical_rows([_labelled(label=value)], 50)


def test_message_with_keys_of_other_types():
    with pytest.raises(ValueError, match=r"^row 0: messages: message 0 must have a role that is text, got keys 1$"):
        canonical_rows([{"messages": [{1: 2}], "label": 1}], 50)


def test_names_of_several_lines():
    with pytest.raises(ValueError, match=r"^row 0: .*; got 'comple\\ntion', label, prompt: .*$"):
        canonical_rows([{"prompt": "a", "comple\ntion": "b", "label": 1}], 50)
    with pytest.raises(
        ValueError, match=r"^row 0: messages: message 0 must have a content .* keys role, 'con\\ntent'$"
    ):
        canonical_rows([{"messages": [{"role": "user", "con\ntent": "a"}], "label": 1}], 50)


def test_deep_cell_of_csv_is_text(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt,completion,label\na,{_DEEP},1\n")
    assert load_rows(path) == [_labelled(prompt="a", completion=_DEEP, label=True)]


def test_torn_parquet(tmp_path):
    """pyarrow tells by an OSError of several lines."""
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist([_labelled()]), path)
    path.write_bytes(b"\x00" + path.read_bytes())
    with pytest.raises(ValueError, match=r"^.*rows\.parquet must be a Parquet file, got: .*$"):
        load_rows(path)


def test_text_of_parquet_that_is_no_utf_8(tmp_path):
    path = tmp_path / "rows.parquet"
    broken = pa.array([b"\xff"]).view(pa.string())
    parquet.write_table(pa.table({"prompt": broken, "completion": ["4"], "label": [True]}), path)
    with pytest.raises(ValueError, match=r"^.*rows\.parquet must be a Parquet file, got: .*$") as error:
        load_rows(path)
    assert type(error.value) is ValueError


_YAML = {
    "deep": f"alpha: {_DEEP}",
    "int": "seed: !!int x",
    "no int": "seed: !!int ''",
    "float": "alpha: !!float ''",
    "bool": "use_cpu: !!bool x",
    "timestamp": "model: !!timestamp x",
    "map": "model: !!map [a]",
    "hex": "seed: 0x_",
    "date": "model_revision: 2001-99-99",
    "sexagesimal": "alpha: 0" + ":0" * 200 + ".5",
    "cycle": "report_to: &a [*a]",
    "laughs": "a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]",
    "merge": "a: &a {x: 1}\nb: {<<: [*a, *a]}",
    "repeated collection": "? [a]\n: 1\n? [a]\n: 2",
}


@pytest.mark.parametrize("text", _YAML.values(), ids=_YAML)
def test_yaml(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^.*config\.yaml must be a YAML file in UTF-8, got: .*$") as error:
        load_settings(path)
    assert type(error.value) is ValueError


@pytest.mark.parametrize("value", [_DEEP, "!!int x", "!!float ''", "2001-99-99", "&a [*a]", _HUGE])
def test_value_on_the_command_line(value):
    with pytest.raises(ValueError, match=r"^max_length must be an integer, got|^beta must be a number or null, got"):
        load_settings(None, ["--beta", value, "--max_length", "x"])


def test_alias_of_a_value(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("logging_steps: &n 5\nsave_steps: *n\n")
    assert load_settings(path).ratio == {"logging_steps": 5, "save_steps": 5}


_TOML = {"no UTF-8": b"\xff", "deep": b"a = " + _DEEP.encode()}


@pytest.mark.parametrize("load", [load_study, load_experiment])
@pytest.mark.parametrize("content", _TOML.values(), ids=_TOML)
def test_toml(tmp_path, load, content):
    path = tmp_path / "file.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^.*file\.toml") as error:
        load(path)
    assert type(error.value) is ValueError


def _study(**changes):
    return {
        "name": "toy",
        "kind": "monte_carlo",
        "question": "?",
        "seed": 1,
        "worlds": [{"name": "w", "p_preferred": [0.7, 0.3], "p_nonpreferred": [0.4, 0.6], "alpha": 0.5}],
        "methods": [{"label": "m", "method": "rdro"}],
        "profiles": {"smoke": {"n": [10], "replicates": 2}},
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**63},
        {"vary": {"alpha": [0.5, 10**400]}},
        {"profiles": {"smoke": {"n": [10**400], "replicates": 2}}},
        {"claims": [{"claim": "?", "kind": "rate", "metric": "x", "slope": 10**400}]},
    ],
)
def test_integers_of_studies_have_64_bits(changes):
    with pytest.raises(ValueError, match=r"^integers must fit in 64 bits, got one of "):
        parse_study(_study(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"profiles": {"smoke": {"n": [10], "replicates": 10**18}}},
        {"vary": {f"x{i}": list(range(10)) for i in range(12)}},
    ],
)
def test_endless_tasks(changes):
    """They were listed until memory ran out."""
    with pytest.raises(ValueError, match=r"^profiles.smoke must have at most 1,000,000 tasks, got 1,000,000,000,000"):
        parse_study(_study(**changes))


@pytest.mark.parametrize("key", ["profile", "methods", "worlds", "seed", "kind"])
def test_settings_without_a_key(key):
    settings = parse_study(_study()).settings("smoke")
    with pytest.raises(ValueError, match=r"^settings must be those that a run wrote, got "):
        study_of_settings({name: value for name, value in settings.items() if name != key})


@pytest.mark.parametrize("text", [_DEEP, "[]", '{"name": "a", "kind": 1}', '{"name": "a", "kind": "x", "profile": 1}'])
def test_settings_beside_results(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^.*config\.json must (be the JSON that|hold the settings of a study)"):
        open_results(tmp_path)
    with pytest.raises(ValueError, match=r"must be the JSON that an earlier run wrote|must resume with the settings"):
        check_settings(tmp_path, {"name": "toy"})


_EXPERIMENT = {
    "n": "[profiles.smoke]\nn = 3\n",
    "seeds": "[profiles.smoke]\nn = [3]\nseeds = [1]\n",
    "profile": "[profiles]\nsmoke = 3\n",
    "language": "language = 3\n",
    "language of a world": "[[worlds]]\nname = 'w'\nlanguage = [1]\n",
    "worlds": "worlds = 3\n",
    "integer": f"[profiles.smoke]\nn = [3]\nseeds = {_HUGE}\n",
}


@pytest.mark.parametrize("text", _EXPERIMENT.values(), ids=_EXPERIMENT)
def test_types_of_an_experiment(tmp_path, text):
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"experiment.toml: \S+ of .* must be (an? \w+)( of 64 bits)?, got "):
        load_experiment(path)


def test_endless_runs(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(
        "name = 'x'\nquestion = '?'\nreport = 'error'\nbaseline = 'm'\nseed = 1\n[[worlds]]\nname = 'w'\n"
        "language = {prompts = 2}\n[[methods]]\nlabel = 'm'\nmethod = 'rdro'\n[profiles.smoke]\nn = [4]\n"
        f"seeds = {10**17}\nlearning_rates = [1.0]\nsteps = 1\npretraining_steps = 1\nevaluations = 1\n"
    )
    with pytest.raises(
        ValueError, match=r"profiles.smoke must have at most 100,000 runs, got 100,000,000,000,000,000$"
    ):
        load_experiment(path)


def test_positive_numbers_beyond_floats():
    with pytest.raises(ValueError, match=r"^x must be finite and greater than 0, got 1000"):
        check_positive(10**400, "x")


def test_comparisons_of_many_items(tmp_path):
    """The table of pairs of a small file was larger than memory."""
    path = tmp_path / "votes.csv"
    path.write_text("winner,loser\n" + "".join(f"a{i},b{i}\n" for i in range(2501)))
    with pytest.raises(ValueError, match=r"^a file of comparisons must be about at most 5,000 items, got 5,002 in "):
        read_comparisons_csv(path)


def test_header_of_several_lines(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text('"win\nner",loser\n')
    with pytest.raises(ValueError, match=r"^.*votes\.csv, row 1 must name a column 'winner', got 'win\\nner', loser$"):
        read_comparisons_csv(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "1", _DEEP, '{"tables": 1}', '{"tables": {"\\u0000": "1"}}', '{"tables": {"../..": "1"}}']
)
def test_list_of_tables(tmp_path, text):
    with open_store(tmp_path / "toy", {"seed": 1}) as store:
        (store.folder / "checksums.json").write_text(text)
        assert not store.tables_are_complete()
        (store.folder / "checksums.json").write_bytes(b"\xff")
        assert not store.tables_are_complete()


def test_file_of_someone_else_beside_the_parts(tmp_path):
    settings = parse_study(_study()).settings("smoke")
    with open_store(tmp_path, settings) as store:
        part = store.save_part(0, b"found")
    (tmp_path / "parts" / "my-notes.arrow").write_bytes(b"")
    assert open_results(tmp_path).parts() == {0: part}


@pytest.mark.parametrize("text", ["", "[]", "{}", _DEEP, '{"run": 1, "tokens_seen": 1, "metrics": {}}', "\ufeff{}"])
def test_state_of_a_checkpoint(tmp_path, text):
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"must be the JSON that training wrote, got") as error:
        read_state(tmp_path)
    assert type(error.value) is ValueError


@pytest.mark.parametrize("state", [b"\xff", _DEEP.encode(), b"{"])
def test_checkpoints_that_are_none(tmp_path, state):
    (tmp_path / "checkpoint-9").write_text("a file")
    for name in ("checkpoint-²", "checkpoint-5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_bytes(state)
    assert last_checkpoint(tmp_path) is None


def test_files_beside_figures(tmp_path):
    (tmp_path / "study").mkdir()
    for path, read in {MANIFEST: read_manifest, "study/config.json": read_provenance}.items():
        (tmp_path / path).write_text('{"' + '": {"'.join(KINDS) + f'": {_DEEP}')
        with pytest.raises(ValueError, match=r"^.*\.json must .*RecursionError"):
            read(tmp_path)


@pytest.mark.parametrize("names", [{"name": 1}, {"profile": {"name": ["quick"]}}])
def test_names_of_other_types_beside_figures(tmp_path, names):
    settings = {
        "name": "study",
        "kind": "monte_carlo",
        "seed": 1,
        "profile": {"name": "quick"},
        "versions": {},
        **names,
    }
    (tmp_path / "study").mkdir()
    (tmp_path / "study/config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"^.*config\.json must .*: names of studies and profiles must be text, got "):
        read_provenance(tmp_path)


def test_table_with_damaged_metadata_of_pandas(tmp_path):
    (tmp_path / "study").mkdir()
    table = pa.Table.from_pandas(pd.DataFrame({"n": [1]}), preserve_index=False)
    parquet.write_table(table.replace_schema_metadata({"pandas": '{"columns": 1}'}), tmp_path / "study/summary.parquet")
    with pytest.raises(ValueError, match=r"^.*summary\.parquet must be a Parquet table, got \w+: .*; make it with"):
        read_tables(tmp_path, {"study/summary": ["n"]})


@pytest.mark.parametrize("timeout", [1e-300, 1e300])
def test_limits_of_time_that_no_alarm_has(timeout):
    """The one never rang, the other was an error in every task."""
    with pytest.raises(ValueError, match=r"^timeout must lie between 0\.001 and 1e\+09 seconds, got 1e[-+]300$"):
        check_execution(1, "processes", None, timeout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replicates", "9" * 13], "the null of .* cannot be drawn: Unable to allocate"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
    ],
)
def test_distance(tmp_path, capsys, arguments, message):
    path = tmp_path / "votes.csv"
    path.write_text("winner,loser\na,b\nb,a\na,c\nc,b\nb,c\nc,a\n")
    assert main(["distance", str(path), *arguments]) == 2
    assert re.fullmatch(f"relratio-sim: {message}.*\n", capsys.readouterr().err)
