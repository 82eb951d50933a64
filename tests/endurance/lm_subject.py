"""A training of a tiny language model, killed and resumed by the soak."""

import hashlib
import json
import re
from pathlib import Path

import lm.commands.train  # noqa: F401 -- imported before forks are made
from lm.__main__ import main
from lm.resume import last_checkpoint

_WHOLE = ("model.safetensors", "ratio_state.json", "optimizer.pt", "config.json", "tokenizer.json")
_SETTINGS = {
    "config": "tiny-qwen2",
    "per_device_train_batch_size": 2,
    "lr_scheduler_type": "constant",
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "eval_strategy": "no",
    "logging_steps": 3,
}


class LmSubject:
    """A few steps with a checkpoint after every other, by ``python -m lm train``."""

    module = "lm"

    def __init__(self, scratch: Path, steps: int = 9) -> None:
        self._steps = steps
        self._data = scratch / "rows.jsonl"
        rows = ({"prompt": f"{i} and {i}?", "completion": f"{i + i * (i % 2)}", "label": i % 2 == 1} for i in range(24))
        self._data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def main(self, arguments: list[str]) -> int:
        """Run the command line here."""
        return main(arguments)

    def arguments(self, output: Path, workers: int) -> list[str]:
        """Return the command that begins a run, or resumes the one that has a checkpoint."""
        own = {"train_data": self._data, "eval_data": self._data, "max_steps": self._steps, "output_dir": output}
        resuming = {} if last_checkpoint(output) is None else {"resume_from_checkpoint": "true"}
        return ["train", *(f"--{name}={value}" for name, value in (_SETTINGS | own | resuming).items())]

    def saved(self, output: Path) -> dict[str, str]:
        """Return the steps of the newest complete checkpoint, which may not become fewer."""
        last = last_checkpoint(output)
        steps = 0 if last is None else int(last.rpartition("-")[2])
        return {f"step {step}": "reached" for step in range(1, steps + 1)}

    def reported(self, text: str) -> int:
        """Return 0: a run tells nothing of checkpoints."""
        return 0

    def digest(self, output: Path) -> str:
        """Return the digest of the model and of all that its checkpoints go on from."""
        total = hashlib.sha256()
        for path in sorted(path for path in output.rglob("*") if path.name in _WHOLE):
            total.update(f"{path.relative_to(output)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return total.hexdigest()

    def files(self, output: Path) -> list[str]:
        """Return all files; names that are drawn at random are masked."""
        names = (path.relative_to(output).as_posix() for path in output.rglob("*"))
        return sorted(re.sub(r"[0-9a-f]{32}", "*", name) for name in names)

    def complaints(self, text: str) -> list[str]:
        """Return tracebacks and errors."""
        return [line for line in text.splitlines() if line.startswith(("Traceback", "relratio-lm"))]
