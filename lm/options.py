"""From a YAML file and ``--field value`` to settings, each of the right type, without waiting for torch.

All fields share one name space: those of `lm.settings` and those of `transformers.TrainingArguments`. Names and types
of the latter are known once it is imported, hence checked by `ratio_arguments`, not by `load_settings`.
"""

import dataclasses
import difflib
import enum
import types
import typing
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from lm.files import replacing
from lm.settings import DataConfig, MethodConfig, ModelConfig

__all__ = ["Settings", "load_settings", "ratio_arguments", "save_settings", "shipped_configs"]

_CONFIGS = Path(__file__).with_name("configs")
_GROUPS = (ModelConfig, DataConfig, MethodConfig)
_FOLDER = "${config_folder}"
_LARGEST_NUMBER = 2**1023
# What TrainingArguments and Trainer take beside the types that they declare.
_BESIDES = {"fsdp": bool, "resume_from_checkpoint": bool}
_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}


@dataclass(frozen=True)
class Settings:
    """What the user set, by group.

    Attributes
    ----------
    model : ModelConfig
        The model, its tokenizer and its adapter.
    data : DataConfig
        The data and how rows become tokens.
    ratio : dict
        Fields of MethodConfig (checked) and TrainingArguments (not yet, see `ratio_arguments`), only those given.
    """

    model: ModelConfig
    data: DataConfig
    ratio: dict[str, Any]

    def require(self, *names: str) -> Self:
        """Return the settings, or raise a ValueError that names the first field that is missing."""
        for name in names:
            given = {**vars(self.model), **vars(self.data), **self.ratio}.get(name)
            if given in (None, ""):
                raise ValueError(f"{name} must be set: a line `{name}: ...` in the file, or --{name} ...")
        return self


def load_settings(path: str | Path | None, overrides: Sequence[str] = ()) -> Settings:
    """Read a configuration file and what the command line puts in its place.

    Parameters
    ----------
    path : path or str, optional
        YAML file, or the name of a shipped configuration, such as tiny-qwen2. In its values ``${config_folder}`` stands
        for the file's folder; all other paths are relative to the current folder.
    overrides : sequence of str
        ``--field value`` or ``--field=value``; a field without value is set to true.

    Returns
    -------
    Settings
        With the types of our own fields checked.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is no mapping of fields to values, names a field twice, or a value has the wrong type.

    Examples
    --------
    >>> settings = load_settings(None, ["--model", "tiny-qwen2", "--alpha", "4e-1", "--learning_rate=5e-7"])
    >>> settings.model.model, settings.ratio
    ('tiny-qwen2', {'alpha': 0.4, 'learning_rate': '5e-7'})
    """
    values = {**({} if path is None else _read_file(path)), **_read_overrides(overrides)}
    groups = [
        {
            name: _fit(name, values.pop(name), hint)
            for name, hint in typing.get_type_hints(group).items()
            if name in values
        }
        for group in _GROUPS
    ]
    return Settings(ModelConfig(**groups[0]), DataConfig(**groups[1]), {**groups[2], **values})


