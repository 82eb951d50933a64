"""What the commands of ``python -m sim`` do; imported once the command line is known to be in order."""

import argparse
import dataclasses
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from joblib import cpu_count

from sim.bt_distance import bt_test
from sim.commands.comparison import compare
from sim.commands.forecast import forecast
from sim.commands.layout import aligned
from sim.commands.replay import replay_run
from sim.commands.results import find_results, open_results
from sim.commands.summaries import summary_text, verdict_counts
from sim.engine.runner import StudyResult, collect_study, run_study, saved_tasks
from sim.engine.store import check_settings
from sim.engine.study import StudyConfig, load_study, shipped_studies
from sim.engine.study_checks import check_study
from sim.estimators import METHODS
from sim.preferences import PREFERENCE_MODELS
from sim.preferences.arguments import check_integer
from sim.worlds import observed_counts
from theory import GENERATORS, Generator

__all__ = ["collect", "diff", "distance", "estimate", "listing", "replay", "run", "status", "summary"]

_DONE, _FAILED = 0, 1
_SHOWN_FAILURES = 5
_WIDTH = 120


def run(arguments: argparse.Namespace) -> int:
    """Check all studies asked for, then run them one after the other."""
    studies = _loaded(arguments)
    tell = {study.name: partial(_tell, study.name) if arguments.progress else None for study in studies}
    if arguments.progress:
        # In one piece, so that who reads it never sees a part of the plan.
        plan = {study.name: saved_tasks(study, arguments.output, arguments.profile) for study in studies}
        print("\n".join(f"progress {name} {done} {total}" for name, (done, total) in plan.items()), flush=True)
    begun = _begun(studies, arguments.output, arguments.profile)
    for study in studies:
        if study.name not in begun:
            check_study(study, arguments.profile)
    failed = 0
    for study in studies:
        result = run_study(
            study,
            arguments.output,
            profile=arguments.profile,
            jobs=arguments.jobs or cpu_count(),
            backend=arguments.backend,
            scheduler=arguments.scheduler,
            timeout=arguments.timeout,
            shard=arguments.shard,
            progress=tell[study.name],
            checked=True,
        )
        failed += _report(result, arguments.shard)
        if arguments.progress:
            _tell(study.name, result.tasks, result.tasks)
    return _FAILED if failed else _DONE


def collect(arguments: argparse.Namespace) -> int:
    """Make the tables of studies whose shards have run."""
    failed = 0
    for study in _checked(arguments):
        failed += _report(collect_study(study, arguments.output, arguments.profile))
    return _FAILED if failed else _DONE


def estimate(arguments: argparse.Namespace) -> int:
    """Tell how long studies will take."""
    failed = 0
    for study in _checked(arguments):
        found = forecast(study, arguments.profile, arguments.jobs or cpu_count())
        print(found.text(), flush=True)
        failed += found.failed
    return _FAILED if failed else _DONE


def status(arguments: argparse.Namespace) -> int:
    """Tell how far every study in a folder is."""
    rows = [
        ["study", "profile", "state", "tasks", "done", "failed", "not run", "damaged", "errors", "timeouts", "tables"]
    ]
    failures = []
    for results in find_results(arguments.output):
        now = results.status()
        kinds = [failure.status for failure in now.failures]
        counts = (
            now.tasks,
            now.done,
            now.failed,
            now.missing,
            now.damaged,
            kinds.count("error"),
            kinds.count("timeout"),
        )
        rows.append(
            [now.study, now.profile, now.state, *(f"{count:,}" for count in counts), "yes" if now.tables else "no"]
        )
        failures += now.failures
    print(aligned(rows, text_columns=3))
    for failure in failures[:_SHOWN_FAILURES]:
        print(failure)
    if len(failures) > _SHOWN_FAILURES:
        print(f"and {len(failures) - _SHOWN_FAILURES} more failures")
    return _DONE


def summary(arguments: argparse.Namespace) -> int:
    """Show what a study found."""
    folder = Path(arguments.study)
    if not (folder / "config.json").exists() and len(folder.parts) == 1:
        folder = Path(arguments.output) / arguments.study
    print(summary_text(open_results(folder), metric=arguments.metric, world=arguments.world, methods=arguments.method))
    return _DONE


def diff(arguments: argparse.Namespace) -> int:
    """Compare two sets of results."""
    comparisons = compare(arguments.first, arguments.second)
    print("\n".join(comparison.text() for comparison in comparisons))
    return _DONE if all(comparison.equal for comparison in comparisons) else _FAILED


def replay(arguments: argparse.Namespace) -> int:
    """Run one run again; done means that it ended as saved, or well where nothing is saved of it."""
    try:
        again = replay_run(arguments.run, arguments.output)
    except KeyboardInterrupt:
        traceback.print_exc()
        raise KeyboardInterrupt("the traceback above shows where the run was") from None
    print(again.text())
    good = not again.error if again.reproduced is None else again.reproduced
    return _DONE if good else _FAILED


