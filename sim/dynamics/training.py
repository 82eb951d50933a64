"""Training instead of solving: every loss under SGD or Adam on tabular or log-linear policies, and what blows up.

A study of kind "dynamics" replaces the exact fits of `sim.simulate` by first-order optimisation from the reference on.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sim.dynamics.descent import PAIR_METHODS, Descent, Objective, descend, single_thread
from sim.dynamics.settings import TrainingSettings
from sim.estimators import DEFAULT_BETA, exact_target
from sim.options import MethodOptions, population_setting
from sim.outcomes import Outcome
from sim.preferences.arguments import IntArray, check_integer
from sim.sampling import Counts, match_pairs
from sim.worlds import World, build_world
from theory import FiniteProblem, get_generator, total_variation
from theory.checks import FloatArray, check_choice
from theory.weighting import class_weights

__all__ = [
    "TRAINING_RECORDS",
    "Training",
    "TrainingRun",
    "TrainingSettings",
    "build_training",
    "check_training",
    "train",
]

TRAINING_RECORDS = ("largest_gradient_norm", "diverged", "diverged_at")
"""Metrics of the training rather than of its result."""


@dataclass(frozen=True, eq=False)
class Training:
    """A world together with the way in which policies are trained in it.

    Parameters
    ----------
    world : World
        Where the data come from.
    settings : TrainingSettings
        How policies are trained.

    Examples
    --------
    >>> laws = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
    >>> training = build_training({"name": "toy", **laws, "learning_rate": 0.5})
    >>> training.sample(100, 2, np.random.default_rng(0)).preferred.shape
    (2, 1, 3)
    """

    world: World
    settings: TrainingSettings

    @property
    def name(self) -> str:
        """Return the world's name."""
        return self.world.name

    def sample(self, n: int, replicates: int, rng: np.random.Generator) -> Counts:
        """Draw data sets, see `sim.worlds.World.sample`."""
        return self.world.sample(n, replicates, rng)


@dataclass(frozen=True, eq=False)
class TrainingRun(Outcome):
    """Trained policies of many replicates, with what happened to each of them.

    A run is "diverged" if a loss, a gradient or a parameter was not finite (for ddro and mle: a response of the batch
    beyond the domain), "nonconverged" if the gradient on all data has not fallen to ``tolerance`` times its first
    norm, "error" if the data lack a class.

    Attributes
    ----------
    policies : ndarray
        Final policies, shape (replicates, prompts, responses); NaN for diverged runs and errors.
    target : ndarray or None
        The method's exact population target (`sim.estimators.exact_target`), shape (prompts, responses); None where
        it has none.
    metrics : dict of str to ndarray
        ``diverged`` (0 or 1), ``diverged_at`` (updates made before; NaN else), ``largest_gradient_norm`` (over the
        batches, before clipping); of final policies ``tv_preferred`` = TV(policy, clean p+), ``tv_target`` = TV(policy,
        target), both averaged over prompts, ``max_ratio`` = largest policy/reference, ``final_loss`` and
        ``final_gradient_norm`` on all data.
    """

    policies: FloatArray
    target: FloatArray | None

    def status_of(self, metric: str) -> NDArray[np.str_]:
        """Return the statuses of the values of a metric, shape (replicates,).

        What is recorded of the training itself (`TRAINING_RECORDS`) is a sound value also for runs that diverged or
        did not converge: its status is "ok", so that means and quantiles cover all runs.
        """
        return np.where(self.status == "error", "error", "ok") if metric in TRAINING_RECORDS else self.status


def build_training(settings: Mapping[str, Any]) -> Training:
    """Build a world and its training settings from one table, as studies of kind "dynamics" hold them.

    Parameters
    ----------
    settings : mapping
        Fields of `TrainingSettings`; all other keys go to `sim.worlds.build_world`.

    Returns
    -------
    Training
        The world and the settings.

    Raises
    ------
    ValueError
        If a key is unknown (the nearest is named), a setting is missing or out of range, or settings contradict.

    Examples
    --------
    >>> spec = {"name": "bt", "preference": "bradley_terry", "options": {"signal": 1.0}, "responses": 4}
    >>> build_training({**spec, "optimiser": "adam"}).settings.optimiser
    'adam'
    """
    if not isinstance(settings, Mapping):
        raise TypeError(f"a world must be a table of settings, got {type(settings).__name__}")
    fields = [field.name for field in dataclasses.fields(TrainingSettings)]
    for key in settings:
        if isinstance(key, str) and difflib.get_close_matches(key, fields, n=1, cutoff=0.8):
            check_choice("key of a world to train in", key, fields)
    own = {key: settings[key] for key in settings if key in fields}
    return Training(build_world({k: settings[k] for k in settings if k not in own}), TrainingSettings(**own))


