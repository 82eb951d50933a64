"""A study, killed and resumed by the soak."""

import hashlib
import re
from pathlib import Path

from sim.__main__ import main
from sim.commands import actions  # noqa: F401 -- imported before forks are made
from sim.engine.store import digest

STUDY = """
name = "soaked"
kind = "monte_carlo"
question = "Is a study that is killed again and again the undisturbed one?"
seed = 11

[[worlds]]
name = "laws"
p_preferred = [0.5, 0.3, 0.2]
p_nonpreferred = [0.1, 0.3, 0.6]
alpha = 0.5

[[methods]]
label = "rdro"
method = "rdro"

[[methods]]
label = "dpo"
method = "dpo"
beta = 1.0

[profiles.quick]
n = [40, 80, 160, 320, 640, 1280]
replicates = 20
"""


class SimSubject:
    """A small study of six tasks, by ``python -m sim run``."""

    module = "sim"

    def __init__(self, scratch: Path) -> None:
        self._study = scratch / "soaked.toml"
        self._study.write_text(STUDY)

    def main(self, arguments: list[str]) -> int:
        """Run the command line here."""
        return main(arguments)

    def arguments(self, output: Path, workers: int) -> list[str]:
        """Return the one command that begins a run and resumes it."""
        return ["run", str(self._study), "--output", str(output), "--jobs", str(workers), "--progress"]

    def saved(self, output: Path) -> dict[str, str]:
        """Return the parts."""
        parts = (output / "soaked" / "parts").glob("*.arrow")
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts}

    def reported(self, text: str) -> int:
        """Return the last number of tasks that were told to be done."""
        return max((int(done) for done in re.findall(r"^progress soaked (\d+) \d+$", text, re.MULTILINE)), default=0)

    def digest(self, output: Path) -> str:
        """Return the digest of the study."""
        return digest(output)

    def files(self, output: Path) -> list[str]:
        """Return all files; a part's checksum covers its times, so it is masked."""
        names = (path.relative_to(output).as_posix() for path in output.rglob("*"))
        return sorted(re.sub(r"(\d{6})-[0-9a-f]{16}", r"\1", name) for name in names)

    def complaints(self, text: str) -> list[str]:
        """Return all lines, but for what joblib says when it has cleaned up after a killed process."""
        return [line for line in text.splitlines() if not re.search("resource_tracker|^  warnings.warn", line)]
