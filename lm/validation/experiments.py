"""Experiments as their files describe them, and the runs that they consist of."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from theory.checks import check_choice, check_folder_name, check_positive

__all__ = [
    "PROFILES",
    "Experiment",
    "Method",
    "Profile",
    "Run",
    "World",
    "fingerprint",
    "load_experiment",
    "parse_experiment",
    "shipped_experiments",
]

PROFILES = ("smoke", "quick", "paper")
REPORTS = ("error", "stability")
_MOST_RUNS = 100_000  # all of them are listed before the first one runs
_FOLDER = Path(__file__).parent / "experiments"
_REFERENCES = 1  # version of the way in which lm.validation.networks trains references
_T = TypeVar("_T")


@dataclass(frozen=True)
class World:
    """Languages, and the reference that runs start from.

    Attributes
    ----------
    name : str
        Name in tables.
    language : dict
        Arguments of `lm.exact_language.random_language`; alpha and preferred_fraction may be arrays by prompt.
    reference : str
        Whose log-probabilities the losses use: "network", those of the network that runs start from; "exact", those of
        the mixture itself.
    pretraining : float
        How long the reference is trained, as a multiple of the profile's `pretraining_steps`.
    """

    name: str
    language: dict[str, Any]
    reference: str = "network"
    pretraining: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice(f"reference of world {self.name}", self.reference, ("network", "exact"))
        check_positive(self.pretraining, f"pretraining of world {self.name}")


@dataclass(frozen=True)
class Method:
    """What is compared.

    Attributes
    ----------
    label : str
        Name in tables.
    method : str
        A method of `lm.settings.MethodConfig`.
    options : dict
        Its options, as there. ``alpha = "true"`` (default where the method has an alpha) stands for the language's own:
        one number, or the data's column where it depends on the prompt.
    worlds : tuple of str
        Worlds it runs in; all when empty.
    """

    label: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    worlds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """How large an experiment is run.

    Attributes
    ----------
    n : tuple of int
        Completions in a training set.
    seeds : int
        Repetitions, each with its own languages, reference, data and order.
    learning_rates : tuple of float
        Grid of learning rates.
    steps, pretraining_steps : int
        Steps of a run, and of its reference.
    evaluations : int
        How often a run is evaluated, last step included.
    held_out : int
        Held-out completions.
    worlds : tuple of str
        Names of the worlds that are run; all when empty.
    """

    n: tuple[int, ...]
    seeds: int
    learning_rates: tuple[float, ...]
    steps: int
    pretraining_steps: int
    evaluations: int = 4
    held_out: int = 1000
    worlds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        counts: dict[str, Any] = {
            "seeds": [self.seeds],
            "steps": [self.steps],
            "pretraining_steps": [self.pretraining_steps],
        }
        counts |= {"n": self.n, "evaluations": [self.evaluations], "held_out": [self.held_out]}
        for name, values in counts.items():
            wrong = [v for v in values if not isinstance(v, int) or isinstance(v, bool) or v < 1]
            if wrong or not values:
                raise ValueError(f"{name} must be made of positive integers, got {wrong[0] if wrong else 'none'}")
        if not self.learning_rates:
            raise ValueError("learning_rates must hold at least one, got none")
        for rate in self.learning_rates:
            check_positive(rate, "learning_rates")
        if self.steps % self.evaluations:
            raise ValueError(f"steps must be a multiple of evaluations, got {self.steps} and {self.evaluations}")


@dataclass(frozen=True)
class Run:
    """One training run: everything that its result depends on.

    Attributes
    ----------
    experiment : str
        Name of the experiment.
    seed, replicate : int
        Root of the random streams and number of the repetition.
    world : World
        Languages and reference.
    method : Method
        The loss.
    n, steps, evaluations, held_out, pretraining_steps : int
        Sizes.
    learning_rate : float
        Learning rate.
    training : dict
        Other settings of `lm.RatioConfig`.
    """

    experiment: str
    seed: int
    replicate: int
    world: World
    method: Method
    n: int
    learning_rate: float
    steps: int
    evaluations: int
    held_out: int
    pretraining_steps: int
    training: dict[str, Any]

    @property
    def columns(self) -> dict[str, Any]:
        """Return what tables say of the run."""
        return {
            "study": self.experiment,
            "world": self.world.name,
            "n": self.n,
            "learning_rate": self.learning_rate,
            "method": self.method.label,
            "replicate": self.replicate,
        }

    @property
    def key(self) -> str:
        """Return the fingerprint of the run."""
        return fingerprint(asdict(self))

    @property
    def reference_key(self) -> str:
        """Return the fingerprint of the run's reference, which all runs of equal languages and training share."""
        language = {name: value for name, value in self.world.language.items() if name != "preferred_fraction"}
        training = (self.seed, self.replicate, language, self.pretraining_steps)
        return fingerprint([_REFERENCES, version("torch"), *training])[:32]

    def __str__(self) -> str:
        """Return the run as messages name it."""
        return (
            f"{self.experiment}/{self.world.name}/n={self.n}/learning_rate={self.learning_rate:g}/"
            f"seed={self.replicate}:{self.method.label}"
        )


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes
    ----------
    name, question : str
        Name of experiment and result folder; the question it answers.
    report : str
        "error": distances from the exact laws at each method's best learning rate; "stability": what happens over the
        whole grid of learning rates.
    baseline : str
        Label that others are compared with, pair by pair.
    seed : int
        Root of all random streams. Experiments of one seed and equal languages share their references.
    worlds, methods, profiles
        See their classes.
    training : dict
        Settings of `lm.RatioConfig` that all runs share.
    """

    name: str
    question: str
    report: str
    baseline: str
    seed: int
    worlds: tuple[World, ...]
    methods: tuple[Method, ...]
    profiles: dict[str, Profile]
    training: dict[str, Any] = field(default_factory=dict)

    def profile(self, name: str) -> Profile:
        """Return a profile by name, or raise naming those that there are."""
        return self.profiles[check_choice(f"profile of experiment {self.name}", name, self.profiles)]

    def runs(self, profile: str) -> list[Run]:
        """Return the runs of a profile in the order of the tables."""
        size = self.profile(profile)
        worlds = [world for world in self.worlds if not size.worlds or world.name in size.worlds]
        return [
            Run(
                self.name,
                self.seed,
                replicate,
                world,
                method,
                n,
                rate,
                size.steps,
                size.evaluations,
                size.held_out,
                max(1, round(size.pretraining_steps * world.pretraining)),
                self.training,
            )
            for world, n, rate, method, replicate in product(
                worlds, size.n, size.learning_rates, self.methods, range(size.seeds)
            )
            if not method.worlds or world.name in method.worlds
        ]


def fingerprint(value: Any) -> str:
    """Return 64 hexadecimal digits that equal settings share.

    Examples
    --------
    >>> fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": (2,), "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shipped_experiments() -> tuple[str, ...]:
    """Return the names of the experiments that come with the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_experiment(name_or_path: str | Path) -> Experiment:
    """Read an experiment.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped experiment, or the path of a file that ends in ``.toml``.

    Returns
    -------
    Experiment
        The experiment.

    Raises
    ------
    ValueError
        If there is no shipped experiment of that name (the nearest is named), or the file is not valid.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> load_experiment("stability").baseline
    'rdro'
    """
    if str(name_or_path).endswith(".toml"):
        path = Path(name_or_path)
    else:
        path = _FOLDER / f"{check_choice('experiment', str(name_or_path), shipped_experiments())}.toml"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"an experiment must be a file that can be read, got {path}: {error.strerror}") from error
    try:
        return parse_experiment(tomllib.loads(content.decode()))
    except RecursionError as error:
        raise ValueError(f"{path} must not nest arrays and tables so deeply, got {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def parse_experiment(table: Mapping[str, Any]) -> Experiment:
    """Check the content of an experiment's file, key by key.

    Parameters
    ----------
    table : mapping
        The content. ``language`` holds what all worlds share.

    Returns
    -------
    Experiment
        The experiment.

    Raises
    ------
    ValueError, TypeError
        If a key is missing, or unknown (the nearest is named), or a value breaks its rule.

    Examples
    --------
    >>> parse_experiment({"name": "x", "qestion": "?"})
    Traceback (most recent call last):
    ValueError: key of an experiment must be one of baseline, language, methods, name, profiles, question, report, seed, training, worlds; got 'qestion' (did you mean 'question'?)
    """  # noqa: E501 -- the message is one line
    shared = _checked("an experiment", "language", table.get("language", {}), dict)
    worlds = tuple(
        _build(World, "worlds", {**entry, "language": {**shared, **_language(entry)}})
        for entry in _tables("worlds", table)
    )
    methods = tuple(_method(entry) for entry in _tables("methods", table))
    sizes = _checked("an experiment", "profiles", table.get("profiles", {}), dict)
    for name, entry in sizes.items():
        check_choice("profile", name, PROFILES)
        _checked("profiles", name, entry, dict)
    profiles = {name: _build(Profile, f"profiles.{name}", entry) for name, entry in sizes.items()}
    parts = {"worlds": worlds, "methods": methods, "profiles": profiles}
    experiment = _build(Experiment, "an experiment", {**table, **parts}, also=("language",))
    check_folder_name("name", experiment.name)
    check_choice("report", experiment.report, REPORTS)
    labels = [method.label for method in methods]
    check_choice("baseline", experiment.baseline, labels)
    names = [world.name for world in worlds]
    for kind, values in (("labels of methods", labels), ("names of worlds", names)):
        if len(set(values)) < len(values):
            raise ValueError(f"{kind} must all be different, got {', '.join(values)}")
    for kind, entries in (("method", methods), ("profile", profiles.values())):
        for name in (name for entry in entries for name in entry.worlds):
            check_choice(f"worlds of a {kind}", name, names)
    for name, size in profiles.items():
        runs = len(worlds) * len(methods) * len(size.n) * len(size.learning_rates) * size.seeds
        if runs > _MOST_RUNS:
            raise ValueError(f"profiles.{name} must have at most {_MOST_RUNS:,} runs, got {runs:,}")
    return experiment


def _language(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a world's own language."""
    return _checked("worlds", "language", entry.get("language", {}), dict)


