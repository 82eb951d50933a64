"""Log-probabilities under the reference, once for a whole data set, before training."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import distributed, nn

from lm.collate import Collator
from lm.config import RatioConfig
from lm.examples import ExampleSet
from lm.reference_cache import ReferenceCache, is_split, reference_identity, sequence_keys
from lm.scoring import Scoring, score_batches

__all__ = ["check_reference_log_probs", "with_reference"]

logger = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0  # what a kill may cost
_ROUNDING = 1e-3  # a certain token's logit may be a few float32 spacings above the log-normaliser, 1e-6 each


def with_reference(
    examples: ExampleSet,
    config: RatioConfig,
    model: nn.Module,
    reference_model: nn.Module | None,
    collator: Collator,
) -> ExampleSet:
    """Give examples the reference's log-probabilities, unless the reference is asked at every step or there is none.

    Parameters
    ----------
    examples : ExampleSet
        Tokenised examples; for kto with their mismatched completions. Those that have reference log-probabilities
        keep them.
    config : RatioConfig
        The kind of reference, the folder of values that are known already, and how new ones are computed.
    model : PreTrainedModel or PeftModel
        The policy before training, and not wrapped.
    reference_model : PreTrainedModel, optional
        The reference; default the policy, without its adapter if it has one.
    collator : Collator
        Makes batches.

    Returns
    -------
    ExampleSet
        The same examples, with `reference_log_probs` for the kind "precomputed".

    Raises
    ------
    ValueError
        If values are not finite or not float32, if the policy starts with a trained adapter, so that it is not clear
        what the reference is, or if processes do not hold the same weights.

    Notes
    -----
    Values are kept by sequence, see `lm.reference_cache.ReferenceCache`, and saved every minute. With several processes
    each computes its share; all of them must call this together.
    """
    if examples.reference_log_probs is not None:
        check_reference_log_probs(examples)
        return examples
    if config.resolved.reference != "precomputed":
        return examples
    reference = model if reference_model is None else reference_model
    _check_adapter(reference)
    folder = config.reference_cache or str(Path(config.output_dir) / "reference")
    scoring = Scoring.of(config)
    identities = _gathered(reference_identity(reference, scoring.autocast, scoring.half_weights))
    cache = ReferenceCache(folder, identities[0])
    unique = {key: i for i, key in reversed(list(enumerate(sequence_keys(examples))))}  # the first of equal ones
    # The first process alone reads: the others might find more, as its files may be there already.
    known = _gathered(cache.lookup(list(unique)) if _rank() == 0 else None)[0]
    missing = [key for key, value in zip(unique, known, strict=True) if math.isnan(value)]
    found = dict(zip(unique, known, strict=True))
    if missing:
        _check_whole(reference, identities, len(missing))
        _tell(cache, len(missing), len(unique))
        part = replace(examples, width=1).select([unique[key] for key in missing])
        with _without_adapter(reference):
            found |= dict(zip(missing, _shared_work(part, missing, cache, reference, collator, scoring), strict=True))
    values = np.array([found[key] for key in sequence_keys(examples)], dtype=np.float32)
    complete = replace(examples, reference_log_probs=values)
    check_reference_log_probs(complete)
    return complete


def check_reference_log_probs(examples: ExampleSet) -> None:
    """Refuse reference log-probabilities that cannot be what they should.

    Parameters
    ----------
    examples : ExampleSet
        Examples with reference log-probabilities.

    Raises
    ------
    ValueError
        If a value is not finite or above 0, or they are of half precision.

    Examples
    --------
    >>> ids = [np.array([5], dtype=np.int32)]
    >>> check_reference_log_probs(ExampleSet(ids, ids, np.array([True]), np.array([3]), 1, None, None, np.array([2.0])))
    Traceback (most recent call last):
    ...
    ValueError: reference log-probabilities must be finite and at most 0, got 2 in row 3
    """
    values = examples.reference_log_probs
    if values.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"reference log-probabilities must be float32, got {values.dtype}: sums of hundreds of tokens lose the "
            "digits that training needs"
        )
    bad = np.nonzero(~(np.isfinite(values) & (values <= _ROUNDING)))[0]
    if len(bad):
        raise ValueError(
            f"reference log-probabilities must be finite and at most 0, got {values[bad[0]]:g} in row "
            f"{examples.rows[bad[0]]}{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}"
        )


def _shared_work(
    examples: ExampleSet,
    keys: Sequence[bytes],
    cache: ReferenceCache,
    reference: nn.Module,
    collator: Collator,
    scoring: Scoring,
) -> np.ndarray:
    """Return log-probabilities of single sequences, of which each process computes its share, and keep them."""
    values = np.full(len(keys), np.nan, dtype=np.float32)
    share = np.arange(_rank(), len(keys), _processes())
    unsaved: list[int] = []

    def save() -> None:
        whole = [i for i in unsaved if np.isfinite(values[i])]  # others are reported once all processes are here
        if whole:
            cache.save([keys[i] for i in whole], values[whole])
        unsaved.clear()

    saved = time.monotonic()
    with closing(score_batches(reference, examples.select(share), collator, scoring)) as batches:
        try:
            for members, log_probs in batches:
                values[share[members]] = log_probs
                unsaved += share[members].tolist()
                if time.monotonic() - saved > _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        finally:
            save()
    parts = _gathered(values[share])
    for rank, part in enumerate(parts):
        values[rank :: len(parts)] = part
    if _rank() == 0 and len(parts) > 1:  # whose folder may lack what processes on other machines have saved
        lacking = np.nonzero(np.isnan(cache.lookup(keys)) & np.isfinite(values))[0]
        if len(lacking):
            cache.save([keys[i] for i in lacking], values[lacking])
    return values


def _without_adapter(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which a model with an adapter is its base."""
    return model.disable_adapter() if hasattr(model, "get_base_model") else nullcontext()


def _check_adapter(model: nn.Module) -> None:
    """Refuse an adapter that does something already: the reference may or may not have been meant to have it."""
    if not hasattr(model, "get_base_model"):
        return
    trained = [name for name, value in model.named_parameters() if "lora_B" in name and bool(value.any())]
    if trained:
        raise ValueError(
            f"the reference must be clear, got a model whose adapter is not zero at the start (such as {trained[0]}): "
            "set reference adapter_off for the base without it, or merge it and set reference_model"
        )


def _check_whole(model: nn.Module, identities: list[dict[str, str]], missing: int) -> None:
    """Refuse to compute with weights that not every process has whole."""
    if is_split(model) or any(identity != identities[0] for identity in identities):
        kind = ", ".join(f"{name} {identities[0][name]}" for name in ("dtype", "autocast", "attention"))
        raise ValueError(
            "every process must hold the whole reference to compute log-probabilities, got weights that are split "
            "(ZeRO-3) or empty (FSDP's cpu_ram_efficient_loading): run `python -m lm precompute` first, without these "
            f"and with the same {kind}; {missing} values are missing"
        )


def _tell(cache: ReferenceCache, missing: int, total: int) -> None:
    """Say what will be computed and why."""
    if _rank() == 0:
        also = "; the folder holds those of other references, precisions or attention" if cache.others else ""
        logger.info("computing %d of %d reference log-probabilities into %s%s", missing, total, cache.folder, also)


def _rank() -> int:
    """Return the number of this process."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def _processes() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _gathered(value: Any) -> list[Any]:
    """Return the values of all processes, in their order; every process must ask."""
    if _processes() == 1:
        return [value]
    values: list[Any] = [None] * _processes()
    distributed.all_gather_object(values, value)
    return values
