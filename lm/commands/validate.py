"""The command ``python -m lm validate``: every method on languages whose laws are known exactly."""

import argparse

__all__ = ["validate"]

_DONE, _FAILED = 0, 1
_SHOWN = 5


def validate(arguments: argparse.Namespace) -> int:
    """Run experiments, one after the other, and print what each found.

    Parameters
    ----------
    arguments : Namespace
        experiments (names or paths of .toml files; all shipped ones when empty), profile, output, jobs (processes;
        None for one a core) and progress (whether to print lines of it in place of bars).

    Returns
    -------
    int
        0 when all runs are there, 1 when one raised.

    Raises
    ------
    ValueError
        If an experiment is unknown or not valid, or the output holds results of other settings.
    OSError
        If the output cannot be written.
    """
    # Here, as errors of experiments' files need not wait for torch.
    from lm.validation.experiments import load_experiment, shipped_experiments

    experiments = [load_experiment(name) for name in arguments.experiments or shipped_experiments()]
    for experiment in experiments:
        experiment.profile(arguments.profile)

    from joblib import cpu_count

    from lm.validation.answers import READING, answer
    from lm.validation.runner import check_settings_of, planned, run_experiment

    check_settings_of(experiments, arguments.output, arguments.profile)
    if arguments.progress:
        # In one piece, so that who reads it never sees a part of the plan.
        plan = planned(experiments, arguments.output, arguments.profile)
        print("\n".join(f"progress {name} {done} {total}" for name, (done, total) in plan.items()), flush=True)
    failed = 0
    for experiment in experiments:
        result = run_experiment(
            experiment,
            arguments.output,
            profile=arguments.profile,
            jobs=arguments.jobs or cpu_count(),
            progress=_tell if arguments.progress else None,
        )
        print(answer(experiment, result.folder), flush=True)
        print(f"{result.computed} of {result.runs} runs computed, tables in {result.folder}\n", flush=True)
        for line in result.errors[:_SHOWN]:
            print(f"failed: {line}", flush=True)
        if len(result.errors) > _SHOWN:
            print(f"and {len(result.errors) - _SHOWN} more failures", flush=True)
        failed += len(result.errors)
    for report in sorted({experiment.report for experiment in experiments}):
        print(READING[report], flush=True)
    return _FAILED if failed else _DONE


def _tell(name: str, done: int, total: int) -> None:
    """Print a line of progress for the program that asked for it, at once."""
    print(f"progress {name} {done} {total}", flush=True)
