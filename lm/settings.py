"""What a user may set, as plain dataclasses: light to import, so that help and refusals come at once.

The fields of all groups and those of `transformers.TrainingArguments` share one flat name space: a YAML file, or
``--field value``. `lm.config.RatioConfig` joins `MethodConfig` to TrainingArguments.
"""

from dataclasses import dataclass, field

__all__ = ["DataConfig", "MethodConfig", "ModelConfig"]


def _field(default: object, text: str) -> object:
    """Return a dataclass field with the text that ``--help`` shows."""
    return field(default=default, metadata={"help": text})


@dataclass
class MethodConfig:
    """The loss and how it is computed; an option that belongs to another method is an error, never ignored.

    None stands for the method's default, so that what the user said can be told from what is usual. See the field
    texts, which are also those of ``python -m lm train --help``.
    """

    method: str = _field("rdro", "sft, rdro, ddro, mle, kto, dpo or ipo")
    alpha: float | str | None = _field(
        None,
        "rdro, ddro, mle: prior of the preferred class in (0, 1); auto (default): share of preferred examples after "
        "filtering; auto_by_prompt: that share at each prompt, one half added to each class; column: the data's own",
    )
    generator: str | None = _field(None, "rdro, ddro: Bregman generator (default logistic)")
    weighting: str | None = _field(
        None, "rdro, ddro, kto: balanced (default), pooled, or balanced_by_prompt; always static, from the whole set"
    )
    beyond_domain: str | None = _field(None, "ddro: infinite (default) or extend, the loss beyond its domain")
    beta: float | None = _field(None, "kto, dpo, ipo: inverse temperature, above 0 (default 0.1)")
    reference: str | None = _field(
        None,
        "precomputed (default): log-probabilities once, before training; frozen: a second model at every step; "
        "adapter_off: the same model without its LoRA adapter; none (default for sft)",
    )
    reference_model: str | None = _field(None, "folder or hub name of the reference (default: the model as it starts)")
    reference_cache: str | None = _field(None, "folder of precomputed log-probabilities (default OUTPUT_DIR/reference)")
    log_probs: str = _field("fused", "fused: tiles of logits, never all; checkpoint and full: slower oracles")
    chunk_mebibytes: int | None = _field(
        None, "size of one tile of logits, at least 1 (default 256; 16 for the fused head on a CPU)"
    )
    padding_free: bool = _field(False, "pack a batch into one row without padding (sdpa, eager or flash attention)")
    on_nonfinite: str = _field(
        "raise", "rows whose loss is not finite: raise (stop and name them) or skip (leave out, counted)"
    )
    check_start: bool = _field(True, "check before the first step that policy = reference, where the loss is known")
    sample_completions: int = _field(0, "completions sampled from held-out prompts at each evaluation, kept in a file")
    sample_new_tokens: int = _field(128, "longest sampled completion in tokens")
    sample_temperature: float = _field(1.0, "temperature of sampled completions; 0 takes the likeliest token each time")


@dataclass
class ModelConfig:
    """The model, its tokenizer and its adapter. Code from the hub is never run (trust_remote_code is off)."""

    model: str = _field("", "folder, hub name, tiny-qwen2 or tiny-llama (random weights, for trials)")
    tokenizer: str | None = _field(None, "folder, hub name, toy or qwen2.5 (offline, extra qwen); default the model's")
    pad_token: str | None = _field(None, "special token that fills batches, where the tokenizer names none")
    model_revision: str | None = _field(None, "revision of a hub model")
    model_dtype: str | None = _field(None, "float32, bfloat16 or float16 (default float32, bfloat16 base with LoRA)")
    attention: str = _field("sdpa", "attention implementation: sdpa, eager, flash_attention_2, flex_attention")
    lora_rank: int = _field(0, "rank of LoRA adapters; 0 trains all weights")
    lora_alpha: float | None = _field(None, "scale of LoRA (default twice the rank)")
    lora_dropout: float = _field(0.0, "dropout of LoRA; anything above 0 makes the loss random")
    lora_targets: str = _field("all-linear", "comma-separated names of layers, or all-linear (never the output head)")


@dataclass
class DataConfig:
    """The data and how rows become tokens."""

    train_data: str = _field("", "JSONL, JSON, Parquet or CSV file, a saved datasets folder, or hub name[:split]")
    eval_data: str | None = _field(None, "held-out rows in the same form")
    max_length: int = _field(1024, "longest prompt plus completion, in tokens")
    overlong: str = _field("drop", "rows that are longer: drop, prompt_left (cut there) or completion_right")
    max_lost: float = _field(0.1, "largest share of rows that may be dropped or cut before it is an error")
    boundary: str = _field("prefix", "prefix: longest common prefix of prompt and whole; separate: tokenised apart")
    max_mismatched: float = _field(0.1, "largest share of rows whose prompt is no token prefix of the whole")
