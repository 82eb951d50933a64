"""The time of each training step; a module of its own, as not all benchmarks wait for the import of transformers."""

import time
from typing import Any

from transformers import TrainerCallback

__all__ = ["StepClock"]


class StepClock(TrainerCallback):
    """Takes the wall and CPU seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.began = (time.perf_counter(), time.process_time())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note what the step took."""
        self.steps.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))