def distance(arguments: argparse.Namespace) -> int:
    """Tell how far observed comparisons are from Bradley-Terry."""
    observed = observed_counts(arguments.source, arguments.min_decisive)
    rng = np.random.default_rng(check_integer("seed", arguments.seed, 0))
    try:
        test = bt_test(observed.wins, arguments.replicates, rng, observed.names)
    except (MemoryError, RuntimeError) as error:  # too many replicates, or a fit that does not converge
        raise ValueError(f"the null of {arguments.source} cannot be drawn: {error}") from error
    print(
        f"{len(observed.names)} items, {observed.total:,} decisive comparisons "
        f"({observed.ties_left_out:,} ties and {observed.both_bad_left_out:,} both-bad votes left out)\n"
        f"likelihood ratio against Bradley-Terry: {test.statistic:.1f}, p = {test.p_value:.2g}; null: mean "
        f"{test.null_statistic.mean():.1f}, largest {test.null_statistic.max():.1f} of {arguments.replicates}\n"
        f"size less its mean under Bradley-Terry: {test.excess_size:.2e} nats a comparison\n"
        f"{'':28}{'observed':>10}  null: mean [central 95 %]"
    )
    rows = {"size (nats)": "size", "shape (cyclic share)": "shape"}
    rows |= {f"{strength} transitivity lost": strength for strength in ("weak", "moderate", "strong")}
    for label, name in rows.items():
        null = getattr(test.null, name)
        low, high = np.quantile(null, [0.025, 0.975])
        value = getattr(test.observed, name)
        print(f"{label:<28}{value:>10.3g}  {null.mean():.3g} [{low:.3g}, {high:.3g}]")
    return _DONE


def listing(arguments: argparse.Namespace) -> int:
    """Show what there is: studies, preference models, methods and generators."""
    sections = {
        "studies": {name: load_study(name).question for name in shipped_studies()},
        "preference models": {name: model.summary for name, model in PREFERENCE_MODELS.items()},
        "methods": {name: method.summary for name, method in METHODS.items()},
        "generators": {name: _generator_line(generator) for name, generator in GENERATORS.items()},
    }
    width = max(len(name) for entries in sections.values() for name in entries)
    for name, model in PREFERENCE_MODELS.items():
        if width + 4 + len(model.formula) <= _WIDTH:
            sections["preference models"] |= {name: f"{model.summary}\n{'':{width + 4}}{model.formula}"}
    blocks = [
        "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in entries.items())])
        for title, entries in sections.items()
    ]
    print("\n\n".join(blocks))
    return _DONE


def _generator_line(generator: Generator) -> str:
    """Return the first line of a generator's documentation without its marks of code, and its parameters."""
    line = (type(generator).__doc__ or "").strip().splitlines()[0].replace("`", "").rstrip(".")
    parameters = [
        f"{field.name} = {getattr(generator, field.name):g}"
        for field in dataclasses.fields(generator)
        if field.name != "name"
    ]
    return f"{line}; {', '.join(parameters)}" if parameters else line


def _tell(study: str, done: int, total: int) -> None:
    """Print a line of progress for the program that asked for it, at once."""
    print(f"progress {study} {done} {total}", flush=True)


def _begun(studies: Sequence[StudyConfig], output: str, profile: str) -> set[str]:
    """Return the names of studies whose folders were begun with the same settings, which were checked then.

    Raises
    ------
    ValueError
        If folders were begun with other settings: all of them are named, so that one remedy does.
    """
    begun, refused = set(), []
    for study in studies:
        try:
            if check_settings(folder := Path(output) / study.name, study.settings(profile)):
                begun.add(study.name)
        except ValueError as error:
            refused.append((str(error), folder))
    if refused:
        others = ", ".join(str(folder) for _, folder in refused[1:])
        raise ValueError(refused[0][0] + (f"; the same holds for {others}" if others else ""))
    return begun


def _loaded(arguments: argparse.Namespace) -> list[StudyConfig]:
    """Return the studies asked for; each name stands for a folder, so it must be there once."""
    studies = [load_study(name) for name in arguments.studies or shipped_studies()]
    for i, study in enumerate(studies):
        if study.name in [other.name for other in studies[:i]]:
            raise ValueError(f"studies of one command must have different names, got {study.name} twice")
    return studies


def _checked(arguments: argparse.Namespace) -> list[StudyConfig]:
    """Return the studies asked for, each of which is valid."""
    studies = _loaded(arguments)
    for study in studies:
        check_study(study, arguments.profile)
    return studies


def _report(result: StudyResult, shard: tuple[int, int] | None = None) -> int:
    """Say what became of a study, or of one of its shards; return how many of its runs failed."""
    state = "up to date" if result.computed == 0 else f"{result.computed} of {result.tasks} tasks computed"
    print(f"{result.study}: {state}, {'tables' if shard is None else 'parts'} in {result.folder}")
    if shard is None and (result.folder / "verdicts.parquet").is_file() and len(verdicts := result.table("verdicts")):
        print(f"{result.study}: {verdict_counts(verdicts)}")
    if not result.errors:
        return 0
    number, shards = shard or (0, 1)
    for index, failures in open_results(result.folder).failures().items():
        if index % shards == number:
            for failure in failures:
                print(f"relratio-sim: {failure}", file=sys.stderr)
    return len(result.errors)
