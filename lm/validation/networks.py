"""The tiny networks of the embedded experiment: exact evaluation, and references trained on the mixture."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_weights
from safetensors.numpy import save as save_weights
from transformers import PreTrainedModel

from lm.exact_language import PreferenceLanguage, random_language
from lm.tiny_models import tiny_qwen2
from lm.validation.experiments import Run, fingerprint
from lm.validation.store import find_checked, save_checked

__all__ = ["language_of", "load_reference", "log_conditionals", "log_prob_table", "stream"]

_BATCH = 128
_LEARNING_RATE = 3e-3
_ROWS = 1024  # sequences evaluated at once


def stream(run: Run, *name: object) -> np.random.Generator:
    """Return a random stream of a repetition; neither the method nor the learning rate is ever in its name."""
    digest = fingerprint([str(part) for part in name])
    words = [int(digest[i : i + 8], 16) for i in range(0, 64, 8)]
    return np.random.default_rng(np.random.SeedSequence(run.seed, spawn_key=(run.replicate, *words)))


def language_of(run: Run) -> PreferenceLanguage:
    """Return the languages of a run: worlds of one size share their random fields."""
    return random_language(stream(run, "language"), **run.world.language)


def network_of(language: PreferenceLanguage) -> PreTrainedModel:
    """Return the untrained network over the language's tokens, which cannot put mass on anything but completions."""
    length = len(language.prompt_ids(0)) + language.longest
    return tiny_qwen2(
        language.symbols + 1,
        eos_token_id=language.end,
        pad_token_id=language.end,
        bos_token_id=None,
        max_position_embeddings=length,
    )


def log_conditionals(
    model: PreTrainedModel,
    language: PreferenceLanguage,
    prompts: NDArray[np.int64],
    completions: NDArray[np.int64],
    *,
    gradient: bool = False,
) -> torch.Tensor:
    """Log-probabilities of the next token at every position of completions.

    Parameters
    ----------
    model : PreTrainedModel
        Network over the language's tokens.
    language : PreferenceLanguage
        The language.
    prompts, completions : ndarray of int
        Shapes (sequences,) and (sequences, longest).
    gradient : bool
        Whether to keep the graph.

    Returns
    -------
    Tensor
        Shape (sequences, longest, symbols + 1), float32; what comes after the end token has no meaning.
    """
    heads = np.stack([language.prompt_ids(x) for x in range(language.prompts)])[prompts]
    tokens = torch.from_numpy(np.concatenate([heads, completions[:, :-1]], axis=1))  # causal: the last predicts nothing
    with torch.set_grad_enabled(gradient):
        logits = model(input_ids=tokens, use_cache=False).logits[:, heads.shape[1] - 1 :]
        return torch.log_softmax(logits, dim=2)


def log_probs(
    model: PreTrainedModel,
    language: PreferenceLanguage,
    prompts: NDArray[np.int64],
    completions: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the log-probability of completions under a network in nats, shape (sequences,), summed in float64."""
    totals = []
    for start in range(0, len(prompts), _ROWS):
        part = slice(start, start + _ROWS)
        steps = log_conditionals(model, language, prompts[part], completions[part]).numpy().astype(np.float64)
        totals.append(taken_steps(steps, completions[part], language.end).sum(axis=1))
    return np.concatenate(totals)


def taken_steps(steps: NDArray[np.float64], completions: NDArray[np.int64], end: int) -> NDArray[np.float64]:
    """Return the log-probability of each token, 0 after the first end token, shape (sequences, longest)."""
    taken = np.take_along_axis(steps, completions[:, :, None], axis=2)[:, :, 0]
    return np.where(alive(completions, end), taken, 0.0)


def alive(completions: NDArray[np.int64], end: int) -> NDArray[np.bool_]:
    """Return which positions still predict something: those up to the first end token, shape (sequences, longest)."""
    before = np.concatenate([np.zeros((len(completions), 1), dtype=bool), completions[:, :-1] == end], axis=1)
    return np.asarray(~before)


def log_prob_table(model: PreTrainedModel, language: PreferenceLanguage) -> NDArray[np.float64]:
    """Return the log-probabilities of all completions under a network, shape (prompts, completions).

    The network sees each prefix that can be continued once: completions that share it share its conditionals.
    """
    everything = language.completions()
    depth, symbols = language.longest - 1, language.symbols
    prefixes = everything[(everything[:, :depth] != language.end).all(axis=1)]
    prefixes = prefixes[prefixes[:, -1] == language.end]  # one row for each word of `depth` symbols
    place = symbols ** np.arange(depth)[::-1]
    rows = np.repeat(np.arange(language.prompts), len(prefixes))
    steps = log_conditionals(model, language, rows, np.tile(prefixes, (language.prompts, 1))).numpy()
    steps = steps.astype(np.float64).reshape(language.prompts, len(prefixes), language.longest, symbols + 1)
    # A completion's prefix, filled up with symbol 0, is a word: what it is filled with comes later and plays no role.
    word = (np.where(everything[:, :depth] == language.end, 0, everything[:, :depth]) * place).sum(axis=1)
    taken = steps[:, word[:, None], np.arange(language.longest), everything]  # [prompts, completions, longest]
    return np.asarray(np.where(alive(everything, language.end), taken, 0.0).sum(axis=2))


def train_reference(run: Run) -> dict[str, NDArray[np.float32]]:
    """Train a network on fresh samples of the mixture, and return its weights.

    The target at each position is the exact conditional law of the mixture, not the token drawn: the gradient has the
    same mean and less noise. Adam, with a learning rate that falls to 0.
    """
    language, rng = language_of(run), stream(run, "reference")
    model = network_of(language).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, run.pretraining_steps)
    for _ in range(run.pretraining_steps):
        sample = language.sample_mixture(_BATCH, rng)
        target = np.exp(language.log_mixture_conditionals(sample.prompts, sample.completions))
        target *= alive(sample.completions, language.end)[:, :, None]
        steps = log_conditionals(model, language, sample.prompts, sample.completions, gradient=True)
        loss = -(torch.from_numpy(target.astype(np.float32)) * steps).sum() / _BATCH
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def ensure_reference(run: Run, folder: Path) -> None:
    """Train a run's reference unless the folder has it."""
    key = run.reference_key
    if find_checked(folder, key) is None:
        content = save_weights(train_reference(run), metadata={"run": json.dumps(str(run))})
        save_checked(folder, key, content, "safetensors")


@lru_cache(maxsize=4)
def _weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the weights in a file."""
    return dict(load_weights(path.read_bytes()))


def load_reference(run: Run, folder: Path) -> PreTrainedModel:
    """Return a fresh copy of a run's reference network.

    Raises
    ------
    FileNotFoundError
        If it was not trained.
    """
    path = find_checked(folder, run.reference_key)
    if path is None:
        raise FileNotFoundError(f"the reference of a run must be trained first, got none for {run} in {folder}")
    model = network_of(language_of(run))
    weights = {name: torch.from_numpy(value.copy()) for name, value in _weights(path).items()}
    model.load_state_dict(weights, strict=False)  # tied weights have one name among the parameters
    return model
