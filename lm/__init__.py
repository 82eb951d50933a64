"""Language models: the losses of `theory` on the log-ratios of whole sequences.

Names are imported when they are first used, so that ``python -m lm --help`` need not wait for torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "DataConfig": "lm.settings",
    "ExampleSet": "lm.examples",
    "MethodConfig": "lm.settings",
    "ModelConfig": "lm.settings",
    "RatioConfig": "lm.config",
    "RatioTrainer": "lm.trainer",
    "sequence_log_probs": "lm.log_probs",
    "token_log_probs": "lm.log_probs",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(_HOME)
