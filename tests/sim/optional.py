"""Tests that need an optional package: skipped where it is missing, which conftest.py makes an error in CI."""

import importlib.util

import pytest

needs_leaderbot = pytest.mark.skipif(
    importlib.util.find_spec("leaderbot") is None, reason="needs leaderbot: pip install 'relratio[data]'"
)
