"""Studies give the same results however they are run, interrupted or extended, and lose no failure."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sim import simulation, worlds
from sim.claims.claim import parse_claim
from sim.engine import collect, kinds
from sim.engine.kinds import KINDS, sources_checksum
from sim.engine.runner import collect_study, run_study
from sim.engine.seeds import SeedKey
from sim.engine.store import digest
from sim.engine.study import parse_study
from sim.engine.tasks import metrics_of, runs_of
from sim.exact_tables import EXACT_TABLES
from sim.simulation import simulate
from sim.statistics.summary import summarise
from sim.statuses import STATUSES
from sim.worlds import build_world
from tests.sim.small_study import SMALL, small_study

BLOCK = KINDS["monte_carlo"].block
SWEPT = ["study", "world", "n", "alpha"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the small study's result, which tests only read."""
    return run_study(small_study(), tmp_path_factory.mktemp("small"))


def rows_of(table, **wanted):
    """Return the rows that have the wanted values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table.reset_index(drop=True)


def test_tables_have_their_columns_and_all_rows(small):
    metrics, summary, runs = (small.table(name) for name in ("metrics", "summary", "runs"))
    assert metrics.columns.tolist() == [*SWEPT, "method", "replicate", "status", "metric", "value", "exact"]
    assert summary.columns.tolist() == summarise(metrics.head(BLOCK)).columns.tolist()
    assert small.table("rates").columns.tolist()[:5] == ["study", "world", "alpha", "method", "metric"]
    timing = small.table("timing")
    assert timing.columns.tolist() == [*SWEPT, "method", "block", "replicates", "seconds"]
    assert (timing["seconds"] > 0).all()
    # 2 worlds x 3 sizes, in 2 blocks; of the metrics some belong to one method alone.
    series = len(metrics[["method", "metric"]].drop_duplicates())
    assert len(runs) == 6 * 2 * 2 and len(metrics) == 6 * 1010 * series and len(summary) == 6 * series
    assert (summary["replicates"] == 1010).all()
    assert small.tasks == small.computed == 12 and small.errors == ()
    settings = json.loads((small.folder / "config.json").read_text())
    assert settings == small_study().settings("quick") and {*settings["versions"]} == {
        "relratio",
        "numpy",
        "scipy",
        "sources",
    }


def test_every_replicate_is_there_once_and_in_order(small):
    for _, group in small.table("metrics").groupby([*SWEPT, "method", "metric"], sort=False):
        assert group["replicate"].tolist() == list(range(1010))


def test_runs_say_how_to_repeat_them(small):
    metrics, run = small.table("metrics"), small.table("runs").to_dict("records")[-2]
    assert (run["method"], run["block"], run["first_replicate"], run["replicates"]) == ("rdro", 1, BLOCK, 10)
    world = {**SMALL["worlds"][1], "alpha": 0.3}
    key = SeedKey.of(7, world, 1000, 1)
    assert run["seed_key"] == str(key)
    counts = build_world(world).sample(1000, 10, key.stream("data"))
    again = simulate(build_world(world), "rdro", 1000, 10, np.random.default_rng(0), data=counts)
    saved = rows_of(metrics, world="other", n=1000, method="rdro", metric="tv_target")["value"][BLOCK:]
    np.testing.assert_array_equal(saved.to_numpy(), again.metrics["tv_target"])


def test_runs_count_statuses_as_metrics_do(small):
    runs, metrics = small.table("runs"), small.table("metrics")
    assert (runs[list(STATUSES)].sum(axis=1) == runs["replicates"]).all()
    for status in ("ok", "diverged"):
        counted = rows_of(metrics, status=status, metric="tv_preferred").groupby("method").size()
        assert (
            runs.groupby("method")[status].sum().to_dict() == counted.reindex(["dpo", "rdro"], fill_value=0).to_dict()
        )
    assert runs["diverged"].sum() > 0  # dpo at n = 40: otherwise the comparison above would be empty


def test_a_second_run_has_nothing_to_do(small):
    before = {
        path: path.stat().st_mtime_ns for path in (*small.folder.rglob("*.parquet"), *small.folder.rglob("*.arrow"))
    }
    again = run_study(small_study(), small.folder.parent)
    assert again.computed == 0 and again.tasks == 12
    assert {
        path: path.stat().st_mtime_ns for path in (*small.folder.rglob("*.parquet"), *small.folder.rglob("*.arrow"))
    } == before


def test_a_damaged_part_is_computed_again_and_nothing_else(small, tmp_path, capsys):
    result = run_study(small_study(), tmp_path)
    part = sorted((result.folder / "parts").iterdir())[5]
    part.write_bytes(part.read_bytes()[:-100])
    again = run_study(small_study(), tmp_path)
    assert again.computed == 1
    assert f"{part} does not match its checksum" in capsys.readouterr().err
    assert digest(again.folder) == digest(small.folder)


def test_a_damaged_table_is_collected_again(tmp_path):
    study = small_study(profiles={"quick": {"n": [40], "replicates": 3}})
    before = digest(run_study(study, tmp_path).folder)
    (tmp_path / "small" / "metrics.parquet").write_bytes(b"damaged")
    again = run_study(study, tmp_path)
    assert again.computed == 0 and digest(again.folder) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": [{"label": "new", "method": "mle"}, *SMALL["methods"]]},
        {"worlds": [{**SMALL["worlds"][0], "name": "new"}, *SMALL["worlds"]]},
        {"vary": {"alpha": [0.8, 0.3]}},
        {"profiles": {"quick": {"n": [80, 40, 200, 1000], "replicates": 1010}}},
    ],
    ids=["method", "world", "swept value", "sample size"],
)
def test_an_addition_changes_no_other_result(small, tmp_path, changes):
    old = small.table("metrics")
    new = run_study(small_study(**changes), tmp_path).table("metrics")
    kept = new.merge(old[[*SWEPT, "method"]].drop_duplicates(), on=[*SWEPT, "method"])
    assert len(new) > len(kept) == len(old)
    order = [*SWEPT, "method", "metric", "replicate"]
    pd.testing.assert_frame_equal(
        kept.sort_values(order, ignore_index=True), old.sort_values(order, ignore_index=True), check_exact=True
    )


def test_all_methods_see_the_same_data(tmp_path):
    methods = [{"label": label, "method": "rdro"} for label in ("first", "second")]
    metrics = run_study(small_study(methods=methods), tmp_path, profile="smoke").table("metrics")
    first, second = (rows_of(metrics, method=label)["value"] for label in ("first", "second"))
    assert first.nunique() > 1
    np.testing.assert_array_equal(first, second)


def test_changed_settings_are_refused(small):
    with pytest.raises(ValueError, match="a study must resume with the settings it began with, got seed: 7 -> 8"):
        run_study(small_study(seed=8), small.folder.parent)


def test_the_rates_of_a_consistent_method_are_near_one_half(small):
    rates = rows_of(small.table("rates"), method="rdro", metric="tv_target")
    # n = 40 is far from the limit, so the slope is not -1/2 to its standard error; 0.1 tells it from -1/4 and -1.
    assert len(rates) == 2 and np.abs(rates["slope"] + 0.5).max() < 0.1


def failing(real, *, n):
    """Return `simulate` that raises for dpo at one sample size."""

    def simulate_or_fail(world, method, size, *arguments, **options):
        if method == "dpo" and size == n:
            raise RuntimeError("a fault\nover two lines")
        return real(world, method, size, *arguments, **options)

    return simulate_or_fail


def test_a_method_that_raises_is_recorded_and_the_rest_finishes(small, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "simulate", failing(simulate, n=200))
    result = run_study(small_study(), tmp_path)
    runs, summary = result.table("runs"), result.table("summary")
    raised = rows_of(runs, status="error")
    assert len(result.errors) == len(raised) == 4
    assert set(raised["method"]) == {"dpo"} and set(raised["n"]) == {200}
    assert (raised["message"] == "RuntimeError: a fault over two lines").all()
    assert (raised["error"] == raised["replicates"]).all() and (raised["ok"] == 0).all()
    key = SeedKey.of(7, {**SMALL["worlds"][0], "alpha": 0.3}, 200, 0)
    assert (
        result.errors[0]
        == f"small/laws/n=200/alpha=0.3/block=0:dpo, seed key {key}: RuntimeError: a fault over two lines"
    )
    lost = rows_of(summary, method="dpo", n=200)
    known = small.table("metrics").query("method == 'dpo'")["metric"].unique()
    assert len(lost) == 2 * len(known) and (lost["share_error"] == 1.0).all() and (lost["replicates"] == 1010).all()
    kept = result.table("metrics").query("method != 'dpo' or n != 200").reset_index(drop=True)
    expected = small.table("metrics").query("method != 'dpo' or n != 200").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, expected, check_exact=True)
    # Once the fault is mended, the same command tries the failed tasks again, and them alone.
    monkeypatch.undo()
    mended = run_study(small_study(), tmp_path)
    assert (mended.computed, mended.errors) == (4, ())
    assert digest(mended.folder) == digest(small.folder)


def test_data_that_cannot_be_drawn_are_an_error_of_every_method(tmp_path, monkeypatch):
    def broken(world, n, replicates, rng):
        if replicates > 1:  # the check before all work draws one data set
            raise MemoryError("no room")
        return sample(world, n, replicates, rng)

    sample = worlds.World.sample
    monkeypatch.setattr(worlds.World, "sample", broken)
    result = run_study(small_study(), tmp_path, profile="smoke")
    runs = result.table("runs")
    assert len(result.errors) == len(runs) == 4 and (runs["message"] == "MemoryError: no room").all()
    summary = result.table("summary")
    assert set(summary["metric"]) == {"tv_preferred"} and (summary["share_error"] == 1.0).all()
    assert (summary["replicates"] == 3).all() and len(result.table("rates")) == 0


def test_a_method_runs_in_the_worlds_it_names_alone(small, tmp_path):
    methods = [SMALL["methods"][0], SMALL["methods"][1] | {"worlds": ["other"]}]
    new, old = run_study(small_study(methods=methods), tmp_path).table("metrics"), small.table("metrics")
    assert set(zip(new["world"], new["method"], strict=True)) == {("laws", "rdro"), ("other", "rdro"), ("other", "dpo")}
    expected = old.query("method == 'rdro' or world == 'other'").reset_index(drop=True)
    pd.testing.assert_frame_equal(new, expected, check_exact=True)


def test_changed_claims_are_judged_anew_on_the_same_results(tmp_path):
    claim = {"claim": "rdro is consistent", "kind": "target", "metric": "tv_preferred", "methods": ["rdro"]}
    small = small_study(profiles={"quick": {"n": [40, 200], "replicates": 100}})
    before = run_study(small, tmp_path)
    assert len(before.table("verdicts")) == 0
    after = run_study(dataclasses.replace(small, claims=(parse_claim("claims[0]", claim),)), tmp_path)
    assert after.computed == 0 and digest(after.folder) == digest(before.folder)
    assert len(after.table("verdicts")) == 2


def test_results_of_another_version_are_refused(small, monkeypatch):
    versions = KINDS["monte_carlo"].versions()
    monkeypatch.setattr(kinds, "_version", (versions | {"relratio": "9.9"}).__getitem__)
    with pytest.raises(ValueError, match=rf"got versions\.relratio: \"{versions['relratio']}\" -> \"9\.9\". Remedies"):
        run_study(small_study(), small.folder.parent)


def test_results_of_other_sources_are_refused(small, monkeypatch):
    monkeypatch.setattr(kinds, "sources_checksum", lambda *folders: "0123")
    with pytest.raises(ValueError, match=r"got versions\.sources: \"[0-9a-f]{16}\" -> \"0123\". Remedies"):
        run_study(small_study(), small.folder.parent)


def test_tables_are_made_anew_by_other_statistics_and_no_task_is(small, monkeypatch):
    copy = run_study(small_study(), small.folder.parent)
    assert copy.computed == 0
    before = (small.folder / "checksums.json").stat().st_mtime_ns
    monkeypatch.setattr("sim.engine.runner.sources_checksum", lambda *folders: "0123")
    assert run_study(small_study(), small.folder.parent).computed == 0
    assert (small.folder / "checksums.json").stat().st_mtime_ns > before


def test_sources_are_those_that_change_results(tmp_path):
    assert sources_checksum("sim/claims") != sources_checksum("sim/statistics") != sources_checksum("sim")
    assert sources_checksum("theory", "sim") == sources_checksum("sim", "theory")
    assert all((Path(kinds.__file__).parents[2] / folder).is_dir() for folder in kinds.READERS)


@pytest.mark.parametrize("at_once", [1, 12_000, 12_001, 100_000])
def test_metrics_are_written_cell_by_cell_and_never_many_rows_at_once(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(collect, "_AT_ONCE", at_once)
    result = run_study(small_study(), tmp_path)
    metrics = pq.read_metadata(result.folder / "metrics.parquet")
    rows = [metrics.row_group(i).num_rows for i in range(metrics.num_row_groups)]
    assert rows == ([12_000, 120] if at_once <= 12_000 else [12_120]) * 6


def test_a_full_disk_is_told_with_what_is_saved_and_loses_nothing(small, tmp_path, monkeypatch):
    def write_until_full(path, content):
        if path.parent.name == "parts" and len(list(path.parent.iterdir())) == 5:
            raise OSError(28, "No space left on device")
        return write(path, content)

    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    message = r"can be written, got .*arrow: No space left on device; 5 of 12 tasks of small \(quick\) are saved in"
    with pytest.raises(OSError, match=message):
        run_study(small_study(), tmp_path)
    monkeypatch.undo()
    resumed = run_study(small_study(), tmp_path)
    assert resumed.computed == 7 and digest(resumed.folder) == digest(small.folder)


def test_a_refused_exact_study_leaves_nothing_that_refuses_its_correction(tmp_path):
    study = {"name": "shapes", "kind": "exact", "question": "?", "table": "ratio_shapes"}
    with pytest.raises(ValueError, match=r"alpha must lie strictly between 0 and 1, got 1\.5"):
        run_study(parse_study(study | {"parameters": {"alphas": [0.2, 1.5]}}), tmp_path)
    assert run_study(parse_study(study | {"parameters": {"alphas": [0.2, 0.5]}}), tmp_path).computed == 1


def test_an_exact_table_that_is_out_of_date_is_written_again(tmp_path, monkeypatch):
    study = {"name": "shapes", "kind": "exact", "question": "?", "table": "ratio_shapes"}
    config = parse_study(study | {"parameters": {"alphas": [0.5]}})
    assert [run_study(config, tmp_path).computed for _ in range(2)] == [1, 0]
    monkeypatch.setitem(EXACT_TABLES, "ratio_shapes", lambda *, alphas: pd.DataFrame({"alpha": alphas}))
    monkeypatch.setattr(kinds, "sources_checksum", lambda *folders: "0123")  # as when the code of the table changes
    result = run_study(config, tmp_path)
    assert result.computed == 1
    assert result.table("table").columns.tolist() == ["alpha"]


def test_an_exact_study_has_no_shards_and_is_computed_when_they_are_collected(tmp_path):
    assert run_study("loss_shapes", tmp_path, shard=(0, 2)).tasks == 0
    assert list(tmp_path.iterdir()) == []
    assert collect_study("loss_shapes", tmp_path, "quick").computed == 1


def test_an_exact_study_writes_its_table(tmp_path):
    table = {"name": "shapes", "kind": "exact", "question": "?", "table": "ratio_shapes"}
    study = parse_study(table | {"parameters": {"alphas": [0.5], "points": 3}})
    first, second = run_study(study, tmp_path), run_study(study, tmp_path)
    assert (first.computed, second.computed) == (1, 0)
    assert first.table("table")["relative_ratio"].max() < 2.0
    assert {path.name for path in first.folder.iterdir()} == {".lock", "checksums.json", "config.json", "table.parquet"}


def test_pooled_weighting_is_flagged_where_balanced_succeeds(tmp_path):
    # The controls of the shipped study: balanced must find p+ at alpha = .2, pooled must be seen to miss it.
    summary = run_study("class_weighting", tmp_path, profile="smoke").table("summary")
    rows = rows_of(summary, metric="tv_preferred", alpha=0.2).set_index("method")
    assert rows.loc["balanced", "exact"] == pytest.approx(0.0, abs=1e-9)
    # At n = 10^4 the error of 2,000 preferred examples over three responses is about (3 / 2000)^(1/2) / 2 = .02.
    assert rows.loc["balanced", "mean"] < 0.02 < 0.3 < rows.loc["pooled", "low"]
    assert rows.loc["pooled", "exact"] == pytest.approx(rows.loc["pooled", "mean"], abs=0.02)


def test_relative_estimates_are_bounded_where_direct_ones_are_infinite(tmp_path):
    metrics = run_study("boundedness", tmp_path, profile="smoke").table("metrics")
    ok = rows_of(metrics, status="ok")
    largest = rows_of(ok, metric="max_relative_estimate").groupby("alpha")["value"].max()
    assert (largest <= (1 + 1e-12) / largest.index.to_numpy()).all()
    infinite = rows_of(ok, metric="direct_infinite", alpha=0.8)
    # The three rarest responses expect 200 p- = .2, .4 and .8 non-preferred examples of n = 10^3: with Poisson counts
    # at least one of them has none with probability .97. Of n = 10^5 the rarest expects 20.
    assert rows_of(infinite, n=1000)["value"].mean() > 0.9
    assert rows_of(infinite, n=100_000)["value"].max() == 0.0


def test_parts_hold_their_runs(small):
    part = sorted((small.folder / "parts").iterdir())[0]
    assert [run["method"] for run in runs_of(part)] == ["rdro", "dpo"]
    assert metrics_of(part)["method"].unique().to_pylist() == ["rdro", "dpo"]
