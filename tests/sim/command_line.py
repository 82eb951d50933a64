"""The command line as tests use it: in a process of its own, or right here; and a study file for it."""

import re
import subprocess
import sys
from pathlib import Path

from sim.__main__ import main

ROOT = Path(__file__).parents[2]

STUDY = """
name = "mine"
kind = "monte_carlo"
question = "Does the command line work?"
seed = 3

[[worlds]]
name = "hodge"
preference = "hodge"
options = { cyclic_share = 0.5, signal = 1.0 }
responses = 4

[[methods]]
label = "rdro"
method = "rdro"

[[methods]]
label = "ddro"
method = "ddro"

[profiles.quick]
n = [100, 1_000, 10_000]
replicates = 10_000

[profiles.smoke]
n = [100, 1_000]
replicates = 1_200
"""
"""Two blocks of replicates, the second one not full, at two sizes; ten blocks at three sizes."""


def write_study(folder, *changes):
    """Write the study with pairs of old and new text replaced, and return the file's path."""
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def command(*arguments):
    """Return the command line of the simulations in a process of its own."""
    return [sys.executable, "-m", "sim", *map(str, arguments)]


def run_command(*arguments, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False, **options)


def refusal(capsys, *arguments):
    """Return the one line with which a command is refused."""
    assert main([*map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("relratio-sim: ") and captured.err.count("\n") == 1
    return captured.err.removeprefix("relratio-sim: ").rstrip("\n")


def status_rows(text):
    """Return the cells in the text of a status, by study and column."""
    heads, *rows = [re.split(r"  +", line) for line in text.splitlines()]
    return {cells[0]: dict(zip(heads, cells, strict=True)) for cells in rows if len(cells) == len(heads)}
