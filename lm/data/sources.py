"""Rows from files and the hub, exactly as they are written; what they mean is told by `lm.data.formats`."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lm.data.columns import KNOWN_COLUMNS
from lm.data.values import shown

__all__ = ["load_rows"]

Row = dict[str, Any]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_KINDS = "a JSONL, JSON, Parquet or CSV file, a folder saved by `datasets`, or a hub name NAMESPACE/NAME[:SPLIT]"


def load_rows(source: str | os.PathLike[str]) -> list[Row]:
    r"""Read all rows of a data set.

    Parameters
    ----------
    source : str or path
        A file that ends in .jsonl (or .ndjson), .json (one list of objects), .parquet or .csv; a folder written by
        ``Dataset.save_to_disk``, with ``:split`` where it holds several; or ``namespace/name[:split]`` on the hub, by
        default split train. What looks like a path is never looked for on the hub.

    Returns
    -------
    list of dict
        Rows in their order; errors count them from 0.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file is not what its name says, or holds no rows.

    Notes
    -----
    Cells of a CSV file are text. Columns of numbers are read as such, label as 0, 1, true or false only, token ids and
    messages as JSON; a cell of prompt, completion, chosen or rejected is a conversation if it is JSON for a list of
    objects with a role.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "rows.csv")
    >>> _ = path.write_text("prompt,completion,label\n2+2=,4,true\n")
    >>> load_rows(path)
    [{'prompt': '2+2=', 'completion': '4', 'label': True}]
    """
    path = Path(source)
    if path.is_file():
        kind = path.suffix.lower()
        if kind not in _READERS:
            raise ValueError(f"data must be {_KINDS}, got a file that ends in {kind!r}: {source}")
        rows = _READERS[kind](path)
    elif path.is_dir():
        rows = _read_folder(path, "")
    else:
        name, _, split = str(source).partition(":")
        rows = _read_folder(Path(name), split) if Path(name).is_dir() else _read_hub(name, split)
    if not rows:
        raise ValueError(f"data must have at least one row, got an empty {source}")
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    """Return the objects of a file with one a line; blank lines are left out."""
    rows = []
    with path.open("rb") as file:  # bytes, as text would also break lines at characters that JSON allows in strings
        for number, line in enumerate(file, 1):
            if not line.isspace():
                row = _json(line, str(path), number)
                if not isinstance(row, dict):
                    raise ValueError(f"{path}, line {number} must be one JSON object, got {shown(row)}")
                rows.append(row)
    return rows


def _read_json(path: Path) -> list[Row]:
    """Return the objects of a file that is one list."""
    data = path.read_bytes()
    if not data.strip():
        return []
    rows = _json(data, str(path), remedy="; one object a line belongs in a file that ends in .jsonl")
    if not isinstance(rows, list):
        raise ValueError(f"{path} must be a JSON list of objects, got {shown(rows)}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number} must be a JSON object, got {shown(row)}")
    return rows


def _json(data: bytes, source: str, line: int | None = None, remedy: str = "") -> Any:
    """Return what JSON in UTF-8 holds, all of a source or one line of it; no key of an object may be lost."""
    place = source if line is None else f"{source}, line {line}"
    try:
        return json.loads(data.decode("utf-8-sig").rstrip(), object_pairs_hook=_distinct)
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} must be UTF-8, got byte {data[error.start]:#04x}") from error
    except json.JSONDecodeError as error:
        place = f"{source}, line {line or error.lineno}, column {error.colno}"
        raise ValueError(f"{place} must be valid JSON, got: {error.msg}{remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} must be valid JSON, got: {error}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> Row:
    """Return an object of distinct keys; Python would silently keep the last of equal ones."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
    return row


def _read_parquet(path: Path) -> list[Row]:
    """Return the rows of a Parquet file."""
    import pyarrow as pa  # here, as other files need no pyarrow
    from pyarrow import parquet

    with pa.OSFile(str(path)) as file:  # a file that cannot be opened is another matter
        try:
            table = parquet.ParquetFile(file).read()
            rows = table.to_pylist()
        except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
            raise ValueError(f"{path} must be a Parquet file, got: {' '.join(str(error).split())}") from error
    _check_precision(str(path), {field.name: str(field.type) for field in table.schema})
    return rows


