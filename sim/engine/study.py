"""Studies: a TOML file becomes a frozen, fully checked configuration before any work is done."""

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sim.claims.claim import Claim, check_claim, parse_claim
from sim.engine.canonical import canonical_json, fingerprint
from sim.engine.kinds import KINDS
from sim.engine.table_rules import check_distinct, check_integers, check_keys, tables_of
from sim.statuses import STATUSES
from theory.checks import check_choice, check_folder_name

__all__ = [
    "Cell",
    "MethodConfig",
    "Profile",
    "StudyConfig",
    "canonical_json",
    "fingerprint",
    "load_study",
    "parse_study",
    "shipped_studies",
    "study_of_settings",
]

PROFILES = ("smoke", "quick", "paper")
_MOST_TASKS = 1_000_000  # all of them are listed before the first one runs
_FOLDER = Path(__file__).parents[1] / "studies"
_COMMON = {"name": str, "kind": str, "question": str}
_EXACT: tuple[dict[str, type], dict[str, type]] = {"table": str}, {"parameters": dict}
_REPLICATED: tuple[dict[str, type], dict[str, type]] = (
    {"seed": int, "worlds": list, "methods": list, "profiles": dict},
    {"settings": dict, "vary": dict, "claims": list},
)
# Columns of the result tables that a swept setting must not hide.
_TAKEN = (
    *("name", "study", "world", "n", "method", "replicate", "status", "metric", "value", "exact", "block"),
    *("first_replicate", "replicates", "message", "seed_key", "seconds", "metrics", *STATUSES),
)


@dataclass(frozen=True)
class MethodConfig:
    """A method of a study.

    Attributes
    ----------
    label : str
        Name in tables, unique in the study.
    method : str
        Name of a method that the study's kind knows, such as a key of `sim.estimators.METHODS`.
    options : dict
        Its options, such as those of `sim.simulation.simulate`.
    worlds : tuple of str
        Names of the worlds it runs in; all of them when empty.
    """

    label: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    worlds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """How large a study is run.

    Attributes
    ----------
    n : tuple of int
        Sizes of the data sets.
    replicates : int
        Data sets per cell.
    vary : dict of str to tuple
        Swept settings of the worlds, and their values.
    """

    n: tuple[int, ...]
    replicates: int
    vary: dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Cell:
    """One world at one sample size.

    Attributes
    ----------
    world : dict
        Settings of the world, such as those of `sim.worlds.build_world`; shared and swept ones included.
    n : int
        Size of each data set.
    vary : dict
        Values of the swept settings.
    methods : tuple of MethodConfig
        What runs in this world.
    """

    world: dict[str, Any]
    n: int
    vary: dict[str, Any]
    methods: tuple[MethodConfig, ...]


@dataclass(frozen=True)
class StudyConfig:
    """A study as its file describes it.

    Attributes
    ----------
    name, kind, question : str
        Name of study and result folder; "exact" or a key of `sim.engine.kinds.KINDS`; the question it answers, one
        sentence.
    seed : int
        Root of all random streams of a study that draws replicates.
    worlds : tuple of dict
        Settings of each world, such as those of `sim.worlds.build_world`; shared ones included.
    methods : tuple of MethodConfig
        What is compared.
    profiles : dict of str to Profile
        Sizes by name.
    claims : tuple of Claim
        What the study says about its results.
    table : str
        Key of `sim.exact_tables.EXACT_TABLES`, of an exact study.
    parameters : dict
        Arguments of the exact table.
    """

    name: str
    kind: str
    question: str
    seed: int = 0
    worlds: tuple[dict[str, Any], ...] = ()
    methods: tuple[MethodConfig, ...] = ()
    profiles: dict[str, Profile] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    table: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    def profile(self, name: str) -> Profile:
        """Return a profile by name, or raise naming those that the study has."""
        return self.profiles[check_choice(f"profile of study {self.name}", name, self.profiles)]

    def cells(self, profile: str) -> tuple[Cell, ...]:
        """Return the cells of a profile: every world, with every swept value, at every sample size."""
        size = self.profile(profile)
        swept = [dict(zip(size.vary, values, strict=True)) for values in itertools.product(*size.vary.values())]
        return tuple(
            Cell(world | vary, n, vary, self._methods_in(world["name"]))
            for world, vary, n in itertools.product(self.worlds, swept, size.n)
        )

    def _methods_in(self, world: str) -> tuple[MethodConfig, ...]:
        """Return the methods that run in a world."""
        return tuple(method for method in self.methods if not method.worlds or world in method.worlds)

    def settings(self, profile: str) -> dict[str, Any]:
        """Return everything that determines the results at a profile, ready for JSON.

        The files that worlds read are represented by their checksums, so that edited data count as a changed study;
        the code is represented by versions and a checksum of its sources. Claims judge results and do not change them.
        """
        if self.kind == "exact":
            return {"name": self.name, "kind": self.kind, "table": self.table, "parameters": self.parameters}
        files = sorted({w["options"]["csv"] for w in self.worlds if "csv" in w.get("options", {})})
        size, kind = self.profile(profile), KINDS[self.kind]
        settings = {
            "name": self.name,
            "kind": self.kind,
            "seed": self.seed,
            "worlds": self.worlds,
            "methods": [asdict(method) for method in self.methods],
            # Pairs: the order of swept settings is that of tasks and columns, and canonical JSON has none.
            "profile": {"name": profile, "n": size.n, "replicates": size.replicates, "vary": [*size.vary.items()]},
            "files": {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in files},
            "block": kind.block,
            "versions": kind.versions(),
        }
        return dict(json.loads(canonical_json(settings)))


