"""Going on from a checkpoint: only with the same method, alpha, weights, data and reference."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from lm.examples import ExampleSet
from lm.files import write_json

if TYPE_CHECKING:
    from lm.trainer import RatioTrainer

__all__ = [
    "STATE_FILE",
    "check_same",
    "data_fingerprints",
    "describe_run",
    "last_checkpoint",
    "model_fingerprint",
    "only_tensors",
    "read_state",
    "remove_checkpoints",
    "write_state",
]

STATE_FILE = "ratio_state.json"
_TRAINER_STATE = "trainer_state.json"  # written by Trainer after everything else
_SAMPLED = 1024
_STATE = {"run": dict, "tokens_seen": float, "metrics": dict}


def data_fingerprints(examples: ExampleSet) -> dict[str, str | None]:
    """Fingerprint the columns of a data set.

    Parameters
    ----------
    examples : ExampleSet
        Prepared examples.

    Returns
    -------
    dict
        Hexadecimal digests under "data" (tokens, lengths, classes, order), "weights", "alphas" and
        "reference_log_probs"; None for a column that is absent.
    """
    lengths = [np.array([len(ids) for ids in column]) for column in (examples.prompt_ids, examples.completion_ids)]
    tokens = (np.asarray(ids, np.int32) for ids in (*examples.prompt_ids, *examples.completion_ids))
    columns = {
        "weights": examples.weights,
        "alphas": examples.alpha,
        "reference_log_probs": examples.reference_log_probs,
    }
    return {"data": _digest([np.array(examples.width), *lengths, examples.preferred, *tokens])} | {
        name: None if column is None else _digest([column]) for name, column in columns.items()
    }


def model_fingerprint(model: nn.Module, trainable: bool = True) -> str:
    """Return a digest of a model's parameters: names, shapes, types and up to 1,024 evenly spread entries of each.

    With ``trainable=False`` parameters that training changes (an adapter) are left out.
    """
    parts: list[np.ndarray] = []
    for name, parameter in model.named_parameters():
        if trainable or not parameter.requires_grad:
            flat = parameter.detach().flatten()
            sample = flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu().numpy()
            parts += [np.array(f"{name} {tuple(parameter.shape)} {parameter.dtype}"), sample]
    return _digest(parts)


def describe_run(trainer: "RatioTrainer") -> dict[str, Any]:
    """Return what a resumed run must agree with, by field.

    Parameters
    ----------
    trainer : RatioTrainer
        A trainer whose data is prepared and whose model is the one training starts from.

    Returns
    -------
    dict
        Method and options, resolved alpha, and fingerprints of data, weights and reference.
    """
    method, reference = trainer.method, None
    if method.reference == "frozen":
        reference = model_fingerprint(trainer.log_ratios.reference_model)
    elif method.reference == "adapter_off":
        reference = model_fingerprint(trainer.model, trainable=False)
    return {
        "method": method.name,
        "alpha": trainer.resolved.alpha,
        **{option: getattr(method, option) for option in ("generator", "weighting", "beyond_domain", "beta")},
        "examples": trainer.resolved.examples,
        **data_fingerprints(trainer.train_dataset),
        "reference": method.reference,
        "reference_model": reference,
    }


def last_checkpoint(folder: str | Path) -> str | None:
    """Return the newest checkpoint that is complete, or None.

    A run that was killed while it saved leaves a folder without the trainer's state, which is written last.

    Parameters
    ----------
    folder : path
        The output folder of a run.

    Returns
    -------
    str or None
        Path of the checkpoint.
    """
    return next((str(path) for path in _checkpoints(folder) if _is_complete(path)), None)


def remove_checkpoints(folder: str | Path, limit: int | None, kept: Iterable[str | Path]) -> None:
    """Remove checkpoints that a kill cut short, and the oldest ones beyond a limit.

    Age is told by steps: clocks jump, and a checkpoint that seems to be old may be the only one to go on from.

    Parameters
    ----------
    folder : path
        The output folder of a run, to which nobody else writes.
    limit : int or None
        Number of checkpoints to keep; None for all complete ones.
    kept : iterable of path
        Checkpoints, such as the best one, that are kept if they are complete.
    """
    found = _checkpoints(folder)
    complete = [path for path in found if _is_complete(path)]
    keep = set(map(Path, kept)).intersection(complete)
    for path in complete:
        if limit is None or len(keep) < limit:
            keep.add(path)
    for path in found:
        if path in keep:
            continue
        if path.is_symlink():
            path.unlink()  # what it leads to is not of this run alone
        else:
            (path / _TRAINER_STATE).unlink(missing_ok=True)  # first: what is half removed must not seem complete
            shutil.rmtree(path)


def _checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first, whether complete or not."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch("checkpoint-[0-9]+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def _is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint holds the trainer's state, which is written last."""
    try:
        json.loads((checkpoint / _TRAINER_STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, RecursionError, ValueError):
        return False
    return True


@contextmanager
def only_tensors(checkpoint: str | Path | None) -> Iterator[None]:
    """Name the checkpoint whose files hold more than tensors and numbers, all that torch reads of them.

    Parameters
    ----------
    checkpoint : path, optional
        Folder of the checkpoint that is gone on from.

    Raises
    ------
    ValueError
        In place of torch's error, which advises to trust the file.
    """
    try:
        yield
    except UnpicklingError as error:
        raise ValueError(
            f"files of a checkpoint must hold tensors and numbers alone, got others in {checkpoint}, which are not run"
        ) from error


def write_state(folder: str | Path, state: Mapping[str, Any]) -> None:
    """Write what a resumed run must agree with, whole or not at all.

    Parameters
    ----------
    folder : path
        Folder of a checkpoint or of the final model.
    state : mapping
        Values that JSON holds.
    """
    write_json(Path(folder) / STATE_FILE, state)


def read_state(checkpoint: str | Path) -> dict[str, Any]:
    """Read the state of a checkpoint.

    Parameters
    ----------
    checkpoint : path
        Folder of the checkpoint.

    Returns
    -------
    dict
        What `write_state` wrote.

    Raises
    ------
    ValueError
        If the folder has none, or it is damaged.
    """
    path = Path(checkpoint) / STATE_FILE
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"a checkpoint must hold {STATE_FILE}, got {checkpoint}, which has none") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} must be the JSON that training wrote, got {error}") from error
    for key, kind in _STATE.items():
        if not isinstance(state, dict) or not isinstance(state.get(key), kind):
            raise ValueError(f"{path} must be the JSON that training wrote, got no {kind.__name__} called {key}")
    return state


