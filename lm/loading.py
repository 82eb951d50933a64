"""Tokenizers and models as a user names them: from a folder, the hub, or tiny with random weights.

What can be told from a model's configuration is checked before any weight is read.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils.peft_utils import find_adapter_config_file

from lm.adapters import add_adapter, check_adapter, load_adapter
from lm.settings import ModelConfig
from lm.tiny_models import tiny_llama, tiny_qwen2
from lm.tokenizers import qwen25_tokenizer, toy_tokenizer
from theory.checks import check_choice

__all__ = ["load_config", "load_model", "load_reference", "load_tokenizer", "load_trained", "meta_model"]

_TINY = {"tiny-qwen2": (tiny_qwen2, "qwen2.5"), "tiny-llama": (tiny_llama, "llama-3")}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model, or the one that is named instead.

    Parameters
    ----------
    model : ModelConfig
        What the user said.

    Returns
    -------
    PreTrainedTokenizerBase
        With a padding token.

    Raises
    ------
    OSError
        If there is no such tokenizer.
    ImportError
        If the offline tokenizer of Qwen2.5 is not installed.
    ValueError
        If it has no padding token, or the one given is not a token of it.

    Examples
    --------
    >>> len(load_tokenizer(ModelConfig(model="tiny-llama")))
    261
    """
    name = model.tokenizer or model.model
    if name == "qwen2.5":
        tokenizer: PreTrainedTokenizerBase = qwen25_tokenizer()
    elif name == "toy" or name in _TINY:
        tokenizer = toy_tokenizer(_TINY.get(model.model, _TINY["tiny-qwen2"])[1])
    else:
        _check_folder("tokenizer" if model.tokenizer else "model", name)
        revision = None if model.tokenizer else model.model_revision
        with _naming("tokenizer", name):
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if model.pad_token is not None:
        if model.pad_token not in tokenizer.get_vocab():
            raise ValueError(f"pad_token must be a token of the tokenizer {name}, got {model.pad_token!r}")
        tokenizer.pad_token = model.pad_token
    if tokenizer.pad_token_id is None:
        special = ", ".join(token for token in tokenizer.all_special_tokens[:4]) or "none"
        raise ValueError(
            f"tokenizer {name} must have a padding token, got none: set pad_token (its special tokens: {special}, ...)"
        )
    return tokenizer


