"""Settings of a training run: the method's options beside everything that `transformers.TrainingArguments` knows."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from lm.method import Method, resolve_method
from lm.options import Settings, ratio_arguments
from lm.settings import MethodConfig

__all__ = ["RatioConfig", "make_ratio_config"]


@dataclass
class RatioConfig(MethodConfig, TrainingArguments):
    """Settings of `lm.trainer.RatioTrainer`.

    All fields of `lm.settings.MethodConfig` and of `transformers.TrainingArguments`. None stands for a method's
    default and is kept, so that a configuration made from `to_dict` or from JSON is the same again; `resolved` says
    what is meant.

    Parameters
    ----------
    logging_nan_inf_filter : bool
        Off here: a logged loss is what it is.
    remove_unused_columns : bool
        Off here, and must be: the columns of examples are not arguments of the model's forward.
    ddp_find_unused_parameters : bool, optional
        Off here: all weights that are trained take part in every log-probability, so that DDP need not look.

    Raises
    ------
    ValueError
        If an option belongs to another method, or a value lies outside its range.

    Examples
    --------
    >>> config = RatioConfig(output_dir="out", method="rdro", alpha=0.39, use_cpu=True)
    >>> config.generator, config.resolved.generator
    (None, 'logistic')
    """

    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "log averages in place of NaN and inf"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "must stay off"})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "look for weights without gradient at every step (some mixtures of experts)"}
    )

    def __post_init__(self) -> None:
        """Check the method's options before anything costly, then let TrainingArguments do its part."""
        self.resolved  # noqa: B018 - raises
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be off, because examples have columns of their own, got True")
        if self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor has no meaning for losses of log-ratios, got {self.label_smoothing_factor}"
            )
        super().__post_init__()
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # there is nothing to pin for, and torch would warn

    @property
    def resolved(self) -> Method:
        """The method with all its options."""
        return resolve_method(self)


def make_ratio_config(settings: Settings) -> RatioConfig:
    """Return the training settings of a configuration file and command line.

    Parameters
    ----------
    settings : Settings
        What the user set.

    Returns
    -------
    RatioConfig
        The settings.

    Raises
    ------
    ValueError
        If a name is unknown, with the nearest one, or a value has the wrong type or is refused.
    """
    return RatioConfig(**ratio_arguments(settings))
