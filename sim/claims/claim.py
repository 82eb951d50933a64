"""Claims: what a study says about its results, declared beside its settings before any result is known.

`sim.claims.verdicts.judge` judges them; this module only reads them, and needs no library.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from theory.checks import check_choice, check_positive

__all__ = ["CONTROLS", "KINDS", "Claim", "check_claim", "parse_claim"]

CONTROLS = ("none", "positive", "negative")
EXPECTED = ("supported", "rejected")
STATISTICS = ("mean", "median", "q975")


@dataclass(frozen=True)
class Claim:
    """A statement about some scenarios of a study: worlds, swept settings and methods.

    Attributes
    ----------
    claim : str
        The statement, one sentence.
    kind : str
        Key of `KINDS`: how it is judged, see `sim.claims.verdicts.judge`.
    metric : str
        The metric it is about; "" for the share of failed fits.
    worlds, methods : tuple of str
        Names of worlds and labels of methods; all when empty.
    where : dict of str to tuple
        Swept settings, and the values at which the statement is made; at all values of those not named.
    control : {"none", "positive", "negative"}
        A positive control must be supported; a negative one is false on purpose, and must be found so.
    expect : {"supported", "rejected"}
        The verdict that its authors foresee.
    settings : dict
        Settings of the kind, defaults included.
    """

    claim: str
    kind: str
    metric: str = ""
    worlds: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    where: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    control: str = "none"
    expect: str = "supported"
    settings: dict[str, Any] = field(default_factory=dict)


def parse_claim(place: str, table: Mapping[str, Any]) -> Claim:
    """Check a claim's table, key by key.

    Parameters
    ----------
    place : str
        Where the table stands, for messages.
    table : mapping
        ``claim`` (a sentence), ``kind`` and, but for failures, ``metric``; optionally ``worlds``, ``methods`` (arrays;
        default all), ``where`` (a table of swept settings and a value or an array of values each), ``control``
        ("positive" or "negative"), ``expect`` ("supported", or "rejected", the default of negative controls); and the
        settings of the kind, with their defaults:

        rate
            slope = -0.5, margin = 0.05, n_min
        target
            margin = 0.01 (in units of the metric), at_n, max_failed = 0.01
        floor
            margin = 0.01 (in units of the metric), exponent = 0.5 (a number or "free"), n_min, max_failed = 0.01
        constant
            margin = 0.05 (of the exact value), n_min, max_failed = 0.01
        failures
            most or least (a share, one of the two), at_n; with a metric: of values 0 and 1, the share of ones
        contrast
            other (label of a method), factor = 1.0, statistic = "mean" ("median", "q975"), at_n, max_failed = 0.01

        Without ``n_min`` the rule of `sim.statistics.rates.asymptotic_sizes` holds; without ``at_n`` the largest n.

    Returns
    -------
    Claim
        The claim; its names are checked by `check_claim`.

    Raises
    ------
    ValueError, TypeError
        If a key is unknown (the nearest is named) or missing, or a value breaks its rule.

    Examples
    --------
    >>> table = {"claim": "ddro's rate is 1/2", "kind": "rate", "metric": "tv_target", "methods": ["ddro"]}
    >>> parse_claim("claims[0]", table).settings
    {'slope': -0.5, 'margin': 0.05, 'n_min': None}
    >>> parse_claim("claims[0]", table | {"nmin": 1000})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: key of claims[0] must be one of claim, control, ..., worlds; got 'nmin' (did you mean 'n_min'?)
    """
    for key in ("claim", "kind"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise ValueError(f"{place} must have a {key}, a string that is not blank; got {table.get(key)!r}")
    kind = check_choice(f"kind of {place}", table["kind"], KINDS)
    own = KINDS[kind]
    for key in table:
        check_choice(f"key of {place}", key, {*_COMMON, *own})
    settings = {}
    for key, (default, check) in own.items():
        name = f"{key} of {place}"
        if key in table:
            settings[key] = check(name, table[key])
        elif default is _REQUIRED:
            raise ValueError(f"{place} must have the key {key}, as its kind is {kind}")
        else:
            settings[key] = default
    if kind == "failures" and (settings["most"] is None) == (settings["least"] is None):
        raise ValueError(
            f"{place} must have one of the keys most and least, got {'both' if 'most' in table else 'none'}"
        )
    control = _choice(CONTROLS)(f"control of {place}", table.get("control", "none"))
    expect = _choice(EXPECTED)(
        f"expect of {place}", table.get("expect", "rejected" if control == "negative" else "supported")
    )
    if (control, expect) in (("negative", "supported"), ("positive", "rejected")):
        raise ValueError(f"expect of {place} must agree with its control, got {expect} for a {control} control")
    return Claim(
        claim=table["claim"],
        kind=kind,
        metric=_metric(place, table, kind),
        worlds=_names(f"worlds of {place}", table.get("worlds", [])),
        methods=_names(f"methods of {place}", table.get("methods", [])),
        where=_where(f"where of {place}", table.get("where", {})),
        control=control,
        expect=expect,
        settings=settings,
    )


def check_claim(
    place: str, claim: Claim, worlds: Collection[str], methods: Collection[str], swept: Collection[str]
) -> None:
    """Raise unless the worlds, methods and swept settings that a claim names are those of its study.

    Parameters
    ----------
    place : str
        Where the claim stands, for messages.
    claim : Claim
        From `parse_claim`.
    worlds, methods, swept : collections of str
        Names of the study's worlds, labels of its methods, and its swept settings.

    Raises
    ------
    ValueError
        If a name is unknown; the nearest is named.

    Examples
    --------
    >>> claim = Claim("ddro has a rate", "rate", "tv_target", methods=("dro",))
    >>> check_claim("claims[0]", claim, ["hodge"], ["rdro", "ddro"], [])
    Traceback (most recent call last):
    ValueError: methods of claims[0] must be one of ddro, rdro; got 'dro' (did you mean 'rdro'?)
    """
    others = [claim.settings["other"]] if "other" in claim.settings else []
    for key, names, known in (
        ("worlds", claim.worlds, worlds),
        ("methods", claim.methods, methods),
        ("other", others, methods),
        ("key of where", claim.where, swept),
    ):
        for name in names:
            check_choice(f"{key} of {place}", name, known)


def _number(name: str, value: Any) -> float:
    """Return a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def _positive(name: str, value: Any) -> float:
    """Return a number above zero."""
    return check_positive(value, name)