def load_config(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> PreTrainedConfig:
    """Return the configuration of a model after all checks that need no weights.

    Parameters
    ----------
    model : ModelConfig
        What the user said.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the data.
    max_length : int, optional
        Longest sequence of the data, in tokens.

    Returns
    -------
    PreTrainedConfig
        Without dropout of any kind.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If options do not fit each other, the model is an adapter, its vocabulary is smaller than an id of the
        tokenizer, or it is made for shorter sequences.

    Examples
    --------
    >>> model = ModelConfig(model="tiny-qwen2")
    >>> load_config(model, load_tokenizer(model), max_length=4096)
    Traceback (most recent call last):
    ...
    ValueError: max_length must be at most 2048, what tiny-qwen2 is made for, got 4096
    """
    _check_options(model)
    config = _read_config(model, tokenizer)
    sizes = config.get_text_config()
    largest = max(tokenizer.get_vocab().values())
    if largest >= sizes.vocab_size:
        raise ValueError(
            f"the vocabulary of {model.model} must hold every id of the tokenizer, got {sizes.vocab_size} rows and id "
            f"{largest}: is it the model's own tokenizer?"
        )
    limit = getattr(sizes, "max_position_embeddings", None)
    if max_length is not None and limit is not None and max_length > limit:
        raise ValueError(f"max_length must be at most {limit}, what {model.model} is made for, got {max_length}")
    return config


def load_model(model: ModelConfig, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0) -> PreTrainedModel | PeftModel:
    """Return the model to train: no dropout, the right precision, and its LoRA adapter if there is one.

    Parameters
    ----------
    model : ModelConfig
        What the user said.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the data.
    seed : int
        Seed of the adapter's first weights; no global generator moves.

    Returns
    -------
    PreTrainedModel or PeftModel
        On the CPU. Weights in float32 when all of them are trained, since steps of a learning rate such as 5e-7 are
        lost in the rounding of half precision (computing in bfloat16 is `bf16: true`); with LoRA the frozen weights
        are in bfloat16 and the adapter is in float32. DeepSpeed trains bfloat16 weights by a copy in float32.

    Raises
    ------
    OSError, ValueError
        As `load_config`.

    Examples
    --------
    >>> settings = ModelConfig(model="tiny-qwen2", lora_rank=2)
    >>> model = load_model(settings, load_tokenizer(settings))
    >>> sorted({str(p.dtype) for p in model.parameters() if p.requires_grad})
    ['torch.float32']
    """
    config = load_config(model, tokenizer)
    if _dtype_name(model) == "bfloat16" and not model.lora_rank and not is_deepspeed_zero3_enabled():
        warnings.warn(
            "all weights are trained in bfloat16: steps below 1/256 of a weight are lost; leave model_dtype out and "
            "set bf16 for float32 weights that compute in bfloat16",
            stacklevel=2,
        )
    return add_adapter(_load_weights(model.model, model, config, tokenizer), model, seed)


def load_reference(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, reference_model: str | None = None
) -> PreTrainedModel:
    """Return a frozen reference, in the precision of the policy, so that both are equal where their weights are.

    Parameters
    ----------
    model : ModelConfig
        The policy.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the data.
    reference_model : str, optional
        Folder or hub name; default the policy as it starts.

    Returns
    -------
    PreTrainedModel
        Without adapter and without gradients.

    Raises
    ------
    OSError, ValueError
        As `load_config`.

    Examples
    --------
    >>> settings = ModelConfig(model="tiny-qwen2")
    >>> any(p.requires_grad for p in load_reference(settings, load_tokenizer(settings)).parameters())
    False
    """
    frozen = replace(model, lora_rank=0, lora_alpha=None, lora_dropout=0.0, model_dtype=_dtype_name(model))
    if reference_model is not None:
        frozen = replace(frozen, model=reference_model, model_revision=None)
    config = _read_config(frozen, tokenizer)
    return _load_weights(frozen.model, frozen, config, tokenizer).requires_grad_(False)


def load_trained(
    checkpoint: str | Path, model: ModelConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel | PeftModel:
    """Return a model that was trained: what `Trainer.save_model` wrote, or a checkpoint.

    Parameters
    ----------
    checkpoint : path
        Folder with weights, or with a LoRA adapter of `model`.
    model : ModelConfig
        The settings it was trained with.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the data.

    Returns
    -------
    PreTrainedModel or PeftModel
        For evaluation.

    Raises
    ------
    OSError, ValueError
        As `load_config`, and if the folder holds neither.
    """
    folder = Path(checkpoint)
    if (folder / "adapter_config.json").is_file():
        base = _load_weights(model.model, model, _read_config(model, tokenizer), tokenizer)
        return load_adapter(base, folder)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"checkpoint must hold a model (config.json) or an adapter (adapter_config.json), got {folder}"
        )
    trained = replace(model, model=str(folder), model_revision=None)
    return _load_weights(str(folder), trained, _read_config(trained, tokenizer), tokenizer)


def meta_model(config: PreTrainedConfig, model: ModelConfig) -> PreTrainedModel | PeftModel:
    """Return the model of a configuration, with its adapter, without storage: shapes and names only.

    Parameters
    ----------
    config : PreTrainedConfig
        Architecture.
    model : ModelConfig
        Precision, attention and adapter.

    Returns
    -------
    PreTrainedModel or PeftModel
        On the device "meta".

    Raises
    ------
    ValueError
        If options do not fit each other.

    Examples
    --------
    >>> from transformers import Qwen2Config
    >>> meta_model(Qwen2Config(num_hidden_layers=1), ModelConfig(model="any")).num_parameters()
    1582325760
    """
    _check_options(model)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(
            _without_dropout(config), dtype=_DTYPES[_dtype_name(model)], attn_implementation=model.attention
        )
        return add_adapter(base, model, seed=0)


def _check_options(model: ModelConfig) -> None:
    """Refuse options that are out of range or do not fit each other."""
    check_choice("attention", model.attention, _ATTENTION)
    if model.model_dtype is not None:
        check_choice("model_dtype", model.model_dtype, tuple(_DTYPES))
    check_adapter(model)
    if model.lora_rank:
        return
    if model.model_dtype == "float16":
        raise ValueError(
            "model_dtype must be float32 or bfloat16 where all weights are trained, got float16: its small gradients "
            "vanish and fp16 mixed precision refuses it; leave model_dtype out and set bf16 or fp16"
        )


def _dtype_name(model: ModelConfig) -> str:
    """Return the precision of the weights that are read."""
    return model.model_dtype or ("bfloat16" if model.lora_rank else "float32")


def _check_folder(field: str, name: str) -> None:
    """Refuse what is neither a folder nor a hub name before the hub is asked for it."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~", "tiny-")) or name.count("/") > 1):
        raise ValueError(
            f"{field} must be a folder, a hub name or one of {', '.join(_TINY)}, got {name!r}, and there is no such "
            "folder"
        )


def _read_config(model: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Return the configuration of a whole model, without dropout."""
    if model.model in _TINY:
        return _tiny(model.model, tokenizer).config
    _check_folder("model", model.model)
    if find_adapter_config_file(model.model, revision=model.model_revision) is not None:
        raise ValueError(
            f"model must be a whole model, got an adapter in {model.model}: it is unclear whether the reference has "
            "it; merge it into its base (peft's merge_and_unload), save that and name its folder"
        )
    with _naming("model", model.model):
        config = AutoConfig.from_pretrained(model.model, revision=model.model_revision, trust_remote_code=False)
    return _without_dropout(config)


@contextmanager
def _naming(kind: str, name: str) -> Iterator[None]:
    """Put the name of what could not be read before the reason."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{kind} {name} cannot be read: {error}") from error


def _without_dropout(config: PreTrainedConfig) -> PreTrainedConfig:
    """Set every kind of dropout to 0, that inside attention functions included; nested configurations too."""
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        for name, value in vars(part).items():
            if "drop" in name and isinstance(value, float):
                setattr(part, name, 0.0)
    return config


def _tiny(name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return a tiny model for a tokenizer."""
    special: dict[str, Any] = {
        f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")
    }
    return _TINY[name][0](max(tokenizer.get_vocab().values()) + 1, **special)


def _load_weights(
    name: str, model: ModelConfig, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Return a model in its precision, for evaluation, without dropout."""
    dtype = _DTYPES[_dtype_name(model)]
    if name in _TINY:
        loaded = _tiny(name, tokenizer).to(dtype)
        loaded.set_attn_implementation(model.attention)
    else:
        loaded = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            revision=model.model_revision,
            dtype=dtype,
            attn_implementation=model.attention,
            use_safetensors=True,
            trust_remote_code=False,
        )
    return loaded.eval()