def check_training(w: Training, n: int, method: str, options: Mapping[str, Any]) -> None:
    """Raise unless a method with these options can be trained on n examples.

    Parameters
    ----------
    w : Training
        The world and the training settings.
    n : int
        Labelled examples in each data set, at least 1; even in the paired regime.
    method : str
        One of `theory.METHODS`.
    options : mapping
        Fields of `sim.options.MethodOptions`, but for what is computed from each data set: a plug-in alpha, weights
        by prompt, a calibrated reference.

    Raises
    ------
    ValueError
        If the method or an option is unknown or not valid, an option belongs to another method, or n or the batch
        size is odd where examples come in pairs.

    Examples
    --------
    >>> laws = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
    >>> check_training(build_training({"name": "toy", **laws}), 100, "rdro", {"alpha": 0.3})
    """
    check_integer("n", n, 1)
    if w.world.regime == "paired" and n % 2:
        raise ValueError(f"n must be even in the paired regime, where examples come in pairs, got {n}")
    for option in options:
        check_choice(f"option of {method}", option, [field.name for field in dataclasses.fields(MethodOptions)])
    chosen = MethodOptions(**options)
    exact_target(w.world, method, chosen)
    fitted = {"alpha": isinstance(chosen.alpha, str), "reference": chosen.reference == "calibrated"}
    fitted["weighting"] = isinstance(chosen.weighting, str) and chosen.weighting == "balanced_by_prompt"
    for option, from_data in fitted.items():
        if from_data:
            raise ValueError(f"{option} must be fixed before training, got {getattr(chosen, option)!r}")
    if method in PAIR_METHODS and int(w.settings.batch_size) % 2:
        raise ValueError(f"batch_size must be even for {method}, which draws pairs, got {w.settings.batch_size}")


def train(
    w: Training,
    method: str,
    n: int,
    replicates: int,
    rng: np.random.Generator,
    *,
    label: str | None = None,
    data: Counts | None = None,
    **options: Any,
) -> TrainingRun:
    """Train one method's policies on independent data sets of a world, from the reference on.

    Parameters
    ----------
    w : Training
        The world and the training settings, see `build_training`.
    method : str
        One of `theory.METHODS`.
    n : int
        Labelled examples in each data set.
    replicates : int
        Number of data sets, each trained by itself.
    rng : numpy.random.Generator
        Source of randomness: data, matching of unpaired data for dpo and ipo, minibatches.
    label : str, optional
        Name in tables; default the method's.
    data : Counts, optional
        Data sets drawn before from the same world, so that several methods see the same data.
    **options
        As in `check_training`.

    Returns
    -------
    TrainingRun
        Policies, statuses and metrics.

    Raises
    ------
    ValueError
        As `check_training`, and if `data` does not hold that many replicates.

    Notes
    -----
    The weights of single examples are static, from each data set's class counts. sft draws its batches from the
    preferred examples, kto's reference point is the exact KL of the moment, detached.

    Examples
    --------
    >>> laws = {"p_preferred": [0.5, 0.3, 0.2], "p_nonpreferred": [0.1, 0.3, 0.6], "alpha": 0.5}
    >>> training = build_training({"name": "toy", **laws, "learning_rate": 0.5, "batch_size": "full"})
    >>> run = train(training, "rdro", 10_000, 20, np.random.default_rng(0))
    >>> bool((run.status == "ok").all()), bool(run.metrics["tv_preferred"].mean() < 0.02)
    (True, True)
    """
    check_training(w, n, method, options)
    world, chosen = w.world, MethodOptions(**options)
    drawn = world.sample(n, replicates, rng) if data is None else data
    if drawn.preferred.shape[0] != replicates:
        raise ValueError(f"data must hold {replicates} replicates, got {drawn.preferred.shape[0]}")
    counts = _layout(method, drawn, rng)
    usable = _usable(method, counts)
    settings = dataclasses.asdict(w.settings)
    tolerance = settings.pop("tolerance")
    if method in PAIR_METHODS:
        settings["batch_size"] //= 2
    found = _nothing(replicates, world.problem)
    if usable.any():
        with single_thread():
            objective = _objective(world, method, counts[usable], chosen)
            found = _spread(descend(objective, counts[usable], world.features, **settings, rng=rng), usable, found)
    target = exact_target(world, method, chosen)
    status = np.where(found.last_gradient_norm <= tolerance * found.first_gradient_norm, "ok", "nonconverged")
    status = np.where(np.isnan(found.diverged_at), status, "diverged")
    status = np.where(usable, status, "error")
    ended = np.isin(status, ("ok", "nonconverged"))
    with np.errstate(over="ignore", invalid="ignore"):
        policies = np.where(ended[:, None, None], world.problem.reference * np.exp(found.log_ratio), np.nan)
    metrics = _metrics(world, policies, target)
    metrics |= {
        "final_loss": np.where(ended, found.loss, np.nan),
        "final_gradient_norm": np.where(ended, found.last_gradient_norm, np.nan),
        "largest_gradient_norm": found.largest_gradient_norm,
        "diverged": np.where(usable, (status == "diverged").astype(np.float64), np.nan),
        "diverged_at": found.diverged_at,
    }
    at_target = {} if target is None else _metrics(world, target[None], target)
    exact = {name: float(values[0]) for name, values in at_target.items()}
    return TrainingRun(method, label or method, status, metrics, exact, policies, target)


