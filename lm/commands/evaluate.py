"""The command evaluate: what a trained model does on held-out data, and completions for judges."""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from lm.collate import Collator
from lm.completions import check_temperature, distinct_prompts, sample_completions, write_alpaca
from lm.config import RatioConfig, make_ratio_config
from lm.data import load_examples, load_rows
from lm.data.formats import Part, canonical_rows
from lm.evaluation import Estimate, estimates, table
from lm.examples import ExampleSet
from lm.files import write_json
from lm.loading import load_config, load_reference, load_tokenizer, load_trained
from lm.objective import Objective, prepare_examples
from lm.options import Settings
from lm.reference import with_reference
from lm.resume import STATE_FILE, read_state
from lm.scoring import Scoring, completion_log_probs

__all__ = ["evaluate"]


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : Namespace
        ``settings``, ``checkpoint`` (folder of the trained model; None for the output folder) and
        ``completions`` (JSON file; None for none).

    Returns
    -------
    int
        0; what goes wrong is raised.

    Raises
    ------
    OSError
        If a file or a model cannot be read.
    ValueError
        If settings, data or model do not fit.
    """
    settings: Settings = arguments.settings
    config = _config(settings)
    checkpoint = Path(arguments.checkpoint or config.output_dir)
    tokenizer = load_tokenizer(settings.model)
    load_config(settings.model, tokenizer, settings.data.max_length)
    examples = load_examples(settings.data.eval_data, tokenizer, settings.data, pairs=config.resolved.pairs).examples
    model = load_trained(checkpoint, settings.model, tokenizer).to(config.device)

    found, objective = _estimates(settings, config, examples, model, tokenizer, _known_alpha(checkpoint))
    print(table(found))
    alpha = "" if objective.alpha is None else f", alpha {objective.alpha:.4g}"
    print(f"\n{len(examples):,} examples of {settings.data.eval_data}, method {config.method}{alpha}")
    path = checkpoint / "evaluation.json"
    write_json(
        path,
        {
            "checkpoint": str(checkpoint),
            "data": settings.data.eval_data,
            "examples": len(examples),
            "method": config.method,
            "alpha": objective.alpha,
            "estimates": {name: estimate.as_dict() for name, estimate in found.items()},
        },
    )
    print(f"written to {path}")
    if arguments.completions is not None:
        _write_completions(arguments.completions, settings, config, examples, model, tokenizer, checkpoint)
    print(
        f"\nnot run here: BIG-Bench Hard (three examples with reasoning) is run by\n  {_lm_eval(settings, checkpoint)}"
    )
    if arguments.completions is not None:
        print(
            "and the win rate of the completions, by a judge that alpaca_eval asks, by\n  "
            f"alpaca_eval --model_outputs {shlex.quote(arguments.completions)}"
        )
    return 0


def _config(settings: Settings) -> RatioConfig:
    """Return the settings of the run; reference log-probabilities are always those of whole data sets here."""
    ratio = {"disable_tqdm": not sys.stderr.isatty(), **settings.ratio}
    config = make_ratio_config(replace(settings, ratio={**ratio, "reference": "precomputed"}))
    if config.disable_tqdm:
        logging.disable_progress_bar()  # those of files that are read
    if config.world_size > 1:
        raise ValueError(f"evaluate runs in one process, got {config.world_size}: start it without torchrun")
    check_temperature(config.sample_temperature)
    return config


def _known_alpha(checkpoint: Path) -> float | None:
    """Return the alpha that the model was trained with, if it has one and its folder tells."""
    if not (checkpoint / STATE_FILE).is_file():
        return None
    alpha = read_state(checkpoint)["run"]["alpha"]
    return None if alpha is None else float(alpha)


def _estimates(
    settings: Settings,
    config: RatioConfig,
    examples: ExampleSet,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    alpha: float | None,
) -> tuple[dict[str, Estimate], Objective]:
    """Return the estimates, and the objective with the alpha that they are for."""
    prepared, resolved = prepare_examples(examples, config, config.seed, alpha)
    if config.method == "sft":
        prepared = examples  # whose other class has rewards too
    objective = Objective(config.resolved, resolved.alpha)
    collator = Collator(tokenizer.pad_token_id, config.padding_free)
    reference = load_reference(settings.model, tokenizer, config.reference_model).to(config.device)
    prepared = with_reference(prepared, config, reference, None, collator)
    del reference  # whose memory the model may need
    log_probs = completion_log_probs(model, prepared, collator, Scoring.of(config))
    log_ratios = np.asarray(log_probs - prepared.reference_log_probs, dtype=np.float64)
    return estimates(objective, prepared, log_probs, log_ratios), objective


def _write_completions(
    path: str,
    settings: Settings,
    config: RatioConfig,
    examples: ExampleSet,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path,
) -> None:
    """Sample one completion of each different held-out prompt (or of the first sample_completions) and write them."""
    places = distinct_prompts(examples)[: config.sample_completions or None]
    rows = canonical_rows(load_rows(settings.data.eval_data), 1 + max(tokenizer.get_vocab().values())).sequences
    prompts = {row.row: row.prompt for row in rows}
    with torch.autocast(config.device.type, torch.bfloat16, enabled=config.bf16):
        outputs = sample_completions(
            model,
            tokenizer,
            [examples.prompt_ids[place] for place in places],
            max_new_tokens=config.sample_new_tokens,
            temperature=config.sample_temperature,
            seed=config.seed,
            batch_size=config.per_device_eval_batch_size,
        )
    instructions = [_instruction(prompts[int(examples.rows[place])], tokenizer) for place in places]
    write_alpaca(path, instructions, outputs, generator=checkpoint.name, dataset=Path(settings.data.eval_data).stem)
    print(f"{len(outputs):,} completions written to {path}")


def _instruction(prompt: Part, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what a user asked: a text, the last message of a user, or decoded tokens."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, np.ndarray):
        return tokenizer.decode(prompt, skip_special_tokens=True)
    return next(message["content"] for message in reversed(prompt) if message["role"] == "user")


def _lm_eval(settings: Settings, checkpoint: Path) -> str:
    """Return the command of EleutherAI's harness, whose group bbh is the three-shot setting with reasoning."""
    adapter = (checkpoint / "adapter_config.json").is_file()
    model = f"{settings.model.model},peft={checkpoint}" if adapter else str(checkpoint)
    arguments = shlex.quote(f"pretrained={model},dtype=bfloat16")
    return f"lm_eval --model hf --model_args {arguments} --tasks bbh --batch_size auto"
