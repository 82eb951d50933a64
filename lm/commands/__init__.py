"""Commands of ``python -m lm``, one a file."""