def ratio_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `lm.config.RatioConfig`, names and types checked.

    Parameters
    ----------
    settings : Settings
        What the user set.

    Returns
    -------
    dict
        Argument by name.

    Raises
    ------
    ValueError
        If a field is unknown, with the nearest names of all groups, or a value has the wrong type.
    """
    from lm.config import RatioConfig  # imports torch

    known = {field.name for field in dataclasses.fields(RatioConfig) if field.init}
    hints = typing.get_type_hints(RatioConfig)
    for name in settings.ratio:
        if name not in known:
            _refuse(name, known.union(*(typing.get_type_hints(group) for group in _GROUPS)))
    return {
        name: _fit(name, value, hints[name] | _BESIDES.get(name, hints[name])) for name, value in settings.ratio.items()
    }


def save_settings(settings: Settings, path: str | Path) -> None:
    """Write settings as a configuration file, defaults left out, so that a run can be told and repeated.

    Parameters
    ----------
    settings : Settings
        What the user set.
    path : path
        The file.
    """
    values = {
        field.name: getattr(group, field.name)
        for group in (settings.model, settings.data)
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != field.default
    }
    with replacing(path) as draft:
        draft.write_text(yaml.safe_dump({**values, **settings.ratio}, sort_keys=False, allow_unicode=True), "utf-8")


def shipped_configs() -> dict[str, Path]:
    """Return the path of every configuration that comes with the package, by name.

    Examples
    --------
    >>> "tiny-qwen2" in shipped_configs()
    True
    """
    return {path.stem: path for path in sorted(_CONFIGS.glob("*.yaml"))}


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what YAML would take in silence.

    A key that is given twice, of which YAML keeps the last, and aliases of collections, by which a few lines hold
    themselves or billions of values.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; an alias stands for a single value."""
        alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None
        node = super().compose_node(parent, index)
        if alias and not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(
                problem=f"*{alias.anchor} must stand for a single value", problem_mark=alias.start_mark
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping with distinct keys."""
        if isinstance(node, yaml.MappingNode):  # anything may be tagged as one, which is refused below
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for key, times in keys.items():
                if times > 1:
                    raise yaml.MarkedYAMLError(problem=f"{key} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _parse(text: str) -> Any:
    """Return what a text means in YAML; PyYAML raises anything for values that contradict their tag or nest deeply."""
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def _read_file(path: str | Path) -> dict[str, Any]:
    """Return the fields of a configuration file."""
    shipped = shipped_configs()
    file = Path(path)
    if not file.exists():
        if str(path) not in shipped:
            close = difflib.get_close_matches(str(path), shipped, n=1)
            hint = f"did you mean {close[0]}?" if close else f"shipped: {', '.join(shipped)}"
            raise FileNotFoundError(f"no configuration file {path}; {hint}")
        file = shipped[str(path)]
    try:
        values = _parse(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a YAML file in UTF-8, got: {' '.join(str(error).split())}") from error
    if values is None:
        raise ValueError(f"{path} must hold lines `field: value`, got an empty file")
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{path} must hold lines `field: value`, got {_shown(values)}")
    folder = str(file.resolve().parent)
    return {name: value.replace(_FOLDER, folder) if isinstance(value, str) else value for name, value in values.items()}


def _read_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """Return the text of each field on the command line; types are found by `_fit`."""
    values: dict[str, str] = {}
    rest = list(overrides)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--") or option == "--":
            raise ValueError(f"settings must have the form --field value, got {option!r}")
        name, equals, value = option[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        if name in values:
            raise ValueError(f"--{name} must be given once, got it twice")
        values[name] = value
    return values


def _fit(name: str, value: Any, hint: Any) -> Any:
    """Return a value as one of the types of a hint; text, as on the command line, is read as YAML where that fits."""
    kinds = list(_kinds(hint))
    parsed = _scalar(value) if isinstance(value, str) else value
    for candidate in (parsed, value):
        fitted = _as_one_of(kinds, candidate)
        if fitted is not _NO_FIT:
            return fitted
    expected = " or ".join(text for kind, text in _NAMES.items() if kind in kinds)
    raise ValueError(f"{name} must be {expected}, got {_shown(parsed)}")


_NO_FIT = object()


def _as_one_of(kinds: Sequence[type], value: Any) -> Any:
    """Return a value as one of some types, integers as numbers too, or `_NO_FIT`; nan is no number."""
    if type(value) is int and int not in kinds and float in kinds:
        return float(value) if abs(value) < _LARGEST_NUMBER else _NO_FIT
    return value if type(value) in kinds and value == value else _NO_FIT


def _scalar(text: str) -> Any:
    """Return what a text means in YAML, and numbers such as 5e-7 as well, which YAML takes for text."""
    try:
        return float(text) if _is_exponential(text) else _parse(text)
    except yaml.YAMLError:
        return text


def _is_exponential(text: str) -> bool:
    """Return whether a text is a number with an exponent."""
    try:
        float(text)
    except ValueError:
        return False
    return "e" in text.lower() and "_" not in text


def _kinds(hint: Any) -> Iterable[type]:
    """Yield the plain types of a type hint; enumerations are written as text."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _kinds(part)
    elif isinstance(typing.get_origin(hint), type):
        yield typing.get_origin(hint)
    elif isinstance(hint, type):
        yield str if issubclass(hint, enum.Enum) else hint


def _refuse(name: str, known: Iterable[str]) -> typing.NoReturn:
    """Raise what an unknown field deserves."""
    close = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see python -m lm train --help"
    raise ValueError(f"unknown field {name!r}; {hint}")


def _shown(value: Any) -> str:
    """Return a value as YAML writes it, long ones by their kind."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
        return "an integer of hundreds of digits"
    return _NAMES[type(value)] if isinstance(value, (list, Mapping)) else repr(value)
