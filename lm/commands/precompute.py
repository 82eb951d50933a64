"""The command precompute: log-probabilities of the data under the reference, once, for any number of runs."""

import argparse
import sys
from dataclasses import replace

import numpy as np
from transformers.utils import logging

from lm.collate import Collator
from lm.config import make_ratio_config
from lm.data import load_examples
from lm.examples import ExampleSet
from lm.loading import load_config, load_reference, load_tokenizer
from lm.objective import prepare_examples
from lm.reference import with_reference

__all__ = ["precompute"]


def precompute(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : Namespace
        ``settings``.

    Returns
    -------
    int
        0; what goes wrong is raised.

    Raises
    ------
    OSError
        If a file or a model cannot be read.
    ValueError
        If settings, data or model do not fit, or the method's reference is asked at every step.
    """
    settings = arguments.settings
    config = make_ratio_config(replace(settings, ratio={"disable_tqdm": not sys.stderr.isatty(), **settings.ratio}))
    if config.disable_tqdm:
        logging.disable_progress_bar()  # those of files that are read
    if config.resolved.reference != "precomputed":
        raise ValueError(
            f"precompute is for reference precomputed, got {config.resolved.reference} of method {config.method}"
        )
    tokenizer = load_tokenizer(settings.model)
    load_config(settings.model, tokenizer, settings.data.max_length)
    sources = {"train": settings.data.train_data, "eval": settings.data.eval_data}
    data: dict[str, ExampleSet] = {}
    alpha = None
    for part, source in sources.items():
        if source is not None:
            examples = load_examples(source, tokenizer, settings.data, pairs=config.resolved.pairs).examples
            data[part], resolved = prepare_examples(examples, config, config.seed, alpha)
            alpha = resolved.alpha
    model = load_reference(settings.model, tokenizer, config.reference_model).to(config.device)
    collator = Collator(tokenizer.pad_token_id, config.padding_free)
    for part, examples in data.items():
        complete = with_reference(examples, config, model, None, collator)
        if config.process_index == 0:
            print(f"{part}: {_summary(examples, complete)}", flush=True)
    return 0


def _summary(examples: ExampleSet, complete: ExampleSet) -> str:
    """Return what the reference makes of a data set."""
    values = complete.reference_log_probs
    tokens = np.array([len(ids) for ids in complete.completion_ids])
    source = "the data's own" if examples.reference_log_probs is not None else "computed, or found"
    means = [
        f"{name} {values[members].sum() / tokens[members].sum():.4f}"
        for name, members in (("preferred", complete.preferred), ("other", ~complete.preferred))
        if members.any()
    ]
    return f"{len(values):,} reference log-probabilities ({source}), nats per token: {', '.join(means)}"