def _layout(method: str, data: Counts, rng: np.random.Generator) -> IntArray:
    """Return the counts that a method trains on: both classes, the preferred alone (sft), or pairs."""
    if method in PAIR_METHODS:
        return match_pairs(data, rng) if data.pairs is None else data.pairs
    other = np.zeros_like(data.nonpreferred) if method == "sft" else data.nonpreferred
    return np.stack([data.preferred, other], axis=1)


def _usable(method: str, counts: IntArray) -> NDArray[np.bool_]:
    """Return which replicates have the classes that a method needs."""
    if method in PAIR_METHODS:
        return counts.sum(axis=(1, 2, 3)) > 0
    totals = counts.sum(axis=(2, 3))
    return totals[:, 0] > 0 if method == "sft" else (totals > 0).all(axis=1)


def _objective(world: World, method: str, counts: IntArray, options: MethodOptions) -> Objective:
    """Return the loss of usable replicates, with static weights from their own class counts."""
    rows, problem = len(counts), world.problem
    weights = np.ones((rows, 2))
    if method in ("rdro", "ddro", "kto"):
        totals = counts.sum(axis=(2, 3))
        scheme = class_weights(totals[:, 0] / totals.sum(axis=1), options.weighting)
        weights = np.stack([np.broadcast_to(w, rows) for w in (scheme.preferred, scheme.nonpreferred)], axis=1)
    return Objective(
        method,
        torch.from_numpy(weights[:, :, None, None]),
        torch.from_numpy(problem.reference.copy()),
        torch.from_numpy(problem.prompt_probs.copy()),
        population_setting(problem, world.label_fraction, method, options).alpha[0].copy(),
        get_generator(options.generator),
        DEFAULT_BETA if options.beta is None else options.beta,
        options.beyond_domain,
    )


def _nothing(replicates: int, problem: FiniteProblem) -> Descent:
    """Return the record of replicates that were not trained."""
    policies = np.full((replicates, *problem.reference.shape), np.nan)
    return Descent(policies, *(np.full(replicates, np.nan) for _ in range(5)))


def _spread(part: Descent, where: NDArray[np.bool_], whole: Descent) -> Descent:
    """Return the record of all replicates, with that of the trained ones in its place."""
    merged = {}
    for field in dataclasses.fields(Descent):
        merged[field.name] = getattr(whole, field.name).copy()
        merged[field.name][where] = getattr(part, field.name)
    return Descent(**merged)


def _metrics(world: World, policies: FloatArray, target: FloatArray | None) -> dict[str, FloatArray]:
    """Return the metrics of policies (replicates, prompts, responses); NaN for missing ones."""
    problem = world.problem
    found = np.isfinite(policies).all(axis=(1, 2))
    some = policies[found]
    some = some / some.sum(axis=2, keepdims=True)
    ratio = np.divide(some, problem.reference, out=np.zeros_like(some), where=problem.reference > 0)
    values = {
        "tv_preferred": total_variation(some, np.broadcast_to(world.estimand, some.shape)) @ problem.prompt_probs,
        "max_ratio": ratio.max(axis=(1, 2), initial=0.0),
    }
    if target is not None:
        values["tv_target"] = total_variation(some, np.broadcast_to(target, some.shape)) @ problem.prompt_probs
    metrics = {name: np.full(len(policies), np.nan) for name in values}
    for name, value in values.items():
        metrics[name][found] = value
    return metrics
