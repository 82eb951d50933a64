"""How policies are trained in a study of kind "dynamics"."""

from dataclasses import dataclass

from sim.preferences.arguments import check_integer
from theory.checks import check_choice, check_positive

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """How policies are trained.

    Parameters
    ----------
    optimiser : {"sgd", "adam"}
        torch's, with its defaults (no momentum; betas 0.9 and 0.999).
    learning_rate : float
        Constant step size, greater than 0.
    steps : int
        Number of updates, at least 1.
    batch_size : int or "full"
        Labelled examples drawn with replacement for each update, at least 1; 0 or "full" takes all data each time.
        dpo and ipo draw half as many pairs, so it must then be even.
    clip_norm : float, optional
        Largest Euclidean norm of a replicate's gradient; default no clipping.
    tolerance : float
        A run is "nonconverged" if its final gradient on all data is longer than this share of its first one.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> TrainingSettings(learning_rate=0.5, batch_size="full").batch_size
    0
    """

    optimiser: str = "sgd"
    learning_rate: float = 0.1
    steps: int = 500
    batch_size: int | str = 32
    clip_norm: float | None = None
    tolerance: float = 0.3

    def __post_init__(self) -> None:
        """Check every setting."""
        check_choice("optimiser", self.optimiser, ("sgd", "adam"))
        check_positive(self.learning_rate, "learning_rate")
        check_integer("steps", self.steps, 1)
        if isinstance(self.batch_size, str):
            check_choice("batch_size", self.batch_size, ("full",))
            object.__setattr__(self, "batch_size", 0)
        check_integer("batch_size", self.batch_size, 0)
        if self.clip_norm is not None:
            check_positive(self.clip_norm, "clip_norm")
        check_positive(self.tolerance, "tolerance")