def _method(entry: Mapping[str, Any]) -> Method:
    """Return a method; what is no key of its own is an option of the loss."""
    own = {name: entry[name] for name in ("label", "method", "worlds") if name in entry}
    return _build(Method, "methods", {**own, "options": {k: v for k, v in entry.items() if k not in own}})


def _tables(name: str, table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the tables of an array, of which there must be one at least where the key is given."""
    for entry in _checked("an experiment", name, table.get(name, []), list):
        if not isinstance(entry, dict):
            raise TypeError(f"{name} must hold tables [[{name}]], got {entry!r}")
        yield entry


def _build(cls: type[_T], place: str, table: Mapping[str, Any], also: tuple[str, ...] = ()) -> _T:
    """Return a dataclass of a table's values: no unknown key, none missing, arrays as tuples."""
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key, value in table.items():
        check_choice(f"key of {place}", key, (*known, *also))
        if key in known:
            _checked(place, key, value, get_origin(hints[key]) or hints[key])
    for name, wanted in known.items():
        needed = wanted.default is MISSING and wanted.default_factory is MISSING
        if needed and not (table.get(name) or table.get(name) == 0):
            raise ValueError(f"{place} must have the key {name}, got {', '.join(table) or 'nothing'}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items() if key in known}
    return cls(**values)


_NOUNS = {str: "a string", int: "an integer of 64 bits", float: "a number", dict: "a table"}


def _checked(place: str, key: str, value: Any, kind: type) -> Any:
    """Return a value, or raise unless it is of a kind that TOML has; integers are numbers too."""
    fits = isinstance(value, {float: int | float, tuple: list | tuple}.get(kind, kind)) and not isinstance(value, bool)
    if not fits or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        shown = "an integer of more" if isinstance(value, int) and fits else f"{value!r}"
        raise TypeError(f"{key} of {place} must be {_NOUNS.get(kind, 'an array')}, got {shown}")
    return value
