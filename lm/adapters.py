"""LoRA adapters by peft: on every linear layer but the output head."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from lm.settings import ModelConfig

__all__ = ["add_adapter", "check_adapter", "load_adapter"]

_WEIGHTS = "adapter_model.safetensors"


def check_adapter(model: ModelConfig) -> None:
    """Raise a ValueError if options of LoRA are out of range, or set without it."""
    if model.lora_rank < 0:
        raise ValueError(f"lora_rank must be at least 0, got {model.lora_rank}")
    if not 0.0 <= model.lora_dropout < 1.0:
        raise ValueError(f"lora_dropout must lie in [0, 1), got {model.lora_dropout}")
    if model.lora_alpha is not None and model.lora_alpha <= 0.0:
        raise ValueError(f"lora_alpha must be greater than 0, got {model.lora_alpha}")
    for name, unset in (("lora_alpha", None), ("lora_dropout", 0.0), ("lora_targets", "all-linear")):
        value = getattr(model, name)
        if not model.lora_rank and value != unset:
            raise ValueError(f"{name} needs lora_rank, got {name} {value} with lora_rank 0")


def add_adapter(base: PreTrainedModel, model: ModelConfig, seed: int) -> PreTrainedModel | PeftModel:
    """Return a model with a new adapter, or as it is.

    Parameters
    ----------
    base : PreTrainedModel
        The model; its weights are frozen.
    model : ModelConfig
        Rank (0 for none), scale, dropout and layers.
    seed : int
        Seed of the adapter's weights; no global generator moves.

    Returns
    -------
    PreTrainedModel or PeftModel
        The adapter's weights are in float32, and change nothing yet.

    Raises
    ------
    ValueError
        If the output head is among the layers, or there are no such layers.
    """
    if not model.lora_rank:
        return base
    targets: str | list[str] = model.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in model.lora_targets.split(",")]
        head = next(name for name, module in base.named_modules() if module is base.get_output_embeddings())
        if any(head == name or head.endswith("." + name) for name in targets):
            raise ValueError(f"lora_targets must leave out the output head, got {head} among {model.lora_targets}")
    settings = LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_alpha or 2 * model.lora_rank,
        lora_dropout=model.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), _warnings_off():
        torch.default_generator.manual_seed(seed)
        return get_peft_model(base, settings)


def load_adapter(base: PreTrainedModel, folder: Path) -> PeftModel:
    """Return a model with the adapter that a folder holds, for evaluation; peft would take pickled weights too."""
    if not (folder / _WEIGHTS).is_file():
        raise ValueError(f"the weights of an adapter must be in {_WEIGHTS}, got {folder}, which has none")
    with _warnings_off():
        return PeftModel.from_pretrained(base, folder).eval()


@contextmanager
def _warnings_off() -> Iterator[None]:
    """Silence a call within peft to a property that transformers 5.23 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
