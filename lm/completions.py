"""Completions sampled from a model: for a look during training, and in AlpacaEval's form for judges."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from lm.examples import ExampleSet
from lm.files import replacing, write_json
from lm.scoring import evaluating
from lm.settings import MethodConfig

__all__ = ["SampleCompletions", "check_temperature", "distinct_prompts", "sample_completions", "write_alpaca"]

_SAMPLES = "samples.jsonl"


def distinct_prompts(examples: ExampleSet) -> list[int]:
    """Return the place of the first sequence of each prompt.

    Examples
    --------
    >>> ids = [np.array([i], dtype=np.int32) for i in (5, 5, 6)]
    >>> distinct_prompts(ExampleSet(ids, ids, np.array([True, False, True]), np.arange(3)))
    [0, 2]
    """
    first: dict[bytes, int] = {}
    for place, ids in enumerate(examples.prompt_ids):
        first.setdefault(np.asarray(ids, np.int32).tobytes(), place)
    return list(first.values())


def sample_completions(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 8,
) -> list[str]:
    """Sample one completion of each prompt.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The model; it is left in the mode it was in.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer, with padding and end tokens.
    prompts : sequence of ndarray
        Token ids.
    max_new_tokens : int
        Longest completion, at least 1.
    temperature : float
        Logits are divided by it; 0 takes the likeliest token each time. Nothing else changes the model's law: the
        top-k and top-p of its generation configuration are not used.
    seed : int
        Seed of the samples; no global generator moves.
    batch_size : int
        Prompts at a time.

    Returns
    -------
    list of str
        Completions without special tokens.

    Raises
    ------
    ValueError
        If the temperature is negative or not finite.

    Examples
    --------
    >>> from lm.tiny_models import tiny_qwen2
    >>> from lm.tokenizers import toy_tokenizer
    >>> tokenizer = toy_tokenizer()
    >>> model = tiny_qwen2(len(tokenizer), hidden_size=8, layers=1)
    >>> prompt = np.array(tokenizer("2+2=").input_ids, dtype=np.int32)
    >>> len(sample_completions(model, tokenizer, [prompt], max_new_tokens=4))
    1
    """
    check_temperature(temperature)
    device = next(model.parameters()).device
    settings = _law(model, tokenizer, max_new_tokens, temperature)
    texts: list[str] = []
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluating(model):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        for start in range(0, len(prompts), batch_size):
            ids, mask = _left_padded(prompts[start : start + batch_size], tokenizer.pad_token_id)
            new = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=settings)
            texts += tokenizer.batch_decode(new[:, ids.shape[1] :], skip_special_tokens=True)
    return texts


def check_temperature(temperature: float) -> float:
    """Return a temperature, or raise a ValueError if it is negative or not finite."""
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"sample_temperature must be finite and not negative, got {temperature}")
    return temperature


def write_alpaca(
    path: str | Path, instructions: Sequence[str], outputs: Sequence[str], generator: str, dataset: str
) -> None:
    """Write completions as AlpacaEval reads them: a JSON list of instruction, output, generator and dataset.

    Parameters
    ----------
    path : path
        The file; it is written whole or not at all.
    instructions, outputs : sequence of str
        What was asked, and the completions.
    generator : str
        Name of the model.
    dataset : str
        Where the instructions come from.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_alpaca(f"{folder}/a.json", ["2+2?"], ["4"], "ours", "sums")
    ...     json.loads(Path(folder, "a.json").read_text())[0]["output"]
    '4'
    """
    write_json(
        path,
        [
            {"instruction": instruction, "output": output, "generator": generator, "dataset": dataset}
            for instruction, output in zip(instructions, outputs, strict=True)
        ],
    )


class SampleCompletions(TrainerCallback):
    """Sample completions of held-out prompts at each evaluation, into OUTPUT_DIR/samples.jsonl.

    One line each: step, prompt and completion. The prompts and the seed are the same every time. A resumed run drops
    the lines of steps that it will do again.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer.
    examples : ExampleSet
        The held-out set.
    config : MethodConfig
        How many prompts, the first distinct ones; longest completion, and temperature.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, examples: ExampleSet, config: MethodConfig) -> None:
        self._tokenizer = tokenizer
        self._prompts = [examples.prompt_ids[i] for i in distinct_prompts(examples)[: config.sample_completions]]
        self._max_new_tokens = config.sample_new_tokens
        self._temperature = check_temperature(config.sample_temperature)
        self._last_step = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget the samples of steps that are still to come."""
        path = Path(args.output_dir) / _SAMPLES
        if state.is_world_process_zero and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            done = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            with replacing(path) as draft:
                draft.write_text("".join(done), encoding="utf-8")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Sample in all processes, as models may be split among them; the first one writes. Once a step is enough."""
        if state.global_step == self._last_step:
            return
        self._last_step = state.global_step
        completions = sample_completions(
            model,
            self._tokenizer,
            self._prompts,
            max_new_tokens=self._max_new_tokens,
            temperature=self._temperature,
            seed=args.seed,
        )
        if not state.is_world_process_zero:
            return
        prompts = self._tokenizer.batch_decode(self._prompts)
        path = Path(args.output_dir) / _SAMPLES
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for prompt, completion in zip(prompts, completions, strict=True):
                line = {"step": state.global_step, "prompt": prompt, "completion": completion}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _law(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, temperature: float
) -> GenerationConfig:
    """Return settings of generation; what they leave open would come from the model's own."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    sampled = temperature > 0
    return GenerationConfig(
        do_sample=sampled,
        temperature=temperature if sampled else 1.0,
        top_k=0 if sampled else 50,  # both are off; 50 is the default, which greedy search does not complain about
        top_p=1.0,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )


def _left_padded(prompts: Sequence[np.ndarray], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids [prompts, time] that end together, and their attention mask."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_token_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
        mask[row, longest - len(prompt) :] = 1
    return ids, mask