def _check_precision(source: str, kinds: Mapping[str, str]) -> None:
    """Raise if reference log-probabilities were kept in half precision, whose noise is that of a training signal."""
    for name, kind in kinds.items():
        if name.endswith("ref_logps") and kind in ("halffloat", "float16"):
            raise ValueError(f"{source}: {name} must be float32 or float64, got half precision; compute it again")


def _read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file with a header."""
    longest = csv.field_size_limit(2**31 - 1)  # 131,072 characters by default: less than long completions have
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_csv_rows(path, csv.reader(file, strict=True)))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8, got byte {error.object[error.start]:#04x}") from error
    finally:
        csv.field_size_limit(longest)


def _csv_rows(path: Path, reader: Any) -> Iterator[Row]:
    """Yield the rows of a CSV reader."""
    try:
        header = next(reader, None)
        if header is None:
            return
        _check_header(path, header)
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(f"{place} must have {len(header)} cells, as the header has, got {len(cells)}")
            yield {name: _cell(name, cell, place) for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} must be valid CSV, got: {error}") from error


def _check_header(path: Path, header: list[str]) -> None:
    """Raise unless a line names columns."""
    if not KNOWN_COLUMNS.intersection(header):
        names = ", ".join(shown(name) for name in header)
        raise ValueError(f"{path}, line 1 must name the columns, such as prompt,completion,label; got {names}")
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise ValueError(f"{path}, line 1 must name each column once, got {repeated[0]!r} twice")


def _cell(column: str, cell: str, place: str) -> Any:
    """Return the value of a cell of CSV by its column."""
    if column in ("prompt", "completion", "chosen", "rejected"):
        return _conversation_or_text(cell)
    if cell == "":
        return None
    if column == "label":
        if cell.lower() not in _LABELS:
            raise ValueError(f"{place}: label must be 0, 1, true or false, got {shown(cell)}")
        return _LABELS[cell.lower()]
    if column in ("messages", "prompt_ids", "completion_ids"):
        return _json(cell.encode(), f"{place}, cell of {column}")
    if column in KNOWN_COLUMNS:  # all others are numbers
        try:
            return float(cell)
        except ValueError as error:
            raise ValueError(f"{place}: {column} must be a number, got {shown(cell)}") from error
    return cell


_LABELS = {"0": False, "1": True, "false": False, "true": True}


def _conversation_or_text(cell: str) -> Any:
    """Return the messages that a cell holds as JSON, or else its text."""
    if not cell.lstrip().startswith("["):
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    is_list = isinstance(value, list) and value and all(isinstance(item, dict) and "role" in item for item in value)
    return value if is_list else cell


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}


def _read_folder(path: Path, split: str) -> list[Row]:
    """Return the rows of a folder saved by `datasets`."""
    saved = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
    if not saved:
        raise ValueError(f"data must be {_KINDS}, got a folder that `datasets` did not save: {path}")
    import datasets  # slow to import

    data = datasets.load_from_disk(str(path))
    if isinstance(data, datasets.DatasetDict):
        name = split or ("train" if "train" in data else "")
        if name not in data:
            raise ValueError(f"{path} must be given with one of its splits, as {path}:SPLIT; it has {', '.join(data)}")
        data = data[name]
    elif split:
        raise ValueError(f"{path} holds one data set without splits, got split {split!r}")
    return _dataset_rows(str(path), data)


def _read_hub(name: str, split: str) -> list[Row]:
    """Return the rows of a data set on the hub; code from the hub is never run."""
    parent = name.split("/")[0]
    if not _HUB_NAME.fullmatch(name) or Path(name).suffix in _READERS or Path(parent).exists():
        raise FileNotFoundError(f"data must be {_KINDS}; no file or folder {name}")
    import datasets  # slow to import

    try:
        data = datasets.load_dataset(name, split=split or "train")
    except (OSError, ValueError) as error:
        message = f"no file {name}, and the hub gave no data set of that name, split {split or 'train'}: {error}"
        raise ValueError(message) from error
    return _dataset_rows(name, data)


def _dataset_rows(source: str, data: Any) -> list[Row]:
    """Return the rows of a `datasets.Dataset`."""
    kinds: Iterable[tuple[str, Any]] = data.features.items()
    _check_precision(source, {name: getattr(kind, "dtype", "") for name, kind in kinds})
    return data.with_format(None).to_list()
