"""Trainings of tiny models on toy examples, for tests of the trainer."""

import dataclasses
import warnings

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from lm.collate import Collator
from lm.config import RatioConfig
from lm.output_head import LogProbHead
from lm.tiny_models import tiny_qwen2
from lm.trainer import RatioTrainer
from tests.lm.toy_examples import VOCABULARY

# Sums of at most 30 float32 gradients of size 1 in another order: some tens of roundings of 6e-8.
CLOSE = {"rtol": 0.0, "atol": 5e-6}


def model_of(**options):
    """Return the same small model every time."""
    return tiny_qwen2(VOCABULARY, hidden_size=16, layers=1, **options)


def log_probs_of(model, examples):
    """Return log-probabilities of all sequences from the whole logits, as an oracle."""
    batch = Collator(pad_token_id=0)([examples[i] for i in range(len(examples))])
    with LogProbHead(model, mode="full") as head, torch.no_grad():
        return head.sequence_log_probs(model, batch).numpy()


def with_reference(examples, model=None):
    """Return examples with reference log-probabilities."""
    return dataclasses.replace(examples, reference_log_probs=log_probs_of(model or model_of(), examples))


def weights_of(trainer):
    """Return all weights in one vector."""
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def move_reference(trainer, distance, sequence=slice(None)):
    """Add to reference log-probabilities that the trainer has accepted already."""
    reference = trainer.train_dataset.reference_log_probs.copy()
    reference[sequence] += np.float32(distance)
    trainer.train_dataset = dataclasses.replace(trainer.train_dataset, reference_log_probs=reference)


def logged(trainer, name="loss"):
    """Return a metric's values over the run."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def adapted(dropout=0.0):
    """Return the model with a LoRA adapter that does nothing yet, every time anew."""
    torch.manual_seed(0)
    with warnings.catch_warnings():  # peft 0.21 asks for a property that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        return get_peft_model(
            model_of(), LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", lora_dropout=dropout)
        )


def make_trainer(folder, examples, model=None, eval_dataset=None, reference_model=None, learning_rate=0.1, **settings):
    """Return a trainer with plain gradient descent, by default for one step."""
    usual = {"max_steps": 1, "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "max_grad_norm": 0.0}
    args = RatioConfig(output_dir=str(folder), use_cpu=True, **{**usual, **settings})
    model = model_of() if model is None else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=learning_rate)
    still = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    return RatioTrainer(model, args, examples, eval_dataset, None, reference_model, None, (optimizer, still))