def study_of_settings(settings: Mapping[str, Any]) -> StudyConfig:
    """Return the study that settings describe, with their one profile, and without question and claims.

    Parameters
    ----------
    settings : mapping
        What `StudyConfig.settings` returned, as ``config.json`` beside results keeps it.

    Returns
    -------
    StudyConfig
        A study with the same tasks.

    Raises
    ------
    ValueError
        If the settings are not those of a study.

    Examples
    --------
    >>> study = load_study("class_weighting")
    >>> study_of_settings(study.settings("smoke")).cells("smoke") == study.cells("smoke")
    True
    """
    kept = ("name", "kind", "seed", "worlds", "table", "parameters")
    table = {key: settings[key] for key in kept if key in settings} | {"question": "none"}
    try:
        if table.get("kind") != "exact":
            size = settings["profile"]
            table["vary"] = dict(size["vary"])
            table["profiles"] = {size["name"]: {"n": size["n"], "replicates": size["replicates"]}}
            table["methods"] = [
                method["options"] | {key: method[key] for key in ("label", "method", "worlds") if method[key]}
                for method in settings["methods"]
            ]
        return parse_study(table)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"settings must be those that a run wrote, got {type(error).__name__}: {error}") from error


def shipped_studies() -> tuple[str, ...]:
    """Return the names of the studies that come with the package, in alphabetical order.

    Examples
    --------
    >>> "consistency" in shipped_studies()
    True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_study(name_or_path: str | Path) -> StudyConfig:
    """Read a study.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped study, or the path of a file that ends in ``.toml``.

    Returns
    -------
    StudyConfig
        The study; what needs the libraries of worlds and methods is checked by `sim.engine.study_checks.check_study`.

    Raises
    ------
    ValueError
        If there is no shipped study of that name (the nearest is named), or the file is not a valid study.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> load_study("loss_shapes").kind
    'exact'
    """
    if str(name_or_path).endswith(".toml"):
        path = Path(name_or_path)
    else:
        path = _FOLDER / f"{check_choice('study', str(name_or_path), shipped_studies())}.toml"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"a study must be a file that can be read, got {path}: {error.strerror}") from error
    try:
        return parse_study(tomllib.loads(content.decode()))
    except RecursionError as error:
        raise ValueError(f"{path} must not nest arrays and tables so deeply, got {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def parse_study(table: Mapping[str, Any]) -> StudyConfig:
    """Check a study's table, key by key.

    Parameters
    ----------
    table : mapping
        The content of a study file.

    Returns
    -------
    StudyConfig
        The study.

    Raises
    ------
    ValueError, TypeError
        If a key is unknown (the nearest is named) or missing, or a value breaks its rule.

    Examples
    --------
    >>> parse_study({"name": "s", "kind": "exact", "question": "?", "table": "t", "parametres": {}})
    Traceback (most recent call last):
    ValueError: key of a study must be one of kind, name, parameters, question, table; got 'parametres' (did you mean 'parameters'?)
    """  # noqa: E501 -- the message is one line
    kind = check_choice("kind", table.get("kind", "missing"), {"exact", *KINDS})
    required, optional = _EXACT if kind == "exact" else _REPLICATED
    check_keys("a study", table, _COMMON | required, optional)
    canonical_json(table)
    check_integers(table)
    check_folder_name("name", table["name"])
    common = {key: table[key] for key in _COMMON}
    if kind == "exact":
        return StudyConfig(**common, table=table["table"], parameters=dict(table.get("parameters", {})))
    if table["seed"] < 0:
        raise ValueError(f"seed must not be negative, got {table['seed']}")
    shared = table.get("settings", {})
    worlds = tuple(_world(place, shared, world) for place, world in tables_of("worlds", table["worlds"]))
    names = [world["name"] for world in worlds]
    check_distinct("names of worlds", names)
    methods = tuple(_method(place, method, names) for place, method in tables_of("methods", table["methods"]))
    check_distinct("labels of methods", [method.label for method in methods])
    check_keys("profiles", table["profiles"], {}, dict.fromkeys(PROFILES, dict))
    if not table["profiles"]:
        raise ValueError(f"profiles must hold at least one of {', '.join(PROFILES)}, got none")
    vary = _vary("vary", table.get("vary", {}))
    profiles = {name: _profile(f"profiles.{name}", size, vary) for name, size in table["profiles"].items()}
    claims = _claims(table.get("claims", []), names, [method.label for method in methods], vary)
    study = StudyConfig(**common, seed=table["seed"], worlds=worlds, methods=methods, profiles=profiles, claims=claims)
    for name, size in profiles.items():
        blocks = -(-size.replicates // KINDS[kind].block)
        tasks = len(worlds) * math.prod(map(len, size.vary.values())) * len(size.n) * blocks
        if tasks > _MOST_TASKS:
            raise ValueError(f"profiles.{name} must have at most {_MOST_TASKS:,} tasks, got {tasks:,}")
    idle = [name for name in names if not study._methods_in(name)]
    if idle:
        raise ValueError(f"at least one method must run in each world, got none for {idle[0]}")
    return study


def _world(place: str, shared: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a world's settings, which `sim.engine.study_checks` looks into; its own replace the shared ones."""
    if not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise ValueError(f"{place} must have a name, got {entry.get('name')!r}")
    if "name" in shared:
        raise ValueError(f"settings must be what worlds share, and each has a name of its own; got {shared['name']!r}")
    settings = {**shared, **entry}
    if not isinstance(settings.get("options", {}), dict):
        raise TypeError(f"options of {place} must be a table, got {settings['options']!r}")
    return settings


