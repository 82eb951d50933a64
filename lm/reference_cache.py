"""Log-probabilities under a reference on disk: each sequence's own, found again in whatever data set it is in."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from lm.examples import ExampleSet
from lm.files import replacing, write_json

__all__ = ["ReferenceCache", "is_split", "reference_identity", "sequence_keys"]

_SCHEMA = pa.schema([("sequence", pa.binary(16)), ("log_prob", pa.float32())])

# What a configuration tells of tokens, names and outputs, not of the function that the weights make.
_NO_FUNCTION = ("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "_name_or_path")


def sequence_keys(examples: ExampleSet) -> list[bytes]:
    """Return 16 bytes for each sequence: a digest of its token ids and of the place where its completion begins.

    Examples
    --------
    >>> ids = [np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)]
    >>> data = ExampleSet(ids, ids[::-1], np.array([True, False]), np.array([0, 1]))
    >>> len(set(sequence_keys(data)))
    2
    """
    keys = []
    for prompt, completion in zip(examples.prompt_ids, examples.completion_ids, strict=True):
        digest = hashlib.blake2b(len(prompt).to_bytes(8, "little"), digest_size=16)
        for ids in (prompt, completion):
            digest.update(np.ascontiguousarray(ids, dtype="<i4"))
        keys.append(digest.digest())
    return keys


def reference_identity(
    model: nn.Module, autocast: torch.dtype | None = None, half_weights: bool = False
) -> dict[str, str]:
    """Tell references apart whose log-probabilities differ.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        The reference. Adapters are left out: it is the model without them.
    autocast : dtype, optional
        Half precision that float32 weights compute in.
    half_weights : bool
        Whether the weights are rounded to it, in place of autocast.

    Returns
    -------
    dict of str to str
        Digests of weights (all bytes of all parameters, with names, shapes and dtypes) and configuration; dtype of the
        weights, that of autocast, and the implementation of attention.

    Notes
    -----
    Weights that ZeRO-3 has split among processes are gathered one by one, by all processes together (unchecked: it
    needs DeepSpeed and GPUs).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    prefix = getattr(getattr(model, "base_model", None), "prefix", None) if base is not model else None
    parameters = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in base.named_parameters()
        if prefix is None or prefix not in name
    }
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = list((map if is_split(base) else pool.map)(_digest_of, parameters.items()))
    weights = hashlib.blake2b(b"".join(sorted(digests)), digest_size=16)
    settings = {
        name: value
        for name, value in base.config.to_dict().items()
        if name not in _NO_FUNCTION and not name.endswith("token_id")
    }
    return {
        "weights": weights.hexdigest(),
        "configuration": hashlib.blake2b(repr(sorted(settings.items())).encode(), digest_size=16).hexdigest(),
        "dtype": ",".join(sorted({str(p.dtype).removeprefix("torch.") for p in parameters.values()})),
        "autocast": "none" if autocast is None else str(autocast).removeprefix("torch.") + " weights" * half_weights,
        "attention": str(base.config._attn_implementation),
    }


def _digest_of(item: tuple[str, nn.Parameter]) -> bytes:
    """Return the digest of a parameter's name, shape, dtype and bytes."""
    name, parameter = item
    with _whole(parameter):
        digest = hashlib.blake2b(f"{name} {tuple(parameter.shape)} {parameter.dtype} ".encode(), digest_size=16)
        digest.update(parameter.detach().contiguous().flatten().view(torch.uint8).cpu().numpy())
    return digest.digest()


def is_split(model: nn.Module) -> bool:
    """Return whether ZeRO-3 has split the weights among processes."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


def _whole(parameter: nn.Parameter) -> AbstractContextManager[Any]:
    """Return a context in which a parameter is whole."""
    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    from deepspeed.zero import GatheredParameters  # which is there, as it has split the parameter

    return GatheredParameters(parameter)


class ReferenceCache:
    """Log-probabilities of sequences under one reference, in a folder that may hold those of others too.

    Parameters
    ----------
    folder : path
        Folder of all references.
    identity : mapping of str to str
        What `reference_identity` says of this one.

    Attributes
    ----------
    folder : Path
        Folder of this reference, named by a digest of its identity.

    Notes
    -----
    A value belongs to the tokens of its sequence, not to a data set: rows may be added, dropped or moved, and nothing
    becomes stale. Another reference, precision or attention has another folder, so that its values are never found;
    they are computed anew. Files are only added, each of them whole and named by a checksum of its bytes: a process
    that is killed loses what it had not yet saved, and several may write at once.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = ReferenceCache(folder, {"weights": "0", "attention": "sdpa"})
    ...     cache.save([b"0123456789abcdef"], np.array([-1.5], dtype=np.float32))
    ...     cache.lookup([b"fedcba9876543210", b"0123456789abcdef"])
    array([ nan, -1.5], dtype=float32)
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, str]) -> None:
        self.identity = dict(identity)
        text = repr(sorted(self.identity.items())).encode()
        self.folder = Path(folder) / hashlib.blake2b(text, digest_size=8).hexdigest()

    @property
    def others(self) -> int:
        """Number of other references in the folder."""
        found = [path.parent for path in self.folder.parent.glob("*/reference.json")]
        return len(set(found) - {self.folder})

    def lookup(self, keys: Sequence[bytes]) -> np.ndarray:
        """Return the values of some sequences.

        Parameters
        ----------
        keys : sequence of bytes
            Of `sequence_keys`.

        Returns
        -------
        ndarray
            Log-probabilities in nats, shape (keys,), float32; NaN for those that are not there.

        Raises
        ------
        ValueError
            If a file is damaged, of another form (such as half precision), or holds a value that is not finite.
        """
        known: dict[bytes, float] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            known.update(_read(path))
        return np.array([known.get(key, np.nan) for key in keys], dtype=np.float32)

    def save(self, keys: Sequence[bytes], log_probs: np.ndarray) -> None:
        """Add values of some sequences.

        Parameters
        ----------
        keys : sequence of bytes
            Of `sequence_keys`.
        log_probs : ndarray
            Finite, shape (keys,), float32.
        """
        write_json(self.folder / "reference.json", self.identity)
        table = pa.table({"sequence": list(keys), "log_prob": log_probs}, schema=_SCHEMA)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        content = sink.getvalue().to_pybytes()
        with replacing(self.folder / f"{_checksum(content)}.parquet") as draft:
            draft.write_bytes(content)


def _read(path: Path) -> dict[bytes, float]:
    """Return the values of one file by key."""
    remedy = f"delete {path} and its values will be computed again"
    content = path.read_bytes()
    if path.stem != _checksum(content):
        raise ValueError(f"reference log-probabilities must be whole files, got a damaged one: {remedy}")
    table = pq.read_table(pa.BufferReader(content))
    if not table.schema.equals(_SCHEMA):
        got = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise ValueError(f"reference log-probabilities must be float32 by sequence, got {got}: {remedy}")
    values = table["log_prob"].to_numpy()
    if table["sequence"].null_count or not np.isfinite(values).all():
        raise ValueError(f"reference log-probabilities must be finite, got others: {remedy}")
    return dict(zip(table["sequence"].to_pylist(), values.tolist(), strict=True))


def _checksum(content: bytes) -> str:
    """Return what names the file of these bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
