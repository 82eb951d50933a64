"""The command train: settings and data are checked first, then a model is loaded, trained, evaluated and saved."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from lm.completions import SampleCompletions
from lm.config import RatioConfig, make_ratio_config
from lm.data import Tokenised, load_examples
from lm.evaluation import trainer_estimates
from lm.files import locked
from lm.loading import load_config, load_model, load_reference, load_tokenizer
from lm.model_card import model_card, write_model_card
from lm.objective import Resolved, prepare_examples
from lm.options import Settings, ratio_arguments, save_settings
from lm.resume import STATE_FILE, last_checkpoint
from lm.settings import DataConfig
from lm.trainer import RatioTrainer

__all__ = ["train"]

_AGAIN = "the same command with --resume_from_checkpoint true"
_TORCH_WRITER = "inline_container.cc"  # where torch.save, on a full disk, raises no OSError


def train(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : Namespace
        ``settings``.

    Returns
    -------
    int
        0; what goes wrong is raised.
    """
    settings: Settings = arguments.settings
    settings = replace(settings, ratio=ratio_arguments(settings))
    config = _config(settings)
    main_process = config.process_index == 0
    _resume(config)  # refused before anything is written
    tokenizer = load_tokenizer(settings.model)
    load_config(settings.model, tokenizer, settings.data.max_length)
    data = _load_data(settings.data, config, tokenizer)
    _, resolved = prepare_examples(data["train"].examples, config, config.seed)
    if main_process:
        print(_summary(data, resolved), flush=True)
    with locked(Path(config.output_dir)) if main_process else nullcontext():
        resume = _resume(config)  # again, now that nobody else can write there
        trainer = _trainer(settings, config, tokenizer, data)
        with _told(config):
            if main_process:
                settings.ratio.pop("resume_from_checkpoint", None)
                save_settings(settings, Path(config.output_dir) / "settings.yaml")
            trainer.train(resume_from_checkpoint=resume)
            _finish(trainer, settings, data)
    if main_process:
        print(f"model, tokenizer and model card: {config.output_dir}")
    return 0


def _config(settings: Settings) -> RatioConfig:
    """Return the training settings, without progress bars where nobody watches; refuse what cannot go together."""
    watched = sys.stderr.isatty()
    config = make_ratio_config(replace(settings, ratio={"disable_tqdm": not watched, **settings.ratio}))
    if config.disable_tqdm:
        logging.disable_progress_bar()  # those of files that are read and written
    if config.resolved.reference == "adapter_off" and not settings.model.lora_rank:
        raise ValueError("reference adapter_off needs an adapter, got lora_rank 0")
    if settings.data.eval_data is None:
        for name, off in (("eval_strategy", "no"), ("sample_completions", 0)):
            value = getattr(config, name)
            if value != off:
                raise ValueError(f"{name} needs eval_data, got {name} {getattr(value, 'value', value)} without it")
    return config


def _resume(config: RatioConfig) -> str | None:
    """Return the checkpoint to go on from; refuse to mix a new run with an old one."""
    asked = config.resume_from_checkpoint
    folder = Path(config.output_dir)
    last = last_checkpoint(folder)
    if not asked:
        if last is not None or (folder / STATE_FILE).exists():
            raise ValueError(
                f"output_dir must be free for a new run, got {folder} with an earlier one: go on with it by "
                "--resume_from_checkpoint true, name another output_dir, or delete it"
            )
        return None
    if asked is True:
        if last is None:
            raise ValueError(
                f"resuming needs a complete checkpoint, got none in {folder}: leave resume_from_checkpoint out to start"
            )
        return last
    if not (Path(asked) / "trainer_state.json").is_file():
        raise ValueError(f"resume_from_checkpoint must be true or the folder of a checkpoint, got {asked}")
    return str(asked)


def _load_data(data: DataConfig, config: RatioConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tokenised]:
    """Return the tokenised training set and, if there is one, held-out set."""
    sources = {"train": data.train_data, "eval": data.eval_data}
    return {
        part: load_examples(source, tokenizer, data, pairs=config.resolved.pairs)
        for part, source in sources.items()
        if source is not None
    }


def _summary(data: dict[str, Tokenised], resolved: Resolved) -> str:
    """Return one line for each data set and one for what follows from it."""
    lines = []
    for part, tokenised in data.items():
        report = tokenised.report
        lost = f", {report.dropped_overlong} dropped and {report.cut} cut as too long"
        lines.append(
            f"{part}: {report.kept} examples, {report.preferred} sequences preferred and {report.nonpreferred} not, "
            f"{report.tokens} tokens{lost if report.dropped_overlong or report.cut else ''}"
        )
    found = []
    if resolved.alpha is not None:
        found.append(f"alpha {resolved.alpha:.4g}")
    elif resolved.alpha_range is not None:
        found.append("alpha from {:.4g} to {:.4g}".format(*resolved.alpha_range))
    if resolved.class_weights is not None:
        found.append("weight {:.4g} for preferred and {:.4g} for other sequences".format(*resolved.class_weights))
    return "\n".join([*lines, *(["; ".join(found)] if found else [])])


def _trainer(
    settings: Settings, config: RatioConfig, tokenizer: PreTrainedTokenizerBase, data: dict[str, Tokenised]
) -> RatioTrainer:
    """Return the trainer with its models."""
    model = load_model(settings.model, tokenizer, seed=config.seed)
    reference = None
    if config.reference_model is not None:
        reference = load_reference(settings.model, tokenizer, config.reference_model)
    callbacks = []
    if config.sample_completions:
        callbacks = [SampleCompletions(tokenizer, data["eval"].examples, config)]
    return RatioTrainer(
        model,
        config,
        data["train"].examples,
        eval_dataset=data["eval"].examples if "eval" in data else None,
        processing_class=tokenizer,
        reference_model=reference,
        callbacks=callbacks,
    )


@contextmanager
def _told(config: RatioConfig) -> Iterator[None]:
    """Tell a user whose run is cut short, by Ctrl-C or a full disk, what is saved and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, OSError, RuntimeError, SafetensorError) as stop:
        if type(stop) is RuntimeError and _TORCH_WRITER not in str(stop):
            raise
        last = last_checkpoint(config.output_dir)
        told = (
            "no checkpoint was saved yet; start again by the same command"
            if last is None
            else f"{last} is saved; go on by {_AGAIN}"
        )
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(told) from None
        raise OSError(f"training must be able to write to {config.output_dir}, got: {stop}; {told}") from stop


def _finish(trainer: RatioTrainer, settings: Settings, data: dict[str, Tokenised]) -> None:
    """Evaluate the trained model, and save it with its tokenizer, results and model card."""
    results = {}
    if "eval" in data:
        metrics, results = trainer_estimates(trainer)
        trainer.save_metrics("eval", metrics)
    trainer.save_state()
    trainer.save_model()
    if trainer.is_world_process_zero():
        reports = {part: tokenised.report for part, tokenised in data.items()}
        card = model_card(settings.model, trainer.args, trainer.resolved, reports, results, trainer.state.global_step)
        write_model_card(trainer.args.output_dir, card)
