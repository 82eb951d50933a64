"""Tiny causal language models with random weights, for tests, trials and the embedded experiment."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

__all__ = ["tiny_llama", "tiny_qwen2"]


def tiny_qwen2(
    vocabulary: int, hidden_size: int = 64, layers: int = 2, seed: int = 0, tie: bool = True, **settings: Any
) -> PreTrainedModel:
    """Qwen2 with random weights.

    Parameters
    ----------
    vocabulary : int
        Number of token ids.
    hidden_size : int
        Width, a multiple of 8, for 4 attention heads (2 of keys and values).
    layers : int
        Number of decoder layers.
    seed : int
        Seed of the weights; the same on every call, and no global generator moves.
    tie : bool
        Whether input embedding and output head share one matrix.
    **settings
        Further fields of `transformers.Qwen2Config`, such as eos_token_id, pad_token_id, max_position_embeddings.

    Returns
    -------
    Qwen2ForCausalLM
        Model in float32 on the CPU, in evaluation mode.

    Raises
    ------
    ValueError
        If `hidden_size` is not a multiple of 8.

    Examples
    --------
    >>> model = tiny_qwen2(vocabulary=32, eos_token_id=1, pad_token_id=0)
    >>> sum(parameter.numel() for parameter in model.parameters())
    76352
    """
    return _build(Qwen2ForCausalLM, Qwen2Config, vocabulary, hidden_size, layers, seed, tie, settings)


def tiny_llama(
    vocabulary: int, hidden_size: int = 64, layers: int = 2, seed: int = 0, tie: bool = False, **settings: Any
) -> PreTrainedModel:
    """Llama with random weights.

    Parameters
    ----------
    vocabulary : int
        Number of token ids.
    hidden_size : int
        Width, a multiple of 8, for 4 attention heads (2 of keys and values).
    layers : int
        Number of decoder layers.
    seed : int
        Seed of the weights; the same on every call, and no global generator moves.
    tie : bool
        Whether input embedding and output head share one matrix.
    **settings
        Further fields of `transformers.LlamaConfig`, such as eos_token_id, pad_token_id, max_position_embeddings.

    Returns
    -------
    LlamaForCausalLM
        Model in float32 on the CPU, in evaluation mode.

    Raises
    ------
    ValueError
        If `hidden_size` is not a multiple of 8.

    Examples
    --------
    >>> tiny_llama(vocabulary=32).lm_head.weight.shape
    torch.Size([32, 64])
    """
    return _build(LlamaForCausalLM, LlamaConfig, vocabulary, hidden_size, layers, seed, tie, settings)


def _build(
    model_class: type[PreTrainedModel],
    config_class: type[Any],
    vocabulary: int,
    hidden_size: int,
    layers: int,
    seed: int,
    tie: bool,
    settings: dict[str, Any],
) -> PreTrainedModel:
    """Return a model of the given sizes."""
    if hidden_size % 8 or hidden_size < 8:
        raise ValueError(f"hidden_size must be a multiple of 8, got {hidden_size}")
    usual = {
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": tie,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    # The CPU's generator alone: torch.manual_seed would move those of the accelerators too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return model_class(config_class(**usual | settings)).eval()
