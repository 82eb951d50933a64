"""One training run of an experiment, through the real trainer."""

import gc
import logging
import tempfile
import time
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainerControl, TrainerState

from lm.callbacks import NonFiniteLossError
from lm.config import RatioConfig
from lm.exact_language import PreferenceLanguage, random_language
from lm.examples import ExampleSet
from lm.method import PAIR_METHODS, RATIO_METHODS
from lm.objective import mismatched_examples
from lm.trainer import RatioTrainer
from lm.validation.experiments import Run
from lm.validation.networks import language_of, load_reference, log_prob_table, log_probs, stream
from lm.validation.outcome import LARGEST, Outcome, Score
from lm.validation.scores import exact_target, is_enumerable, scorer_of, true_alpha
from theory.checks import check_choice

__all__ = ["check_run", "prepare_process", "train"]

_EVALUATION_BATCH = 250


def train(run: Run, references: Path) -> Outcome:
    """Fine-tune the reference by a method and measure how far it ends from the exact laws.

    Parameters
    ----------
    run : Run
        The run.
    references : Path
        Folder that holds its reference, see `lm.validation.networks.ensure_reference`.

    Returns
    -------
    Outcome
        Measurements before the first step, at each evaluation, and over the whole run. A loss that is not finite ends
        the run, which counts as diverged; the last measurements are then those of the weights before that step.
    """
    started = time.perf_counter()
    outcome = Outcome()
    language, model = language_of(run), load_reference(run, references)
    target = None
    if is_enumerable(language):
        target = exact_target(language, run.method, _log_reference_table(run, language, model))
    judge = scorer_of(language, stream(run, "evaluation", run.world.language), target)
    # Before the first step: the reference's own distance from p+ and from what it should be.
    outcome.add(0, judge.preferred(model) | {"kl_mixture": judge.mixture(model)})
    train_set = _data(run, language, model, "data", run.n)
    held_out = _data(run, language, model, "held out", run.held_out)
    watch = _Watch(outcome, judge)
    with tempfile.TemporaryDirectory() as folder:
        trainer = RatioTrainer(
            model=model,
            args=_config(run, language, folder),
            train_dataset=train_set,
            eval_dataset=held_out,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        outcome.seconds["preparing"] = time.perf_counter() - started
        try:
            trainer.train()
        except NonFiniteLossError as error:
            outcome.status, outcome.message = "diverged", str(error)
            # The step was not taken and not logged, but its log-ratios are what it ended on.
            trainer.state.log_history.append({"logratio/max_abs": float(np.abs(error.log_ratios).max())})
    last = judge.preferred(trainer.model)["kl_preferred"]
    outcome.steps = trainer.state.global_step
    outcome.add(run.steps, _over_the_run(trainer.state.log_history, outcome, last))
    outcome.seconds["measuring"] = watch.seconds
    outcome.seconds["training"] = time.perf_counter() - started - outcome.seconds["preparing"] - watch.seconds
    return outcome


def check_run(run: Run) -> None:
    """Raise unless the settings of a run are valid; nothing is trained and nothing written.

    Parameters
    ----------
    run : Run
        The run.

    Raises
    ------
    ValueError, TypeError
        If a setting of the language, the method or the trainer is unknown (the nearest is named) or not valid.
    """
    for name in run.world.language:
        check_choice(f"language of world {run.world.name}", name, tuple(signature(random_language).parameters)[1:])
    known = tuple(field.name for field in fields(RatioConfig))
    for place, settings in ((f"option of method {run.method.label}", run.method.options), ("training", run.training)):
        for name in settings:
            check_choice(place, name, known)
    _config(run, language_of(run), "unused")


class _Watch(TrainerCallback):
    """Measure distances from the exact laws whenever the trainer evaluates."""

    def __init__(self, outcome: Outcome, judge: Any) -> None:
        """Remember where measurements go."""
        self._outcome, self._judge = outcome, judge
        self.seconds = 0.0

    def on_evaluate(
        self,
        args: RatioConfig,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        """Measure."""
        started = time.perf_counter()
        scores = self._judge.preferred(model)
        for name, metric in (("eval_loss", "held_out_loss"), ("eval_rewards/auc", "held_out_auc")):
            if name in metrics:
                scores[metric] = Score(metrics[name])
        self._outcome.add(state.global_step, scores)
        self.seconds += time.perf_counter() - started


def _config(run: Run, language: PreferenceLanguage, folder: str) -> RatioConfig:
    """Return the trainer's settings."""
    options = dict(run.method.options)
    if run.method.method in RATIO_METHODS and options.get("alpha", "true") == "true":
        alpha = true_alpha(language)
        options["alpha"] = alpha if isinstance(alpha, float) else "column"
    return RatioConfig(
        output_dir=folder,
        method=run.method.method,
        **options,
        learning_rate=run.learning_rate,
        max_steps=run.steps,
        **run.training,
        per_device_eval_batch_size=_EVALUATION_BATCH,
        eval_strategy="steps",
        eval_steps=run.steps // run.evaluations,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        check_start=run.world.reference == "network",  # else the policy is not where the exact reference is
        seed=int(stream(run, "training").integers(2**31)),
    )


def _data(run: Run, language: PreferenceLanguage, model: PreTrainedModel, name: str, n: int) -> ExampleSet:
    """Return n completions with the reference's log-probabilities; equal for all methods of equal width."""
    rng = stream(run, name, run.world.language, n)
    if run.method.method in PAIR_METHODS:
        examples = language.examples(language.sample_pairs(n // 2, rng), width=2)
    else:
        examples = language.examples(language.sample(n, rng))
        if run.method.method == "kto":
            examples = mismatched_examples(examples, seed=int(stream(run, name, "mismatched").integers(2**31)))
    prompts, completions = _as_arrays(language, examples)
    alpha = language.alpha[prompts] if run.method.method in RATIO_METHODS else None
    if run.world.reference == "exact":
        log_reference = language.log_mixture(prompts, completions)
    else:
        log_reference = log_probs(model, language, prompts, completions)
    return replace(examples, alpha=alpha, reference_log_probs=log_reference.astype(np.float32))


def _as_arrays(language: PreferenceLanguage, examples: ExampleSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return numbers of prompts and rows of completions in the form of `lm.exact_language`."""
    numbers = {language.prompt_ids(x).tobytes(): x for x in range(language.prompts)}
    prompts = np.array([numbers[ids.tobytes()] for ids in examples.prompt_ids])
    completions = np.full((len(prompts), language.longest), language.end)
    for row, ids in zip(completions, examples.completion_ids, strict=True):
        row[: len(ids)] = ids
    return prompts, completions


def _log_reference_table(run: Run, language: PreferenceLanguage, model: PreTrainedModel) -> NDArray[np.float64]:
    """Return the log-probabilities of all completions under the reference of the losses."""
    if run.world.reference == "exact":
        return np.asarray(np.log(language.problem().mixture))
    return log_prob_table(model, language)


def _over_the_run(history: list[dict[str, float]], outcome: Outcome, last: Score) -> dict[str, Score]:
    """Return what is reported of a whole run; the last distance is that of the last weights, of diverged runs too."""
    first = next(m.score.value for m in outcome.measurements if m.metric == "kl_preferred")
    scores = {
        "diverged": Score(float(outcome.status == "diverged")),
        "further_than_reference": Score(float(last.value > first)),
        "last_kl_preferred": last,
        "steps_taken": Score(float(outcome.steps)),
    }
    for name, metric in LARGEST.items():
        values = [entry[name] for entry in history if name in entry]
        if values:
            scores[metric] = Score(float(np.max(values)))
    return scores


def prepare_process() -> None:
    """Make results independent of the number of processes: one thread each, and no word of libraries."""
    torch.set_num_threads(1)
    logging.getLogger("lm").setLevel(logging.ERROR)  # alpha far from the class share is what some experiments are about
    gc.freeze()  # each training ends with a collection, which need not look at what imports made
