"""Where the files of this repository are, and checksums of files."""

import hashlib
from pathlib import Path

__all__ = ["ROOT", "file_hash"]

ROOT = Path(__file__).parents[1]
"""Root of the repository."""


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
