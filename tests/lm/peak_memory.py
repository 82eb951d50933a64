"""The peak of live tensor memory, counted allocation by allocation: the same on every run, unlike that of a process."""

from collections.abc import Callable
from typing import Any

import torch


def peak_memory(run: Callable[[], Any]) -> int:
    """Return the most bytes that tensors on the CPU held at once, above what was held before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    changes = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda change: change.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak
