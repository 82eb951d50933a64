"""A tiny run and a tiny experiment, for tests of the validation of language models."""

import dataclasses
from pathlib import Path

from lm.validation.experiments import Method, Run, World

_TINY = """
name = "tiny"
question = "Does it run?"
report = "REPORT"
baseline = "rdro"
seed = 7

[language]
prompts = 2
symbols = 3
longest = 2

[training]
per_device_train_batch_size = 16

[[worlds]]
name = "w"

[[methods]]
label = "rdro"
method = "rdro"

[[methods]]
label = "OTHER"
method = "OTHER"

[profiles.smoke]
n = [32]
seeds = 2
learning_rates = [1e-3]
steps = 2
evaluations = 1
held_out = 40
pretraining_steps = 2
"""


def tiny_run(**changes: object) -> Run:
    """Return a run of the smallest sizes that show something, with some of its fields changed."""
    world = World("w", {"prompts": 2, "symbols": 3, "longest": 3, "separation": 2.0})
    run = Run("x", 1, 0, world, Method("rdro", "rdro"), 64, 1e-3, 4, 2, 50, 40, {"per_device_train_batch_size": 16})
    return dataclasses.replace(run, **changes)


def tiny_file(folder: Path, report: str = "error", other: str = "dpo") -> str:
    """Write the file of an experiment of four runs of two steps, and return its path."""
    path = folder / "tiny.toml"
    path.write_text(_TINY.replace("REPORT", report).replace("OTHER", other))
    return str(path)
