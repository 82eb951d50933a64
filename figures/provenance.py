"""Where results come from: profile, seed, versions and sources, as the folders of results themselves say."""

import json
from pathlib import Path
from typing import Any

__all__ = ["read_provenance"]

_SETTINGS = ("config.json", "settings.json")  # of a study of sim, of an experiment of lm


def read_provenance(results: Path) -> dict[str, Any]:
    """Return what the folders of results say about their making.

    Parameters
    ----------
    results : Path
        Folder of results, with a folder for each study or experiment.

    Returns
    -------
    dict
        ``profiles``, the names of all profiles met, and ``studies``, a list in the order of names of dicts with
        ``study``, ``profile``, ``seed``, ``sources`` (checksum of the code) and ``versions`` (of packages). Exact
        studies have neither profile nor seed nor versions: None, and an empty dict.

    Raises
    ------
    ValueError
        If a file of settings cannot be read.

    Examples
    --------
    >>> read_provenance(Path("nowhere"))
    {'profiles': [], 'studies': []}
    """
    studies = [_read(path) for name in _SETTINGS for path in results.glob(f"*/{name}")]
    studies.sort(key=lambda study: study["study"])
    return {"profiles": sorted({study["profile"] for study in studies} - {None}), "studies": studies}


def _read(path: Path) -> dict[str, Any]:
    """Read one file of settings."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        exact = settings.get("kind") == "exact"
        versions = {} if exact else dict(settings["versions"])
        for name in [settings["name"], *([] if exact else [settings["profile"]["name"]])]:
            if not isinstance(name, str):
                raise TypeError(f"names of studies and profiles must be text, got {type(name).__name__}")
        return {
            "study": settings["name"],
            "profile": None if exact else settings["profile"]["name"],
            "seed": None if exact else settings["seed"],
            "sources": versions.pop("sources", None),
            "versions": versions,
        }
    except (OSError, ValueError, AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"{path} must hold the settings of a study, got {type(error).__name__}: {error}") from error