def _method(place: str, entry: Mapping[str, Any], worlds: Sequence[str]) -> MethodConfig:
    """Return a method; its options are tried by `sim.engine.study_checks`."""
    required, optional = {"label": str, "method": str}, {"worlds": list}
    own = required | optional
    check_keys(place, {key: value for key, value in entry.items() if key in own}, required, optional)
    for name in entry.get("worlds", []):
        check_choice(f"worlds of {place}", name, worlds)
    options = {key: value for key, value in entry.items() if key not in own}
    return MethodConfig(entry["label"], entry["method"], options, tuple(entry.get("worlds", ())))


def _claims(
    entries: Sequence[Any], worlds: Sequence[str], methods: Sequence[str], vary: Mapping[str, Any]
) -> tuple[Claim, ...]:
    """Return what the study claims, whose names are its own."""
    claims = []
    for place, entry in tables_of("claims", entries) if entries else []:
        claim = parse_claim(place, entry)
        check_claim(place, claim, worlds, methods, vary)
        claims.append(claim)
    return tuple(claims)


def _profile(place: str, entry: Mapping[str, Any], vary: Mapping[str, tuple[Any, ...]]) -> Profile:
    """Return a profile whose own swept values replace the study's."""
    check_keys(place, entry, {"n": list, "replicates": int}, {"vary": dict})
    for name, values in (("n", entry["n"]), ("replicates", [entry["replicates"]])):
        wrong = [v for v in values if not isinstance(v, int) or isinstance(v, bool) or v < 1]
        if wrong or not values:
            raise ValueError(
                f"{name} of {place} must be made of positive integers, got {wrong[0] if wrong else 'none'}"
            )
    check_distinct(f"n of {place}", entry["n"])
    own = _vary(f"vary of {place}", entry.get("vary", {}))
    for key in own:
        check_choice(f"key of vary of {place}", key, vary)
    return Profile(tuple(entry["n"]), entry["replicates"], {**vary, **own})


def _vary(place: str, entry: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return swept settings: for each a tuple of different finite numbers, or of different strings."""
    swept: dict[str, tuple[Any, ...]] = {}
    for key, values in entry.items():
        if key in _TAKEN:
            raise ValueError(f"{place} must sweep settings of worlds other than {key}, which is a column of its own")
        if not isinstance(values, list) or not values:
            raise TypeError(f"{key} of {place} must be an array of values, got {values!r}")
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
        if not numeric and not all(isinstance(v, str) for v in values):
            raise TypeError(f"{key} of {place} must hold finite numbers, or strings only, got {values!r}")
        # A column of a table has one type: whole numbers among fractions become fractions.
        swept[key] = tuple(map(float, values)) if any(isinstance(v, float) for v in values) else tuple(values)
        check_distinct(f"{key} of {place}", values)
    return swept