def check_same(saved: Mapping[str, Any], current: Mapping[str, Any], checkpoint: str | Path) -> None:
    """Raise unless a checkpoint's method, alpha, weights, data and reference are the current ones.

    Parameters
    ----------
    saved, current : mapping
        Values by field.
    checkpoint : path
        Named in the error.

    Raises
    ------
    ValueError
        With every field that changed, its value in the checkpoint and the one now.

    Examples
    --------
    >>> check_same({"alpha": 0.4}, {"alpha": 0.5}, "out/checkpoint-3")
    Traceback (most recent call last):
    ...
    ValueError: a resumed run must be the run of out/checkpoint-3, but alpha was 0.4 and is 0.5
    """
    changed = [
        f"{name} was {_shown(saved.get(name))} and is {_shown(value)}"
        for name, value in current.items()
        if saved.get(name) != value
    ]
    if changed:
        raise ValueError(f"a resumed run must be the run of {checkpoint}, but {'; '.join(changed)}")


def _shown(value: Any) -> str:
    """Return a value, a digest by its beginning."""
    return f"{value[:12]}" if isinstance(value, str) and len(value) == 64 else repr(value)


def _digest(parts: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of arrays, one after the other."""
    state = hashlib.sha256()
    for part in parts:
        state.update(np.ascontiguousarray(part).tobytes())
    return state.hexdigest()