def _share(name: str, value: Any) -> float:
    """Return a share strictly between 0 and 1."""
    if not 0.0 < _number(name, value) < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)


def _limit(name: str, value: Any) -> float:
    """Return a share between 0 and 1."""
    if not 0.0 <= _number(name, value) <= 1.0:
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    return float(value)


def _size(name: str, value: Any) -> int:
    """Return a sample size."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value


def _exponent(name: str, value: Any) -> float | str:
    """Return an exponent above zero, or "free"."""
    if isinstance(value, str) and value != "free":
        raise ValueError(f'{name} must be a number greater than 0 or "free", got {value!r}')
    return value if isinstance(value, str) else _positive(name, value)


def _choice(choices: Collection[str]) -> Callable[[str, Any], str]:
    """Return the check that a value is one of the choices."""
    return lambda name, value: check_choice(name, value, choices)


def _label(name: str, value: Any) -> str:
    """Return a string that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a string that is not blank, got {value!r}")
    return value


def _names(name: str, value: Any) -> tuple[str, ...]:
    """Return an array of different strings."""
    if not isinstance(value, list):
        raise TypeError(f"{name} must be an array of strings, got {value!r}")
    names = tuple(_label(f"an entry of {name}", entry) for entry in value)
    if len(set(names)) < len(names):
        raise ValueError(f"{name} must all be different, got {value!r}")
    return names


def _where(name: str, value: Any) -> dict[str, tuple[Any, ...]]:
    """Return the values of swept settings, one or several each."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a table of swept settings, got {value!r}")
    where = {key: tuple(entry) if isinstance(entry, list) else (entry,) for key, entry in value.items()}
    for key, entries in where.items():
        if not entries or not all(isinstance(e, str | int | float) and not isinstance(e, bool) for e in entries):
            raise TypeError(f"{key} of {name} must be a number, a string or an array of these, got {value[key]!r}")
    return where


def _metric(place: str, table: Mapping[str, Any], kind: str) -> str:
    """Return the metric, which only claims of failures can do without."""
    if "metric" not in table and kind == "failures":
        return ""
    return _label(f"metric of {place}", table.get("metric"))


_COMMON = ("claim", "kind", "metric", "worlds", "methods", "where", "control", "expect")
_REQUIRED = object()
_FAILED = {"max_failed": (0.01, _limit)}

KINDS: dict[str, dict[str, tuple[Any, Callable[[str, Any], Any]]]] = {
    "rate": {"slope": (-0.5, _number), "margin": (0.05, _positive), "n_min": (None, _size)},
    "target": {"margin": (0.01, _positive), "at_n": (None, _size), **_FAILED},
    "floor": {"margin": (0.01, _positive), "exponent": (0.5, _exponent), "n_min": (None, _size), **_FAILED},
    "constant": {"margin": (0.05, _positive), "n_min": (None, _size), **_FAILED},
    "failures": {"most": (None, _share), "least": (None, _share), "at_n": (None, _size)},
    "contrast": {
        "other": (_REQUIRED, _label),
        "factor": (1.0, _positive),
        "statistic": ("mean", _choice(STATISTICS)),
        "at_n": (None, _size),
        **_FAILED,
    },
}
"""Kinds of claims: each setting with its default and the check of its value."""
