"""What became of a run: what was measured, and when. Without torch, for which readers of results need not wait."""

from dataclasses import dataclass, field

__all__ = ["LARGEST", "WHOLE_RUN", "Measurement", "Outcome", "Score"]

LARGEST = {
    "grad_norm": "largest_grad_norm",
    "logratio/max_abs": "largest_log_ratio",
    "logratio/over_bound": "largest_share_over_bound",
}
"""What is reported of a whole run as the largest value logged, by the name in the log."""

WHOLE_RUN = ("diverged", "further_than_reference", "last_kl_preferred", "steps_taken", *LARGEST.values())
"""Metrics of whole runs, diverged ones included; they stand at the last step that was planned."""


@dataclass(frozen=True)
class Score:
    """A distance.

    Attributes
    ----------
    value : float
        Estimate, or exact value.
    standard_error : float
        Monte-Carlo standard error, 0 where the value is exact.
    exact : float
        Value at the method's exact target, NaN where there is none.
    """

    value: float
    standard_error: float = 0.0
    exact: float = float("nan")


@dataclass(frozen=True)
class Measurement:
    """A metric of a run after a step."""

    step: int
    metric: str
    score: Score


@dataclass
class Outcome:
    """What became of a run.

    Attributes
    ----------
    status : str
        "ok" or "diverged".
    message : str
        Why it diverged.
    steps : int
        Steps taken.
    measurements : list of Measurement
        Metrics by step.
    seconds : dict
        Time by part: preparing (languages, targets, data, trainer), training, measuring (distances); who runs it adds
        the total and that of the processor.
    """

    status: str = "ok"
    message: str = ""
    steps: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, step: int, scores: dict[str, Score]) -> None:
        """Add metrics of a step."""
        self.measurements += [Measurement(step, name, score) for name, score in scores.items()]
